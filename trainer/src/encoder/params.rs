//! Where the encoder's parameters lie in the flat vector.

use std::ops::Range;

use crate::model::config::BertConfig;
use crate::model::layout::ParamLayout;
use crate::ops::NormParams;
use crate::ops::embedding::EmbeddingParams;
use crate::ops::linear::LinearParams;
use crate::{Error, Result};

/// All of an encoder's places.
#[derive(Debug, Clone)]
pub(crate) struct EncoderParams {
    pub(crate) embedding: EmbeddingParams,
    pub(crate) layers: Vec<LayerParams>,
}

/// The places of one layer.
#[derive(Debug, Clone)]
pub(crate) struct LayerParams {
    /// Queries, keys, values.
    pub(crate) qkv: [LinearParams; 3],
    pub(crate) attention_output: LinearParams,
    pub(crate) attention_norm: NormParams,
    pub(crate) intermediate: LinearParams,
    pub(crate) output: LinearParams,
    pub(crate) output_norm: NormParams,
}

impl EncoderParams {
    /// Finds every parameter by name and checks its shape.
    pub(crate) fn find(config: &BertConfig, layout: &ParamLayout) -> Result<Self> {
        let finder = Finder { layout, eps: config.layer_norm_eps };
        let (h, ffn) = (config.hidden_size, config.intermediate_size);
        let embedding = EmbeddingParams {
            words: finder.range("embeddings.word_embeddings.weight", &[config.vocab_size, h])?,
            positions: finder.range("embeddings.position_embeddings.weight", &[config.max_position_embeddings, h])?,
            types: finder.range("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, h])?,
            norm: finder.norm("embeddings.LayerNorm", h)?,
        };
        let layer = |index: usize| -> Result<LayerParams> {
            let name = |part: &str| format!("encoder.layer.{index}.{part}");
            Ok(LayerParams {
                qkv: [
                    finder.linear(&name("attention.self.query"), h, h)?,
                    finder.linear(&name("attention.self.key"), h, h)?,
                    finder.linear(&name("attention.self.value"), h, h)?,
                ],
                attention_output: finder.linear(&name("attention.output.dense"), h, h)?,
                attention_norm: finder.norm(&name("attention.output.LayerNorm"), h)?,
                intermediate: finder.linear(&name("intermediate.dense"), ffn, h)?,
                output: finder.linear(&name("output.dense"), h, ffn)?,
                output_norm: finder.norm(&name("output.LayerNorm"), h)?,
            })
        };
        Ok(Self { embedding, layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()? })
    }
}

struct Finder<'a> {
    layout: &'a ParamLayout,
    eps: f64,
}

impl Finder<'_> {
    fn range(&self, name: &str, shape: &[usize]) -> Result<Range<usize>> {
        let entry = self.layout.entry(name).ok_or_else(|| Error::Internal(format!("the layout has no parameter {name}")))?;
        if entry.shape != shape {
            return Err(Error::Internal(format!("parameter {name} has shape {:?}, expected {shape:?}", entry.shape)));
        }
        Ok(entry.range())
    }

    fn linear(&self, name: &str, width_out: usize, width_in: usize) -> Result<LinearParams> {
        Ok(LinearParams {
            weight: self.range(&format!("{name}.weight"), &[width_out, width_in])?,
            bias: self.range(&format!("{name}.bias"), &[width_out])?,
        })
    }

    fn norm(&self, name: &str, width: usize) -> Result<NormParams> {
        Ok(NormParams {
            gamma: self.range(&format!("{name}.weight"), &[width])?,
            beta: self.range(&format!("{name}.bias"), &[width])?,
            eps: self.eps,
        })
    }
}
