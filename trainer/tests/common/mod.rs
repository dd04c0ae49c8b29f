//! A model of some layers with random weights, and rows of tokens, for tests of whole steps.

use std::sync::Arc;

use artel_trainer::collective::Solo;
use artel_trainer::encoder::Encoder;
use artel_trainer::loss::LossSpec;
use artel_trainer::model::config::{Activation, BertConfig};
use artel_trainer::model::layout::ParamLayout;
use artel_trainer::model::pooling::{Pooling, PoolingMode};
use artel_trainer::optim::AdamW;
use artel_trainer::state::TrainState;
use artel_trainer::step::{ActivationBudget, StepSettings, Trainer};
use artel_trainer::tokens::TokenTable;

/// Size of the vocabulary.
const WORDS: u32 = 3_000;
/// Rows of the table.
pub const ROWS: u32 = 320;
/// Rows of a batch.
pub const BATCH: usize = 32;

/// A trainer of a world of one.
pub fn trainer(threads: usize, activation_budget: ActivationBudget) -> Trainer {
    let config = BertConfig {
        vocab_size: WORDS as usize,
        hidden_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        intermediate_size: 512,
        hidden_act: Activation::Gelu,
        layer_norm_eps: 1e-12,
        max_position_embeddings: 256,
        type_vocab_size: 2,
        hidden_dropout_prob: 0.1,
        attention_probs_dropout_prob: 0.1,
        pad_token_id: 0,
    };
    let layout = ParamLayout::bert(&config);
    let params = (0..layout.total as u32).map(|i| (i.wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 - 0.5) * 0.1);
    let state = TrainState::new(params.collect()).expect("there is memory");
    let pooling = Pooling { mode: PoolingMode::Mean, normalize: true, include_prompt: true };
    let settings = StepSettings {
        loss: LossSpec { scale: 20.0, dims: vec![128, 64], weights: vec![1.0; 2] },
        num_leaves: 8,
        micro_batch_tokens: 1024,
        max_grad_norm: 1.0,
        adamw: AdamW::default(),
        seed: 42,
        dropout: (0.1, 0.1),
        threads,
        activation_budget,
    };
    let encoder = Encoder::new(config, pooling, layout).expect("the shape is valid");
    Trainer::new(Arc::new(encoder), settings, Arc::new(Solo::new()), state).expect("there are threads")
}

/// Questions of 8 to 23 tokens and answers of 40 to 239: a batch has about 5,000, so leaves are cut in one or two.
pub fn table() -> TokenTable {
    let mut table = TokenTable::new(vec![0, 0]);
    let mut number = 1u32;
    let mut next = |below: u32| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (number >> 8) % below
    };
    for _ in 0..ROWS {
        for (least, spread) in [(8, 16), (40, 200)] {
            let len = least + next(spread);
            let ids: Vec<u32> = (0..len).map(|_| 1 + next(WORDS - 1)).collect();
            table.push_text(&ids);
        }
    }
    table
}
