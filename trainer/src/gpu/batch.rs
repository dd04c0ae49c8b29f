//! A packed batch on the device, with what kernels want to know of it.

use std::collections::HashMap;
use std::sync::Mutex;

use candle_core::{DType, Tensor};

use super::Gpu;
use super::address::address;
use crate::Result;
use crate::model::config::BertConfig;
use crate::model::pooling::Pooling;
use crate::packed::PackedBatch;

/// Tokens of a run: so few that a frequent word holds nobody up.
const RUN: usize = 64;
/// Dropout's numbers that one warp makes.
const MASK_GROUP: usize = 256;

/// Tokens by the row of a table that they share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runs {
    /// The tokens, in the order of their rows.
    pub(super) order: u64,
    /// [runs, 3]: row, first and last place in `order`.
    pub(super) runs: u64,
    /// How many.
    pub(super) count: usize,
}

/// A packed batch on the device.
#[derive(Debug)]
pub struct DeviceBatch {
    /// Everything, in one piece that is copied at once.
    _values: Tensor,
    pub(super) ids: u64,
    pub(super) type_ids: u64,
    /// Which sequence each token is of.
    pub(super) sequences: u64,
    /// Its place in that sequence.
    pub(super) positions: u64,
    pub(super) cu_seqlens: u64,
    /// [S, 3]: low and high half of the sample, column.
    pub(super) keys: u64,
    /// Where the tokens begin that pooling counts.
    pub(super) counted: u64,
    /// S + 1: where each sequence's attention masks begin, in groups of 256.
    pub(super) mask_offsets: u64,
    /// All groups.
    pub(super) mask_groups: usize,
    /// Masks that the forward made for the backward, by layer and site.
    pub(super) masks: Mutex<HashMap<u32, Tensor>>,
    /// By word, without the padding token; by position; by type.
    pub(super) runs: [Runs; 3],
    pub(super) max_len: usize,
    pub(super) num_sequences: usize,
}

/// Tokens sorted by row, and the runs of equal ones.
fn runs(rows: impl Iterator<Item = (u32, u32)>) -> (Vec<u32>, Vec<u32>) {
    let mut sorted: Vec<u64> = rows.map(|(row, token)| u64::from(row) << 32 | u64::from(token)).collect();
    sorted.sort_unstable();
    let mut runs = Vec::new();
    for of_row in sorted.chunk_by(|a, b| a >> 32 == b >> 32) {
        for part in of_row.chunks(RUN) {
            let begin = runs.last().map_or(0, |end: &u32| *end);
            runs.extend([(part[0] >> 32) as u32, begin, begin + part.len() as u32]);
        }
    }
    (sorted.into_iter().map(|both| both as u32).collect(), runs)
}

/// A packed batch as the device wants it, still in the host's memory: making it takes time in which a device can work.
#[derive(Debug)]
pub(super) struct HostBatch {
    values: Vec<u32>,
    /// Where ids, type ids, sequences, positions, cu_seqlens, keys, counted and mask offsets begin.
    firsts: [usize; 8],
    /// Of each table where the order and the runs begin, and how many runs there are.
    runs: [(usize, usize, usize); 3],
    mask_groups: usize,
    max_len: usize,
    num_sequences: usize,
}

impl HostBatch {
    /// Makes it of a batch.
    pub(super) fn of(batch: &PackedBatch, config: &BertConfig, pooling: Pooling) -> Result<Self> {
        batch.validate()?;
        let sequences: Vec<_> = (0..batch.num_sequences()).map(|index| batch.rows(index)).collect();
        let each =
            || sequences.iter().enumerate().flat_map(|(index, rows)| (0..rows.len()).map(move |at| (index as u32, at as u32)));
        let positions: Vec<u32> = each().map(|(_, position)| position).collect();
        let keys = batch.keys.iter().flat_map(|key| [key.sample as u32, (key.sample >> 32) as u32, key.column]);
        let counted = sequences.iter().zip(&batch.prompt_lens).map(|(rows, &prompt)| {
            let left_out = if pooling.include_prompt { 0 } else { prompt as usize };
            (rows.start + left_out.min(rows.len())) as u32
        });
        let mut mask_groups = 0;
        let mut mask_offsets = vec![0];
        for rows in &sequences {
            mask_groups += (config.num_attention_heads * rows.len() * rows.len()).div_ceil(MASK_GROUP);
            mask_offsets.push(mask_groups as u32);
        }
        let tokens = || 0..batch.num_tokens() as u32;
        let words = batch.ids.iter().copied().zip(tokens()).filter(|&(id, _)| id != config.pad_token_id);
        let tables =
            [runs(words), runs(positions.iter().copied().zip(tokens())), runs(batch.type_ids.iter().copied().zip(tokens()))];

        let mut values: Vec<u32> = Vec::new();
        let mut put = |part: &[u32]| {
            values.extend_from_slice(part);
            values.len() - part.len()
        };
        let firsts = [
            put(&batch.ids),
            put(&batch.type_ids),
            put(&each().map(|(sequence, _)| sequence).collect::<Vec<_>>()),
            put(&positions),
            put(&batch.cu_seqlens),
            put(&keys.collect::<Vec<_>>()),
            put(&counted.collect::<Vec<_>>()),
            put(&mask_offsets),
        ];
        let runs = tables.each_ref().map(|(order, runs)| (put(order), put(runs), runs.len() / 3));
        let (max_len, num_sequences) = (batch.max_len(), batch.num_sequences());
        Ok(Self { values, firsts, runs, mask_groups, max_len, num_sequences })
    }

    /// Copies it to the device.
    pub(super) fn on(&self, gpu: &Gpu) -> Result<DeviceBatch> {
        let values = Tensor::from_slice(&self.values, self.values.len(), gpu.device())?;
        let begin = address(&values, DType::U32)?;
        let at = |first: usize| begin + 4 * first as u64;
        let [ids, type_ids, sequences, positions, cu_seqlens, keys, counted, mask_offsets] = self.firsts.map(at);
        Ok(DeviceBatch {
            _values: values,
            ids,
            type_ids,
            sequences,
            positions,
            cu_seqlens,
            keys,
            counted,
            mask_offsets,
            mask_groups: self.mask_groups,
            masks: Mutex::default(),
            runs: self.runs.map(|(order, runs, count)| Runs { order: at(order), runs: at(runs), count }),
            max_len: self.max_len,
            num_sequences: self.num_sequences,
        })
    }
}

impl DeviceBatch {
    /// Copies a batch to the device.
    ///
    /// # Errors
    /// The batch is broken, or the device gives no memory.
    pub fn new(gpu: &Gpu, batch: &PackedBatch, config: &BertConfig, pooling: Pooling) -> Result<Self> {
        HostBatch::of(batch, config, pooling)?.on(gpu)
    }
}
