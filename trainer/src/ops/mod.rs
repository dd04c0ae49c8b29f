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
pub use embedding::{Embed, EmbedBackward};
pub use linear::{Linear, LinearBackward};
pub use norm::{NormParams, Normalize, ResidualNormalize, ResidualNormalizeBackward};
pub use pooling::{Pool, PoolBackward};

use crate::dropout::{MaskStream, SiteDropout};
use crate::packed::PackedBatch;

/// The parts of a batch that a row-wise operation goes through: each sequence with a mask of its own, or all rows at once
/// where nothing is dropped.
pub(crate) fn masked_rows<'a>(
    batch: &'a PackedBatch,
    dropout: Option<SiteDropout>,
    width: usize,
) -> impl Iterator<Item = (std::ops::Range<usize>, Option<MaskStream>)> + 'a {
    let parts = if dropout.is_some() { batch.num_sequences() } else { 1 };
    (0..parts).map(move |index| match dropout {
        Some(site) => (batch.rows(index), Some(site.stream(batch.keys[index], width))),
        None => (0..batch.num_tokens(), None),
    })
}
