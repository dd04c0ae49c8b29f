//! What the forward keeps for the backward.

use super::workspace::{Buffer, Workspace};

/// The activations of one micro-batch.
#[derive(Debug)]
pub struct Activations {
    pub(super) layers: Vec<LayerActivations>,
    /// [S, h], before normalisation.
    pub(super) pooled: Buffer,
}

/// The activations of one layer. LayerNorm outputs, activated values, probabilities and masks are made again.
#[derive(Debug)]
pub(super) struct LayerActivations {
    /// [N, 3h], biases included.
    pub(super) qkv: Buffer,
    /// [heads, N]: the log-sum-exp of each row of scores.
    pub(super) log_sums: Buffer,
    /// [N, h].
    pub(super) context: Buffer,
    /// [N, h]: the input of the attention's LayerNorm.
    pub(super) attention_sum: Buffer,
    /// [N, ffn]: the input of the activation, without its bias.
    pub(super) intermediate: Buffer,
    /// [N, h]: the input of the output's LayerNorm.
    pub(super) output_sum: Buffer,
}

impl Activations {
    /// Gives all buffers back without a backward.
    pub fn release(self, ws: &mut Workspace) {
        ws.give(self.pooled);
        for layer in self.layers {
            layer.release(ws);
        }
    }
}

impl LayerActivations {
    pub(super) fn release(self, ws: &mut Workspace) {
        let Self { qkv, log_sums, context, attention_sum, intermediate, output_sum } = self;
        for buffer in [qkv, log_sums, context, attention_sum, intermediate, output_sum] {
            ws.give(buffer);
        }
    }
}
