//! The loss against its definition and its gradient against finite differences.

use super::*;

/// Values in -1..1 that look random and are the same everywhere.
fn values<T: Real>(len: usize, seed: u64) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            T::of((state >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
        })
        .collect()
}

fn spec(dims: &[usize], weights: &[f64]) -> LossSpec {
    LossSpec { scale: 20.0, dims: dims.to_vec(), weights: weights.to_vec() }
}

/// The definition: every logit at once, in f64.
fn plain(spec: &LossSpec, h: usize, anchors: &[f64], candidates: &[f64], own_offset: usize, num_anchors: usize) -> Vec<f64> {
    let unit = |row: &[f64]| {
        let norm = row.iter().map(|value| value * value).sum::<f64>().sqrt().max(1e-12);
        row.iter().map(|value| value / norm).collect::<Vec<f64>>()
    };
    let of_dim = |dim: usize| {
        let candidates: Vec<Vec<f64>> = candidates.chunks(h).map(|row| unit(&row[..dim])).collect();
        let of_anchor = |(i, anchor): (usize, &[f64])| {
            let anchor = unit(&anchor[..dim]);
            let logit = |candidate: &Vec<f64>| spec.scale * anchor.iter().zip(candidate).map(|(a, c)| a * c).sum::<f64>();
            let logits: Vec<f64> = candidates.iter().map(logit).collect();
            logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[own_offset + i]
        };
        anchors.chunks(h).enumerate().map(of_anchor).sum::<f64>() / num_anchors as f64
    };
    spec.dims.iter().map(|&dim| of_dim(dim)).collect()
}

fn close(got: &[f64], expected: &[f64], tolerance: f64) {
    let scale = expected.iter().fold(0.0f64, |scale, value| scale.max(value.abs()));
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() <= tolerance * scale, "value {i}: {got}, expected {expected} (scale {scale})");
    }
}

fn run<T: Real>(
    spec: &LossSpec,
    h: usize,
    anchors: &[T],
    candidates: &[T],
    own: usize,
    all: usize,
) -> (LeafLoss, Vec<T>, Vec<T>) {
    let mut d_anchors = vec![T::of(9.0); anchors.len()];
    let mut d_candidates = vec![T::of(9.0); candidates.len()];
    let loss = mnrl_leaf(spec, h, anchors, candidates, own, all, &mut d_anchors, &mut d_candidates);
    (loss, d_anchors, d_candidates)
}

/// Goal: loss and gradient are those of the definition, with and without negatives, widths in any order, weights that
/// differ. Method: the plain formula and central differences in f64.
#[test]
fn gradient_by_finite_differences() {
    let h = 12;
    for (columns, own) in [(1, 0), (3, 4)] {
        let spec = spec(&[12, 3, 8, 3], &[1.0, 0.5, 2.0, 0.25]);
        let (num_leaf, num_all) = (5, 9);
        let anchors: Vec<f64> = values(num_leaf * h, 1);
        let candidates: Vec<f64> = values(num_all * columns * h, 2);
        let (loss, d_anchors, d_candidates) = run(&spec, h, &anchors, &candidates, own, num_all);
        close(&loss.per_dim, &plain(&spec, h, &anchors, &candidates, own, num_all), 1e-12);
        let total = |anchors: &[f64], candidates: &[f64]| {
            LeafLoss { per_dim: plain(&spec, h, anchors, candidates, own, num_all) }.total(&spec)
        };
        let step = 1e-5;
        let differences = |which: usize, len: usize| -> Vec<f64> {
            let at = |i: usize, by: f64| {
                let (mut anchors, mut candidates) = (anchors.clone(), candidates.clone());
                if which == 0 {
                    anchors[i] += by
                } else {
                    candidates[i] += by
                }
                total(&anchors, &candidates)
            };
            (0..len).map(|i| (at(i, step) - at(i, -step)) / (2.0 * step)).collect()
        };
        close(&d_anchors, &differences(0, anchors.len()), 1e-7);
        close(&d_candidates, &differences(1, candidates.len()), 1e-7);
    }
}

/// Goal: tiles change nothing, whether they fill or not. Method: 300 and 4,096 rows (more than one tile each way)
/// against the plain formula.
#[test]
fn streamed_equals_untiled() {
    for (rows, h, dims, weights) in [(300, 32, vec![32, 16], vec![1.0, 1.0]), (4096, 16, vec![16], vec![1.0])] {
        let spec = spec(&dims, &weights);
        let anchors: Vec<f64> = values(rows * h, 3);
        let candidates: Vec<f64> = values(rows * h, 4);
        let (loss, ..) = run(&spec, h, &anchors, &candidates, 0, rows);
        close(&loss.per_dim, &plain(&spec, h, &anchors, &candidates, 0, rows), 1e-10);
    }
}

/// Goal: f32 is as exact as f32 can be. Method: 300 rows and two columns in f32 against f64.
#[test]
fn single_against_double_precision() {
    let (h, rows) = (48, 300);
    let spec = spec(&[48, 32, 16], &[1.0; 3]);
    let (anchors, candidates): (Vec<f64>, Vec<f64>) = (values(rows * h, 5), values(2 * rows * h, 6));
    let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect::<Vec<f32>>();
    let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<f64>>();
    let (loss, d_anchors, d_candidates) = run(&spec, h, &anchors, &candidates, 0, rows);
    let (loss32, d_anchors32, d_candidates32) = run(&spec, h, &narrow(&anchors), &narrow(&candidates), 0, rows);
    close(&loss32.per_dim, &loss.per_dim, 1e-6);
    close(&wide(&d_anchors32), &d_anchors, 1e-5);
    close(&wide(&d_candidates32), &d_candidates, 1e-5);
}

/// Goal: leaves add up to the batch. Method: leaves of uneven size against one leaf of all, in f64.
#[test]
fn leaves_sum_to_the_whole() {
    let (h, rows) = (20, 150);
    let spec = spec(&[20, 10], &[1.0, 0.5]);
    let (anchors, candidates): (Vec<f64>, Vec<f64>) = (values(rows * h, 7), values(3 * rows * h, 8));
    let (whole, d_anchors, d_candidates) = run(&spec, h, &anchors, &candidates, 0, rows);
    let (mut total, mut own_grads, mut sum) = (0.0, Vec::new(), vec![0.0; candidates.len()]);
    for leaf in [0..1, 1..70, 70..134, 134..150] {
        let (loss, d_own, d_all) = run(&spec, h, &anchors[leaf.start * h..leaf.end * h], &candidates, leaf.start, rows);
        total += loss.total(&spec);
        own_grads.extend(d_own);
        sum.iter_mut().zip(&d_all).for_each(|(sum, d)| *sum += d);
    }
    close(&[total], &[whole.total(&spec)], 1e-12);
    close(&own_grads, &d_anchors, 1e-11);
    close(&sum, &d_candidates, 1e-11);
}

/// Goal: a row of zeros and an empty leaf do no harm, and NaN shows. Method: look at the results.
#[test]
fn edges() {
    let spec = spec(&[4, 2], &[1.0, 1.0]);
    let mut anchors: Vec<f32> = values(12, 9);
    let candidates: Vec<f32> = values(12, 10);
    anchors[..4].fill(0.0);
    let (loss, d_anchors, _) = run(&spec, 4, &anchors, &candidates, 0, 3);
    assert!(loss.total(&spec).is_finite() && d_anchors.iter().all(|value| value.is_finite()));
    let (loss, d_anchors, d_candidates) = run(&spec, 4, &[], &candidates, 2, 3);
    assert!(loss.total(&spec) == 0.0 && d_anchors.is_empty() && d_candidates.iter().all(|&value| value == 0.0));
    anchors[5] = f32::NAN;
    assert!(run(&spec, 4, &anchors, &candidates, 0, 3).0.total(&spec).is_nan());
}
