//! Slice kernels of the encoder: plain loops over `&[T]`, generic over f32 and f64, on one thread.
//!
//! Each hot kernel is a generic body compiled three times (AVX-512, AVX2 with FMA, baseline) by
//! [`dispatch!`]; the machine picks one path at the first call and keeps it, since bits differ between paths.

pub mod activation;
pub mod layer_norm;
pub mod matrix;
mod microkernel;
pub mod philox;
pub mod real;
pub mod rows;
pub mod softmax;
pub mod tiles;

use std::sync::OnceLock;

pub use matrix::{Mat, MatMut, gemm};
pub use real::Real;

/// Independent partial sums in a reduction: two AVX-512 registers of f32.
pub(crate) const LANES: usize = 32;

/// The instructions that the kernels use on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// AVX-512 F, BW, CD, DQ, VL.
    Avx512,
    /// AVX2 and FMA.
    Avx2,
    /// What the binary is built for.
    Baseline,
}

impl Path {
    /// The path of this machine, found once.
    pub(crate) fn current() -> Self {
        static PATH: OnceLock<Path> = OnceLock::new();
        *PATH.get_or_init(Self::detect)
    }

    #[cfg(target_arch = "x86_64")]
    fn detect() -> Self {
        use std::arch::is_x86_feature_detected as has;
        let avx2 = has!("avx2") && has!("fma") && has!("bmi1") && has!("bmi2");
        let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
        match (avx2, avx512) {
            (true, true) => Self::Avx512,
            (true, false) => Self::Avx2,
            (false, _) => Self::Baseline,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detect() -> Self {
        Self::Baseline
    }
}

/// The kernel path of this machine: `avx512`, `avx2` or `baseline`. Results are bit-equal on one path only.
pub fn kernel_path() -> &'static str {
    match Path::current() {
        Path::Avx512 => "avx512",
        Path::Avx2 => "avx2",
        Path::Baseline => "baseline",
    }
}

/// Defines `fn name<T: Real>(args)` that runs `body::<T, FMA>(args)` compiled for the machine's path. A closure in the body is
/// compiled for the baseline unless it is inlined.
/// The body must be `#[inline(always)]`, or it would be compiled for the baseline.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<T>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$meta])*
        $vis fn $name<T: $crate::kernels::Real>($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,bmi1,bmi2")]
                fn avx512<T: $crate::kernels::Real>($($arg: $ty),*) $(-> $ret)? {
                    $body::<T, true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma,bmi1,bmi2")]
                fn avx2<T: $crate::kernels::Real>($($arg: $ty),*) $(-> $ret)? {
                    $body::<T, true>($($arg),*)
                }
                match $crate::kernels::Path::current() {
                    // SAFETY: this path is returned only where the machine has these features.
                    $crate::kernels::Path::Avx512 => return unsafe { avx512::<T>($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernels::Path::Avx2 => return unsafe { avx2::<T>($($arg),*) },
                    $crate::kernels::Path::Baseline => {}
                }
            }
            $body::<T, false>($($arg),*)
        }
    };
}
pub(crate) use dispatch;
