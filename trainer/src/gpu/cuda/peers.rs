//! Exchanges by NCCL, on a stream beside that of the kernels.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::CudaStream;

use super::failed;
use crate::Result;
use crate::gpu::Peers;
use crate::nccl::{Comm, Element, Seat};

/// A rank of a world of CUDA devices.
#[derive(Debug)]
pub(super) struct CudaPeers {
    comm: Comm,
    kernels: Arc<CudaStream>,
    exchanges: Arc<CudaStream>,
}

impl CudaPeers {
    /// A rank whose kernels run on this stream.
    pub(super) fn new(comm: Comm, kernels: Arc<CudaStream>) -> Result<Self> {
        let exchanges = kernels.context().new_stream().map_err(|e| failed("a stream for exchanges", e))?;
        Ok(Self { comm, kernels, exchanges })
    }

    /// What comes next on stream `later` waits for what was begun on stream `earlier`.
    fn order(earlier: &CudaStream, later: &CudaStream) -> Result<()> {
        later.join(earlier).map_err(|e| failed("the order of kernels and exchanges", e))
    }
}

impl Peers for CudaPeers {
    fn seat(&self) -> Seat {
        self.comm.seat()
    }

    unsafe fn all_reduce(&self, address: u64, len: usize, element: Element) -> Result<()> {
        Self::order(&self.kernels, &self.exchanges)?;
        // SAFETY: the caller's promise; the stream is of the device.
        unsafe { self.comm.all_reduce(address, len, element, self.exchanges.cu_stream().cast()) }
    }

    unsafe fn all_gather(&self, from: u64, to: u64, len: usize) -> Result<()> {
        Self::order(&self.kernels, &self.exchanges)?;
        // SAFETY: the caller's promise; the stream is of the device.
        unsafe { self.comm.all_gather(from, to, len, Element::F32, self.exchanges.cu_stream().cast()) }
    }

    fn join(&self) -> Result<()> {
        Self::order(&self.exchanges, &self.kernels)
    }

    fn wait(&self, alive: &dyn Fn() -> Result<()>) -> Result<()> {
        let ended = self.exchanges.record_event(None).map_err(|e| failed("the end of exchanges", e))?;
        self.comm.wait(|| {
            alive()?;
            ended.try_is_complete().map_err(|e| failed("an exchange", e))
        })
    }

    fn abort(&self) {
        self.comm.abort();
    }
}
