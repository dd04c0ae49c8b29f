//! The encoder's operations on candle tensors: each is a struct of its tensors with `run`, one fused pass.
//!
//! N tokens, S sequences, h the hidden width. Tensors are read by their storage and written through candle's
//! in-place operations; a tensor that is written shares its storage with no other tensor of the operation.
//! Parameters are ranges of one flat vector, and their gradients are added to the same ranges of another.

pub mod access;
pub mod activation;
pub mod attention;
pub mod embedding;
pub mod linear;
pub mod norm;
pub mod pooling;

pub use activation::{Activate, ActivateBackward};
pub use attention::{Attention, AttentionBackward};
pub use embedding::{Embed, EmbedBackward, WordRows};
pub use linear::{Linear, LinearBackward};
pub use norm::{NormParams, Normalize, ResidualNormalize, ResidualNormalizeBackward};
pub use pooling::{Pool, PoolBackward};

use std::ops::Range;

use candle_core::Tensor;

use crate::dropout::{MaskStream, SiteDropout};
use crate::kernels::{Real, rows};
use crate::packed::PackedBatch;

/// A part of the flat gradient: `tensor` holds the elements from `first` on. Where rows of the word table are left out, they
/// are those before what follows the table: see [`WordRows::first`].
#[derive(Debug, Clone, Copy)]
pub struct GradPart<'a> {
    /// The part, one-dimensional; operations add to it.
    pub tensor: &'a Tensor,
    /// Which element of the flat vector its first one is.
    pub first: usize,
    /// Whether it holds nothing yet, and so is overwritten: the same as adding to zeros, for what every token has a share in.
    pub fresh: bool,
}

impl<'a> GradPart<'a> {
    /// The whole gradient.
    pub fn whole(tensor: &'a Tensor) -> Self {
        Self { tensor, first: 0, fresh: false }
    }

    /// Where a range of the flat vector lies in the part.
    pub(crate) fn place(&self, range: &Range<usize>) -> Range<usize> {
        range.start - self.first..range.end - self.first
    }

    /// Adds sums to the gradients of a range; `values` are the part's.
    pub(crate) fn add<T: Real>(&self, values: &mut [T], range: &Range<usize>, sums: &[T]) {
        let values = &mut values[self.place(range)];
        if self.fresh { values.copy_from_slice(sums) } else { rows::add(values, sums) }
    }
}

/// The parts of a batch that a row-wise operation goes through: each sequence with a mask of its own, or all rows at once
/// where nothing is dropped.
pub(crate) fn masked_rows<'a>(
    batch: &'a PackedBatch,
    dropout: Option<SiteDropout>,
    width: usize,
) -> impl Iterator<Item = (Range<usize>, Option<MaskStream>)> + 'a {
    let parts = if dropout.is_some() { batch.num_sequences() } else { 1 };
    (0..parts).map(move |index| match dropout {
        Some(site) => (batch.rows(index), Some(site.stream(batch.keys[index], width))),
        None => (0..batch.num_tokens(), None),
    })
}
