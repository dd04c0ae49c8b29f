use std::ops::Range;

use super::*;
use crate::pool::FloatPool;
use crate::tree::{Forest, combine_nodes, rank_leaves};

/// Numbers of a fixed sequence, evenly spread over -1..1.
fn numbers(seed: u64, len: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect()
}

pub(super) fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&x| x as f32).collect()
}

/// Embeddings whose positives resemble their anchors: (anchors [B, h], candidates [C, h]).
pub(super) fn embeddings(num_anchors: usize, num_candidates: usize, h: usize) -> (Vec<f64>, Vec<f64>) {
    let anchors = numbers(1, num_anchors * h);
    let mut candidates = numbers(2, num_candidates * h);
    for (candidate, anchor) in candidates.iter_mut().zip(&anchors) {
        *candidate = 0.7 * *candidate + 0.5 * anchor;
    }
    (anchors, candidates)
}

pub(super) struct Untiled {
    pub per_dim: Vec<f64>,
    pub d_anchors: Vec<f64>,
    pub d_candidates: Vec<f64>,
}

/// The formula, all logits at once in f64.
pub(super) fn untiled(spec: &LossSpec, h: usize, anchors: &[f64], candidates: &[f64]) -> Untiled {
    let (num_anchors, num_candidates) = (anchors.len() / h, candidates.len() / h);
    let mut result =
        Untiled { per_dim: Vec::new(), d_anchors: vec![0.0; anchors.len()], d_candidates: vec![0.0; candidates.len()] };
    for (&dim, &weight) in spec.dims.iter().zip(&spec.weights) {
        let unit = |rows: &[f64]| -> (Vec<f64>, Vec<f64>) {
            let norms: Vec<f64> = rows.chunks(h).map(|row| dot(&row[..dim], &row[..dim]).sqrt().max(1e-12)).collect();
            (rows.chunks(h).zip(&norms).flat_map(|(row, n)| row[..dim].iter().map(move |x| x / n)).collect(), norms)
        };
        let ((q, q_norms), (d, d_norms)) = (unit(anchors), unit(candidates));
        let (mut dq, mut dd) = (vec![0.0; q.len()], vec![0.0; d.len()]);
        let mut loss = 0.0;
        for i in 0..num_anchors {
            let q_i = &q[i * dim..(i + 1) * dim];
            let logits: Vec<f64> = d.chunks(dim).map(|d_j| spec.scale * dot(q_i, d_j)).collect();
            let max = logits.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = logits.iter().map(|l| (l - max).exp()).sum();
            loss += max + sum.ln() - logits[i];
            for j in 0..num_candidates {
                let p = (logits[j] - max).exp() / sum - f64::from(u8::from(i == j));
                let w = p * spec.scale * weight / num_anchors as f64;
                for c in 0..dim {
                    dq[i * dim + c] += w * d[j * dim + c];
                    dd[j * dim + c] += w * q[i * dim + c];
                }
            }
        }
        result.per_dim.push(loss / num_anchors as f64);
        back_through_norm(&mut result.d_anchors, h, &q, &dq, &q_norms, dim);
        back_through_norm(&mut result.d_candidates, h, &d, &dd, &d_norms, dim);
    }
    result
}

pub(super) fn back_through_norm(gradient: &mut [f64], h: usize, unit: &[f64], d_unit: &[f64], norms: &[f64], dim: usize) {
    for (row, norm) in norms.iter().enumerate() {
        let (u, du) = (&unit[row * dim..(row + 1) * dim], &d_unit[row * dim..(row + 1) * dim]);
        let radial = if *norm > 1e-12 { dot(u, du) } else { 0.0 };
        for c in 0..dim {
            gradient[row * h + c] += (du[c] - radial * u[c]) / norm;
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

pub(super) fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference: f64 = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum();
    (difference / dot(b, b)).sqrt()
}

pub(super) fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// All leaves of a batch, of as many rows: per-dim losses, d_anchors, and d_candidates summed by the tree.
fn by_leaves(spec: &LossSpec, h: usize, anchors: &[f32], candidates: &[f32], leaves: usize) -> (Vec<f64>, Vec<f32>, Vec<f32>) {
    let leaves: Vec<_> = (0..leaves).map(|leaf| rank_leaves(anchors.len() / h, leaf, leaves)).collect();
    leaf_by_leaf(spec, h, anchors, candidates, &leaves)
}

/// Each leaf in one go: per-dim losses, d_anchors, and d_candidates summed by the tree.
pub(super) fn leaf_by_leaf(
    spec: &LossSpec,
    h: usize,
    anchors: &[f32],
    candidates: &[f32],
    leaves: &[Range<usize>],
) -> (Vec<f64>, Vec<f32>, Vec<f32>) {
    let num_anchors = anchors.len() / h;
    let mut per_dim = vec![0.0; spec.dims.len()];
    let mut d_anchors = vec![9.0; anchors.len()];
    let pool = FloatPool::new();
    let tree = Forest::new(leaves.len(), &pool);
    for (leaf, rows) in leaves.iter().enumerate() {
        let mut d_candidates = pool.take(candidates.len());
        let span = rows.start * h..rows.end * h;
        let leaf_anchors = &anchors[span.clone()];
        let loss = mnrl_leaf(spec, h, leaf_anchors, candidates, rows.start, num_anchors, &mut d_anchors[span], &mut d_candidates);
        per_dim.iter_mut().zip(&loss.per_dim).for_each(|(sum, loss)| *sum += loss);
        tree.add(leaf, d_candidates);
    }
    (per_dim, d_anchors, combine_nodes(leaves.len(), tree.take_nodes(), &pool))
}

fn one_leaf(spec: &LossSpec, h: usize, anchors: &[f64], candidates: &[f64]) -> f64 {
    let (mut da, mut dc) = (vec![0.0; anchors.len()], vec![0.0; candidates.len()]);
    mnrl_leaf(spec, h, anchors, candidates, 0, anchors.len() / h, &mut da, &mut dc).total(spec)
}

fn check_differences(spec: &LossSpec, h: usize, num_anchors: usize, num_candidates: usize) {
    let (mut anchors, mut candidates) = embeddings(num_anchors, num_candidates, h);
    let (mut da, mut dc) = (vec![7.0; anchors.len()], vec![7.0; candidates.len()]);
    let loss = mnrl_leaf(spec, h, &anchors, &candidates, 0, num_anchors, &mut da, &mut dc);
    assert!((loss.total(spec) - one_leaf(spec, h, &anchors, &candidates)).abs() == 0.0);
    let step = 1e-5;
    for place in (0..anchors.len()).step_by(3) {
        let kept = anchors[place];
        anchors[place] = kept + step;
        let up = one_leaf(spec, h, &anchors, &candidates);
        anchors[place] = kept - step;
        let slope = (up - one_leaf(spec, h, &anchors, &candidates)) / (2.0 * step);
        anchors[place] = kept;
        assert!((slope - da[place]).abs() < 1e-7 * (1.0 + slope.abs()), "anchor {place}: {slope} against {}", da[place]);
    }
    for place in (0..candidates.len()).step_by(5) {
        let kept = candidates[place];
        candidates[place] = kept + step;
        let up = one_leaf(spec, h, &anchors, &candidates);
        candidates[place] = kept - step;
        let slope = (up - one_leaf(spec, h, &anchors, &candidates)) / (2.0 * step);
        candidates[place] = kept;
        assert!((slope - dc[place]).abs() < 1e-7 * (1.0 + slope.abs()), "candidate {place}: {slope} against {}", dc[place]);
    }
}

/// Goal: the gradient is the loss's. Method: central differences in f64, with and without negatives and Matryoshka
/// (widths in any order, weights, a width below h), and rows that are not normalised.
#[test]
fn finite_differences() {
    let matryoshka = LossSpec { scale: 20.0, dims: vec![12, 4, 9], weights: vec![1.0, 0.5, 2.0] };
    check_differences(&LossSpec::full_width(20.0, 12), 12, 5, 5);
    check_differences(&matryoshka, 12, 5, 5);
    check_differences(&matryoshka, 12, 4, 12);
    check_differences(&LossSpec { scale: 3.0, dims: vec![7], weights: vec![1.5] }, 12, 6, 11);
}

/// Goal: tiles and leaves change nothing. Method: 300 anchors (tiles with tails) with negatives, five leaves, in f32 and
/// in f64, against all logits at once in f64.
#[test]
fn streamed_equals_untiled_at_300() {
    let (h, spec) = (48, LossSpec { scale: 20.0, dims: vec![48, 32, 16, 8], weights: vec![1.0, 1.0, 0.25, 1.0] });
    let (anchors, candidates) = embeddings(300, 700, h);
    let truth = untiled(&spec, h, &anchors, &candidates);
    let (per_dim, da, dc) = by_leaves(&spec, h, &narrow(&anchors), &narrow(&candidates), 5);
    assert!(distance(&per_dim, &truth.per_dim) < 1e-6, "{per_dim:?} against {:?}", truth.per_dim);
    assert!(distance(&widen(&da), &truth.d_anchors) < 2e-6, "{:e}", distance(&widen(&da), &truth.d_anchors));
    assert!(distance(&widen(&dc), &truth.d_candidates) < 2e-6, "{:e}", distance(&widen(&dc), &truth.d_candidates));
    let (mut da, mut dc) = (vec![0.0; anchors.len()], vec![0.0; candidates.len()]);
    let loss = mnrl_leaf(&spec, h, &anchors, &candidates, 0, 300, &mut da, &mut dc);
    assert!(distance(&loss.per_dim, &truth.per_dim) < 1e-13);
    assert!(distance(&da, &truth.d_anchors) < 1e-12 && distance(&dc, &truth.d_candidates) < 1e-12);
}

/// Goal: the loss is sentence-transformers'. Method: PyTorch's own embeddings of eight pairs against its losses, in f64
/// and f32, in one leaf and in two, as two ranks would.
#[test]
fn goldens_of_pytorch() {
    let Some(shared) = std::env::var_os("ARTEL_SHARED").map(std::path::PathBuf::from).filter(|path| path.exists()) else {
        println!("skipped: the goldens are read from ARTEL_SHARED, and ARTEL_SHARED not set");
        return;
    };
    let tensors = candle_core::safetensors::load(shared.join("golden/tensors.safetensors"), &candle_core::Device::Cpu).unwrap();
    let read = |name: &str| tensors[name].flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let (anchors, positives) = (read("emb_anchor_f64"), read("emb_positive_f64"));
    let spec = LossSpec { scale: 20.0, dims: vec![384, 256, 128, 64], weights: vec![1.0; 4] };
    let (mut da, mut dc) = (vec![0.0; anchors.len()], vec![0.0; positives.len()]);
    let loss = mnrl_leaf(&spec, 384, &anchors, &positives, 0, 8, &mut da, &mut dc);
    let expected = [0.7680376076458364, 0.7806742743457572, 0.7201922370688766, 0.8379454043361821];
    assert!(loss.per_dim.iter().zip(expected).all(|(loss, expected)| (loss - expected).abs() < 1e-12), "{loss:?}");
    assert!((loss.total(&spec) - 3.1068495233966527).abs() < 1e-12);
    for leaves in [1, 2] {
        let (per_dim, ..) = by_leaves(&spec, 384, &narrow(&anchors), &narrow(&positives), leaves);
        assert!(per_dim.iter().zip(expected).all(|(loss, expected)| (loss - expected).abs() < 2e-6), "{per_dim:?}");
    }
}

/// Goal: what must hold of any gradient of a cosine. Method: rows are orthogonal to their gradient at each single width, scaling
/// a row changes the loss nothing and its gradient inversely, columns beyond the widest width get none.
#[test]
fn gradients_are_tangential() {
    let (h, spec) = (24, LossSpec { scale: 20.0, dims: vec![16], weights: vec![1.0] });
    let (anchors, candidates) = embeddings(40, 90, h);
    let gradient = |anchors: &[f64]| {
        let (mut da, mut dc) = (vec![0.0; anchors.len()], vec![0.0; candidates.len()]);
        let loss = mnrl_leaf(&spec, h, anchors, &candidates, 0, 40, &mut da, &mut dc);
        (loss, da, dc)
    };
    let (loss, da, dc) = gradient(&anchors);
    for (row, d_row) in anchors.chunks(h).zip(da.chunks(h)).chain(candidates.chunks(h).zip(dc.chunks(h))) {
        assert!(dot(&row[..16], &d_row[..16]).abs() < 1e-14);
        assert!(d_row[16..].iter().all(|&x| x == 0.0));
    }
    let doubled: Vec<f64> = anchors.iter().map(|x| 2.0 * x).collect();
    let (same_loss, half, _) = gradient(&doubled);
    assert!((same_loss.total(&spec) - loss.total(&spec)).abs() < 1e-14);
    assert!(half.iter().zip(&da).all(|(half, whole)| (2.0 * half - whole).abs() < 1e-15));
}

/// Goal: extremes are numbers, and broken numbers show. Method: a zero row, equal rows, a sharp scale, an empty leaf; then one NaN.
#[test]
fn extremes_are_numbers_and_nan_shows() {
    let (h, spec) = (8, LossSpec { scale: 1000.0, dims: vec![8, 4], weights: vec![1.0, 1.0] });
    let (anchors, candidates) = embeddings(6, 6, h);
    let (mut anchors, mut candidates) = (narrow(&anchors), narrow(&candidates));
    anchors[..h].fill(0.0);
    candidates.copy_within(h..2 * h, 2 * h);
    let run = |anchors: &[f32], candidates: &[f32]| {
        let (mut da, mut dc) = (vec![1.0; anchors.len()], vec![1.0; candidates.len()]);
        (mnrl_leaf(&spec, h, anchors, candidates, 0, 6, &mut da, &mut dc), da, dc)
    };
    let (loss, da, dc) = run(&anchors, &candidates);
    assert!(loss.total(&spec).is_finite() && da.iter().chain(&dc).all(|x| x.is_finite()));
    let (loss, _, dc) = run(&[], &candidates);
    assert!(loss.total(&spec) == 0.0 && dc.iter().all(|&x| x == 0.0));
    candidates[5] = f32::NAN;
    assert!(run(&anchors, &candidates).0.total(&spec).is_nan());
}

/// Goal: the exponential is exact to rounding wherever it is not negligible. Method: 80,000 points against f64.
#[test]
fn exponential_is_exact() {
    for step in 0..80_000 {
        let x = -(step as f32) / 1000.0;
        let exact = f64::from(x).exp();
        assert!((f64::from(x.exp_nonpositive()) / exact - 1.0).abs() < 2.5e-7, "{x}");
    }
    assert!(f32::NAN.exp_nonpositive().is_nan());
    assert!(f32::NEG_INFINITY.exp_nonpositive() == 0.0);
}

/// Goal: unusable settings are refused by name. Method: one of each.
#[test]
fn settings_are_checked() {
    let refused = |dims: &[usize], weights: &[f64], scale: f64| {
        let spec = LossSpec { scale, dims: dims.to_vec(), weights: weights.to_vec() };
        spec.check(64).unwrap_err().to_string()
    };
    assert!(refused(&[], &[], 20.0).contains("no width"));
    assert!(refused(&[65], &[1.0], 20.0).contains("width 65"));
    assert!(refused(&[0], &[1.0], 20.0).contains("width 0"));
    assert!(refused(&[32, 32], &[1.0, 1.0], 20.0).contains("twice"));
    assert!(refused(&[32], &[], 20.0).contains("weights"));
    assert!(refused(&[32], &[f64::NAN], 20.0).contains("weight NaN"));
    assert!(refused(&[32], &[1.0], 0.0).contains("scale"));
    assert!(LossSpec::full_width(20.0, 64).check(64).is_ok());
}
