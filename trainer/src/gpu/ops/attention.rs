//! Attention: `kernels/attention.cu`, and `attention_wide.cu` in f32.

use std::ops::Range;

use candle_core::{DType, Tensor};

use super::{DropoutArgument, OnGpu, WARP, wide};
use crate::dropout::SiteDropout;
use crate::gpu::Place;
use crate::gpu::address::{address, element};
use crate::gpu::launch::{Argument, Launch};
use crate::ops::attention::Heads;
use crate::ops::{Attention, AttentionBackward};
use crate::{Error, Result};

/// Queries, or keys, of a block.
const TILE: usize = 64;
/// Threads of a block that has a tile.
const TILE_THREADS: u32 = 128;
/// Threads of the other kernels' blocks.
const THREADS: usize = 256;
/// Words of a group of masks.
const MASK_WORDS: usize = 8;
/// What heads the kernels are made for.
const HEAD_SIZES: [usize; 3] = [16, 32, 64];

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Projected {
    qkv: u64,
    biases: [u64; 3],
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Batch {
    cu_seqlens: u64,
    n: u32,
    heads: u32,
    scale: f32,
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Mask {
    bits: u64,
    offsets: u64,
    scale: f32,
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Saved {
    log_sums: u64,
    deltas: u64,
    context: u64,
    d_context: u64,
}

// SAFETY: kernels/attention.cuh, `Projected`.
unsafe impl Argument for Projected {}
// SAFETY: kernels/attention.cuh, `Batch`.
unsafe impl Argument for Batch {}
// SAFETY: kernels/attention.cuh, `Mask`.
unsafe impl Argument for Mask {}
// SAFETY: kernels/attention.cuh, `Saved`.
unsafe impl Argument for Saved {}

impl Projected {
    fn of(qkv: &Tensor, params: &Tensor, biases: &[Range<usize>; 3], place: &Place<'_>) -> Result<Self> {
        let [queries, keys, values] = biases.each_ref().map(|bias| element(params, bias.start));
        Ok(Self { qkv: place.values(qkv)?, biases: [queries?, keys?, values?] })
    }
}

impl Batch {
    fn of(heads: Heads, n: usize, place: &Place<'_>) -> Self {
        let scale = (1.0 / (heads.size as f64).sqrt()) as f32;
        Self { cu_seqlens: place.batch.cu_seqlens, n: n as u32, heads: heads.num as u32, scale }
    }
}

impl Mask {
    /// Makes the batch's masks; the kernels that follow read them, and the backward where they are kept.
    fn of_forward(dropout: Option<SiteDropout>, place: &Place<'_>) -> Result<Self> {
        let Some(site) = dropout else { return Ok(Self::none(place)) };
        let len = (place.batch.mask_groups + 1) * MASK_WORDS;
        let bits = match place.keep_masks {
            false => place.gpu.scratch("masks", len, DType::U32)?,
            true => {
                let bits = Tensor::zeros(len, DType::U32, place.gpu.device())?;
                place.batch.masks.lock().expect("no thread panics with it").insert(site.counter().1, bits.clone());
                bits
            }
        };
        Self::made(site, place, &bits)
    }

    /// The forward's masks, or the same made again; with their memory, which has to last until they were read.
    fn of_backward(dropout: Option<SiteDropout>, place: &Place<'_>) -> Result<(Self, Option<Tensor>)> {
        let Some(site) = dropout else { return Ok((Self::none(place), None)) };
        let kept = place.batch.masks.lock().expect("no thread panics with it").remove(&site.counter().1);
        match kept {
            Some(bits) => Ok((Self::new(site, place, &bits)?, Some(bits))),
            None => {
                let bits = place.gpu.scratch("masks", (place.batch.mask_groups + 1) * MASK_WORDS, DType::U32)?;
                Ok((Self::made(site, place, &bits)?, Some(bits)))
            }
        }
    }

    fn none(place: &Place<'_>) -> Self {
        Self { bits: 0, offsets: place.batch.mask_offsets, scale: 0.0 }
    }

    fn new(site: SiteDropout, place: &Place<'_>, bits: &Tensor) -> Result<Self> {
        Ok(Self { bits: address(bits, DType::U32)?, offsets: place.batch.mask_offsets, scale: site.scale() as f32 })
    }

    fn made(site: SiteDropout, place: &Place<'_>, bits: &Tensor) -> Result<Self> {
        let (gpu, batch) = (place.gpu, place.batch);
        let mask = Self::new(site, place, bits)?;
        let launch = Launch::new("attention_mask", [batch.mask_groups.div_ceil(THREADS / WARP), 1, 1], THREADS as u32)
            .with(mask.bits)
            .with(batch.mask_offsets)
            .with(batch.keys)
            .with(DropoutArgument::of(Some(site)))
            .count(batch.num_sequences);
        // SAFETY: there are eight words for each group of the batch, and a group that is read and does not count.
        unsafe { gpu.backend().launch(&launch)? };
        Ok(mask)
    }
}

/// Refuses heads that the kernels are not made for.
pub(super) fn check_head_size(size: usize) -> Result<()> {
    if HEAD_SIZES.contains(&size) {
        return Ok(());
    }
    Err(Error::input(format!("attention heads of {size} features do not run on a GPU: known are {HEAD_SIZES:?}")))
}

/// A kernel with a block for each tile of each head of each sequence.
fn tile_launch(kernel: &str, heads: Heads, place: &Place<'_>) -> Result<Launch> {
    check_head_size(heads.size)?;
    let grid = [place.batch.num_sequences, heads.num, place.batch.max_len.div_ceil(TILE)];
    Ok(Launch::new(format!("{kernel}_{}", heads.size), grid, TILE_THREADS))
}

impl OnGpu for Attention<'_> {
    fn launch(&self, place: &Place<'_>) -> Result<()> {
        let n = self.context.dims2()?.0;
        let launch = tile_launch("attention", self.heads, place)?
            .with(place.values(self.context)?)
            .with(wide(self.log_sums)?)
            .with(Projected::of(self.qkv, self.params, &self.biases, place)?)
            .with(Batch::of(self.heads, n, place))
            .with(Mask::of_forward(self.dropout, place)?);
        // SAFETY: the batch's tokens are the rows of all matrices, and the heads' features their columns.
        unsafe { place.gpu.backend().launch(&launch) }
    }
}

impl OnGpu for AttentionBackward<'_> {
    fn launch(&self, place: &Place<'_>) -> Result<()> {
        let (gpu, heads) = (place.gpu, self.heads);
        let n = self.d_qkv.dims2()?.0;
        let deltas = wide(&gpu.scratch("deltas", n * heads.num, DType::F32)?)?;
        let (context, d_context) = (place.values(self.context)?, place.values(self.d_context)?);
        let saved = Saved { log_sums: wide(self.log_sums)?, deltas, context, d_context };
        let (mask, _memory) = Mask::of_backward(self.dropout, place)?;
        // the first one makes the deltas, which the second one reads
        for kernel in ["attention_backward_queries", "attention_backward_keys"] {
            let launch = tile_launch(kernel, heads, place)?
                .with(place.values(self.d_qkv)?)
                .with(Projected::of(self.qkv, self.params, &self.biases, place)?)
                .with(saved)
                .with(Batch::of(heads, n, place))
                .with(mask);
            // SAFETY: as for the forward.
            unsafe { gpu.backend().launch(&launch)? };
        }
        Ok(())
    }
}
