//! The way back, layer by layer.

use std::slice;

use candle_core::Tensor;

use super::activations::{Activations, LayerActivations};
use super::forward::{Pass, biases};
use super::workspace::{Buffer, Workspace};
use crate::dropout::Site;
use crate::model::pooling::PoolingMode;
use crate::ops::linear::LinearParams;
use crate::ops::{
    ActivateBackward, AttentionBackward, EmbedBackward, GradPart, LinearBackward, Normalize, PoolBackward,
    ResidualNormalizeBackward, WordRows,
};
use crate::{Error, Result};

impl Pass<'_> {
    /// The whole way back: adds the gradient of the micro-batch to `grad`, laid out as the parameters, always by the same
    /// operations; `d_embeddings` is [S, h].
    ///
    /// # Errors
    /// The parts do not fit together, or a tensor operation failed; `grad` is then undefined.
    pub fn backward(&self, acts: Activations, d_embeddings: &Tensor, grad: &Tensor, ws: &mut Workspace) -> Result<()> {
        self.backward_by_parts(acts, d_embeddings, grad, ws, &mut |_| Ok(()))
    }

    /// As [`Self::backward`], telling of each part of the gradient ([`super::Encoder::parts`]) once nothing more is added to it: the last layer's first.
    ///
    /// # Errors
    /// As there, and those of `done`.
    pub fn backward_by_parts(
        &self,
        acts: Activations,
        d_embeddings: &Tensor,
        grad: &Tensor,
        ws: &mut Workspace,
        done: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let expected = [self.batch.num_sequences(), self.encoder.config.hidden_size];
        if d_embeddings.dims() != expected || acts.pooled.dims() != expected || grad.dims() != self.params.dims() {
            return Err(Error::Internal("the backward's parts are of different micro-batches or models".to_owned()));
        }
        if self.batch.num_sequences() == 0 {
            return (0..=self.encoder.config.num_hidden_layers).rev().try_for_each(done);
        }
        let acts = Activations { embeddings: d_embeddings.clone(), ..acts };
        self.pool_backward(&acts, ws)?;
        for index in (0..self.encoder.config.num_hidden_layers).rev() {
            self.layer_backward(index, &acts, GradPart::whole(grad), ws)?;
            done(index + 1)?;
        }
        self.embed_backward(&acts, &WordRows::All, GradPart::whole(grad))?;
        done(0)
    }

    /// Begins the way back: the embeddings' gradient, which `acts` holds in their place, becomes that of the hidden states.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn pool_backward(&self, acts: &Activations, ws: &mut Workspace) -> Result<()> {
        let Activations { layers, hidden: d_hidden, pooled, embeddings: d_embeddings, .. } = acts;
        let pooling = self.encoder.pooling;
        let hidden = match pooling.mode {
            PoolingMode::Max => Some(ws.take(d_hidden.dims2()?, d_hidden)?),
            PoolingMode::Cls | PoolingMode::Mean => None,
        };
        if let Some(hidden) = &hidden {
            self.layer_output(layers.len(), layers.last(), hidden)?;
        }
        let operation = PoolBackward { pooling, batch: self.batch, hidden: hidden.as_deref(), pooled, d_embeddings, d_hidden };
        self.run(&operation, PoolBackward::run)?;
        hidden.into_iter().for_each(|hidden| ws.give(hidden));
        Ok(())
    }

    /// One layer: the gradient of its output becomes that of its input, and `grad`, which holds the layer's part
    /// ([`super::Encoder::parts`]), receives the parameters'. The layer's activations are used up.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn layer_backward(&self, index: usize, acts: &Activations, grad: GradPart<'_>, ws: &mut Workspace) -> Result<()> {
        let (d, kept) = (&acts.hidden, &acts.layers[index]);
        let below = index.checked_sub(1).map(|below| &acts.layers[below]);
        let input = ws.take(d.dims2()?, d)?;
        self.feed_forward_backward(index, kept, &input, d, grad, ws)?;
        self.attention_output_backward(index, kept, d, grad, ws)?;
        let d_qkv = self.attention_backward(index, kept, ws)?;
        self.layer_output(index, below, &input)?;
        let qkv = self.linear_backward(&self.encoder.params.layers[index].qkv, &d_qkv);
        self.linear_params(&qkv, &input, grad, true)?;
        self.linear_input(&qkv, d, true)?;
        ws.give(d_qkv);
        ws.give(input);
        Ok(())
    }

    /// Ends the way back: the gradient of layer 0's input becomes that of the tables and their LayerNorm, in `grad`.
    ///
    /// # Errors
    /// A tensor operation failed, or `word_rows` lacks a word of the batch.
    pub fn embed_backward(&self, acts: &Activations, word_rows: &WordRows, grad: GradPart<'_>) -> Result<()> {
        let (params, batch, embedding) = (self.params, self.batch, &self.encoder.params.embedding);
        let (dropout, pad_token_id) = (self.site(0, Site::Embeddings), self.encoder.config.pad_token_id);
        let operation = EmbedBackward { params, embedding, batch, dropout, pad_token_id, d: &acts.hidden, word_rows, grad };
        self.run(&operation, EmbedBackward::run)
    }

    /// The output of the layer below `index`, made again from its activations; that of the embeddings where there is none.
    fn layer_output(&self, index: usize, below: Option<&LayerActivations>, output: &Tensor) -> Result<()> {
        match below {
            None => self.embed_into(output),
            Some(below) => {
                let norm = &self.encoder.params.layers[index - 1].output_norm;
                self.run(&Normalize { params: self.params, norm, input: &below.output_sum, output }, Normalize::run)
            }
        }
    }

    /// `d` goes from the gradient of the layer's output to that of the attention block's; `normed` is scratch.
    fn feed_forward_backward(
        &self,
        index: usize,
        acts: &LayerActivations,
        normed: &Tensor,
        d: &Tensor,
        grad: GradPart<'_>,
        ws: &mut Workspace,
    ) -> Result<()> {
        let Pass { encoder, params, batch, .. } = *self;
        let layer = &encoder.params.layers[index];
        let d_projected = ws.take(d.dims2()?, d)?;
        let operation = ResidualNormalizeBackward {
            params,
            norm: &layer.output_norm,
            bias: layer.output.bias.clone(),
            batch,
            dropout: self.site(index, Site::FeedForwardOutput),
            sums: &acts.output_sum,
            d,
            d_projected: &d_projected,
            grad,
        };
        self.run(&operation, ResidualNormalizeBackward::run)?;

        let d_intermediate = ws.take(acts.intermediate.dims2()?, d)?;
        let output = self.linear_backward(slice::from_ref(&layer.output), &d_projected);
        self.linear_input(&output, &d_intermediate, false)?;
        let (bias, kind) = (layer.intermediate.bias.clone(), encoder.config.hidden_act);
        // The saved input of the activation turns into its output, which the next gradient needs.
        let activate = ActivateBackward { params, bias, kind, input: &acts.intermediate, d: &d_intermediate, grad };
        self.run(&activate, ActivateBackward::run)?;
        self.linear_params(&output, &acts.intermediate, grad, false)?;

        let normalize = Normalize { params, norm: &layer.attention_norm, input: &acts.attention_sum, output: normed };
        self.run(&normalize, Normalize::run)?;
        let intermediate = self.linear_backward(slice::from_ref(&layer.intermediate), &d_intermediate);
        self.linear_params(&intermediate, normed, grad, false)?;
        self.linear_input(&intermediate, d, true)?;
        ws.give(d_projected);
        ws.give(d_intermediate);
        Ok(())
    }

    /// `d` goes from the gradient of the attention block's output to that of its residual; the context's gradient is
    /// left in the place of the sum that was normalised.
    fn attention_output_backward(
        &self,
        index: usize,
        acts: &LayerActivations,
        d: &Tensor,
        grad: GradPart<'_>,
        ws: &mut Workspace,
    ) -> Result<()> {
        let Pass { encoder, params, batch, .. } = *self;
        let layer = &encoder.params.layers[index];
        let d_projected = ws.take(d.dims2()?, d)?;
        let operation = ResidualNormalizeBackward {
            params,
            norm: &layer.attention_norm,
            bias: layer.attention_output.bias.clone(),
            batch,
            dropout: self.site(index, Site::AttentionOutput),
            sums: &acts.attention_sum,
            d,
            d_projected: &d_projected,
            grad,
        };
        self.run(&operation, ResidualNormalizeBackward::run)?;
        let output = self.linear_backward(slice::from_ref(&layer.attention_output), &d_projected);
        self.linear_params(&output, &acts.context, grad, false)?;
        self.linear_input(&output, &acts.attention_sum, false)?;
        ws.give(d_projected);
        Ok(())
    }

    /// The gradient of queries, keys and values, [N, 3h].
    fn attention_backward(&self, index: usize, acts: &LayerActivations, ws: &mut Workspace) -> Result<Buffer> {
        let Pass { encoder, batch, params, .. } = *self;
        let d_qkv = ws.take(acts.qkv.dims2()?, &acts.qkv)?;
        let heads = encoder.heads();
        let shape = if self.place.is_some() { (1, 1) } else { heads.backward_scratch_shape(batch) };
        let scratch = ws.take(shape, &acts.qkv)?;
        let operation = AttentionBackward {
            heads,
            batch,
            dropout: self.site(index, Site::AttentionProbabilities),
            params,
            biases: biases(&encoder.params.layers[index].qkv),
            qkv: &acts.qkv,
            log_sums: &acts.log_sums,
            context: &acts.context,
            d_context: &acts.attention_sum,
            d_qkv: &d_qkv,
            scratch: &scratch,
        };
        self.run(&operation, AttentionBackward::run)?;
        ws.give(scratch);
        Ok(d_qkv)
    }

    fn linear_backward<'a>(&self, layers: &'a [LinearParams], d_output: &'a Tensor) -> LinearBackward<'a>
    where
        Self: 'a,
    {
        LinearBackward { params: self.params, layers, d_output }
    }

    fn linear_input(&self, linear: &LinearBackward<'_>, d_input: &Tensor, accumulate: bool) -> Result<()> {
        match &self.place {
            None => linear.input(d_input, accumulate),
            Some(place) => linear.launch_input(place, d_input, accumulate),
        }
    }

    fn linear_params(&self, linear: &LinearBackward<'_>, input: &Tensor, grad: GradPart<'_>, with_bias: bool) -> Result<()> {
        match &self.place {
            None => linear.params(input, grad, with_bias),
            Some(place) => linear.launch_params(place, input, grad, with_bias),
        }
    }
}
