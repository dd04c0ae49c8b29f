//! What the forward leaves for the backward.

use candle_core::Tensor;

/// The activations of one micro-batch: views of a [`super::Slot`].
#[derive(Debug)]
pub struct Activations {
    /// By layer; one alone serves all layers of a forward that keeps none.
    pub(super) layers: Vec<LayerActivations>,
    /// Whether the layers' are overwritten as soon as they have been read: the less memory is gone through, the better caches serve.
    pub(super) passing: bool,
    /// [N, h]: the hidden states at hand, and on the way back their gradient.
    pub(super) hidden: Tensor,
    /// [S, h], before normalisation.
    pub(super) pooled: Tensor,
    /// [S, h]: the embeddings, and before the way back their gradient.
    pub embeddings: Tensor,
}

/// The activations of one layer. LayerNorm outputs, activated values, probabilities and masks are made again.
#[derive(Debug)]
pub(super) struct LayerActivations {
    /// [N, 3h], without the biases.
    pub(super) qkv: Tensor,
    /// [heads, N]: the log-sum-exp of each row of scores.
    pub(super) log_sums: Tensor,
    /// [N, h].
    pub(super) context: Tensor,
    /// [N, h]: the input of the attention's LayerNorm.
    pub(super) attention_sum: Tensor,
    /// [N, ffn]: the input of the activation, without its bias.
    pub(super) intermediate: Tensor,
    /// [N, h]: the input of the output's LayerNorm.
    pub(super) output_sum: Tensor,
}

impl Activations {
    /// For a forward that keeps none: what is dead by then gives its place to what comes.
    pub(super) fn pass(mut self) -> Self {
        self.passing = true;
        for layer in &mut self.layers {
            layer.output_sum = layer.attention_sum.clone();
        }
        self
    }

    /// Those of a layer.
    pub(super) fn layer(&self, index: usize) -> &LayerActivations {
        &self.layers[index.min(self.layers.len() - 1)]
    }
}
