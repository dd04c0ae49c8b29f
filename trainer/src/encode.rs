//! Texts to vectors: packed by length, shared over threads and ranks, the same bits for any number of either.

use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Tensor;

use crate::collective::Collective;
use crate::cut::pack_texts;
use crate::encoder::{Encoder, Workspace, Workspaces};
use crate::error::{Error, Result};
use crate::gpu::EncodeOnDevice;
use crate::interrupt::Interrupt;
use crate::packed::{PackedBatch, SampleKey};
use crate::parallel::map_ordered;
use crate::state::with_values;

/// Tokens of a group of texts that one rank's GPU encodes, in as many parts as its memory asks for; in tests so few that there are several.
const DEVICE_GROUP_TOKENS: usize = if cfg!(test) { 64 } else { 1 << 16 };

/// Texts of one kind (queries or passages) as tokens.
#[derive(Debug, Clone, Default)]
pub struct TokenTexts {
    /// Ids of each text, special tokens included.
    pub texts: Vec<Vec<u32>>,
    /// Tokens of the prompt before each, special tokens left out.
    pub prompt_len: u32,
}

/// How to encode.
pub struct Encoding<'a> {
    /// The encoder.
    pub encoder: &'a Encoder,
    /// Its parameters, f32 [total].
    pub params: &'a Tensor,
    /// The ranks among which the work is shared.
    pub collective: &'a dyn Collective,
    /// Threads of this rank.
    pub threads: usize,
    /// Tokens of a micro-batch: part of what fixes the bits.
    pub micro_batch_tokens: usize,
    /// Where its threads find their buffers.
    pub workspaces: &'a Workspaces,
    /// What may end it early.
    pub interrupt: &'a Interrupt,
    /// The GPU that computes, by its own parameters, if it is not the CPU; its memory cuts the micro-batches.
    pub device: Option<&'a dyn EncodeOnDevice>,
}

impl Encoding<'_> {
    /// Vectors of all texts, f32 [n, h], on every rank. `progress(done)` counts this rank's texts.
    ///
    /// # Errors
    /// A rank was lost, a vector is not finite, or the work was interrupted.
    pub fn encode(&self, input: &TokenTexts, progress: &(dyn Fn(usize) + Sync)) -> Result<Vec<f32>> {
        let lens: Vec<usize> = input.texts.iter().map(Vec::len).collect();
        // a GPU's work is one after the other; groups are the same on all ranks, whatever the memory of their GPUs
        let (micro_batch_tokens, threads) = match self.device {
            Some(_) => (DEVICE_GROUP_TOKENS, 1),
            None => (self.micro_batch_tokens, self.threads),
        };
        let groups = pack_texts(&lens, micro_batch_tokens);
        let (rank, world_size) = (self.collective.rank(), self.collective.world_size());
        let mine: Vec<usize> = (rank..groups.len()).step_by(world_size).collect();
        let done = AtomicUsize::new(0);
        let parts = map_ordered(mine.len(), threads, |index| {
            let group = &groups[mine[index]];
            self.interrupt.check_leave()?;
            let vectors = self.workspaces.with(|workspace| self.encode_group(input, group, workspace))?;
            progress(done.fetch_add(group.len(), Ordering::Relaxed) + group.len());
            Ok(vectors)
        })?;
        let order = |rank: usize| groups.iter().skip(rank).step_by(world_size).flatten().copied();
        let gathered = match world_size {
            1 => vec![parts.concat()],
            _ => self.gather(&parts)?,
        };
        self.scatter(&gathered, order, input.texts.len())
    }

    fn encode_group(&self, input: &TokenTexts, group: &[usize], workspace: &mut Workspace) -> Result<Vec<f32>> {
        let Some(device) = self.device else { return self.encode_batch(input, group, workspace) };
        // a group's texts stand by length, so its parts come in its order
        let lens: Vec<usize> = group.iter().map(|&text| input.texts[text].len()).collect();
        let mut vectors = Vec::new();
        for part in pack_texts(&lens, device.micro_batch_tokens()) {
            let texts: Vec<usize> = part.into_iter().map(|index| group[index]).collect();
            vectors.extend(self.encode_batch(input, &texts, workspace)?);
        }
        Ok(vectors)
    }

    fn encode_batch(&self, input: &TokenTexts, group: &[usize], workspace: &mut Workspace) -> Result<Vec<f32>> {
        let mut batch = PackedBatch::default();
        for &text in group {
            batch.push(SampleKey { sample: text as u64, column: 0 }, &input.texts[text], input.prompt_len);
        }
        if let Some(device) = self.device {
            return device.encode(&batch, workspace);
        }
        let (vectors, _) = self.encoder.forward(self.params, &batch, None, false, workspace)?;
        with_values(&vectors, <[f32]>::to_vec)
    }

    fn gather(&self, parts: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let bytes: Vec<u8> = parts.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        let gathered = self.collective.all_gather(&bytes)?;
        Ok(gathered.iter().map(|part| part.as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect()).collect())
    }

    /// Puts each rank's vectors where their texts stand.
    fn scatter<I: Iterator<Item = usize>>(
        &self,
        gathered: &[Vec<f32>],
        order: impl Fn(usize) -> I,
        count: usize,
    ) -> Result<Vec<f32>> {
        let hidden = self.encoder.config().hidden_size;
        let mut vectors = vec![0.0; count * hidden];
        for (rank, part) in gathered.iter().enumerate() {
            let mut rows = part.chunks_exact(hidden);
            for text in order(rank) {
                let row =
                    rows.next().ok_or_else(|| Error::Collective(format!("rank {rank} encoded fewer texts than its share")))?;
                vectors[text * hidden..(text + 1) * hidden].copy_from_slice(row);
            }
        }
        match vectors.iter().position(|value| !value.is_finite()) {
            None => Ok(vectors),
            Some(at) => Err(Error::NotFinite(format!(
                "the vector of text {} holds {}: the model's weights are damaged or the training diverged",
                at / hidden,
                vectors[at]
            ))),
        }
    }
}
