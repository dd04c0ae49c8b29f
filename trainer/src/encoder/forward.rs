//! The forward pass.

use std::ops::Range;
use std::slice;

use candle_core::Tensor;

use super::Encoder;
use super::activations::{Activations, LayerActivations};
use super::workspace::{Buffer, Workspace};
use crate::Result;
use crate::dropout::{Dropout, Site, SiteDropout};
use crate::ops::attention::scratch_len;
use crate::ops::linear::LinearParams;
use crate::ops::{Activate, Attention, Embed, Linear, NormParams, Pool, ResidualNormalize};
use crate::packed::PackedBatch;

/// What all layers of one pass share.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) encoder: &'a Encoder,
    pub(super) params: &'a Tensor,
    pub(super) batch: &'a PackedBatch,
    pub(super) dropout: Option<&'a Dropout>,
}

impl Encoder {
    /// The embeddings [S, h] of a batch, in the parameters' type; with `keep`, also what [`Self::backward`] needs.
    /// Both ways give the same bits.
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
        self.check(params, batch, dropout)?;
        let h = self.config.hidden_size;
        let embeddings = Tensor::zeros((batch.num_sequences(), h), params.dtype(), params.device())?;
        let pooled = ws.take((batch.num_sequences(), h), params)?;
        let pass = Pass { encoder: self, params, batch, dropout };
        let mut layers = Vec::new();
        if batch.num_sequences() > 0 {
            let hidden = ws.take((batch.num_tokens(), h), params)?;
            pass.embed(&hidden)?;
            for index in 0..self.params.layers.len() {
                let activations = pass.layer(index, &hidden, ws)?;
                match keep {
                    true => layers.push(activations),
                    false => activations.release(ws),
                }
            }
            Pool { pooling: self.pooling, batch, hidden: &hidden, pooled: &pooled, embeddings: &embeddings }.run()?;
            ws.give(hidden);
        }
        let activations = Activations { layers, pooled };
        if keep {
            return Ok((embeddings, Some(activations)));
        }
        activations.release(ws);
        Ok((embeddings, None))
    }
}

impl Pass<'_> {
    pub(super) fn site(&self, layer: usize, site: Site) -> Option<SiteDropout> {
        self.dropout.and_then(|dropout| dropout.site(layer, site))
    }

    /// The input of layer 0 into `hidden` [N, h].
    pub(super) fn embed(&self, hidden: &Tensor) -> Result<()> {
        let (params, embedding) = (self.params, &self.encoder.params.embedding);
        Embed { params, embedding, batch: self.batch, dropout: self.site(0, Site::Embeddings), output: hidden }.run()
    }

    /// One layer: `hidden` [N, h] goes from its input to its output.
    fn layer(&self, index: usize, hidden: &Tensor, ws: &mut Workspace) -> Result<LayerActivations> {
        let layer = &self.encoder.params.layers[index];
        let (num_tokens, h) = hidden.dims2()?;
        let (qkv, log_sums, context) = self.attention(index, hidden, ws)?;

        let attention_sum = ws.take((num_tokens, h), hidden)?;
        self.linear(slice::from_ref(&layer.attention_output), false, &context, &attention_sum)?;
        let normed = ws.take((num_tokens, h), hidden)?;
        let (norm, bias) = (&layer.attention_norm, layer.attention_output.bias.clone());
        let dropout = self.site(index, Site::AttentionOutput);
        self.residual_normalize(norm, bias, dropout, hidden, &attention_sum, &normed)?;

        let ffn = self.encoder.config.intermediate_size;
        let intermediate = ws.take((num_tokens, ffn), hidden)?;
        self.linear(slice::from_ref(&layer.intermediate), false, &normed, &intermediate)?;
        let activated = ws.take((num_tokens, ffn), hidden)?;
        let (bias, kind) = (layer.intermediate.bias.clone(), self.encoder.config.hidden_act);
        Activate { params: self.params, bias, kind, input: &intermediate, output: &activated }.run()?;

        let output_sum = ws.take((num_tokens, h), hidden)?;
        self.linear(slice::from_ref(&layer.output), false, &activated, &output_sum)?;
        ws.give(activated);
        let (norm, bias) = (&layer.output_norm, layer.output.bias.clone());
        self.residual_normalize(norm, bias, self.site(index, Site::FeedForwardOutput), &normed, &output_sum, hidden)?;
        ws.give(normed);
        Ok(LayerActivations { qkv, log_sums, context, attention_sum, intermediate, output_sum })
    }

    /// Queries, keys and values; log-sum-exps; context.
    fn attention(&self, index: usize, hidden: &Tensor, ws: &mut Workspace) -> Result<(Buffer, Buffer, Buffer)> {
        let (num_tokens, h) = hidden.dims2()?;
        let (batch, heads) = (self.batch, self.encoder.heads());
        let qkv = ws.take((num_tokens, 3 * h), hidden)?;
        self.linear(&self.encoder.params.layers[index].qkv, true, hidden, &qkv)?;
        let log_sums = ws.take((heads.num, num_tokens), hidden)?;
        let context = ws.take((num_tokens, h), hidden)?;
        let scratch = ws.take(scratch_len(batch), hidden)?;
        let dropout = self.site(index, Site::AttentionProbabilities);
        Attention { heads, batch, dropout, qkv: &qkv, log_sums: &log_sums, context: &context, scratch: &scratch }.run()?;
        ws.give(scratch);
        Ok((qkv, log_sums, context))
    }

    fn linear(&self, layers: &[LinearParams], with_bias: bool, input: &Tensor, output: &Tensor) -> Result<()> {
        Linear { params: self.params, layers, with_bias, input, output }.run()
    }

    fn residual_normalize(
        &self,
        norm: &NormParams,
        bias: Range<usize>,
        dropout: Option<SiteDropout>,
        residual: &Tensor,
        sums: &Tensor,
        output: &Tensor,
    ) -> Result<()> {
        let (params, batch) = (self.params, self.batch);
        ResidualNormalize { params, norm, bias, batch, dropout, residual, sums, output }.run()
    }
}
