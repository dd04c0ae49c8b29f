//! The two number formats of the loss, a fast exponential, and kernels compiled for the widest vectors at hand.
//!
//! No kernel fuses a multiplication with an addition and every sum runs in `LANES` fixed lanes, so a kernel gives the
//! same bits with SSE2, AVX2 and AVX-512.

use std::ops::{Add, AddAssign, Mul, Sub};

/// Partial sums of a row; a multiple of every vector length.
pub const LANES: usize = 16;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// f32, in which training runs, or f64, in which its gradients are proven.
pub trait Real:
    sealed::Sealed
    + Copy
    + Send
    + Sync
    + PartialOrd
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + std::fmt::Debug
    + 'static
{
    /// Nought.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Below every logit.
    const LOWEST: Self;
    /// The nearest number of this format.
    fn from_f64(value: f64) -> Self;
    /// The same number in f64.
    fn to_f64(self) -> f64;
    /// e to the power of `self <= 0`; 0 where that is negligible beside 1, NaN of NaN.
    fn exp_nonpositive(self) -> Self;
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = f32::NEG_INFINITY;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as f32
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    /// Splits x = n ln 2 + r with |r| <= ln 2 / 2, takes e^r by its Taylor series up to r^7 (error below 6e-9), and puts n
    /// into the exponent. Straight-line code, so that a loop of it becomes vector instructions.
    #[inline(always)]
    fn exp_nonpositive(self) -> Self {
        const NEGLIGIBLE: f32 = -80.0;
        const ROUND_TO_INTEGER: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the integer in the low bits
        const LN2_HIGH: f32 = 355.0 / 512.0; // of nine bits, so that n * LN2_HIGH is exact
        const LN2_LOW: f32 = (std::f64::consts::LN_2 - 355.0 / 512.0) as f32;
        let shifted = self * std::f32::consts::LOG2_E + ROUND_TO_INTEGER;
        let n = shifted - ROUND_TO_INTEGER;
        let r = (self - n * LN2_HIGH) - n * LN2_LOW;
        let mut series = 1.0 / 5040.0;
        series = series * r + 1.0 / 720.0;
        series = series * r + 1.0 / 120.0;
        series = series * r + 1.0 / 24.0;
        series = series * r + 1.0 / 6.0;
        series = series * r + 0.5;
        series = series * r + 1.0;
        series = series * r + 1.0;
        let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
        if self < NEGLIGIBLE { 0.0 } else { series * power }
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = f64::NEG_INFINITY;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn exp_nonpositive(self) -> Self {
        self.exp()
    }
}

/// A loop worth compiling for several vector lengths; `run` must be `#[inline(always)]`.
pub trait Kernel {
    /// What it gives.
    type Output;
    /// The loop.
    fn run(self) -> Self::Output;
}

/// Runs the kernel with the widest vectors this CPU has.
#[inline]
pub fn vectorised<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was detected.
            return unsafe { with_avx512(kernel) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was detected.
            return unsafe { with_avx2(kernel) };
        }
    }
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn with_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn with_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}
