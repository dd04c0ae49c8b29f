//! A pool of buffers, so that a steady state allocates nothing large.

use std::ops::Deref;
use std::sync::Mutex;

use candle_core::{Shape, Tensor};

use crate::Result;

/// Free buffers of one thread.
#[derive(Debug, Default)]
pub struct Workspace {
    free: Vec<Tensor>,
}

/// Workspaces that threads take by turns; they keep their buffers from one piece of work to the next.
#[derive(Debug, Default)]
pub struct Workspaces {
    idle: Mutex<Vec<Workspace>>,
}

/// A tensor over a pooled buffer; give it back to its [`Workspace`] when done, or it is freed.
#[derive(Debug)]
pub struct Buffer {
    storage: Tensor,
    view: Tensor,
}

impl Deref for Buffer {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.view
    }
}

/// Elements that a request for `len` takes: a multiple of a quarter of the power of two below it, so that requests
/// of about one size share buffers and at most a quarter lies idle.
pub(crate) fn capacity(len: usize) -> usize {
    let quantum = (len.next_power_of_two() / 8).max(64);
    len.next_multiple_of(quantum)
}

impl Workspace {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer of this shape, in the element type and on the device of `like`. Its contents are undefined.
    pub fn take(&mut self, shape: impl Into<Shape>, like: &Tensor) -> Result<Buffer> {
        let shape = shape.into();
        let len = shape.elem_count();
        let fits = |tensor: &Tensor| {
            tensor.dtype() == like.dtype()
                && tensor.device().same_device(like.device())
                && (len..=2 * capacity(len)).contains(&tensor.elem_count())
        };
        let best = (0..self.free.len()).filter(|&i| fits(&self.free[i])).min_by_key(|&i| self.free[i].elem_count());
        let storage = match best {
            Some(index) => self.free.swap_remove(index),
            None => Tensor::zeros(capacity(len), like.dtype(), like.device())?,
        };
        let view = storage.narrow(0, 0, len)?.reshape(shape)?;
        Ok(Buffer { storage, view })
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: Buffer) {
        self.free.push(buffer.storage);
    }

    /// Frees buffers that are not in use, the greatest first, until the rest take no more than `limit` bytes.
    pub fn shrink_to(&mut self, limit: usize) {
        self.free.sort_unstable_by_key(|tensor| std::cmp::Reverse(bytes(tensor)));
        let mut held = self.free_bytes();
        self.free.retain(|tensor| {
            let keep = held <= limit;
            held -= if keep { 0 } else { bytes(tensor) };
            keep
        });
    }

    /// Bytes of the buffers that are not in use.
    pub fn free_bytes(&self) -> usize {
        self.free.iter().map(bytes).sum()
    }
}

impl Workspaces {
    /// Runs `work` with a workspace that nobody else uses meanwhile.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn with<T>(&self, work: impl FnOnce(&mut Workspace) -> Result<T>) -> Result<T> {
        let mut workspace = self.idle.lock().expect("no thread panics with it").pop().unwrap_or_default();
        let result = work(&mut workspace);
        self.idle.lock().expect("no thread panics with it").push(workspace);
        result
    }
}

fn bytes(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    /// Goal: buffers are used again for similar sizes and never shared. Method: take, give, take.
    #[test]
    fn buffers_are_reused() {
        let like = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let mut pool = Workspace::new();
        let (first, second) = (pool.take((10, 100), &like).unwrap(), pool.take((10, 100), &like).unwrap());
        assert_eq!(first.dims(), [10, 100]);
        pool.give(first);
        pool.give(second);
        let bytes = pool.free_bytes();
        let third = pool.take((7, 140), &like).unwrap();
        assert!(third.is_contiguous() && pool.free_bytes() < bytes);
        let other_type = pool.take(980, &like.to_dtype(DType::F64).unwrap()).unwrap();
        assert_eq!(other_type.dtype(), DType::F64);
        pool.give(third);
        assert_eq!(pool.free_bytes(), bytes);
        pool.shrink_to(bytes);
        assert_eq!(pool.free_bytes(), bytes);
        pool.shrink_to(bytes - 1);
        assert_eq!(pool.free_bytes(), bytes / 2, "the buffers are of one size");
        pool.shrink_to(0);
        assert_eq!(pool.free_bytes(), 0);
        assert!((1..5000).all(|len| capacity(len) >= len && (len < 256 || capacity(len) * 4 <= len * 5)));
    }
}
