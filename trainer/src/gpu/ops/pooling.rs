//! Pooling: `kernels/pooling.cu`.

use candle_core::Tensor;

use super::{OnGpu, WARP, rows_of, wide};
use crate::Result;
use crate::gpu::Place;
use crate::gpu::launch::{Argument, Launch};
use crate::model::pooling::{Pooling, PoolingMode};
use crate::ops::{Pool, PoolBackward};

/// Threads of a block, which has a sequence.
const THREADS: usize = 256;

/// Which tokens count.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Counted {
    cu_seqlens: u64,
    begins: u64,
}

// SAFETY: kernels/pooling.cu, `Counted`.
unsafe impl Argument for Counted {}

/// The kernel's last arguments.
fn finish(launch: Launch, pooling: Pooling, place: &Place<'_>, h: usize) -> Launch {
    let mode = match pooling.mode {
        PoolingMode::Cls => 0u32,
        PoolingMode::Mean => 1,
        PoolingMode::Max => 2,
    };
    launch
        .with(Counted { cu_seqlens: place.batch.cu_seqlens, begins: place.batch.counted })
        .with(mode)
        .with(u32::from(pooling.normalize))
        .count(h)
}

fn launch(kernel: &str, embeddings: &Tensor) -> Result<Launch> {
    Ok(Launch::new(kernel, [embeddings.dims2()?.0, 1, 1], THREADS as u32).shared_floats(THREADS / WARP))
}

impl OnGpu for Pool<'_> {
    fn launch(&self, place: &Place<'_>) -> Result<()> {
        let (_, h) = rows_of(self.hidden)?;
        let launch = launch("pool", self.embeddings)?
            .with(wide(self.pooled)?)
            .with(wide(self.embeddings)?)
            .with(place.values(self.hidden)?);
        // SAFETY: the batch's sequences are the rows of `pooled` and `embeddings`, and its tokens those of `hidden`.
        unsafe { place.gpu.backend().launch(&finish(launch, self.pooling, place, h)) }
    }
}

impl OnGpu for PoolBackward<'_> {
    fn launch(&self, place: &Place<'_>) -> Result<()> {
        let (_, h) = rows_of(self.d_hidden)?;
        let launch = launch("pool_backward", self.d_embeddings)?
            .with(place.values(self.d_hidden)?)
            .with(place.values(self.hidden.unwrap_or(self.d_hidden))?)
            .with(wide(self.pooled)?)
            .with(wide(self.d_embeddings)?);
        // SAFETY: as for the forward; only the maximum reads the hidden states, and it is given them.
        unsafe { place.gpu.backend().launch(&finish(launch, self.pooling, place, h)) }
    }
}
