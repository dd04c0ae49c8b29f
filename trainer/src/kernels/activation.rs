//! The feed-forward activations with the bias before them, forward and backward.

use super::{Real, dispatch};
use crate::model::config::Activation;

/// An activation and its derivative at x.
trait Function {
    fn both<T: Real, const FMA: bool>(x: T) -> (T, T);
}

struct Gelu;
struct GeluTanh;
struct Relu;
struct Silu;

impl Function for Gelu {
    #[inline(always)]
    fn both<T: Real, const FMA: bool>(x: T) -> (T, T) {
        let (cdf, pdf) = x.normal::<FMA>();
        (x * cdf, x.fma::<FMA>(pdf, cdf))
    }
}

impl Function for GeluTanh {
    /// x/2 (1 + tanh(u)) = x sigmoid(2u) with u = sqrt(2/pi) (x + 0.044715 x^3).
    #[inline(always)]
    fn both<T: Real, const FMA: bool>(x: T) -> (T, T) {
        let (twice, cubic) = (T::of(1.595_769_121_605_730_7), T::of(0.044_715));
        let square = x * x;
        let s = (twice * x * square.fma::<FMA>(cubic, T::ONE)).sigmoid::<FMA>();
        let slope = twice * square.fma::<FMA>(T::of(3.0) * cubic, T::ONE);
        (x * s, (x * s * (T::ONE - s)).fma::<FMA>(slope, s))
    }
}

impl Function for Relu {
    #[inline(always)]
    fn both<T: Real, const FMA: bool>(x: T) -> (T, T) {
        // Written so that a NaN stays one.
        (if x < T::ZERO { T::ZERO } else { x }, if x > T::ZERO { T::ONE } else { T::ZERO })
    }
}

impl Function for Silu {
    #[inline(always)]
    fn both<T: Real, const FMA: bool>(x: T) -> (T, T) {
        let s = x.sigmoid::<FMA>();
        (x * s, (x * s).fma::<FMA>(T::ONE - s, s))
    }
}

#[inline(always)]
fn forward_rows<T: Real, const FMA: bool, F: Function>(out: &mut [T], x: &[T], bias: &[T]) {
    for (out, x) in out.chunks_exact_mut(bias.len()).zip(x.chunks_exact(bias.len())) {
        for i in 0..bias.len() {
            out[i] = F::both::<T, FMA>(x[i] + bias[i]).0;
        }
    }
}

#[inline(always)]
fn forward_body<T: Real, const FMA: bool>(out: &mut [T], x: &[T], bias: &[T], kind: Activation) {
    match kind {
        Activation::Gelu => forward_rows::<T, FMA, Gelu>(out, x, bias),
        Activation::GeluTanh => forward_rows::<T, FMA, GeluTanh>(out, x, bias),
        Activation::Relu => forward_rows::<T, FMA, Relu>(out, x, bias),
        Activation::Silu => forward_rows::<T, FMA, Silu>(out, x, bias),
    }
}

dispatch! {
    /// out = activation(x + bias), row by row.
    pub fn activate<T>(out: &mut [T], x: &[T], bias: &[T], kind: Activation) = forward_body
}

#[inline(always)]
fn in_place_rows<T: Real, const FMA: bool, F: Function>(x: &mut [T], bias: &[T]) {
    for x in x.chunks_exact_mut(bias.len()) {
        for i in 0..bias.len() {
            x[i] = F::both::<T, FMA>(x[i] + bias[i]).0;
        }
    }
}

#[inline(always)]
fn in_place_body<T: Real, const FMA: bool>(x: &mut [T], bias: &[T], kind: Activation) {
    match kind {
        Activation::Gelu => in_place_rows::<T, FMA, Gelu>(x, bias),
        Activation::GeluTanh => in_place_rows::<T, FMA, GeluTanh>(x, bias),
        Activation::Relu => in_place_rows::<T, FMA, Relu>(x, bias),
        Activation::Silu => in_place_rows::<T, FMA, Silu>(x, bias),
    }
}

dispatch! {
    /// x = activation(x + bias), row by row; the bits are those of [`activate`].
    pub fn activate_in_place<T>(x: &mut [T], bias: &[T], kind: Activation) = in_place_body
}

#[inline(always)]
fn backward_rows<T: Real, const FMA: bool, F: Function>(x: &mut [T], d: &mut [T], bias: &[T], bias_sums: &mut [T]) {
    let width = bias.len();
    let bias_sums = &mut bias_sums[..width];
    for (x, d) in x.chunks_exact_mut(width).zip(d.chunks_exact_mut(width)) {
        for i in 0..width {
            let (value, slope) = F::both::<T, FMA>(x[i] + bias[i]);
            x[i] = value;
            d[i] *= slope;
        }
        for i in 0..width {
            bias_sums[i] += d[i];
        }
    }
}

#[inline(always)]
fn backward_body<T: Real, const FMA: bool>(x: &mut [T], d: &mut [T], bias: &[T], bias_sums: &mut [T], kind: Activation) {
    match kind {
        Activation::Gelu => backward_rows::<T, FMA, Gelu>(x, d, bias, bias_sums),
        Activation::GeluTanh => backward_rows::<T, FMA, GeluTanh>(x, d, bias, bias_sums),
        Activation::Relu => backward_rows::<T, FMA, Relu>(x, d, bias, bias_sums),
        Activation::Silu => backward_rows::<T, FMA, Silu>(x, d, bias, bias_sums),
    }
}

dispatch! {
    /// The backward, and the value once more: `x` becomes activation(x + bias), `d` goes from the value's gradient to
    /// that of x, and `bias_sums` receives its sum over the rows.
    pub fn activate_backward<T>(x: &mut [T], d: &mut [T], bias: &[T], bias_sums: &mut [T], kind: Activation) = backward_body
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every activation's derivative is its own, and f32 agrees with f64. Method: central differences in f64.
    #[test]
    fn derivatives_match_finite_differences() {
        let points: Vec<f64> = (-60..60).map(|i| f64::from(i) * 0.1 + 0.05).collect();
        for kind in [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu] {
            let value = |shift: f64| {
                let mut out = vec![0.0; points.len()];
                activate(&mut out, &points, &vec![shift; points.len()], kind);
                out
            };
            let (mut x, mut d) = (points.clone(), vec![1.0; points.len()]);
            let mut bias_sums = vec![0.0; points.len()];
            let step = 1e-5;
            activate_backward(&mut x, &mut d, &vec![0.0; points.len()], &mut bias_sums, kind);
            let (up, down) = (value(step), value(-step));
            assert_eq!(x, value(0.0));
            let mut in_place = points.clone();
            activate_in_place(&mut in_place, &vec![step; points.len()], kind);
            assert_eq!(in_place, value(step));
            assert_eq!(bias_sums, d);
            let mut x32: Vec<f32> = points.iter().map(|&p| p as f32).collect();
            let mut d32 = vec![1.0f32; points.len()];
            let zeros = vec![0.0f32; points.len()];
            activate_backward(&mut x32, &mut d32, &zeros, &mut zeros.clone(), kind);
            for i in 0..points.len() {
                assert!((d[i] - (up[i] - down[i]) / (2.0 * step)).abs() < 1e-8, "{kind:?} at {}", points[i]);
                let error = (f64::from(x32[i]) - x[i]).abs().max((f64::from(d32[i]) - d[i]).abs());
                assert!(error < 2e-6, "{kind:?} at {}: {error:e}", points[i]);
            }
        }
    }
}
