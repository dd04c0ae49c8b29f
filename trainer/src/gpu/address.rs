//! Where the elements of a tensor lie.

use std::cell::Cell;

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Tensor};

use crate::{Error, Result};

/// The address of the first element of a contiguous tensor of this type, in the memory of its device.
pub(super) fn address(tensor: &Tensor, dtype: DType) -> Result<u64> {
    if tensor.dtype() != dtype {
        return Err(Error::Internal(format!("a kernel was given {:?} in the place of {dtype:?}", tensor.dtype())));
    }
    let found = Cell::new(0);
    tensor.inplace_op1(&AddressOf(&found))?;
    Ok(found.get())
}

/// The address of element `first` of a flat tensor of f32.
pub(super) fn element(tensor: &Tensor, first: usize) -> Result<u64> {
    if first > tensor.elem_count() {
        return Err(Error::Internal(format!("element {first} lies outside a tensor of {}", tensor.elem_count())));
    }
    Ok(address(tensor, DType::F32)? + (first * size_of::<f32>()) as u64)
}

/// Takes the address as an operation in place does: for writing too.
struct AddressOf<'a>(&'a Cell<u64>);

impl InplaceOp1 for AddressOf<'_> {
    fn name(&self) -> &'static str {
        "artel-address"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (address, size) = match storage {
            CpuStorage::BF16(values) => (values.as_mut_ptr() as u64, 2),
            CpuStorage::F32(values) => (values.as_mut_ptr() as u64, 4),
            CpuStorage::U32(values) => (values.as_mut_ptr() as u64, 4),
            _ => candle_core::bail!("no kernel takes tensors of this type"),
        };
        let Some((begin, _)) = layout.contiguous_offsets() else { candle_core::bail!("a tensor is not contiguous") };
        self.0.set(address + (begin * size) as u64);
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut candle_core::CudaStorage, layout: &Layout) -> candle_core::Result<()> {
        use candle_core::backend::BackendStorage;
        use candle_core::cuda_backend::cudarc::driver::DevicePtr;
        let stream = storage.device().cuda_stream();
        let (address, size) = match storage.dtype() {
            DType::BF16 => (storage.as_cuda_slice::<half::bf16>()?.device_ptr(&stream).0, 2),
            DType::F32 => (storage.as_cuda_slice::<f32>()?.device_ptr(&stream).0, 4),
            DType::U32 => (storage.as_cuda_slice::<u32>()?.device_ptr(&stream).0, 4),
            other => candle_core::bail!("no kernel takes tensors of {other:?}"),
        };
        let Some((begin, _)) = layout.contiguous_offsets() else { candle_core::bail!("a tensor is not contiguous") };
        self.0.set(address + (begin * size) as u64);
        Ok(())
    }
}
