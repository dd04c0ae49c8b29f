//! A rank's slice of a batch: its leaves, their micro-batches, and the memory that their activations get.

use std::ops::Range;

use candle_core::Tensor;

use super::budget::ActivationBudget;
use crate::cut::{Leaf, cut_batch};
use crate::encoder::{Activations, Encoder, Slot};
use crate::error::Result;
use crate::ops::WordRows;
use crate::packed::{PackedBatch, SampleKey};
use crate::tokens::TokenTable;

/// A micro-batch of this rank's slice.
#[derive(Debug)]
pub(super) struct Micro {
    pub(super) batch: PackedBatch,
    /// Rows of the batch.
    pub(super) rows: Range<usize>,
    /// Where its activations are kept, if they are.
    pub(super) kept: Option<Activations>,
}

/// A leaf of this rank.
#[derive(Debug)]
pub(super) struct OwnLeaf {
    pub(super) leaf: usize,
    /// Rows of the batch.
    pub(super) rows: Range<usize>,
    pub(super) micros: Vec<Micro>,
    /// Memory of what its micro-batches keep.
    pub(super) slot: Slot,
}

/// The slice of a batch that this rank owns.
#[derive(Debug)]
pub(super) struct Slice {
    /// All leaves of the batch.
    pub(super) leaves: Vec<Leaf>,
    /// Which of them are this rank's.
    pub(super) mine: Range<usize>,
    pub(super) own: Vec<OwnLeaf>,
}

impl Slice {
    /// Cuts the batch and packs this rank's micro-batches; nothing is kept yet.
    pub(super) fn cut(
        table: &TokenTable,
        rows: &[u32],
        num_leaves: usize,
        micro_batch_tokens: usize,
        mine: Range<usize>,
    ) -> Self {
        let lens: Vec<usize> = rows.iter().map(|&row| table.row_len(row as usize)).collect();
        let leaves = cut_batch(&lens, num_leaves, micro_batch_tokens);
        let own = mine.clone().map(|leaf| {
            let micro =
                |part: &Range<usize>| Micro { batch: pack_rows(table, &rows[part.clone()]), rows: part.clone(), kept: None };
            let micros = leaves[leaf].micro_batches.iter().map(micro).collect();
            OwnLeaf { leaf, rows: leaves[leaf].rows.clone(), micros, slot: Slot::new() }
        });
        let own = own.collect();
        Self { leaves, mine, own }
    }

    /// The rows of the batch that it holds.
    pub(super) fn rows(&self) -> Range<usize> {
        self.leaves[self.mine.start].rows.start..self.leaves[self.mine.end - 1].rows.end
    }

    /// Micro-batches whose activations are kept, and all of them.
    pub(super) fn num_kept(&self) -> (usize, usize) {
        let all = || self.own.iter().flat_map(|leaf| &leaf.micros);
        (all().filter(|micro| micro.kept.is_some()).count(), all().count())
    }

    /// Whether every micro-batch's activations are kept.
    pub(super) fn keeps_all(&self) -> bool {
        self.num_kept().0 == self.num_kept().1
    }

    /// Decides whose activations are kept, in order of micro-batches, and gives them room in the slots, which are `slots`
    /// as far as they go: the largest for the leaf that keeps most. `embeddings_len` is the length of the gradient's embedding part.
    pub(super) fn keep(
        &mut self,
        encoder: &Encoder,
        budget: ActivationBudget,
        embeddings_len: usize,
        mut slots: Vec<Slot>,
        like: &Tensor,
    ) -> Result<()> {
        let bytes = |micro: &Micro| encoder.activation_bytes(micro.batch.num_tokens());
        let total: usize = self.own.iter().flat_map(|leaf| &leaf.micros).map(bytes).sum();
        let all = budget.all.saturating_sub(budget.num_sums * embeddings_len * size_of::<f32>());
        let mut left = if total <= all { all } else { budget.some };
        let mut num_kept = vec![0; self.own.len()];
        'all: for (leaf, num_kept) in self.own.iter().zip(&mut num_kept) {
            for micro in &leaf.micros {
                match left.checked_sub(bytes(micro)) {
                    Some(rest) => left = rest,
                    None => break 'all,
                }
                *num_kept += 1;
            }
        }
        let tokens = |index: usize| self.own[index].micros[..num_kept[index]].iter().map(|m| m.batch.num_tokens()).sum::<usize>();
        let mut order: Vec<(usize, usize)> = (0..self.own.len()).map(|index| (tokens(index), index)).collect();
        order.sort_by_key(|&(tokens, index)| (std::cmp::Reverse(tokens), index));
        slots.sort_by_key(Slot::tokens);
        for (tokens, index) in order.into_iter().filter(|(tokens, _)| *tokens > 0) {
            let leaf = &mut self.own[index];
            leaf.slot = slots.pop().unwrap_or_default();
            let kept = &mut leaf.micros[..num_kept[index]];
            let sequences = kept.iter().map(|micro| micro.batch.num_sequences()).sum();
            leaf.slot.reserve(encoder, encoder.config().num_hidden_layers, tokens, sequences, like)?;
            let (mut token, mut sequence) = (0, 0);
            for micro in kept {
                let (tokens, sequences) =
                    (token..token + micro.batch.num_tokens(), sequence..sequence + micro.batch.num_sequences());
                (token, sequence) = (tokens.end, sequences.end);
                micro.kept = Some(leaf.slot.activations(encoder, tokens, sequences)?);
            }
        }
        Ok(())
    }

    /// Gives the slots back.
    pub(super) fn into_slots(self) -> impl Iterator<Item = Slot> {
        self.own.into_iter().map(|leaf| leaf.slot).filter(|slot| slot.tokens() > 0)
    }
}

/// Packs rows of a table: row by row, columns in order.
fn pack_rows(table: &TokenTable, rows: &[u32]) -> PackedBatch {
    let mut batch = PackedBatch::default();
    for &row in rows {
        for column in 0..table.num_columns() {
            let key = SampleKey { sample: u64::from(row), column: column as u32 };
            batch.push(key, table.text(row as usize, column), table.prompt_len(column));
        }
    }
    batch
}

/// The rows of the word table that these rows' texts name, of a vocabulary of this size.
pub(super) fn word_rows<'a>(table: &TokenTable, rows: impl Iterator<Item = &'a u32>, vocab_size: usize) -> WordRows {
    let mut named = vec![0u64; vocab_size.div_ceil(64)];
    for &row in rows {
        for column in 0..table.num_columns() {
            for &id in table.text(row as usize, column) {
                // an id beyond the vocabulary is refused by the encoder, with its reason
                if let Some(word) = named.get_mut(id as usize / 64) {
                    *word |= 1 << (id % 64);
                }
            }
        }
    }
    let ids = (0..vocab_size as u32).filter(|id| named[*id as usize / 64] >> (id % 64) & 1 == 1);
    WordRows::of(ids.collect())
}
