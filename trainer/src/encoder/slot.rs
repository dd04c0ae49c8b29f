//! Memory for the activations of one part of a batch, used again for the next step's.
//!
//! Room is planned by rows and grows in powers of two; rows that were never touched take no memory.

use std::ops::Range;

use candle_core::{DType, Shape, Tensor};

use super::Encoder;
use super::activations::{Activations, LayerActivations};
use super::workspace::capacity;
use crate::Result;

/// Activations of some sequences, layer by layer.
#[derive(Debug, Default)]
pub struct Slot {
    tokens: usize,
    sequences: usize,
    layers: Vec<[Tensor; 6]>,
    /// Hidden states, pooled vectors and embeddings.
    ends: Option<[Tensor; 3]>,
}

/// Elements from which a buffer is made a mapping of its own.
const LEAST_MAPPED: usize = 1 << 16;
/// Elements of which allocators make a mapping of its own: what of it is not touched takes no memory, and what is freed is
/// the system's again.
const MAPPED: usize = (1 << 20) + 1024;

/// The elements to ask for where so many are needed.
fn roomy(len: usize) -> usize {
    if len < LEAST_MAPPED { len } else { len.max(MAPPED) }
}

/// The type of log-sum-exps and of vectors of whole sequences, where activations have this one.
fn wide(narrow: DType) -> DType {
    if narrow == DType::BF16 { DType::F32 } else { narrow }
}

impl Slot {
    /// One with no memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tokens that it has room for.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Makes room for so many layers, tokens and sequences, in the element type and on the device of `like`. What it
    /// held is lost if it has to grow.
    ///
    /// # Errors
    /// The device gives no memory.
    pub fn reserve(
        &mut self,
        encoder: &Encoder,
        num_layers: usize,
        tokens: usize,
        sequences: usize,
        like: &Tensor,
    ) -> Result<()> {
        let of_kind = |tensor: &Tensor| tensor.dtype() == like.dtype() && tensor.device().same_device(like.device());
        let suits = self.ends.as_ref().is_some_and(|ends| of_kind(&ends[0]));
        if suits && self.layers.len() >= num_layers && self.tokens >= tokens && self.sequences >= sequences {
            return Ok(());
        }
        let num_layers = num_layers.max(self.layers.len());
        // the old memory first, or both would be there at once
        (self.layers, self.ends) = (Vec::new(), None);
        // a leaf of the next steps may be somewhat longer
        self.tokens = capacity(tokens, true, like).max(self.tokens);
        self.sequences = capacity(sequences, false, like).max(self.sequences);
        let zeros = |len: usize, dtype: DType| Tensor::zeros(roomy(len), dtype, like.device());
        let (narrow, wide) = (like.dtype(), wide(like.dtype()));
        for _ in 0..num_layers {
            let [qkv, heads, context, attention, ffn, output] = encoder.activation_widths().map(|width| self.tokens * width);
            let [qkv, context, attention] = [qkv, context, attention].map(|len| zeros(len, narrow));
            let (log_sums, ffn, output) = (zeros(heads, wide)?, zeros(ffn, narrow)?, zeros(output, narrow)?);
            self.layers.push([qkv?, log_sums, context?, attention?, ffn, output]);
        }
        let h = encoder.config().hidden_size;
        let [pooled, embeddings] = [(); 2].map(|()| zeros(self.sequences * h, wide));
        self.ends = Some([zeros(self.tokens * h, narrow)?, pooled?, embeddings?]);
        Ok(())
    }

    /// Views of these tokens and sequences, of all layers that it has.
    ///
    /// # Errors
    /// They lie outside the room that was made: a defect of the caller.
    pub fn activations(&self, encoder: &Encoder, tokens: Range<usize>, sequences: Range<usize>) -> Result<Activations> {
        let [qkv, heads, context, attention, ffn, output] = encoder.activation_widths();
        let (h, n) = (encoder.config().hidden_size, tokens.len());
        let view = |storage: &Tensor, first: usize, shape: (usize, usize)| -> Result<Tensor> {
            let shape = Shape::from(shape);
            Ok(storage.narrow(0, first, shape.elem_count())?.reshape(shape)?)
        };
        let layers = self.layers.iter().map(|storages| {
            let rows = |index: usize, width: usize| view(&storages[index], tokens.start * width, (n, width));
            Ok(LayerActivations {
                qkv: rows(0, qkv)?,
                log_sums: view(&storages[1], tokens.start * heads, (heads, n))?,
                context: rows(2, context)?,
                attention_sum: rows(3, attention)?,
                intermediate: rows(4, ffn)?,
                output_sum: rows(5, output)?,
            })
        });
        let layers = layers.collect::<Result<_>>()?;
        let ends = self.ends.as_ref().ok_or_else(|| crate::Error::Internal("a slot without memory was used".to_owned()))?;
        Ok(Activations {
            layers,
            passing: false,
            hidden: view(&ends[0], tokens.start * h, (n, h))?,
            pooled: view(&ends[1], sequences.start * h, (sequences.len(), h))?,
            embeddings: view(&ends[2], sequences.start * h, (sequences.len(), h))?,
        })
    }
}
