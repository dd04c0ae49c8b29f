//! LayerNorm over rows, alone and after a residual sum with dropout, forward and backward.
//!
//! Nothing but the normalised input is kept: mean and deviation of a row are made again where they are needed.

use super::{Real, dispatch, rows};
use crate::dropout::MaskStream;

/// A LayerNorm's parameters, over rows of h elements.
#[derive(Clone, Copy)]
pub struct Norm<'a, T> {
    /// The weight, h.
    pub gamma: &'a [T],
    /// The bias, h.
    pub beta: &'a [T],
    /// Added to the variance.
    pub eps: T,
}

/// The sums that become gradients of a residual block's vectors, h each.
pub struct NormSums<'a, T> {
    /// Of the LayerNorm's weight.
    pub gamma: &'a mut [T],
    /// Of its bias.
    pub beta: &'a mut [T],
}

/// (mean, 1 / deviation) of a row.
#[inline(always)]
fn moments<T: Real, const FMA: bool>(row: &[T], eps: T) -> (T, T) {
    let inverse = T::ONE / T::of(row.len() as f64);
    let mean = rows::sum(row) * inverse;
    let variance = rows::sum_squares::<T, FMA>(row, mean) * inverse;
    (mean, T::ONE / (variance + eps).root())
}

#[inline(always)]
fn normalize_row<T: Real, const FMA: bool>(out: &mut [T], x: &[T], norm: Norm<'_, T>) {
    let (mean, inverse_deviation) = moments::<T, FMA>(x, norm.eps);
    let len = x.len();
    let (out, gamma, beta) = (&mut out[..len], &norm.gamma[..len], &norm.beta[..len]);
    for i in 0..len {
        out[i] = ((x[i] - mean) * inverse_deviation).fma::<FMA>(gamma[i], beta[i]);
    }
}

/// Drops and scales the elements of a row by their numbers.
#[inline(always)]
pub(crate) fn drop_row<T: Real>(row: &mut [T], mask: &mut MaskStream) {
    let (threshold, scale) = (mask.threshold(), T::of(mask.scale()));
    let numbers = mask.take(row.len());
    for (x, &number) in row.iter_mut().zip(numbers) {
        *x = if number >= threshold { *x * scale } else { T::ZERO };
    }
}

#[inline(always)]
fn normalize_body<T: Real, const FMA: bool>(out: &mut [T], x: &[T], norm: Norm<'_, T>) {
    let width = norm.gamma.len();
    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        normalize_row::<T, FMA>(out, x, norm);
    }
}

dispatch! {
    /// out = LayerNorm(x), row by row.
    pub fn normalize<T>(out: &mut [T], x: &[T], norm: Norm<'_, T>) = normalize_body
}

#[inline(always)]
fn normalize_dropout_body<T: Real, const FMA: bool>(out: &mut [T], x: &[T], norm: Norm<'_, T>, mask: Option<&mut MaskStream>) {
    normalize_row::<T, FMA>(out, x, norm);
    if let Some(mask) = mask {
        drop_row(out, mask);
    }
}

dispatch! {
    /// out = dropout(LayerNorm(x)) of one row.
    pub fn normalize_dropout<T>(out: &mut [T], x: &[T], norm: Norm<'_, T>, mask: Option<&mut MaskStream>) = normalize_dropout_body
}

#[inline(always)]
fn residual_body<T: Real, const FMA: bool>(
    (sums, out): (&mut [T], &mut [T]),
    residual: &[T],
    bias: &[T],
    norm: Norm<'_, T>,
    mut mask: Option<&mut MaskStream>,
) {
    let width = norm.gamma.len();
    let rows = sums.chunks_exact_mut(width).zip(out.chunks_exact_mut(width)).zip(residual.chunks_exact(width));
    for ((sum, out), residual) in rows {
        for (x, &b) in sum.iter_mut().zip(bias) {
            *x += b;
        }
        if let Some(mask) = mask.as_deref_mut() {
            drop_row(sum, mask);
        }
        for (x, &r) in sum.iter_mut().zip(residual) {
            *x += r;
        }
        normalize_row::<T, FMA>(out, sum, norm);
    }
}

dispatch! {
    /// sums = residual + dropout(sums + bias), then out = LayerNorm(sums), row by row.
    pub fn residual_normalize<T>(
        sums_and_out: (&mut [T], &mut [T]), residual: &[T], bias: &[T], norm: Norm<'_, T>, mask: Option<&mut MaskStream>,
    ) = residual_body
}

#[inline(always)]
fn backward_row<T: Real, const FMA: bool>(d: &mut [T], x: &[T], norm: Norm<'_, T>, sums: &mut NormSums<'_, T>) {
    let len = x.len();
    let (mean, inverse_deviation) = moments::<T, FMA>(x, norm.eps);
    let (d, gamma) = (&mut d[..len], &norm.gamma[..len]);
    let (gamma_sums, beta_sums) = (&mut sums.gamma[..len], &mut sums.beta[..len]);
    for i in 0..len {
        let normalized = (x[i] - mean) * inverse_deviation;
        gamma_sums[i] = d[i].fma::<FMA>(normalized, gamma_sums[i]);
        beta_sums[i] += d[i];
        d[i] *= gamma[i];
    }
    // With g = d * gamma and n the normalised input: dx = (g - mean(g) - n mean(g n)) / deviation.
    let inverse = T::ONE / T::of(len as f64);
    let mean_g = rows::sum(d) * inverse;
    let mean_gn = rows::dot_centered::<T, FMA>(d, x, mean) * inverse_deviation * inverse;
    for i in 0..len {
        let normalized = (x[i] - mean) * inverse_deviation;
        d[i] = (-normalized).fma::<FMA>(mean_gn, d[i] - mean_g) * inverse_deviation;
    }
}

#[inline(always)]
fn backward_body<T: Real, const FMA: bool>(d: &mut [T], x: &[T], norm: Norm<'_, T>, sums: &mut NormSums<'_, T>) {
    let width = norm.gamma.len();
    for (d, x) in d.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        backward_row::<T, FMA>(d, x, norm, sums);
    }
}

dispatch! {
    /// LayerNorm's backward: `d` holds the output's gradient and receives the input's; the parameters' are added to `sums`.
    pub fn normalize_backward<T>(d: &mut [T], x: &[T], norm: Norm<'_, T>, sums: &mut NormSums<'_, T>) = backward_body
}

#[inline(always)]
fn residual_backward_body<T: Real, const FMA: bool>(
    (d, d_projected): (&mut [T], &mut [T]),
    x: &[T],
    norm: Norm<'_, T>,
    sums: &mut NormSums<'_, T>,
    bias_sums: &mut [T],
    mut mask: Option<&mut MaskStream>,
) {
    let width = norm.gamma.len();
    let rows = d.chunks_exact_mut(width).zip(d_projected.chunks_exact_mut(width)).zip(x.chunks_exact(width));
    for ((d, projected), x) in rows {
        backward_row::<T, FMA>(d, x, norm, sums);
        projected.copy_from_slice(d);
        if let Some(mask) = mask.as_deref_mut() {
            drop_row(projected, mask);
        }
        for (sum, &p) in bias_sums.iter_mut().zip(projected.iter()) {
            *sum += p;
        }
    }
}

dispatch! {
    /// The backward of [`residual_normalize`]: of the pair, the first holds the output's gradient and receives the
    /// residual's, the second receives that of the projection (before bias and dropout); `x` is the sum that was normalised.
    pub fn residual_backward<T>(
        d_and_projected: (&mut [T], &mut [T]), x: &[T], norm: Norm<'_, T>, sums: &mut NormSums<'_, T>, bias_sums: &mut [T],
        mask: Option<&mut MaskStream>,
    ) = residual_backward_body
}
