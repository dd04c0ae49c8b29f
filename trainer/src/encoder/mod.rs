//! A BERT encoder over packed batches, forward and backward written out.
//!
//! Everything runs on the caller's thread: parallelism is over the parts of a batch, each thread with a [`Workspace`].
//! A [`Pass`] goes layer by layer, so that all parts may be at one layer and its gradient be summed at once. What comes out depends on the micro-batch, the parameters and the dropout key alone.
//! N tokens, S sequences, h the hidden width, ffn the feed-forward width.

mod activations;
mod backward;
mod forward;
mod params;
mod slot;
mod workspace;

#[cfg(test)]
mod tests;

pub use activations::Activations;
pub use forward::Pass;
pub use slot::Slot;
pub use workspace::{Workspace, Workspaces};

use std::ops::Range;

use candle_core::Tensor;

use crate::dropout::Dropout;
use crate::model::config::BertConfig;
use crate::model::layout::ParamLayout;
use crate::model::pooling::Pooling;
use crate::ops::attention::Heads;
use crate::packed::PackedBatch;
use crate::{Error, Result};
use params::EncoderParams;

/// The computation of one model; it holds no weights.
#[derive(Debug, Clone)]
pub struct Encoder {
    config: BertConfig,
    pooling: Pooling,
    layout: ParamLayout,
    params: EncoderParams,
}

impl Encoder {
    /// An encoder of this shape over parameters laid out like this.
    ///
    /// # Errors
    /// The configuration is not valid, or the layout lacks a parameter or has it in another size.
    pub fn new(config: BertConfig, pooling: Pooling, layout: ParamLayout) -> Result<Self> {
        config.validate().map_err(Error::Input)?;
        let params = EncoderParams::find(&config, &layout)?;
        Ok(Self { config, pooling, layout, params })
    }

    /// The shape.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// How token vectors become an embedding.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// The parameters' table.
    pub fn layout(&self) -> &ParamLayout {
        &self.layout
    }

    /// The parts in which the gradient is made, as ranges of the flat vector: the embeddings, then the layers from below.
    pub fn parts(&self) -> Vec<Range<usize>> {
        let first = |layer: &params::LayerParams| layer.qkv[0].weight.start;
        let layers = &self.params.layers;
        let ends = layers.iter().skip(1).map(first).chain([self.layout.total]);
        let embeddings = 0..layers.first().map_or(self.layout.total, first);
        std::iter::once(embeddings).chain(layers.iter().zip(ends).map(|(layer, end)| first(layer)..end)).collect()
    }

    /// Elements a token of the six activations that a layer leaves for the backward.
    pub(crate) fn activation_widths(&self) -> [usize; 6] {
        let BertConfig { hidden_size: h, num_attention_heads, intermediate_size, .. } = self.config;
        [3 * h, num_attention_heads, h, h, intermediate_size, h]
    }

    /// Elements a token of the buffers that a thread needs beside the activations.
    pub(crate) fn buffer_width(&self) -> usize {
        5 * self.config.hidden_size + 2 * self.config.intermediate_size
    }

    /// Bytes of activations, in f32, that the backward needs of so many tokens.
    pub fn activation_bytes(&self, num_tokens: usize) -> usize {
        let layer: usize = self.activation_widths().iter().sum();
        (layer * self.config.num_hidden_layers + self.config.hidden_size) * num_tokens * size_of::<f32>()
    }

    /// The way of a micro-batch through the encoder.
    ///
    /// # Errors
    /// The batch is broken or does not suit the model.
    pub fn pass<'a>(&'a self, params: &'a Tensor, batch: &'a PackedBatch, dropout: Option<&'a Dropout>) -> Result<Pass<'a>> {
        self.check(params, batch, dropout)?;
        Ok(Pass { encoder: self, params, batch, dropout, place: None })
    }

    /// The embeddings [S, h] of a batch, in the parameters' type; with `keep`, also what [`Self::backward`] needs, in the
    /// workspace's memory: the next forward that keeps overwrites it. Both ways give the same bits.
    ///
    /// # Errors
    /// The batch is broken or does not suit the model, or a tensor operation failed.
    pub fn forward(
        &self,
        params: &Tensor,
        batch: &PackedBatch,
        dropout: Option<&Dropout>,
        keep: bool,
        ws: &mut Workspace,
    ) -> Result<(Tensor, Option<Activations>)> {
        let pass = self.pass(params, batch, dropout)?;
        let activations = pass.room(keep, ws)?;
        if batch.num_sequences() > 0 {
            pass.forward(&activations, ws)?;
        }
        let embeddings = activations.embeddings.copy()?;
        Ok((embeddings, keep.then_some(activations)))
    }

    /// Adds the gradient of a micro-batch to `grad`, laid out as the parameters, always by the same operations.
    /// Parameters, batch and dropout are those of the forward; `d_embeddings` is [S, h].
    ///
    /// # Errors
    /// The parts do not fit together, or a tensor operation failed; `grad` is then undefined.
    #[expect(clippy::too_many_arguments, reason = "the forward's arguments, its result, the gradient in and the gradient out")]
    pub fn backward(
        &self,
        params: &Tensor,
        batch: &PackedBatch,
        acts: Activations,
        d_embeddings: &Tensor,
        dropout: Option<&Dropout>,
        grad: &Tensor,
        ws: &mut Workspace,
    ) -> Result<()> {
        self.pass(params, batch, dropout)?.backward(acts, d_embeddings, grad, ws)
    }

    pub(crate) fn heads(&self) -> Heads {
        Heads { num: self.config.num_attention_heads, size: self.config.head_size() }
    }

    /// Checks what the kernels rely on: bounds, ids and types inside the tables, lengths within the positions.
    fn check(&self, params: &Tensor, batch: &PackedBatch, dropout: Option<&Dropout>) -> Result<()> {
        batch.validate()?;
        dropout.map_or(Ok(()), Dropout::validate)?;
        if params.dims() != [self.layout.total] {
            let found = params.dims();
            return Err(Error::Internal(format!("the parameters have shape {found:?}, expected [{}]", self.layout.total)));
        }
        let config = &self.config;
        let outside = |what: &str, found: u32, limit: usize| {
            Err(Error::input(format!(
                "{what} {found} lies outside the model's {limit}; does the tokenizer belong to this model?"
            )))
        };
        if let Some(&id) = batch.ids.iter().find(|&&id| id as usize >= config.vocab_size) {
            return outside("token id", id, config.vocab_size);
        }
        if let Some(&kind) = batch.type_ids.iter().find(|&&kind| kind as usize >= config.type_vocab_size) {
            return outside("token type", kind, config.type_vocab_size);
        }
        if batch.max_len() > config.max_position_embeddings {
            let (found, limit) = (batch.max_len(), config.max_position_embeddings);
            return Err(Error::input(format!("a text of {found} tokens is longer than the model's {limit} positions")));
        }
        Ok(())
    }
}
