//! Buffers of one thread, planned once: a steady state allocates nothing large.
//!
//! A buffer of rows has room for the greatest number of rows asked for so far, whatever is asked for now: memory that was
//! never touched costs nothing, and what was touched is touched again.

use std::ops::Deref;
use std::sync::Mutex;

use candle_core::{DType, Tensor};

use super::slot::Slot;
use crate::Result;

/// Rows that a buffer has room for at least.
const LEAST_ROWS: usize = 1024;

/// Free buffers of one thread.
#[derive(Debug, Default)]
pub struct Workspace {
    rows: usize,
    free: Vec<Free>,
    /// Activations of one layer, for a forward that keeps none.
    pub(super) single: Slot,
    /// Activations of all layers, for a forward that is followed by its backward.
    pub(super) full: Slot,
}

#[derive(Debug)]
struct Free {
    width: usize,
    storage: Tensor,
}

/// Workspaces that threads take by turns; they keep their buffers from one piece of work to the next.
#[derive(Debug, Default)]
pub struct Workspaces {
    idle: Mutex<Vec<Workspace>>,
}

/// A tensor over a pooled buffer; give it back to its [`Workspace`] when done, or it is freed.
#[derive(Debug)]
pub struct Buffer {
    width: usize,
    storage: Tensor,
    view: Tensor,
}

impl Deref for Buffer {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.view
    }
}

/// The capacity for `len` rows of this type and device. On the CPU a power of two with room for half as much again where it is to last, so that it
/// seldom grows: what is not touched takes no memory there. On a GPU it does.
pub(super) fn capacity(len: usize, lasting: bool, like: &Tensor) -> usize {
    if like.dtype() == DType::BF16 || !like.device().is_cpu() {
        return len.next_multiple_of(LEAST_ROWS);
    }
    let len = if lasting { len + len / 2 } else { len };
    len.next_power_of_two().max(LEAST_ROWS)
}

impl Workspace {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows that its buffers have room for.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// A buffer of these rows and columns, in the element type and on the device of `like`. Its contents are undefined.
    pub(crate) fn take(&mut self, (rows, width): (usize, usize), like: &Tensor) -> Result<Buffer> {
        self.rows = self.rows.max(capacity(rows, false, like));
        let len = self.rows * width;
        let suits = |free: &Free| {
            free.width == width
                && free.storage.elem_count() == len
                && free.storage.dtype() == like.dtype()
                && free.storage.device().same_device(like.device())
        };
        let storage = match self.free.iter().position(suits) {
            Some(index) => self.free.swap_remove(index).storage,
            None => {
                // those of this width are too small by now, or of another kind
                self.free.retain(|free| free.width != width);
                Tensor::zeros(len, like.dtype(), like.device())?
            }
        };
        let view = storage.narrow(0, 0, rows * width)?.reshape((rows, width))?;
        Ok(Buffer { width, storage, view })
    }

    /// Takes a buffer back.
    pub(crate) fn give(&mut self, buffer: Buffer) {
        self.free.push(Free { width: buffer.width, storage: buffer.storage });
    }
}

impl Workspaces {
    /// Frees those that are not in use.
    pub fn clear(&self) {
        self.idle.lock().expect("no thread panics with it").clear();
    }

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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    /// Goal: buffers are used again whatever the number of rows, and never shared. Method: take, give, take.
    #[test]
    fn buffers_are_reused() {
        let like = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let mut pool = Workspace::new();
        let (first, second) = (pool.take((10, 100), &like).unwrap(), pool.take((10, 100), &like).unwrap());
        assert_eq!(first.dims(), [10, 100]);
        pool.give(first);
        pool.give(second);
        let third = pool.take((700, 100), &like).unwrap();
        assert!(third.is_contiguous());
        assert_eq!(pool.free.len(), 1, "one of the two serves");
        let wider = pool.take((700, 101), &like).unwrap();
        let other_type = pool.take((9, 100), &like.to_dtype(DType::F64).unwrap()).unwrap();
        assert_eq!(other_type.dtype(), DType::F64);
        pool.give(third);
        pool.give(wider);
        let longer = pool.take((1_500, 100), &like).unwrap();
        assert_eq!(longer.dims(), [1_500, 100]);
        assert_eq!(pool.free.iter().filter(|free| free.width == 100).count(), 0, "what is too small is freed");
    }
}
