//! The backward pass.

use std::slice;

use candle_core::Tensor;

use super::Encoder;
use super::activations::{Activations, LayerActivations};
use super::forward::Pass;
use super::workspace::{Buffer, Workspace};
use crate::dropout::{Dropout, Site};
use crate::model::pooling::PoolingMode;
use crate::ops::attention::scratch_len;
use crate::ops::{
    ActivateBackward, AttentionBackward, EmbedBackward, LinearBackward, Normalize, PoolBackward, ResidualNormalizeBackward,
};
use crate::packed::PackedBatch;
use crate::{Error, Result};

impl Encoder {
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
        self.check(params, batch, dropout)?;
        let expected = [batch.num_sequences(), self.config.hidden_size];
        if d_embeddings.dims() != expected || acts.pooled.dims() != expected || grad.dims() != params.dims() {
            return Err(Error::Internal("the backward's parts are of different micro-batches or models".to_owned()));
        }
        if batch.num_sequences() == 0 {
            acts.release(ws);
            return Ok(());
        }
        let Activations { mut layers, pooled } = acts;
        let pass = Backward { pass: Pass { encoder: self, params, batch, dropout }, grad };
        let d = pass.pool(&layers, &pooled, d_embeddings, ws)?;
        ws.give(pooled);
        for index in (0..layers.len()).rev() {
            let layer = layers.pop().ok_or_else(|| Error::Internal("a layer's activations are missing".to_owned()))?;
            pass.layer(index, layer, layers.last(), &d, ws)?;
        }
        let (embedding, dropout) = (&self.params.embedding, pass.pass.site(0, Site::Embeddings));
        let pad_token_id = self.config.pad_token_id;
        EmbedBackward { params, embedding, batch, dropout, pad_token_id, d: &d, grad }.run()?;
        ws.give(d);
        Ok(())
    }
}

/// A pass and the gradients it adds to.
struct Backward<'a> {
    pass: Pass<'a>,
    grad: &'a Tensor,
}

impl Backward<'_> {
    /// The gradient of the last layer's output, [N, h].
    fn pool(&self, layers: &[LayerActivations], pooled: &Tensor, d_embeddings: &Tensor, ws: &mut Workspace) -> Result<Buffer> {
        let Pass { encoder, params, batch, .. } = self.pass;
        let shape = (batch.num_tokens(), encoder.config.hidden_size);
        let hidden = match encoder.pooling.mode {
            PoolingMode::Max => Some(ws.take(shape, params)?),
            PoolingMode::Cls | PoolingMode::Mean => None,
        };
        if let Some(hidden) = &hidden {
            self.layer_output(layers.len(), layers.last(), hidden)?;
        }
        let d = ws.take(shape, params)?;
        let pooling = encoder.pooling;
        PoolBackward { pooling, batch, hidden: hidden.as_deref(), pooled, d_embeddings, d_hidden: &d }.run()?;
        hidden.into_iter().for_each(|hidden| ws.give(hidden));
        Ok(d)
    }

    /// The output of the layer below `index`, made again from its activations; that of the embeddings where there is none.
    fn layer_output(&self, index: usize, below: Option<&LayerActivations>, output: &Tensor) -> Result<()> {
        match below {
            None => self.pass.embed(output),
            Some(below) => {
                let norm = &self.pass.encoder.params.layers[index - 1].output_norm;
                Normalize { params: self.pass.params, norm, input: &below.output_sum, output }.run()
            }
        }
    }

    /// One layer: `d` [N, h] goes from the gradient of its output to that of its input.
    fn layer(
        &self,
        index: usize,
        acts: LayerActivations,
        below: Option<&LayerActivations>,
        d: &Tensor,
        ws: &mut Workspace,
    ) -> Result<()> {
        let input = ws.take(d.dims2()?, d)?;
        self.feed_forward(index, &acts, &input, d, ws)?;
        self.attention_output(index, &acts, d, ws)?;
        let d_qkv = self.attention(index, &acts, ws)?;
        acts.release(ws);
        self.layer_output(index, below, &input)?;
        let qkv = self.linear(&self.pass.encoder.params.layers[index].qkv, &d_qkv);
        qkv.params(&input, self.grad, true)?;
        qkv.input(d, true)?;
        ws.give(d_qkv);
        ws.give(input);
        Ok(())
    }

    /// `d` goes from the gradient of the layer's output to that of the attention block's; `normed` is scratch.
    fn feed_forward(&self, index: usize, acts: &LayerActivations, normed: &Tensor, d: &Tensor, ws: &mut Workspace) -> Result<()> {
        let Pass { encoder, params, batch, .. } = self.pass;
        let (layer, grad) = (&encoder.params.layers[index], self.grad);
        let d_projected = ws.take(d.dims2()?, d)?;
        ResidualNormalizeBackward {
            params,
            norm: &layer.output_norm,
            bias: layer.output.bias.clone(),
            batch,
            dropout: self.pass.site(index, Site::FeedForwardOutput),
            sums: &acts.output_sum,
            d,
            d_projected: &d_projected,
            grad,
        }
        .run()?;

        let d_intermediate = ws.take(acts.intermediate.dims2()?, d)?;
        let output = self.linear(slice::from_ref(&layer.output), &d_projected);
        output.input(&d_intermediate, false)?;
        let (bias, kind) = (layer.intermediate.bias.clone(), encoder.config.hidden_act);
        // The saved input of the activation turns into its output, which the next gradient needs.
        ActivateBackward { params, bias, kind, input: &acts.intermediate, d: &d_intermediate, grad }.run()?;
        output.params(&acts.intermediate, grad, false)?;

        Normalize { params, norm: &layer.attention_norm, input: &acts.attention_sum, output: normed }.run()?;
        let intermediate = self.linear(slice::from_ref(&layer.intermediate), &d_intermediate);
        intermediate.params(normed, grad, false)?;
        intermediate.input(d, true)?;
        ws.give(d_projected);
        ws.give(d_intermediate);
        Ok(())
    }

    /// `d` goes from the gradient of the attention block's output to that of its residual; the context's gradient is
    /// left in the place of the sum that was normalised.
    fn attention_output(&self, index: usize, acts: &LayerActivations, d: &Tensor, ws: &mut Workspace) -> Result<()> {
        let Pass { encoder, params, batch, .. } = self.pass;
        let layer = &encoder.params.layers[index];
        let d_projected = ws.take(d.dims2()?, d)?;
        ResidualNormalizeBackward {
            params,
            norm: &layer.attention_norm,
            bias: layer.attention_output.bias.clone(),
            batch,
            dropout: self.pass.site(index, Site::AttentionOutput),
            sums: &acts.attention_sum,
            d,
            d_projected: &d_projected,
            grad: self.grad,
        }
        .run()?;
        let output = self.linear(slice::from_ref(&layer.attention_output), &d_projected);
        output.params(&acts.context, self.grad, false)?;
        output.input(&acts.attention_sum, false)?;
        ws.give(d_projected);
        Ok(())
    }

    /// The gradient of queries, keys and values, [N, 3h].
    fn attention(&self, index: usize, acts: &LayerActivations, ws: &mut Workspace) -> Result<Buffer> {
        let Pass { encoder, batch, params, .. } = self.pass;
        let d_qkv = ws.take(acts.qkv.dims2()?, params)?;
        let scratch = [ws.take(scratch_len(batch), params)?, ws.take(scratch_len(batch), params)?];
        AttentionBackward {
            heads: encoder.heads(),
            batch,
            dropout: self.pass.site(index, Site::AttentionProbabilities),
            qkv: &acts.qkv,
            log_sums: &acts.log_sums,
            d_context: &acts.attention_sum,
            d_qkv: &d_qkv,
            scratch: [&scratch[0], &scratch[1]],
        }
        .run()?;
        scratch.into_iter().for_each(|buffer| ws.give(buffer));
        Ok(d_qkv)
    }

    fn linear<'a>(&'a self, layers: &'a [crate::ops::linear::LinearParams], d_output: &'a Tensor) -> LinearBackward<'a> {
        LinearBackward { params: self.pass.params, layers, d_output }
    }
}
