//! The numbers a loss is computed in: f32, and f64 for tests by finite differences.

use std::ops::{AddAssign, Mul, Sub, SubAssign};

use gemm::Parallelism;

/// f32 or f64.
pub trait Real:
    Copy + PartialOrd + AddAssign + SubAssign + Mul<Output = Self> + Sub<Output = Self> + Send + Sync + 'static
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Below every number.
    const LOWEST: Self;

    /// From f64, rounded.
    fn of(value: f64) -> Self;
    /// To f64, exact.
    fn to_f64(self) -> f64;
    /// `values[i] = exp(values[i])`, for values <= 0.
    fn exp_all(values: &mut [Self]);
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = Self::NEG_INFINITY;

    fn of(value: f64) -> Self {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }

    fn exp_all(values: &mut [Self]) {
        values.iter_mut().for_each(|value| *value = value.exp());
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = Self::NEG_INFINITY;

    fn of(value: f64) -> Self {
        value as Self
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn exp_all(values: &mut [Self]) {
        values.iter_mut().for_each(|value| *value = exp(*value));
    }
}

/// exp(x) = 2^n exp(r) with |r| <= ln(2)/2, exp(r) by its Taylor series: no call and no branch, so that loops over
/// it become vector code. Within 2 units in the last place; 0 below -87.3; NaN stays NaN.
#[inline(always)]
#[allow(clippy::excessive_precision)]
fn exp(x: f32) -> f32 {
    const LEAST: f32 = -87.3;
    /// Adding it rounds to a whole number: 1.5 * 2^23.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_375;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let held = if x < LEAST { LEAST } else { x };
    let shifted = held * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = held - n * LN2_HIGH - n * LN2_LOW;
    let series =
        1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r / 5040.0))))));
    // the low bits of `shifted` are n in two's complement
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    let value = series * power;
    if x < LEAST { 0.0 } else { value }
}

/// A matrix in a slice: rows of `width` values that lie `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct View {
    pub start: usize,
    pub stride: usize,
    pub rows: usize,
    pub width: usize,
}

impl View {
    /// A whole slice of rows without gaps.
    pub(crate) fn whole(rows: usize, width: usize) -> Self {
        Self { start: 0, stride: width, rows, width }
    }

    fn fits(&self, len: usize) -> bool {
        self.width <= self.stride && (self.rows == 0 || self.start + (self.rows - 1) * self.stride + self.width <= len)
    }
}

/// How a product's operands lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Product {
    /// a b^T.
    ByTransposed,
    /// a b.
    Plain,
    /// a^T b.
    TransposedBy,
}

/// `out = a . b`, or `out += a . b` if `add`; on this thread.
pub(crate) fn product<T: Real>(kind: Product, out: (&mut [T], View), a: (&[T], View), b: (&[T], View), add: bool) {
    let ((out, vo), (a, va), (b, vb)) = (out, a, b);
    assert!(vo.fits(out.len()) && va.fits(a.len()) && vb.fits(b.len()), "a view must lie within its slice");
    let (m, k) = if kind == Product::TransposedBy { (va.width, va.rows) } else { (va.rows, va.width) };
    let (kb, n) = if kind == Product::ByTransposed { (vb.width, vb.rows) } else { (vb.rows, vb.width) };
    assert!(k == kb && vo.rows == m && vo.width == n, "shapes of a product must agree");
    let (sa, sb, so) = (va.stride as isize, vb.stride as isize, vo.stride as isize);
    let (a_cs, a_rs) = if kind == Product::TransposedBy { (sa, 1) } else { (1, sa) };
    let (b_cs, b_rs) = if kind == Product::ByTransposed { (sb, 1) } else { (1, sb) };
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: the views lie within their slices (asserted), `out` is borrowed mutably so nothing else overlaps it.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr().add(vo.start),
            1,
            so,
            add,
            a.as_ptr().add(va.start),
            a_cs,
            a_rs,
            b.as_ptr().add(vb.start),
            b_cs,
            b_rs,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the f32 exponential is right. Method: against f64's over its range.
    #[test]
    fn exponential() {
        for i in 0..200_000 {
            let x = -87.0 * (i as f32 / 200_000.0);
            let expected = f64::from(x).exp();
            let got = f64::from(exp(x));
            assert!((got / expected - 1.0).abs() < 3e-7, "exp({x}) = {got}, expected {expected}");
        }
        assert_eq!((exp(0.0), exp(-1e9), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
    }
}
