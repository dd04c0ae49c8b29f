//! Gradients on their way between GPUs in bf16: half the bytes, for networks that are slower than the backward.

use std::ops::Range;

use candle_core::{DType, Tensor};

use super::address::{address, element};
use super::{Gpu, Launch};
use crate::Result;

/// Threads of a block.
const THREADS: usize = 256;
/// Elements of a thread.
const VECTOR: usize = 4;

/// A bf16 vector as long as the gradient, which ranks sum in its place.
#[derive(Debug)]
pub(super) struct Wire {
    values: Tensor,
}

impl Wire {
    /// Room for a gradient of so many elements.
    pub(super) fn new(gpu: &Gpu, len: usize) -> Result<Self> {
        Ok(Self { values: Tensor::zeros(len, DType::BF16, gpu.device())? })
    }

    /// Rounds a range of the gradient, and gives the address of what came of it.
    pub(super) fn narrow(&self, gpu: &Gpu, grad: &Tensor, range: Range<usize>) -> Result<u64> {
        let to = self.at(range.start)?;
        let launch = launch("narrow_vector", range.len()).with(to).with(element(grad, range.start)?).count(range.len());
        // SAFETY: both vectors have the range.
        unsafe { gpu.backend().launch(&launch)? };
        Ok(to)
    }

    /// Puts what was summed into the place of the gradient.
    pub(super) fn widen(&self, gpu: &Gpu, grad: &Tensor) -> Result<()> {
        let len = self.values.elem_count();
        let launch = launch("widen_vector", len).with(element(grad, 0)?).with(self.at(0)?).count(len);
        // SAFETY: both vectors are of one length.
        unsafe { gpu.backend().launch(&launch) }
    }

    fn at(&self, index: usize) -> Result<u64> {
        Ok(address(&self.values, DType::BF16)? + (DType::BF16.size_in_bytes() * index) as u64)
    }
}

fn launch(kernel: &str, len: usize) -> Launch {
    Launch::new(kernel, [len.div_ceil(THREADS * VECTOR), 1, 1], THREADS as u32)
}
