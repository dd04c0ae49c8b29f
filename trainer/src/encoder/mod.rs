//! A BERT encoder over packed batches, forward and backward written out.
//!
//! Everything runs on the caller's thread: parallelism is over micro-batches, each thread with a [`Workspace`] and a
//! gradient vector of its own. What comes out depends on the micro-batch, the parameters and the dropout key alone.
//! N tokens, S sequences, h the hidden width, ffn the feed-forward width.

mod activations;
mod backward;
mod forward;
mod params;
mod workspace;

#[cfg(test)]
mod tests;

pub use activations::Activations;
pub use workspace::{Buffer, Workspace, Workspaces};

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

    /// Bytes of activations that `forward` with `keep` holds for this many f32 tokens, the pool's rounding included.
    pub fn activation_bytes(&self, num_tokens: usize) -> usize {
        let config = &self.config;
        let widths = [3 * config.hidden_size, config.num_attention_heads, config.hidden_size, config.hidden_size]
            .into_iter()
            .chain([config.intermediate_size, config.hidden_size]);
        let layer: usize = widths.map(|width| workspace::capacity(num_tokens * width) * size_of::<f32>()).sum();
        layer * config.num_hidden_layers
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
