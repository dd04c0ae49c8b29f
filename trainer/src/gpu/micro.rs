//! A batch's texts in micro-batches, in the host's memory and on the device.

use std::ops::Range;

use super::batch::HostBatch;
use super::memory::piece;
use super::{DeviceBatch, Gpu};
use crate::Result;
use crate::encoder::Encoder;
use crate::packed::{PackedBatch, SampleKey};
use crate::tokens::TokenTable;

/// A micro-batch on the device: which texts, and they packed.
pub(super) struct Micro {
    pub(super) texts: Range<usize>,
    pub(super) packed: PackedBatch,
    pub(super) on_device: DeviceBatch,
}

/// The same in the host's memory.
#[derive(Debug)]
struct HostMicro {
    texts: Range<usize>,
    packed: PackedBatch,
    values: HostBatch,
}

/// A batch, cut into micro-batches.
#[derive(Debug)]
pub(super) struct CutBatch {
    rows: Vec<u32>,
    tokens_at_once: usize,
    micros: Vec<HostMicro>,
}

impl CutBatch {
    /// Cuts the texts of these rows, column by column, into micro-batches, where the activations of so many tokens may be kept at once ([`piece`]); a text that is longer than
    /// a micro-batch stands alone.
    pub(super) fn of(encoder: &Encoder, table: &TokenTable, rows: &[u32], tokens_at_once: usize) -> Result<Self> {
        let mut batch = Self { rows: rows.to_vec(), tokens_at_once, micros: Vec::new() };
        let (mut packed, mut first) = (PackedBatch::new(), 0);
        let texts = || (0..table.num_columns()).flat_map(|column| rows.iter().map(move |&row| (row, column)));
        let total = texts().map(|(row, column)| table.text(row as usize, column).len()).sum();
        let most = piece(total, tokens_at_once);
        for (index, (row, column)) in texts().enumerate() {
            let ids = table.text(row as usize, column);
            if packed.num_tokens() > 0 && packed.num_tokens() + ids.len() > most {
                batch.push(encoder, std::mem::replace(&mut packed, PackedBatch::new()), first..index)?;
                first = index;
            }
            packed.push(SampleKey { sample: u64::from(row), column: column as u32 }, ids, table.prompt_len(column));
        }
        if packed.num_sequences() > 0 {
            let end = first + packed.num_sequences();
            batch.push(encoder, packed, first..end)?;
        }
        Ok(batch)
    }

    fn push(&mut self, encoder: &Encoder, packed: PackedBatch, texts: Range<usize>) -> Result<()> {
        let values = HostBatch::of(&packed, encoder.config(), encoder.pooling())?;
        self.micros.push(HostMicro { texts, packed, values });
        Ok(())
    }

    /// Which rows it has.
    pub(super) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// How it was cut.
    pub(super) fn tokens_at_once(&self) -> usize {
        self.tokens_at_once
    }

    /// Copies it to the device.
    pub(super) fn on(self, gpu: &Gpu) -> Result<Vec<Micro>> {
        let micro = |micro: HostMicro| Ok(Micro { on_device: micro.values.on(gpu)?, texts: micro.texts, packed: micro.packed });
        self.micros.into_iter().map(micro).collect()
    }
}
