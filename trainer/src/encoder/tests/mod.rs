//! The encoder against finite differences, candle's autograd, PyTorch's goldens, and itself.

mod finite_differences;
mod goldens;
mod invariance;
mod on_gpu;
mod oracle;

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::dropout::DropoutKey;
use crate::model::config::Activation;
use crate::model::pooling::PoolingMode;
use crate::packed::SampleKey;

/// A small BERT of odd widths.
fn small_config(hidden_act: Activation) -> BertConfig {
    BertConfig {
        vocab_size: 19,
        hidden_size: 12,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        intermediate_size: 17,
        hidden_act,
        layer_norm_eps: 1e-6,
        max_position_embeddings: 11,
        type_vocab_size: 2,
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
        pad_token_id: 0,
    }
}

fn encoder(config: BertConfig, pooling: Pooling) -> Encoder {
    let layout = ParamLayout::bert(&config);
    Encoder::new(config, pooling, layout).unwrap()
}

fn pooling(mode: PoolingMode, normalize: bool) -> Pooling {
    Pooling { mode, normalize, include_prompt: true }
}

/// Numbers in [-1, 1) from a linear congruential generator.
fn numbers(seed: u64, len: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Parameters of a size that a trained model has: LayerNorm weights around 1.
fn random_params(encoder: &Encoder, seed: u64, dtype: DType) -> Tensor {
    let mut values = numbers(seed, encoder.layout().total);
    for entry in &encoder.layout().entries {
        let center = if entry.name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
        values[entry.range()].iter_mut().for_each(|x| *x = center + 0.5 * *x);
    }
    Tensor::new(values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Sequences of these lengths with token ids from 1 on, mixed types, and a prompt of one token each.
fn batch_of(config: &BertConfig, lengths: &[usize]) -> PackedBatch {
    let mut batch = PackedBatch::new();
    for (index, &len) in lengths.iter().enumerate() {
        let ids: Vec<u32> = numbers(index as u64 + 77, len)
            .iter()
            .map(|x| 1 + ((x + 1.0) / 2.0 * (config.vocab_size - 1) as f64) as u32)
            .collect();
        batch.push(SampleKey { sample: 40 + index as u64 / 2, column: index as u32 % 2 }, &ids, 1);
        let start = batch.rows(index).start;
        for (offset, kind) in batch.type_ids[start..].iter_mut().enumerate() {
            *kind = (offset > len / 2 && config.type_vocab_size > 1) as u32;
        }
    }
    batch
}

fn dropout(p: f32) -> Dropout {
    Dropout { key: DropoutKey { seed: 42, step: 7 }, hidden: p, attention: p }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Embeddings, and the gradient of their sum weighted by `d`, by a fresh workspace.
fn forward_backward(
    encoder: &Encoder,
    params: &Tensor,
    batch: &PackedBatch,
    dropout: Option<&Dropout>,
    d: impl FnOnce(&Tensor) -> Tensor,
) -> (Tensor, Vec<f64>) {
    let mut ws = Workspace::new();
    let (embeddings, acts) = encoder.forward(params, batch, dropout, true, &mut ws).unwrap();
    let grad = params.zeros_like().unwrap();
    let d = d(&embeddings);
    encoder.backward(params, batch, acts.unwrap(), &d, dropout, &grad, &mut ws).unwrap();
    (embeddings, values(&grad))
}
