//! Whole updates by the GPU's kernels, run on the CPU, beside the CPU's own.

use std::sync::Arc;

use super::*;
use crate::collective::Solo;
use crate::encoder::Encoder;
use crate::loss::LossSpec;
use crate::model::config::{Activation, BertConfig};
use crate::model::layout::ParamLayout;
use crate::model::pooling::{Pooling, PoolingMode};
use crate::optim::AdamW;
use crate::state::{TrainState, with_values};
use crate::step::{ActivationBudget, StepSettings, Trainer};
use crate::tokens::TokenTable;

const WORDS: u32 = 200;
const ROWS: u32 = 24;

fn encoder() -> Encoder {
    let config = BertConfig {
        vocab_size: WORDS as usize,
        hidden_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 128,
        hidden_act: Activation::Gelu,
        layer_norm_eps: 1e-12,
        max_position_embeddings: 128,
        type_vocab_size: 2,
        hidden_dropout_prob: 0.1,
        attention_probs_dropout_prob: 0.1,
        pad_token_id: 0,
    };
    let layout = ParamLayout::bert(&config);
    Encoder::new(config, Pooling { mode: PoolingMode::Mean, normalize: true, include_prompt: true }, layout).unwrap()
}

/// Numbers in [-1, 1).
fn noise(i: u32) -> f32 {
    i.wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 * 2.0 - 1.0
}

fn params(encoder: &Encoder) -> Vec<f32> {
    let mut params: Vec<f32> = (0..encoder.layout().total as u32).map(|i| noise(i) * 0.1).collect();
    for entry in encoder.layout().entries.iter().filter(|entry| entry.name.ends_with("LayerNorm.weight")) {
        params[entry.range()].iter_mut().for_each(|x| *x += 1.0);
    }
    params
}

/// Rows of three columns: an anchor, a positive that shares its words, a negative.
fn table() -> TokenTable {
    let mut table = TokenTable::new(vec![0; 3]);
    for row in 0..ROWS {
        for column in 0..3 {
            let len = 4 + (row * 7 + column * 11) % 30;
            let word = |at: u32| 1 + (row * 31 + at % 9 * (1 + column / 2) + column / 2 * 97) % (WORDS - 1);
            table.push_text(&(0..len).map(word).collect::<Vec<_>>());
        }
    }
    table
}

fn settings(dropout: f64, micro_batch_tokens: usize) -> DeviceSettings {
    DeviceSettings {
        loss: LossSpec { scale: 20.0, dims: vec![64, 32, 16], weights: vec![1.0; 3] },
        max_grad_norm: 1.0,
        adamw: AdamW { weight_decay: 0.01, ..AdamW::default() },
        seed: 42,
        dropout: (dropout, dropout),
        micro_batch_tokens,
    }
}

fn device_trainer(settings: DeviceSettings, params: Vec<f32>) -> DeviceTrainer {
    DeviceTrainer::new(emulated::gpu(), Arc::new(encoder()), settings, &TrainState::new(params).unwrap()).unwrap()
}

fn cpu_trainer(settings: &DeviceSettings, params: Vec<f32>) -> Trainer {
    let settings = StepSettings {
        loss: settings.loss.clone(),
        num_leaves: 2,
        micro_batch_tokens: 512,
        max_grad_norm: settings.max_grad_norm,
        adamw: settings.adamw,
        seed: settings.seed,
        dropout: settings.dropout,
        threads: 1,
        activation_budget: ActivationBudget { all: usize::MAX, some: usize::MAX, num_sums: 0 },
    };
    Trainer::new(Arc::new(encoder()), settings, Arc::new(Solo::new()), TrainState::new(params).unwrap()).unwrap()
}

fn moved(after: &[f32], before: &[f32]) -> Vec<f64> {
    after.iter().zip(before).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Goal: updates are the CPU's but for bf16's rounding: losses, norms and where the parameters go, with dropout, negatives, accumulation
/// and decay. Method: five updates of both.
#[test]
fn updates_are_those_of_the_cpu() {
    let (table, before) = (table(), params(&encoder()));
    let settings = settings(0.1, 1 << 20);
    let (mut gpu, mut cpu) = (device_trainer(settings.clone(), before.clone()), cpu_trainer(&settings, before.clone()));
    let rows: Vec<u32> = (0..ROWS).collect();
    for step in 0..5 {
        let batches = [&rows[..ROWS as usize / 2], &rows[ROWS as usize / 2..]];
        let rate = 1e-3 / (1.0 + f64::from(step));
        let (found, expected) = (gpu.step(&table, &batches, rate).unwrap(), cpu.step(&table, &batches, rate).unwrap());
        println!("{found:?} {} {}", expected.loss, expected.grad_norm);
        assert!((found.loss / expected.loss - 1.0).abs() < 0.01, "step {step}: {} {}", found.loss, expected.loss);
        assert!(
            (found.grad_norm / expected.grad_norm - 1.0).abs() < 0.03,
            "step {step}: {} {}",
            found.grad_norm,
            expected.grad_norm
        );
    }
    let state = gpu.optimizer.state().unwrap();
    assert_eq!(state.step, 5);
    let found = moved(&with_values(&state.params, <[f32]>::to_vec).unwrap(), &before);
    let expected = moved(&with_values(&cpu.state.params, <[f32]>::to_vec).unwrap(), &before);
    let first = cosine(
        &state.exp_avg.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(),
        &cpu.state.exp_avg.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(),
    );
    println!("movement's cosine {}, first moments' {first}", cosine(&found, &expected));
    assert!(cosine(&found, &expected) > 0.97 && first > 0.99);
}

/// Goal: memory decides how often texts are embedded, and little else: masks are the same, and gradients but for the order of sums. Method: a
/// batch in one piece, in pieces, and text by text.
#[test]
fn pieces_are_the_whole() {
    let (table, before) = (table(), params(&encoder()));
    let rows: Vec<u32> = (0..ROWS).collect();
    let outcomes = [1 << 20, 300, 1].map(|micro_batch_tokens| {
        let mut trainer = device_trainer(settings(0.1, micro_batch_tokens), before.clone());
        let outcome = trainer.step(&table, &[&rows], 1e-3).unwrap();
        (outcome, trainer.optimizer.grad.to_vec1::<f32>().unwrap())
    });
    let (whole, grad) = &outcomes[0];
    let grad: Vec<f64> = grad.iter().map(|x| f64::from(*x)).collect();
    for (outcome, pieces) in &outcomes[1..] {
        assert_eq!(outcome.loss, whole.loss, "a text's embedding depends on what is beside it");
        let pieces: Vec<f64> = pieces.iter().map(|x| f64::from(*x)).collect();
        assert!((outcome.grad_norm / whole.grad_norm - 1.0).abs() < 1e-4);
        assert!(cosine(&grad, &pieces) > 0.99999);
    }
}

/// Goal: a loss that is no number is an error, and moves nothing. Method: a parameter that is infinite; the state before and after.
#[test]
fn not_finite() {
    let (table, mut before) = (table(), params(&encoder()));
    let at = encoder().layout().entry("encoder.layer.1.output.dense.weight").unwrap().offset;
    before[at] = f32::INFINITY;
    let mut trainer = device_trainer(settings(0.0, 1 << 20), before.clone());
    let rows: Vec<u32> = (0..ROWS).collect();
    let error = trainer.step(&table, &[&rows], 1e-3).unwrap_err();
    assert!(matches!(error, crate::Error::NotFinite(_)), "{error}");
    assert!(error.to_string().contains("at step 1"), "{error}");
    let state = trainer.optimizer.state().unwrap();
    assert!(with_values(&state.params, |params| params == before).unwrap());
    assert!(state.step == 0 && state.exp_avg.iter().all(|x| *x == 0.0));
}

/// Goal: what the kernels are not made for is refused by name. Method: heads of 8, and a width beyond a warp's rows.
#[test]
fn unsuitable_models() {
    for (hidden_size, num_attention_heads, expected) in [(64, 8, "attention heads of 8"), (2048, 32, "a hidden width of 2048")] {
        let config = BertConfig { hidden_size, num_attention_heads, ..encoder().config().clone() };
        let layout = ParamLayout::bert(&config);
        let encoder = Encoder::new(config, Pooling::mean(), layout).unwrap();
        let settings = DeviceSettings { loss: LossSpec::full_width(20.0, hidden_size), ..settings(0.0, 1 << 20) };
        let state = TrainState::new(params(&encoder)).unwrap();
        let mut trainer = DeviceTrainer::new(emulated::gpu(), Arc::new(encoder), settings, &state).unwrap();
        let error = trainer.step(&table(), &[&[0, 1]], 1e-3).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
