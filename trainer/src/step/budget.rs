//! What memory the activations of a slice may take.

use crate::encoder::Encoder;

/// Bytes that kept activations may take on a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivationBudget {
    /// If the whole slice's fit into this, all are kept, and the gradient is made layer by layer.
    pub all: usize,
    /// Else so much may be kept beside the whole gradient of every leaf in work and what is made again.
    pub some: usize,
    /// How many sums of the embeddings' part, which depends on the batch, are there at once and are not in `all` yet.
    pub num_sums: usize,
}

/// What a rank's memory is planned by.
#[derive(Debug, Clone, Copy)]
pub struct MemoryPlan {
    /// Bytes that it may take.
    pub limit: usize,
    /// Threads of the rank.
    pub threads: usize,
    /// Leaves of the summation tree.
    pub num_leaves: usize,
    /// Tokens of a micro-batch.
    pub micro_batch_tokens: usize,
    /// Texts of a batch, over all columns and ranks.
    pub num_texts: usize,
    /// Whether gradients of several batches are added.
    pub accumulates: bool,
}

/// Copies of a batch's embeddings and their gradient that are there at once, at most: the slice's, all ranks', and the loss's.
const EMBEDDING_COPIES: usize = 4;

impl From<usize> for ActivationBudget {
    /// The same either way.
    fn from(bytes: usize) -> Self {
        Self { all: bytes, some: bytes, num_sums: 0 }
    }
}

impl ActivationBudget {
    /// What is left of a rank's memory once everything else has its share: parameters and moments, the gradient and what is
    /// summed into it, the loss, and each thread's buffers. Rows longer than a micro-batch are not planned for.
    pub fn of(encoder: &Encoder, plan: MemoryPlan) -> Self {
        let MemoryPlan { limit, threads, num_leaves, micro_batch_tokens, num_texts, accumulates } = plan;
        let total = encoder.layout().total;
        let threads = threads.min(num_leaves).max(1);
        // of the tree, about one node a level waits for its sibling
        let sums = threads + num_leaves.max(1).ilog2() as usize + 1;
        let largest_layer = encoder.parts().iter().skip(1).map(std::ops::Range::len).max().unwrap_or(0);
        let buffers = threads * micro_batch_tokens * encoder.buffer_width();
        let floats = |floats: usize| floats * size_of::<f32>();
        let embeddings = EMBEDDING_COPIES * num_texts * encoder.config().hidden_size;
        let state = floats((4 + usize::from(accumulates)) * total + embeddings);
        Self {
            all: limit.saturating_sub(state + floats(sums * largest_layer + buffers)),
            some: limit
                .saturating_sub(state + floats(sums * total + buffers) + threads * encoder.activation_bytes(micro_batch_tokens)),
            num_sums: sums,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::BertConfig;
    use crate::model::layout::ParamLayout;
    use crate::model::pooling::{Pooling, PoolingMode};

    /// Goal: memory is never planned twice, and too little of it is none for activations. Method: MiniLM's shape at several limits.
    #[test]
    fn what_is_left() {
        let config = BertConfig::bert(6, 384);
        let layout = ParamLayout::bert(&config);
        let state = 16 * layout.total;
        let pooling = Pooling { mode: PoolingMode::Mean, normalize: true, include_prompt: true };
        let encoder = Encoder::new(config, pooling, layout).unwrap();
        let plan = MemoryPlan {
            limit: 2_000_000_000,
            threads: 1,
            num_leaves: 8,
            micro_batch_tokens: 1024,
            num_texts: 64,
            accumulates: false,
        };
        let at = |limit: usize, threads: usize| ActivationBudget::of(&encoder, MemoryPlan { limit, threads, ..plan });
        assert_eq!((at(state, 1).all, at(state, 1).some), (0, 0));
        let other = |plan| ActivationBudget::of(&encoder, plan).all;
        assert_eq!(other(plan) - other(MemoryPlan { accumulates: true, ..plan }), state / 4);
        assert_eq!(other(plan) - other(MemoryPlan { num_texts: 1_064, ..plan }), 4 * 1_000 * 384 * 4);
        let (one, two) = (at(2_000_000_000, 1), at(2_000_000_000, 2));
        assert!(one.some < one.all && two.all < one.all && two.some < one.some);
        assert!(two.all + state < 2_000_000_000 && two.all > 1_400_000_000, "{two:?}");
        assert_eq!(at(2_000_000_000, 8), at(2_000_000_000, 64), "threads beyond the leaves do nothing");
    }
}
