//! How each operation of [`crate::ops`] is put to the device: the grid, and the kernel's arguments as the kernel file has them.

mod activation;
mod attention;
mod linear;
mod pooling;
mod rows;

use std::ops::Range;

use candle_core::{DType, Tensor};

use super::address::{address, element};
use super::launch::{Argument, Launch};
use super::{Gpu, Place};
use crate::dropout::SiteDropout;
use crate::model::config::BertConfig;
use crate::ops::GradPart;
use crate::{Error, Result};

/// An operation that a GPU has too.
pub(crate) trait OnGpu {
    /// Begins it on the device.
    fn launch(&self, place: &Place<'_>) -> Result<()>;
}

/// Lanes of a warp.
const WARP: usize = 32;
/// Threads of a block whose warps have a row each.
const ROW_THREADS: usize = 128;
/// Threads of a block whose threads have some columns each.
const COLUMN_THREADS: usize = 128;
/// Blocks for each multiprocessor where a kernel goes over rows in a loop.
const BLOCKS: usize = 2;
/// The widest rows.
const MAX_WIDTH: usize = 1024;

/// Which masks, as kernels take it.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct DropoutArgument {
    key: [u32; 2],
    layer_and_site: u32,
    threshold: u32,
    scale: f32,
}

/// Where tokens stand.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Places {
    sequence: u64,
    position: u64,
    keys: u64,
}

// SAFETY: kernels/device.cuh, `Dropout`.
unsafe impl Argument for DropoutArgument {}
// SAFETY: kernels/device.cuh, `Places`.
unsafe impl Argument for Places {}

impl DropoutArgument {
    fn of(site: Option<SiteDropout>) -> Self {
        site.map_or_else(Self::default, |site| {
            let (key, layer_and_site) = site.counter();
            Self { key, layer_and_site, threshold: u32::from(site.threshold()), scale: site.scale() as f32 }
        })
    }
}

impl Places {
    fn of(place: &Place<'_>) -> Self {
        Self { sequence: place.batch.sequences, position: place.batch.positions, keys: place.batch.keys }
    }
}

/// The address of values that are f32 on a GPU too.
fn wide(tensor: &Tensor) -> Result<u64> {
    address(tensor, DType::F32)
}

/// The address of a range of the gradient, to which is added.
fn grad_of(grad: GradPart<'_>, range: &Range<usize>) -> Result<u64> {
    if grad.fresh || grad.first != 0 {
        return Err(Error::Internal("a GPU adds to whole gradients".to_owned()));
    }
    element(grad.tensor, range.start)
}

/// Refuses a model that the kernels are not made for.
pub(super) fn check_model(config: &BertConfig) -> Result<()> {
    check_width(config.hidden_size)?;
    attention::check_head_size(config.head_size())?;
    if !config.intermediate_size.is_multiple_of(2) {
        let found = config.intermediate_size;
        return Err(Error::input(format!("a feed-forward width of {found} does not run on a GPU: it must be even")));
    }
    Ok(())
}

/// Checks that rows suit the kernels, and gives their (number, width).
fn rows_of(tensor: &Tensor) -> Result<(usize, usize)> {
    let (n, width) = tensor.dims2()?;
    check_width(width)?;
    Ok((n, width))
}

fn check_width(width: usize) -> Result<()> {
    if width > MAX_WIDTH || !width.is_multiple_of(2) {
        return Err(Error::input(format!(
            "a hidden width of {width} does not run on a GPU: it must be even, at most {MAX_WIDTH}"
        )));
    }
    Ok(())
}

/// The kernel for rows of this width: one up to 512, one of 768 alone, one for all others.
fn by_width(kernel: &str, h: usize) -> String {
    let width = match h {
        0..=512 => 512,
        768 => 768,
        _ => MAX_WIDTH,
    };
    format!("{kernel}_{width}")
}

/// A kernel whose warps have one of n rows of h features each.
fn row_launch(kernel: &str, n: usize, h: usize) -> Launch {
    Launch::new(by_width(kernel, h), [n.div_ceil(ROW_THREADS / WARP), 1, 1], ROW_THREADS as u32)
}

/// As [`row_launch`], where warps go on to further rows: with its blocks.
fn row_loop(gpu: &Gpu, kernel: &str, n: usize, h: usize) -> (Launch, usize) {
    let most = gpu.backend().multiprocessors() as usize * BLOCKS;
    let blocks = n.div_ceil(ROW_THREADS / WARP).min(most);
    (Launch::new(by_width(kernel, h), [blocks, 1, 1], ROW_THREADS as u32), blocks)
}

/// A kernel whose threads have so many columns each and go down the rows: with its blocks below one another.
fn column_loop(gpu: &Gpu, kernel: String, columns: usize, (n, width): (usize, usize)) -> (Launch, usize) {
    let across = (width / columns).div_ceil(COLUMN_THREADS);
    let most = (gpu.backend().multiprocessors() as usize * BLOCKS * 4).div_ceil(across);
    let down = n.min(most);
    (Launch::new(kernel, [across, down, 1], COLUMN_THREADS as u32), down)
}

/// Where sums of partial ones go to.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
struct Targets([u64; 3]);

// SAFETY: kernels/rows.cu, `Targets`: three pointers.
unsafe impl Argument for Targets {}

/// Adds to each of at most three rows the sum of the first `width` columns of `blocks` rows, which lie `stride` elements apart; those of the first are at `from`, those of the next
/// `apart` elements further on.
pub(super) fn add_partials(to: &[u64], (from, apart): (u64, usize), (blocks, width, stride): (usize, usize, usize)) -> Launch {
    let mut targets = Targets([0; 3]);
    targets.0[..to.len()].copy_from_slice(to);
    let launch = Launch::new("add_partials", [width.div_ceil(WARP), to.len(), 1], 8 * WARP as u32);
    launch.with(targets).with(from).count(apart).count(blocks).count(width).count(stride)
}

/// Sums of blocks, [sums, blocks, width], which are added up.
struct Partials {
    address: u64,
    blocks: usize,
    width: usize,
}

impl Partials {
    fn new(gpu: &Gpu, sums: usize, blocks: usize, width: usize) -> Result<Self> {
        let address = wide(&gpu.scratch("partials", sums * blocks * width, DType::F32)?)?;
        Ok(Self { address, blocks, width })
    }

    /// Adds the sums to ranges of the gradient, one each.
    fn add(&self, gpu: &Gpu, grad: GradPart<'_>, ranges: &[&Range<usize>]) -> Result<()> {
        self.launch(gpu, grad, ranges, (0, self.blocks * self.width), self.width)
    }

    /// Adds the columns of the one sum to ranges of the gradient, one after the other.
    fn add_columns(&self, gpu: &Gpu, grad: GradPart<'_>, ranges: &[&Range<usize>]) -> Result<()> {
        let mut first = 0;
        for alike in ranges.chunk_by(|a, b| a.len() == b.len()).flat_map(|alike| alike.chunks(3)) {
            let width = alike[0].len();
            self.launch(gpu, grad, alike, (first, width), width)?;
            first += alike.len() * width;
        }
        Ok(())
    }

    /// From element `first` on, `apart` elements from one to the next.
    fn launch(
        &self,
        gpu: &Gpu,
        grad: GradPart<'_>,
        ranges: &[&Range<usize>],
        (first, apart): (usize, usize),
        width: usize,
    ) -> Result<()> {
        let targets = ranges.iter().map(|range| grad_of(grad, range)).collect::<Result<Vec<_>>>()?;
        let from = self.address + (first * size_of::<f32>()) as u64;
        let launch = add_partials(&targets, (from, apart), (self.blocks, width, self.width));
        // SAFETY: the kernel reads sums of `blocks` rows and adds to the elements of the gradient that the ranges have.
        unsafe { gpu.backend().launch(&launch) }
    }
}
