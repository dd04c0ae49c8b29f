//! What the forward leaves for the backward.

use candle_core::Tensor;

/// The activations of one micro-batch: views of a [`super::Slot`].
#[derive(Debug)]
pub struct Activations {
    /// By layer; one alone serves all layers of a forward that keeps none.
    pub(super) layers: Vec<LayerActivations>,
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
    /// [N, 3h], biases included.
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
    /// Those of a layer.
    pub(super) fn layer(&self, index: usize) -> &LayerActivations {
        &self.layers[index.min(self.layers.len() - 1)]
    }
}
