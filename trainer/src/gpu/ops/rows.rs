//! Embeddings, residual sums and LayerNorm: `kernels/rows.cu`.

use super::{DropoutArgument, OnGpu, Partials, Places, grad_of, row_launch, row_loop, rows_of};
use crate::gpu::address::element;
use crate::gpu::launch::{Argument, Launch};
use crate::gpu::{Place, batch::Runs};
use crate::ops::{
    Embed, EmbedBackward, GradPart, Normalize, ResidualNormalize, ResidualNormalizeBackward, WordRows, embedding::EmbeddingParams,
};
use crate::{Error, Result};
use candle_core::Tensor;

/// Threads of a block that adds the rows of a run.
const RUN_THREADS: u32 = 128;

/// The embedding tables and what tokens look up in them.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Tables {
    words: u64,
    positions: u64,
    types: u64,
    ids: u64,
    type_ids: u64,
}

// SAFETY: kernels/rows.cu, `Tables`.
unsafe impl Argument for Tables {}

impl Tables {
    fn of(params: &Tensor, embedding: &EmbeddingParams, place: &Place<'_>) -> Result<Self> {
        Ok(Self {
            words: element(params, embedding.words.start)?,
            positions: element(params, embedding.positions.start)?,
            types: element(params, embedding.types.start)?,
            ids: place.batch.ids,
            type_ids: place.batch.type_ids,
        })
    }
}

impl OnGpu for Embed<'_> {
    fn launch(&self, place: &Place<'_>) -> Result<()> {
        let (n, h) = rows_of(self.output)?;
        let norm = &self.embedding.norm;
        let launch = row_launch("embed", n, h)
            .with(place.values(self.output)?)
            .with(Tables::of(self.params, self.embedding, place)?)
            .with(Places::of(place))
            .with(element(self.params, norm.gamma.start)?)
            .with(element(self.params, norm.beta.start)?)
            .with(DropoutArgument::of(self.dropout))
            .count(n)
            .count(h)
            .with(norm.eps as f32);
        // SAFETY: the output has n rows; ids, types and positions were checked to lie inside their tables when the pass was made.
        unsafe { place.gpu.backend().launch(&launch) }
    }
}

impl OnGpu for EmbedBackward<'_> {
    fn launch(&self, place: &Place<'_>) -> Result<()> {
        if *self.word_rows != WordRows::All {
            return Err(Error::Internal("a GPU's gradient has all rows of the word table".to_owned()));
        }
        let (n, h) = rows_of(self.d)?;
        let (gpu, norm) = (place.gpu, &self.embedding.norm);
        let (launch, blocks) = row_loop(gpu, "embed_backward", n, h);
        let partials = Partials::new(gpu, 2, blocks, h)?;
        let launch = launch
            .shared_floats(h)
            .with(place.values(self.d)?)
            .with(partials.address)
            .with(Tables::of(self.params, self.embedding, place)?)
            .with(Places::of(place))
            .with(element(self.params, norm.gamma.start)?)
            .with(DropoutArgument::of(self.dropout))
            .count(n)
            .count(h)
            .with(norm.eps as f32);
        // SAFETY: `d` has n rows, the partial sums two of h for each block; the tables as in the forward.
        unsafe { gpu.backend().launch(&launch)? };
        partials.add(gpu, self.grad, &[&norm.gamma, &norm.beta])?;
        let tables = [&self.embedding.words, &self.embedding.positions, &self.embedding.types];
        for (table, runs) in tables.into_iter().zip(place.batch.runs) {
            self.scatter(place, grad_of(self.grad, table)?, runs, h)?;
        }
        Ok(())
    }
}

impl EmbedBackward<'_> {
    /// Adds the tokens' rows to those of a table's gradient.
    fn scatter(&self, place: &Place<'_>, table_grad: u64, runs: Runs, h: usize) -> Result<()> {
        if runs.count == 0 {
            return Ok(());
        }
        let launch = Launch::new("scatter_rows", [runs.count, 1, 1], RUN_THREADS)
            .with(table_grad)
            .with(place.values(self.d)?)
            .with(runs.order)
            .with(runs.runs)
            .count(h);
        // SAFETY: the runs name rows of the table and tokens of the batch.
        unsafe { place.gpu.backend().launch(&launch) }
    }
}

impl OnGpu for Normalize<'_> {
    fn launch(&self, place: &Place<'_>) -> Result<()> {
        let (n, h) = rows_of(self.output)?;
        let launch = row_launch("normalize", n, h)
            .with(place.values(self.output)?)
            .with(place.values(self.input)?)
            .with(element(self.params, self.norm.gamma.start)?)
            .with(element(self.params, self.norm.beta.start)?)
            .count(n)
            .count(h)
            .with(self.norm.eps as f32);
        // SAFETY: input and output have n rows of h.
        unsafe { place.gpu.backend().launch(&launch) }
    }
}

impl OnGpu for ResidualNormalize<'_> {
    fn launch(&self, place: &Place<'_>) -> Result<()> {
        let (n, h) = rows_of(self.output)?;
        let launch = row_launch("residual_normalize", n, h)
            .with(place.values(self.sums)?)
            .with(place.values(self.output)?)
            .with(place.values(self.residual)?)
            .with(Places::of(place))
            .with(element(self.params, self.bias.start)?)
            .with(element(self.params, self.norm.gamma.start)?)
            .with(element(self.params, self.norm.beta.start)?)
            .with(DropoutArgument::of(self.dropout))
            .count(n)
            .count(h)
            .with(self.norm.eps as f32);
        // SAFETY: all three matrices have n rows of h, and the vectors h elements.
        unsafe { place.gpu.backend().launch(&launch) }
    }
}

impl OnGpu for ResidualNormalizeBackward<'_> {
    fn launch(&self, place: &Place<'_>) -> Result<()> {
        let (n, h) = rows_of(self.d)?;
        let gpu = place.gpu;
        let (launch, blocks) = row_loop(gpu, "residual_normalize_backward", n, h);
        let partials = Partials::new(gpu, 3, blocks, h)?;
        let launch = launch
            .shared_floats(h)
            .with(place.values(self.d)?)
            .with(place.values(self.d_projected)?)
            .with(partials.address)
            .with(place.values(self.sums)?)
            .with(Places::of(place))
            .with(element(self.params, self.norm.gamma.start)?)
            .with(DropoutArgument::of(self.dropout))
            .count(n)
            .count(h)
            .with(self.norm.eps as f32);
        // SAFETY: all three matrices have n rows of h, the partial sums three of h for each block.
        unsafe { gpu.backend().launch(&launch)? };
        partials.add(gpu, self.grad, &[&self.norm.gamma, &self.norm.beta, &self.bias])
    }
}

/// Adds the sums over tokens of columns to the gradients of biases, which have the columns one after the other; x is [n, width].
pub(super) fn add_column_sums<'a>(
    place: &Place<'_>,
    x: u64,
    (n, width): (usize, usize),
    grad: GradPart<'_>,
    biases: impl Iterator<Item = &'a std::ops::Range<usize>>,
) -> Result<()> {
    if !width.is_multiple_of(8) {
        return Err(Error::Internal(format!("columns of a width of {width} are not summed")));
    }
    let (launch, blocks) = super::column_loop(place.gpu, "column_sums".to_owned(), 8, (n, width));
    let partials = Partials::new(place.gpu, 1, blocks, width)?;
    let launch = launch.with(partials.address).with(x).count(n).count(width);
    // SAFETY: x has n rows of `width` elements; the partial sums `width` for each block.
    unsafe { place.gpu.backend().launch(&launch)? };
    partials.add_columns(place.gpu, grad, &biases.collect::<Vec<_>>())
}
