//! The elements of a tensor as a slice.

use std::cell::Cell;
use std::ops::Range;

use candle_core::{CpuStorage, InplaceOp1, Layout, Storage, StorageRef, Tensor};

use crate::kernels::Real;
use crate::{Error, Result};

/// A tensor held for reading.
pub(crate) struct Source<'a> {
    storage: StorageRef<'a>,
    elements: Range<usize>,
}

/// Holds a contiguous tensor for reading.
pub(crate) fn read(tensor: &Tensor) -> Result<Source<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    Ok(Source { storage, elements: contiguous(layout)? })
}

impl Source<'_> {
    /// Its elements.
    pub(crate) fn slice<T: Real>(&self) -> Result<&[T]> {
        match &*self.storage {
            Storage::Cpu(storage) => Ok(&T::cpu_storage_as_slice(storage)?[self.elements.clone()]),
            _ => Err(Error::Internal("a tensor of another device reached a kernel of the CPU".to_owned())),
        }
    }
}

/// Gives `edit` the elements of a contiguous tensor for writing.
pub(crate) fn write<T: Real, R>(tensor: &Tensor, edit: impl FnOnce(&mut [T]) -> Result<R>) -> Result<R> {
    let op = Write { edit: Cell::new(Some(edit)), outcome: Cell::new(None), element: std::marker::PhantomData::<T> };
    tensor.inplace_op1(&op)?;
    op.outcome.into_inner().unwrap_or_else(|| Err(Error::Internal("an in-place operation did not run".to_owned())))
}

/// A closure in the place of an operation; it runs once.
struct Write<T, F, R> {
    edit: Cell<Option<F>>,
    outcome: Cell<Option<Result<R>>>,
    element: std::marker::PhantomData<T>,
}

impl<T: Real, R, F: FnOnce(&mut [T]) -> Result<R>> InplaceOp1 for Write<T, F, R> {
    fn name(&self) -> &'static str {
        "artel-write"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let elements = contiguous(layout).map_err(candle_core::Error::wrap)?;
        let values = T::slice_mut(storage).ok_or_else(|| candle_core::Error::msg("a tensor of another element type"))?;
        if let Some(edit) = self.edit.take() {
            self.outcome.set(Some(edit(&mut values[elements])));
        }
        Ok(())
    }
}

fn contiguous(layout: &Layout) -> Result<Range<usize>> {
    let (begin, end) = layout.contiguous_offsets().ok_or_else(|| Error::Internal("a tensor is not contiguous".to_owned()))?;
    Ok(begin..end)
}

/// Runs an expression with `T` standing for the element type of a tensor on the CPU.
macro_rules! by_dtype {
    ($tensor:expr, $T:ident => $run:expr) => {
        match ($tensor.device(), $tensor.dtype()) {
            (candle_core::Device::Cpu, candle_core::DType::F32) => {
                type $T = f32;
                $run
            }
            (candle_core::Device::Cpu, candle_core::DType::F64) => {
                type $T = f64;
                $run
            }
            (device, dtype) => Err($crate::Error::Internal(format!("no kernel for {dtype:?} on {:?}", device.location()))),
        }
    };
}
pub(crate) use by_dtype;

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Goal: slices are exactly the tensor's elements, and wrong ones are errors. Method: a view, a transpose, a wrong type.
    #[test]
    fn views_are_respected() {
        let tensor = Tensor::new(&[1f32, 2.0, 3.0, 4.0], &Device::Cpu).unwrap();
        let view = tensor.narrow(0, 1, 2).unwrap();
        write::<f32, _>(&view, |values| {
            values[0] = 7.0;
            assert_eq!(values.len(), 2);
            Ok(())
        })
        .unwrap();
        assert_eq!(read(&tensor).unwrap().slice::<f32>().unwrap(), [1.0, 7.0, 3.0, 4.0]);
        let transposed = tensor.reshape((2, 2)).unwrap().t().unwrap();
        assert!(read(&transposed).is_err() && write::<f32, _>(&transposed, |_| Ok(())).is_err());
        assert!(write::<f64, _>(&tensor, |_| Ok(())).is_err() && read(&tensor).unwrap().slice::<f64>().is_err());
    }
}
