//! What numbers a GPU computes with.

use candle_core::DType;

use super::Width;

/// What activations are stored as, and how matrix products read them. Everything else is f32 whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// bf16, on tensor cores.
    #[default]
    Bf16,
    /// f32, rounded to tf32 (10 bits of mantissa) by the products alone, on tensor cores.
    Tf32,
    /// f32.
    F32,
}

impl Precision {
    /// All of them, the least exact one first.
    pub const ALL: [Self; 3] = [Self::Bf16, Self::Tf32, Self::F32];

    /// Its name in a spec.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Tf32 => "tf32",
            Self::F32 => "f32",
        }
    }

    /// The type of activations.
    pub fn dtype(self) -> DType {
        if self == Self::Bf16 { DType::BF16 } else { DType::F32 }
    }

    /// Bytes of a stored value.
    pub fn value_bytes(self) -> usize {
        self.dtype().size_in_bytes()
    }

    /// Whether kernels store f32.
    pub fn is_wide(self) -> bool {
        self != Self::Bf16
    }

    /// How products read activations and weights.
    pub(super) fn operands(self) -> Width {
        match self {
            Self::Bf16 => Width::Narrow,
            Self::Tf32 => Width::Rounded,
            Self::F32 => Width::Wide,
        }
    }

    /// What products of activations come to.
    pub(super) fn stored(self) -> Width {
        if self.is_wide() { Width::Wide } else { Width::Narrow }
    }
}
