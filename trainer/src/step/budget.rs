//! What memory the activations of a slice may take.

use crate::encoder::Encoder;

/// Bytes that kept activations may take on a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivationBudget {
    /// If the whole slice's fit into this, all are kept, and the gradient is made layer by layer.
    pub all: usize,
    /// Else so much may be kept beside the whole gradient of every leaf in work and what is made again.
    pub some: usize,
}

impl From<usize> for ActivationBudget {
    /// The same either way.
    fn from(bytes: usize) -> Self {
        Self { all: bytes, some: bytes }
    }
}

impl ActivationBudget {
    /// What is left of a rank's memory, `limit` bytes, once everything else has its share: parameters and moments, the
    /// gradient and what is summed into it, and each thread's buffers.
    pub fn of(encoder: &Encoder, limit: usize, threads: usize, num_leaves: usize, micro_batch_tokens: usize) -> Self {
        let total = encoder.layout().total;
        let threads = threads.min(num_leaves).max(1);
        // of the tree, at most one node a level waits for its sibling
        let sums = threads + num_leaves.max(1).ilog2() as usize + 1;
        let largest_layer = encoder.parts().iter().skip(1).map(std::ops::Range::len).max().unwrap_or(0);
        let buffers = threads * micro_batch_tokens * encoder.buffer_width();
        let floats = |floats: usize| floats * size_of::<f32>();
        let state = floats(4 * total);
        Self {
            all: limit.saturating_sub(state + floats(sums * largest_layer + buffers)),
            some: limit
                .saturating_sub(state + floats(sums * total + buffers) + threads * encoder.activation_bytes(micro_batch_tokens)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::{Activation, BertConfig};
    use crate::model::layout::ParamLayout;
    use crate::model::pooling::{Pooling, PoolingMode};

    /// Goal: memory is never planned twice, and too little of it is none for activations. Method: MiniLM's shape at several limits.
    #[test]
    fn what_is_left() {
        let config = BertConfig {
            vocab_size: 30522,
            hidden_size: 384,
            num_hidden_layers: 6,
            num_attention_heads: 12,
            intermediate_size: 1536,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-12,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            pad_token_id: 0,
        };
        let layout = ParamLayout::bert(&config);
        let state = 16 * layout.total;
        let pooling = Pooling { mode: PoolingMode::Mean, normalize: true, include_prompt: true };
        let encoder = Encoder::new(config, pooling, layout).unwrap();
        let at = |limit: usize, threads: usize| ActivationBudget::of(&encoder, limit, threads, 8, 1024);
        assert_eq!(at(state, 1), ActivationBudget::from(0));
        let (one, two) = (at(2_000_000_000, 1), at(2_000_000_000, 2));
        assert!(one.some < one.all && two.all < one.all && two.some < one.some);
        assert!(two.all + state < 2_000_000_000 && two.all > 1_400_000_000, "{two:?}");
        assert_eq!(at(2_000_000_000, 8), at(2_000_000_000, 64), "threads beyond the leaves do nothing");
    }
}
