//! BERTs of unusual widths against figures made with PyTorch once (tests/tools/odd_bert.py): nothing in the encoder,
//! the pooling or the loss is fitted to the models that people use.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use artel_trainer::encoder::{Encoder, Workspace};
use artel_trainer::loss::{LossSpec, Real, mnrl_leaf};
use artel_trainer::model::{BertConfig, ParamLayout, Pooling, PoolingMode};
use artel_trainer::packed::{PackedBatch, SampleKey};
use candle_core::{DType, Device, Tensor, WithDType};
use serde::Deserialize;

#[derive(Deserialize)]
struct Figures {
    scale: f64,
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    config: serde_json::Value,
    pooling: String,
    normalize: bool,
    dims: Vec<usize>,
    dim_weights: Vec<f64>,
    /// Column, row, token.
    ids: Vec<Vec<Vec<u32>>>,
    type_ids: Vec<Vec<Vec<u32>>>,
    embeddings: Vec<Vec<Vec<f64>>>,
    loss: f64,
    loss_per_dim: Vec<f64>,
    grad_norm: f64,
    /// Norm, then elements 0, 1, n/2, n-1.
    grad: BTreeMap<String, [f64; 5]>,
}

/// How far from the figures a number format may lie.
struct Tolerance {
    embedding: f64,
    loss: f64,
    /// Of a tensor's norm.
    grad_relative: f64,
    grad_absolute: f64,
}

const IN_F64: Tolerance = Tolerance { embedding: 1e-9, loss: 1e-11, grad_relative: 1e-9, grad_absolute: 1e-10 };
const IN_F32: Tolerance = Tolerance { embedding: 1e-5, loss: 1e-5, grad_relative: 1e-4, grad_absolute: 1e-5 };

/// Goal: formulas and layout are exactly BERT's. Method: three shapes in f64, embeddings, loss and every gradient.
#[test]
fn figures_hold_in_f64() -> Result<()> {
    each_case(|name, case, scale| check::<f64>(case, scale, DType::F64, &IN_F64).with_context(|| name.to_owned()))
}

/// Goal: f32, the format of training, stays near. Method: the same in f32.
#[test]
fn figures_hold_in_f32() -> Result<()> {
    each_case(|name, case, scale| check::<f32>(case, scale, DType::F32, &IN_F32).with_context(|| name.to_owned()))
}

fn each_case(check_one: impl Fn(&str, &Case, f64) -> Result<()>) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("figures/odd_bert.json");
    let figures: Figures = serde_json::from_slice(&std::fs::read(path)?)?;
    ensure!(figures.cases.len() == 3, "{} cases", figures.cases.len());
    figures.cases.iter().try_for_each(|(name, case)| check_one(name, case, figures.scale))
}

fn check<T: Real + WithDType>(case: &Case, scale: f64, dtype: DType, tolerance: &Tolerance) -> Result<()> {
    let encoder = encoder_of(case)?;
    let h = encoder.config().hidden_size;
    let layout = encoder.layout().clone();
    let weights: Vec<f64> = layout.entries.iter().flat_map(|entry| weights_of(&entry.name, entry.len)).collect();
    let params = Tensor::from_vec(weights, layout.total, &Device::Cpu)?.to_dtype(dtype)?;
    let batch = batch_of(case);
    let mut ws = Workspace::new();

    let (embeddings, activations) = encoder.forward(&params, &batch, None, true, &mut ws)?;
    let rows = embeddings.flatten_all()?.to_vec1::<T>()?;
    let expected: Vec<f64> = case.embeddings.iter().flatten().flatten().copied().collect();
    ensure!(rows.len() == expected.len(), "{} embedding values, not {}", rows.len(), expected.len());
    for (index, (value, figure)) in rows.iter().zip(&expected).enumerate() {
        let found = WithDType::to_f64(*value);
        ensure!((found - figure).abs() <= tolerance.embedding, "embedding {index}: {found}, not {figure}");
    }

    let num_anchors = case.ids[0].len();
    let (anchors, candidates) = rows.split_at(num_anchors * h);
    let spec = LossSpec { scale, dims: case.dims.clone(), weights: case.dim_weights.clone() };
    let mut d_rows = vec![<T as Real>::ZERO; rows.len()];
    let (d_anchors, d_candidates) = d_rows.split_at_mut(num_anchors * h);
    let parts = mnrl_leaf(&spec, h, anchors, candidates, 0, num_anchors, d_anchors, d_candidates).per_dim;
    let loss: f64 = parts.iter().zip(&case.dim_weights).map(|(part, weight)| part * weight).sum();
    for (found, figure) in parts.iter().chain([&loss]).zip(case.loss_per_dim.iter().chain([&case.loss])) {
        ensure!((found - figure).abs() <= tolerance.loss * figure.abs(), "loss {found}, not {figure}");
    }

    let d_embeddings = Tensor::from_vec(d_rows, (rows.len() / h, h), &Device::Cpu)?;
    let grad = Tensor::zeros(layout.total, dtype, &Device::Cpu)?;
    let kept = activations.context("activations were asked for")?;
    encoder.backward(&params, &batch, kept, &d_embeddings, None, &grad, &mut ws)?;
    let grad: Vec<f64> = grad.to_vec1::<T>()?.into_iter().map(WithDType::to_f64).collect();
    check_grad(case, &layout, &grad, tolerance)
}

fn check_grad(case: &Case, layout: &ParamLayout, grad: &[f64], tolerance: &Tolerance) -> Result<()> {
    ensure!(case.grad.len() == layout.entries.len(), "{} figures for {} parameters", case.grad.len(), layout.entries.len());
    for entry in &layout.entries {
        let [figure_norm, picks @ ..] = case.grad.get(&entry.name).with_context(|| format!("no figure of {}", entry.name))?;
        let values = &grad[entry.range()];
        let allowed = tolerance.grad_relative * figure_norm + tolerance.grad_absolute;
        let found = norm(values);
        ensure!((found - figure_norm).abs() <= allowed, "{}: gradient norm {found}, not {figure_norm}", entry.name);
        for (index, figure) in [0, 1, entry.len / 2, entry.len - 1].into_iter().zip(picks) {
            let found = values[index];
            ensure!((found - figure).abs() <= allowed, "{}[{index}]: gradient {found}, not {figure}", entry.name);
        }
    }
    let total = norm(grad);
    ensure!((total - case.grad_norm).abs() <= tolerance.grad_relative * case.grad_norm, "norm {total}, not {}", case.grad_norm);
    Ok(())
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

fn encoder_of(case: &Case) -> Result<Encoder> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config.json");
    std::fs::write(&path, case.config.to_string())?;
    let config = BertConfig::read(&path)?;
    let mode = match case.pooling.as_str() {
        "cls" => PoolingMode::Cls,
        "mean" => PoolingMode::Mean,
        "max" => PoolingMode::Max,
        other => bail!("pooling {other}"),
    };
    let pooling = Pooling { mode, normalize: case.normalize, include_prompt: true };
    let layout = ParamLayout::bert(&config);
    Ok(Encoder::new(config, pooling, layout)?)
}

/// All texts in one packed batch, column after column.
fn batch_of(case: &Case) -> PackedBatch {
    let mut batch = PackedBatch::new();
    for (column, (rows, kinds)) in case.ids.iter().zip(&case.type_ids).enumerate() {
        for (row, (ids, types)) in rows.iter().zip(kinds).enumerate() {
            let key = SampleKey { sample: row as u64, column: u32::try_from(column).unwrap_or(u32::MAX) };
            batch.push(key, ids, 0);
            let tokens: Range<usize> = batch.rows(batch.num_sequences() - 1);
            batch.type_ids[tokens].copy_from_slice(types);
        }
    }
    batch
}

/// The formula of the figures' header; every value is exact in f32.
fn weights_of(name: &str, len: usize) -> Vec<f64> {
    let start = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let value = |index: usize| {
        let step = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let u = (splitmix64(start.wrapping_add(step)) >> 48) as f64 / 32768.0 - 1.0;
        match name {
            _ if name.ends_with("LayerNorm.weight") => 1.0 + u / 8.0,
            _ if name.ends_with(".bias") => u / 8.0,
            _ if name.ends_with("word_embeddings.weight") => u,
            _ if name.contains("embeddings") => u / 2.0,
            _ => u / 4.0,
        }
    };
    (0..len).map(value).collect()
}

/// The finaliser of splitmix64.
fn splitmix64(value: u64) -> u64 {
    let first = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let second = (first ^ (first >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    second ^ (second >> 31)
}
