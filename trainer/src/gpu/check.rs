//! Whether a GPU computes what a CPU does: every kernel, forward and backward, by whole encoders, losses and updates of small models. Run by
//! `artel doctor --gpu`, and in tests on the emulator.

mod exchanges;

use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};

pub use exchanges::check_exchanges;

use super::wire::Wire;
use super::{DeviceBatch, DeviceLoss, DeviceSettings, DeviceTrainer, Gpu, Place, Precision, Weights};
use crate::collective::Solo;
use crate::dropout::{Dropout, DropoutKey};
use crate::encoder::{Encoder, Workspace};
use crate::interrupt::Interrupt;
use crate::loss::{LossSpec, mnrl_leaf};
use crate::model::config::{Activation, BertConfig};
use crate::model::layout::ParamLayout;
use crate::model::pooling::{Pooling, PoolingMode};
use crate::nccl::Element;
use crate::optim::AdamW;
use crate::packed::{PackedBatch, SampleKey};
use crate::state::{TrainState, with_values};
use crate::step::{ActivationBudget, StepSettings, Trainer};
use crate::tokens::TokenTable;
use crate::{Error, Result};

/// What a comparison with f64 has to reach: the cosine of embeddings, the cosine of a parameter's gradient, how far its norm may be off, and the loss of an update; by how much
/// less than 1, of bf16. The others' are so many times as near.
const EMBEDDING: f64 = 1e-3;
const GRADIENT: f64 = 5e-3;
const NORMS: f64 = 0.03;
const UPDATE: f64 = 0.01;
/// f32 against f64: the loss's gradient.
const LOSS: f64 = 2e-5;
/// Updates compared.
const UPDATES: u64 = 3;
/// Words of the small models.
const WORDS: usize = 200;

/// A comparison of a device with the CPU.
#[derive(Debug, Clone)]
pub struct Check {
    /// What was compared.
    pub name: String,
    /// How near they were, or what failed.
    pub found: String,
    /// Whether that is near enough.
    pub passed: bool,
    /// How long it took.
    pub took: Duration,
}

/// A small encoder and texts for it.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    heads: usize,
    head_size: usize,
    activation: Activation,
    pooling: Pooling,
    lengths: &'static [usize],
    dropout: f32,
    /// By how much the cosine of a parameter's gradient may be less than 1, and how far its norm may be off.
    gradient: (f64, f64),
}

/// Sequences shorter than, as long as and longer than the tiles of attention.
const LENGTHS: [usize; 6] = [1, 63, 64, 65, 130, 7];

fn cases() -> [Case; 9] {
    let mean = Pooling { mode: PoolingMode::Mean, normalize: true, include_prompt: true };
    let base = Case {
        name: "heads of 16, GELU, mean",
        heads: 2,
        head_size: 16,
        activation: Activation::Gelu,
        pooling: mean,
        lengths: &[3, 12],
        dropout: 0.0,
        gradient: (GRADIENT, NORMS),
    };
    let cls = Pooling { mode: PoolingMode::Cls, ..mean };
    let unnormalized = Pooling { normalize: false, ..mean };
    let silu = Case {
        name: "heads of 64, SiLU, mean without normalising",
        head_size: 64,
        activation: Activation::Silu,
        pooling: unnormalized,
        ..base
    };
    let prompts = Pooling { include_prompt: false, ..mean };
    // where two rows are nearly equal, rounding decides which one is the greatest
    let max = Case { name: "maximum", pooling: Pooling { mode: PoolingMode::Max, ..mean }, gradient: (0.03, 0.08), ..base };
    let wide = Case { head_size: 64, pooling: cls, ..base };
    [
        base,
        Case {
            name: "ReLU, prompts left out of the mean",
            activation: Activation::Relu,
            pooling: prompts,
            lengths: &[1, 9, 40],
            ..base
        },
        max,
        Case { name: "heads of 32, dropout, h no multiple of 128", heads: 3, head_size: 32, dropout: 0.3, ..base },
        silu,
        Case { name: "768 features", heads: 12, ..wide },
        Case { name: "1024 features", heads: 16, ..wide },
        Case {
            name: "all lengths, GELU by tanh, cls",
            activation: Activation::GeluTanh,
            pooling: cls,
            lengths: &LENGTHS,
            ..base
        },
        Case { name: "all lengths, dropout", heads: 4, head_size: 32, dropout: 0.1, lengths: &LENGTHS, ..base },
    ]
}

/// Compares a device with the CPU, one thing after another as the iterator is asked; it takes seconds on a GPU.
pub fn checks(gpu: &Arc<Gpu>) -> impl Iterator<Item = Check> {
    let encoders = cases().into_iter().map(|case| timed(format!("encoder: {}", case.name), || compare_encoders(gpu, &case)));
    let loss = || timed("loss: three widths, negatives, a slice of the batch".into(), || compare_losses(gpu));
    let updates = || timed(format!("{UPDATES} updates: dropout, accumulation, decay, clipping"), || compare_updates(gpu));
    let wire = || timed("gradients as bf16 between ranks".into(), || compare_wire(gpu));
    let ends = std::iter::once_with(updates).chain(std::iter::once_with(wire));
    let all = std::iter::once_with(loss).chain(encoders).chain(ends);
    all.map(|check| Check { name: format!("{}: {}", gpu.precision().name(), check.name), ..check })
}

/// A comparison gives what it found, or what is not near enough.
fn timed(name: String, compare: impl FnOnce() -> Result<String>) -> Check {
    let begun = Instant::now();
    let outcome = compare();
    let (found, passed) = match outcome {
        Ok(found) => (found, true),
        Err(error) => (error.to_string(), false),
    };
    Check { name, found, passed, took: begun.elapsed() }
}

/// How many times as near as in bf16 a precision has to come: squares for cosines. tf32 has 3 bits of mantissa more than bf16, f32 has 16.
fn nearer(precision: Precision) -> f64 {
    match precision {
        Precision::Bf16 => 1.0,
        Precision::Tf32 => 6.0,
        Precision::F32 => 1000.0,
    }
}

/// What is not near enough.
fn differ(what: impl std::fmt::Display) -> Error {
    Error::Internal(format!("GPU and CPU differ: {what}"))
}

/// Numbers in [-1, 1) from a linear congruential generator.
fn noise(seed: u64, len: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// The cosine; 1 of two vectors of zeros.
fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let norms = norm(a) * norm(b);
    if norms == 0.0 && norm(a) == norm(b) { 1.0 } else { dot(a, b) / norms }
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
}

fn model((heads, head_size): (usize, usize), activation: Activation, pooling: Pooling) -> Result<Encoder> {
    let h = heads * head_size;
    let config = BertConfig {
        vocab_size: WORDS,
        hidden_size: h,
        num_hidden_layers: 2,
        num_attention_heads: heads,
        // rows of sixteen bytes and their multiples, or not
        intermediate_size: 2 * h + if head_size == 16 { 6 } else { 8 },
        hidden_act: activation,
        layer_norm_eps: 1e-12,
        max_position_embeddings: 160,
        type_vocab_size: 2,
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
        pad_token_id: 0,
    };
    let layout = ParamLayout::bert(&config);
    Encoder::new(config, pooling, layout)
}

/// Parameters of a size with which neither softmax nor activations saturate, so that rounding is not blown up.
fn params(encoder: &Encoder, size: f64) -> Vec<f64> {
    let mut params: Vec<f64> = noise(5, encoder.layout().total).iter().map(|x| x * size).collect();
    for entry in encoder.layout().entries.iter().filter(|entry| entry.name.ends_with("LayerNorm.weight")) {
        params[entry.range()].iter_mut().for_each(|x| *x += 0.5);
    }
    params
}

/// Sequences of these lengths with mixed words and types, and a prompt of one token each.
fn batch(lengths: &[usize]) -> PackedBatch {
    let mut batch = PackedBatch::new();
    for (index, &len) in lengths.iter().enumerate() {
        let word = |x: &f64| 1 + ((x + 1.0) / 2.0 * (WORDS - 1) as f64) as u32;
        let ids: Vec<u32> = noise(index as u64 + 77, len).iter().map(word).collect();
        batch.push(SampleKey { sample: 40 + index as u64 / 2, column: index as u32 % 2 }, &ids, 1);
        let start = batch.rows(index).start;
        for (offset, kind) in batch.type_ids[start..].iter_mut().enumerate() {
            *kind = u32::from(offset > len / 2);
        }
    }
    batch
}

/// Embeddings, and the gradient of their sum weighted by `d(embeddings)`, with f32 parameters on the CPU.
pub(crate) fn forward_backward(
    gpu: &Gpu,
    encoder: &Encoder,
    params: &Tensor,
    batch: &PackedBatch,
    dropout: Option<&Dropout>,
    d: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let params = params.to_device(gpu.device())?;
    let weights = Weights::new(gpu, encoder.layout())?;
    weights.update(gpu, &params)?;
    let on_device = DeviceBatch::new(gpu, batch, encoder.config(), encoder.pooling())?;
    let pass = encoder.pass(&params, batch, dropout)?.on(Place { gpu, batch: &on_device, weights: &weights, keep_masks: true });
    let mut ws = Workspace::new();
    let passing = pass.room(false, &mut ws)?;
    pass.forward(&passing, &mut ws)?;
    let alone = values(&passing.embeddings)?;
    let acts = pass.room(true, &mut ws)?;
    pass.forward(&acts, &mut ws)?;
    let embeddings = acts.embeddings.to_device(&Device::Cpu)?.copy()?;
    if values(&embeddings)? != alone {
        return Err(differ("a forward that keeps nothing gives other embeddings"));
    }
    let grad = params.zeros_like()?;
    pass.backward(acts, &d(&embeddings)?.to_device(gpu.device())?, &grad, &mut ws)?;
    Ok((values(&embeddings)?, values(&grad)?))
}

fn compare_encoders(gpu: &Gpu, case: &Case) -> Result<String> {
    let encoder = model((case.heads, case.head_size), case.activation, case.pooling)?;
    let params = Tensor::new(params(&encoder, 0.2), &Device::Cpu)?;
    let batch = batch(case.lengths);
    let key = DropoutKey { seed: 42, step: 7 };
    let dropout = (case.dropout > 0.0).then_some(Dropout { key, hidden: case.dropout, attention: case.dropout });
    let (n, h) = (case.lengths.len(), encoder.config().hidden_size);
    let d = Tensor::new(noise(3, n * h), &Device::Cpu)?.reshape((n, h))?;

    let mut ws = Workspace::new();
    let (expected, acts) = encoder.forward(&params, &batch, dropout.as_ref(), true, &mut ws)?;
    let expected_grad = params.zeros_like()?;
    let acts = acts.ok_or_else(|| Error::Internal("a forward that keeps gave no activations".to_owned()))?;
    encoder.backward(&params, &batch, acts, &d, dropout.as_ref(), &expected_grad, &mut ws)?;

    let params = params.to_dtype(DType::F32)?;
    let narrow = |_: &Tensor| Ok(d.to_dtype(DType::F32)?);
    let (found, grad) = forward_backward(gpu, &encoder, &params, &batch, dropout.as_ref(), narrow)?;
    let (expected, expected_grad) = (values(&expected)?, values(&expected_grad)?);
    let nearer = nearer(gpu.precision());
    let mut least = 1.0f64;
    for (sequence, (a, b)) in found.chunks_exact(h).zip(expected.chunks_exact(h)).enumerate() {
        least = least.min(cosine(a, b));
        let near = 1.0 - cosine(a, b) < EMBEDDING / nearer.powi(2) && (norm(a) - norm(b)).abs() <= 0.01 / nearer * norm(b);
        if !near {
            return Err(differ(format!(
                "embedding of sequence {sequence}: cosine {}, norms {} {}",
                cosine(a, b),
                norm(a),
                norm(b)
            )));
        }
    }
    let mut least_gradient = 1.0f64;
    // a key's bias has no gradient but by rounding: the softmax does not see it
    for entry in encoder.layout().entries.iter().filter(|entry| !entry.name.ends_with("key.bias")) {
        let (a, b) = (&grad[entry.range()], &expected_grad[entry.range()]);
        least_gradient = least_gradient.min(cosine(a, b));
        let near = 1.0 - cosine(a, b) < case.gradient.0 / nearer.powi(2)
            && (norm(a) - norm(b)).abs() <= case.gradient.1 / nearer * norm(b);
        if !near {
            return Err(differ(format!("gradient of {}: cosine {}, norms {} {}", entry.name, cosine(a, b), norm(a), norm(b))));
        }
    }
    Ok(format!("least cosine of embeddings {least:.9}, of a parameter's gradient {least_gradient:.9}"))
}

fn compare_losses(gpu: &Gpu) -> Result<String> {
    let spec = LossSpec { scale: 20.0, dims: vec![24, 10, 4], weights: vec![1.0, 0.5, 2.0] };
    let (h, rows, num_anchors, own_offset, columns) = (24, 7, 11, 3, 22);
    let (anchors, mut candidates) = (noise(1, rows * h), noise(2, columns * h));
    // where the norm has a floor
    candidates[18 * h..19 * h].fill(0.0);
    let (mut d_anchors, mut d_candidates) = (vec![0.0; rows * h], vec![0.0; columns * h]);
    let expected =
        mnrl_leaf(&spec, h, &anchors, &candidates, own_offset, num_anchors, &mut d_anchors, &mut d_candidates).total(&spec);
    let tensor = |values: &[f64], rows: usize| -> Result<Tensor> {
        Ok(Tensor::new(values, &Device::Cpu)?.to_dtype(DType::F32)?.reshape((rows, h))?.to_device(gpu.device())?)
    };
    let (anchors, candidates) = (tensor(&anchors, rows)?, tensor(&candidates, columns)?);
    let mut worst = 0.0f64;
    for tile in [(64, 64), (3, 5), (7, 22), (1, 1)] {
        let loss = Tensor::zeros(1, DType::F32, gpu.device())?;
        let (to_anchors, to_candidates) = (anchors.zeros_like()?, candidates.zeros_like()?);
        let on_device = DeviceLoss { gpu, spec: &spec, anchors: &anchors, candidates: &candidates, own_offset, num_anchors };
        on_device.run_in_tiles(&loss, &to_anchors, &to_candidates, tile)?;
        let error = (values(&loss)?[0] / expected - 1.0).abs();
        worst = if error <= worst { worst } else { error };
        for (found, expected) in [(&to_anchors, &d_anchors), (&to_candidates, &d_candidates)] {
            let difference: Vec<f64> = values(found)?.iter().zip(expected).map(|(a, b)| a - b).collect();
            let error = norm(&difference) / norm(expected);
            worst = if error <= worst { worst } else { error };
        }
        if worst.is_nan() || worst >= LOSS {
            return Err(differ(format!("loss or gradient in tiles of {tile:?}: {worst:e} of its size")));
        }
    }
    Ok(format!("relative difference {worst:.1e}"))
}

/// Rows of three columns: an anchor, a positive that shares its words, a negative.
pub(super) fn table(rows: u32) -> TokenTable {
    let mut table = TokenTable::new(vec![0; 3]);
    for row in 0..rows {
        for column in 0..3 {
            let len = 4 + (row * 7 + column * 11) % 30;
            let word = |at: u32| 1 + (row * 31 + at % 9 * (1 + column / 2) + column / 2 * 97) % (WORDS as u32 - 1);
            table.push_text(&(0..len).map(word).collect::<Vec<_>>());
        }
    }
    table
}

/// A small model with its parameters, and settings of an update.
pub(super) fn small_run(dropout: f64) -> Result<(Encoder, Vec<f32>, DeviceSettings)> {
    let mean = Pooling { mode: PoolingMode::Mean, normalize: true, include_prompt: true };
    let encoder = model((2, 32), Activation::Gelu, mean)?;
    let params = params(&encoder, 0.1).into_iter().map(|x| x as f32).collect();
    let settings = DeviceSettings {
        loss: LossSpec { scale: 20.0, dims: vec![64, 32, 16], weights: vec![1.0; 3] },
        max_grad_norm: 1.0,
        adamw: AdamW { weight_decay: 0.01, ..AdamW::default() },
        seed: 42,
        dropout: (dropout, dropout),
        tokens_at_once: 1 << 20,
        exchanged: Element::F32,
    };
    Ok((encoder, params, settings))
}

fn compare_wire(gpu: &Gpu) -> Result<String> {
    let (len, range) = (5003, 1001..4996);
    let before: Vec<f32> = noise(9, len).iter().map(|x| *x as f32).collect();
    let grad = Tensor::new(before.as_slice(), gpu.device())?;
    let wire = Wire::new(gpu, len)?;
    wire.narrow(gpu, &grad, range.clone())?;
    wire.widen(gpu, &grad)?;
    // what was not put on the wire comes back as it was there: zero
    let expected = |(at, x): (usize, &f32)| if range.contains(&at) { half::bf16::from_f32(*x).to_f32() } else { 0.0 };
    let found = grad.to_vec1::<f32>()?;
    match found.iter().copied().eq(before.iter().enumerate().map(expected)) {
        true => Ok("equal".to_owned()),
        false => Err(differ("a gradient does not come through bf16 as it should")),
    }
}

fn compare_updates(gpu: &Arc<Gpu>) -> Result<String> {
    let rows: Vec<u32> = (0..8).collect();
    let (table, (encoder, before, settings)) = (table(8), small_run(0.1)?);
    let encoder = Arc::new(encoder);
    let state = || TrainState::new(before.clone());
    let on_cpu = StepSettings {
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
    let mut cpu = Trainer::new(encoder.clone(), on_cpu, Arc::new(Solo::new()), state()?)?;
    let mut device = DeviceTrainer::new(gpu.clone(), encoder, settings, &state()?)?;
    let nearer = nearer(gpu.precision());
    let mut worst = 0.0f64;
    for step in 0..UPDATES {
        let (batches, rate) = ([&rows[..4], &rows[4..]], 1e-3 / (1.0 + step as f64));
        let (found, expected) = (device.step(&table, &batches, rate, &Interrupt::default())?, cpu.step(&table, &batches, rate)?);
        let errors = [found.loss / expected.loss, found.grad_norm / expected.grad_norm].map(|ratio| (ratio - 1.0).abs());
        worst = worst.max(errors[0]);
        if !(errors[0] < UPDATE / nearer && errors[1] < NORMS / nearer) {
            return Err(differ(format!("update {}: {found:?}, expected {expected:?}", step + 1)));
        }
    }
    let state = device.optimizer.state()?;
    let moved = |params: &Tensor| {
        with_values(params, |after| after.iter().zip(&before).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect::<Vec<_>>())
    };
    let movement = cosine(&moved(&state.params)?, &moved(&cpu.state.params)?);
    if movement.is_nan() || movement <= 0.97 || state.step != UPDATES {
        return Err(differ(format!("the parameters' movement after {} updates: cosine {movement}", state.step)));
    }
    Ok(format!("losses within {:.4}%, the movement's cosine {movement:.4}", 100.0 * worst))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::emulated;
    use crate::gpu::kernels::KERNEL_FILES;

    /// Goal: every kernel computes what the CPU does, whatever the shapes: sequences and widths that fill tiles and warps and that do not, every
    /// activation and pooling, masks of dropout bit for bit, losses, updates; the nearer the more exact the precision. Method: all checks on the emulator.
    #[test]
    fn kernels_compute_what_the_cpu_does() {
        for precision in Precision::ALL {
            let checks: Vec<Check> = checks(&Arc::new(emulated::gpu_in(precision))).collect();
            for check in &checks {
                println!("{}: {} ({:?})", check.name, check.found, check.took);
            }
            let failed: Vec<_> = checks.iter().filter(|check| !check.passed).collect();
            assert!(failed.is_empty() && checks.len() == cases().len() + 3, "{failed:#?}");
        }
    }

    /// Goal: no kernel could be wrong and pass: each is checked. Method: leave out one after the other, in f32 those that are of another source; a check must fail each time.
    #[test]
    fn every_kernel_is_checked() {
        let narrow = KERNEL_FILES.iter().map(|file| (Precision::Bf16, file));
        let wide = KERNEL_FILES.iter().filter(|file| file.source(true) != file.name).map(|file| (Precision::F32, file));
        for (precision, file) in narrow.chain(wide) {
            for &kernel in file.kernels {
                let gpu = emulated::altered(precision, move |launch| (launch.kernel == kernel).then_some(Ok(())));
                let failed = checks(&Arc::new(gpu)).any(|check| !check.passed);
                assert!(failed, "{kernel} can be left out unseen in {}", precision.name());
            }
        }
    }
}
