//! The two element types of the encoder, and their elementary functions.
//!
//! f32 has polynomials of our own (minimax fits, relative error about 1e-7) written without branches, so that
//! loops over them vectorise; f64, which is there to check f32, calls the exact functions.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use candle_core::{CpuStorage, WithDType};

/// f32 or f64.
pub trait Real:
    WithDType
    + super::microkernel::Panel
    + Debug
    + Default
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Below every finite value.
    const LOWEST: Self;

    /// The nearest value to `x`.
    fn of(x: f64) -> Self;
    /// The elements of a storage of this type.
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
    /// a b + c, rounded once where `FMA`.
    fn fma<const FMA: bool>(self, b: Self, c: Self) -> Self;
    /// The square root.
    fn root(self) -> Self;
    /// e^x.
    fn exp<const FMA: bool>(self) -> Self;
    /// The normal distribution's (Phi(x), phi(x)).
    fn normal<const FMA: bool>(self) -> (Self, Self);
    /// The natural logarithm (not vectorised: once per row).
    fn log(self) -> Self;

    /// 1 / (1 + e^-x).
    #[inline(always)]
    fn sigmoid<const FMA: bool>(self) -> Self {
        Self::ONE / (Self::ONE + (-self).exp::<FMA>())
    }
}

/// Where e^x of f32 is taken as zero: e^-80 is 1.8e-35, and a denormal would slow every later product.
const EXP_ZERO_BELOW: f32 = -80.0;
/// Where e^x of f32 stops growing: just below the overflow.
const EXP_CLAMP: f32 = 88.0;
/// ln 2 in two parts; the first has few bits, so that its product with a small integer is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// 1.5 * 2^23: adding it leaves the nearest integer in the low bits of the mantissa.
const ROUNDER: f32 = 12_582_912.0;
/// e^r = 1 + r + r^2 q(r) for |r| <= ln(2)/2, relative error 3e-9.
const EXP_Q: [f32; 5] = [0.499_999_93, 0.166_665_2, 0.041_668_394, 0.008_368_78, 0.001_381_446_7];
/// e^(z^2) erfc(z) = t s(t) with t = 1 / (1 + 0.4 z), z >= 0, relative error 6e-8.
const ERFCX_SLOPE: f32 = 0.4;
const ERFCX_S: [f32; 9] = [
    0.225_634_23,
    0.226_443_11,
    0.201_887_57,
    0.193_393_29,
    0.079_756_29,
    0.087_964_64,
    0.083_987_02,
    -0.140_319_1,
    0.041_253_01,
];

/// The even and the odd powers side by side: half as long a chain of dependent operations as Horner's rule.
#[inline(always)]
fn polynomial<const FMA: bool, const N: usize>(x: f32, coefficients: &[f32; N]) -> f32 {
    let square = x * x;
    let (mut sum, mut other) = (coefficients[N - 1], coefficients[N - 2]);
    let mut i = N - 2;
    while i > 0 {
        i -= 1;
        (sum, other) = (other, Real::fma::<FMA>(sum, square, coefficients[i]));
    }
    // `other` ends at the constant, `sum` at the factor of x
    Real::fma::<FMA>(sum, x, other)
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = f32::NEG_INFINITY;

    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }

    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        match storage {
            CpuStorage::F32(values) => Some(values),
            _ => None,
        }
    }

    #[inline(always)]
    fn fma<const FMA: bool>(self, b: Self, c: Self) -> Self {
        if FMA { self.mul_add(b, c) } else { self * b + c }
    }

    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn exp<const FMA: bool>(self) -> Self {
        let x = if self > EXP_CLAMP { EXP_CLAMP } else { self };
        let shifted = Real::fma::<FMA>(x, std::f32::consts::LOG2_E, ROUNDER);
        let n = shifted - ROUNDER;
        let r = Real::fma::<FMA>(n, -LN2_LOW, Real::fma::<FMA>(n, -LN2_HIGH, x));
        let q = polynomial::<FMA, 5>(r, &EXP_Q);
        let mantissa = Real::fma::<FMA>(r * r, q, r) + 1.0;
        let power = f32::from_bits(shifted.to_bits().wrapping_shl(23).wrapping_add(1.0f32.to_bits()));
        if x < EXP_ZERO_BELOW { 0.0 } else { mantissa * power }
    }

    #[inline(always)]
    fn normal<const FMA: bool>(self) -> (Self, Self) {
        let z = self.abs() * std::f32::consts::FRAC_1_SQRT_2;
        let e = Real::exp::<FMA>(self * self * -0.5);
        let t = 1.0 / Real::fma::<FMA>(z, ERFCX_SLOPE, 1.0);
        let tail = 0.5 * e * (t * polynomial::<FMA, 9>(t, &ERFCX_S));
        let cdf = if self < 0.0 { tail } else { 1.0 - tail };
        (cdf, e * 0.398_942_3)
    }

    fn log(self) -> Self {
        self.ln()
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = f64::NEG_INFINITY;

    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }

    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        match storage {
            CpuStorage::F64(values) => Some(values),
            _ => None,
        }
    }

    #[inline(always)]
    fn fma<const FMA: bool>(self, b: Self, c: Self) -> Self {
        if FMA { self.mul_add(b, c) } else { self * b + c }
    }

    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn exp<const FMA: bool>(self) -> Self {
        f64::exp(self)
    }

    fn normal<const FMA: bool>(self) -> (Self, Self) {
        let cdf = 0.5 * candle_core::cpu::erf::erfc_f64(-self * std::f64::consts::FRAC_1_SQRT_2);
        (cdf, f64::exp(-0.5 * self * self) * 0.398_942_280_401_432_7)
    }

    fn log(self) -> Self {
        self.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the f32 functions are good to about 1e-7. Method: compare with f64 on a dense grid, with and without FMA.
    #[test]
    fn f32_functions_are_accurate() {
        for i in -800_000..800_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::exp(f64::from(x));
            for got in [Real::exp::<true>(x), Real::exp::<false>(x)] {
                assert!((f64::from(got) / exact - 1.0).abs() < 2e-7, "exp({x}) = {got}");
            }
            if x.abs() > 12.0 {
                continue;
            }
            let (cdf, pdf) = Real::normal::<true>(f64::from(x));
            for got in [Real::normal::<true>(x), Real::normal::<false>(x)] {
                assert!((f64::from(got.0) - cdf).abs() < 2.5e-7, "Phi({x}) = {}", got.0);
                assert!((f64::from(got.1) - pdf).abs() < 1e-7, "phi({x}) = {}", got.1);
                let argument_error = f64::from(x * x) * 6e-8;
                assert!((f64::from(got.0) / cdf - 1.0).abs() < 4e-7 + argument_error, "Phi({x}) = {} relative", got.0);
            }
        }
    }

    /// Goal: the edges hold: no NaN is swallowed, nothing overflows. Method: a few special values.
    #[test]
    fn special_values() {
        assert!(Real::exp::<true>(f32::NAN).is_nan() && Real::normal::<true>(f32::NAN).0.is_nan());
        assert_eq!(Real::exp::<true>(f32::NEG_INFINITY), 0.0);
        assert_eq!(Real::exp::<true>(-1e30f32), 0.0);
        assert!(Real::exp::<true>(1e30f32).is_finite());
        assert_eq!(Real::normal::<true>(40f32).0, 1.0);
        assert_eq!(Real::normal::<true>(-40f32).0, 0.0);
        assert_eq!(Real::sigmoid::<true>(100f32), 1.0);
    }
}
