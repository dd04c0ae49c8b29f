//! The forward pass, layer by layer.

use std::ops::Range;
use std::slice;

use candle_core::Tensor;

use super::Encoder;
use super::activations::{Activations, LayerActivations};
use super::workspace::Workspace;
use crate::Result;
use crate::dropout::{Dropout, Site, SiteDropout};
use crate::gpu::{OnGpu, Place};
use crate::ops::linear::LinearParams;
use crate::ops::{Activate, Attention, Embed, Linear, NormParams, Pool, ResidualNormalize};
use crate::packed::PackedBatch;

/// One micro-batch on its way through the encoder, forward or back: what all layers share.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    pub(super) encoder: &'a Encoder,
    pub(super) params: &'a Tensor,
    pub(super) batch: &'a PackedBatch,
    pub(super) dropout: Option<&'a Dropout>,
    /// Where it runs, if not on the CPU.
    pub(super) place: Option<Place<'a>>,
}

impl<'a> Pass<'a> {
    /// Lets it run on a GPU, which has the parameters and the batch; activations are bf16 there.
    pub fn on(self, place: Place<'a>) -> Self {
        Self { place: Some(place), ..self }
    }
}

impl Pass<'_> {
    /// Runs an operation where the pass does.
    pub(super) fn run<O: OnGpu>(&self, operation: &O, on_cpu: impl FnOnce(&O) -> Result<()>) -> Result<()> {
        match &self.place {
            None => on_cpu(operation),
            Some(place) => operation.launch(place),
        }
    }

    /// A tensor of the type and device that activations have.
    pub(super) fn like(&self) -> &Tensor {
        self.place.map_or(self.params, |place| place.gpu.like())
    }

    /// Room for its activations in the workspace's own memory, of all layers with `keep`; the next call takes it back.
    ///
    /// # Errors
    /// Out of memory.
    pub fn room(&self, keep: bool, ws: &mut Workspace) -> Result<Activations> {
        let num_layers = self.encoder.config.num_hidden_layers;
        let (slot, num_layers) = if keep { (&mut ws.full, num_layers) } else { (&mut ws.single, 1) };
        let (num_tokens, num_sequences) = (self.batch.num_tokens(), self.batch.num_sequences());
        slot.reserve(self.encoder, num_layers, num_tokens, num_sequences, self.like())?;
        let activations = slot.activations(self.encoder, 0..num_tokens, 0..num_sequences)?;
        Ok(if keep { activations } else { activations.pass() })
    }

    /// All layers: the embeddings, and in `acts` what the way back needs if it has every layer's.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn forward(&self, acts: &Activations, ws: &mut Workspace) -> Result<()> {
        self.embed(acts)?;
        for index in 0..self.encoder.params.layers.len() {
            self.layer(index, acts, ws)?;
        }
        self.pool(acts)
    }

    /// The hidden states that layer 0 takes.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn embed(&self, acts: &Activations) -> Result<()> {
        self.embed_into(&acts.hidden)
    }

    /// One layer: the hidden states go from its input to its output.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn layer(&self, index: usize, acts: &Activations, ws: &mut Workspace) -> Result<()> {
        let (layer, hidden, kept) = (&self.encoder.params.layers[index], &acts.hidden, acts.layer(index));
        self.attention(index, hidden, kept, ws)?;
        self.linear(slice::from_ref(&layer.attention_output), &kept.context, &kept.attention_sum)?;
        let normed = ws.take(hidden.dims2()?, hidden)?;
        let (norm, bias) = (&layer.attention_norm, layer.attention_output.bias.clone());
        let dropout = self.site(index, Site::AttentionOutput);
        self.residual_normalize(norm, bias, dropout, hidden, &kept.attention_sum, &normed)?;

        self.linear(slice::from_ref(&layer.intermediate), &normed, &kept.intermediate)?;
        let (bias, kind) = (layer.intermediate.bias.clone(), self.encoder.config.hidden_act);
        if acts.passing {
            self.run(&Activate { params: self.params, bias, kind, input: None, output: &kept.intermediate }, Activate::run)?;
            self.linear(slice::from_ref(&layer.output), &kept.intermediate, &kept.output_sum)?;
        } else {
            let activated = ws.take(kept.intermediate.dims2()?, hidden)?;
            let input = Some(&kept.intermediate);
            self.run(&Activate { params: self.params, bias, kind, input, output: &activated }, Activate::run)?;
            self.linear(slice::from_ref(&layer.output), &activated, &kept.output_sum)?;
            ws.give(activated);
        }
        let (norm, bias) = (&layer.output_norm, layer.output.bias.clone());
        self.residual_normalize(norm, bias, self.site(index, Site::FeedForwardOutput), &normed, &kept.output_sum, hidden)?;
        ws.give(normed);
        Ok(())
    }

    /// The embeddings of the last layer's hidden states.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn pool(&self, acts: &Activations) -> Result<()> {
        let Activations { hidden, pooled, embeddings, .. } = acts;
        self.run(&Pool { pooling: self.encoder.pooling, batch: self.batch, hidden, pooled, embeddings }, Pool::run)
    }

    pub(super) fn site(&self, layer: usize, site: Site) -> Option<SiteDropout> {
        self.dropout.and_then(|dropout| dropout.site(layer, site))
    }

    pub(super) fn embed_into(&self, hidden: &Tensor) -> Result<()> {
        let (params, embedding) = (self.params, &self.encoder.params.embedding);
        let dropout = self.site(0, Site::Embeddings);
        self.run(&Embed { params, embedding, batch: self.batch, dropout, output: hidden }, Embed::run)
    }

    /// Queries, keys and values; log-sum-exps; context.
    fn attention(&self, index: usize, hidden: &Tensor, kept: &LayerActivations, ws: &mut Workspace) -> Result<()> {
        let (batch, heads) = (self.batch, self.encoder.heads());
        let LayerActivations { qkv, log_sums, context, .. } = kept;
        let layers = &self.encoder.params.layers[index].qkv;
        self.linear(layers, hidden, qkv)?;
        // a GPU's kernels have room of their own
        let shape = if self.place.is_some() { (1, 1) } else { heads.scratch_shape(batch) };
        let scratch = ws.take(shape, hidden)?;
        let dropout = self.site(index, Site::AttentionProbabilities);
        let (params, biases) = (self.params, biases(layers));
        let attention = Attention { heads, batch, dropout, params, biases, qkv, log_sums, context, scratch: &scratch };
        self.run(&attention, Attention::run)?;
        ws.give(scratch);
        Ok(())
    }

    fn linear(&self, layers: &[LinearParams], input: &Tensor, output: &Tensor) -> Result<()> {
        self.run(&Linear { params: self.params, layers, input, output }, Linear::run)
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
        let operation = ResidualNormalize { params, norm, bias, batch, dropout, residual, sums, output };
        self.run(&operation, ResidualNormalize::run)
    }
}

/// Where the biases of queries, keys and values lie.
pub(super) fn biases(layers: &[LinearParams; 3]) -> [Range<usize>; 3] {
    layers.each_ref().map(|layer| layer.bias.clone())
}
