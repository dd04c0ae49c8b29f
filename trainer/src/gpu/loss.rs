//! MultipleNegativesRankingLoss under MatryoshkaLoss on the device, tile by tile: `kernels/loss.cu`.
//!
//! R anchors, C candidates, width h, W widths. Memory beside embeddings and gradient: W + 1 tiles, and R and C numbers a width.

use candle_core::{DType, Tensor};

use super::address::{address, element};
use super::launch::Argument;
use super::ops::add_partials;
use super::{Gpu, Launch, Matrix, Product, Repeats, Width};
use crate::loss::LossSpec;
use crate::{Error, Result};

/// Anchors and candidates of a tile: with six of them 400 MB.
const TILE: (usize, usize) = (2048, 8192);
/// Threads of a block.
const THREADS: usize = 256;
/// Lanes of a warp.
const WARP: usize = 32;
/// Rows whose share of the columns' radial sums is made at once, as kernels/loss.cu has it.
const RADIAL_ROWS: usize = 64;
/// Words that are known of a row: its greatest logit, its sum, its own logit.
const ROW_SUM: usize = 3;

/// The loss of some anchors against candidates.
#[derive(Debug)]
pub struct DeviceLoss<'a> {
    /// Where it runs.
    pub gpu: &'a Gpu,
    /// Scale, widths and weights.
    pub spec: &'a LossSpec,
    /// [R, h], f32, not necessarily normalised.
    pub anchors: &'a Tensor,
    /// [C, h], f32.
    pub candidates: &'a Tensor,
    /// The candidate that the first anchor owns; anchor i owns the i-th from there.
    pub own_offset: usize,
    /// Anchors of the whole batch, over which the mean is taken.
    pub num_anchors: usize,
}

/// A tile of one width, as the kernels take it.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Tile {
    gram: u64,
    row_inverse: u64,
    column_inverse: u64,
    scale: f32,
    rows: u32,
    columns: u32,
    first_own: u32,
    first_column: u32,
}

// SAFETY: kernels/loss.cu, `Tile`.
unsafe impl Argument for Tile {}

/// The widths in ascending order.
struct Bands {
    /// Where each begins and ends: the columns that the narrower one lacks.
    columns: Vec<std::ops::Range<usize>>,
    /// weight / anchors.
    shares: Vec<f64>,
    /// The ends, on the device.
    widths: Tensor,
}

impl Bands {
    fn of(spec: &LossSpec, num_anchors: usize, gpu: &Gpu) -> Result<Self> {
        let mut places: Vec<usize> = (0..spec.dims.len()).collect();
        places.sort_by_key(|&place| spec.dims[place]);
        let ends: Vec<usize> = places.iter().map(|&place| spec.dims[place]).collect();
        let begins = std::iter::once(0).chain(ends.iter().copied());
        let columns = begins.zip(&ends).map(|(begin, &end)| begin..end).collect();
        let shares = places.iter().map(|&place| spec.weights[place] / num_anchors as f64).collect();
        let widths = Tensor::new(ends.iter().map(|&end| end as u32).collect::<Vec<_>>(), gpu.device())?;
        Ok(Self { columns, shares, widths })
    }

    fn len(&self) -> usize {
        self.columns.len()
    }
}

/// One side: its vectors, their gradient, 1 / norm and radial sum of each prefix, [W, rows].
struct Side {
    vectors: u64,
    gradient: u64,
    inverse: u64,
    radials: u64,
    rows: usize,
    /// What the last two lie in.
    _memory: [Tensor; 2],
}

impl Side {
    fn new(gpu: &Gpu, vectors: &Tensor, gradient: &Tensor, bands: &Bands) -> Result<Self> {
        let (rows, h) = vectors.dims2()?;
        let zeros = || Tensor::zeros(bands.len() * rows, DType::F32, gpu.device());
        let memory = [zeros()?, zeros()?];
        let [inverse, radials] = memory.each_ref().map(|tensor| element(tensor, 0));
        let (vectors, gradient) = (element(vectors, 0)?, element(gradient, 0)?);
        let side = Self { vectors, gradient, inverse: inverse?, radials: radials?, rows, _memory: memory };
        let launch = Launch::new("prefix_norms", [rows.div_ceil(THREADS / WARP), 1, 1], THREADS as u32)
            .with(side.inverse)
            .with(side.vectors)
            .with(address(&bands.widths, DType::U32)?)
            .count(bands.len())
            .count(rows)
            .count(h);
        // SAFETY: there are `rows` vectors of h, and a norm for each of them and each width.
        unsafe { gpu.backend().launch(&launch)? };
        Ok(side)
    }

    /// Where a width's numbers of a row and those after it are, in an array [W, rows].
    fn at(&self, array: u64, band: usize, row: usize) -> u64 {
        array + 4 * (band * self.rows + row) as u64
    }
}

/// Rows against columns: the first of each, and how many.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    rows: usize,
    column: usize,
    columns: usize,
}

/// What both sweeps use.
struct Sweep<'a> {
    loss: &'a DeviceLoss<'a>,
    bands: &'a Bands,
    h: usize,
    tile: (usize, usize),
    anchors: Side,
    candidates: Side,
    /// [W, R, 3].
    sums: u64,
    /// [W, tile].
    grams: u64,
    /// [tile].
    coefficients: u64,
    /// [chunks of a tile's rows, columns].
    partials: u64,
}

impl DeviceLoss<'_> {
    /// Adds the loss of the anchors to `loss`, one f32, and its gradient to `d_anchors`, [R, h], and `d_candidates`, [C, h]. NaN or
    /// infinite input shows as a NaN loss.
    ///
    /// # Errors
    /// The parts do not fit together, or the device refused something.
    pub fn run(&self, loss: &Tensor, d_anchors: &Tensor, d_candidates: &Tensor) -> Result<()> {
        self.run_in_tiles(loss, d_anchors, d_candidates, TILE)
    }

    pub(super) fn run_in_tiles(
        &self,
        loss: &Tensor,
        d_anchors: &Tensor,
        d_candidates: &Tensor,
        tile: (usize, usize),
    ) -> Result<()> {
        let (rows, h) = self.anchors.dims2()?;
        let columns = self.candidates.dims2()?.0;
        self.spec.check(h)?;
        let suits = self.candidates.dims2()?.1 == h && d_anchors.dims() == [rows, h] && d_candidates.dims() == [columns, h];
        if !suits || rows == 0 || self.own_offset + rows > columns {
            return Err(Error::Internal("anchors, candidates and gradients of a loss do not fit together".to_owned()));
        }
        let gpu = self.gpu;
        let bands = Bands::of(self.spec, self.num_anchors, gpu)?;
        let tile = (tile.0.min(rows), tile.1.min(columns));
        let area = tile.0 * tile.1;
        let sweep = Sweep {
            loss: self,
            bands: &bands,
            h,
            tile,
            anchors: Side::new(gpu, self.anchors, d_anchors, &bands)?,
            candidates: Side::new(gpu, self.candidates, d_candidates, &bands)?,
            sums: element(&gpu.scratch("loss sums", bands.len() * rows * ROW_SUM, DType::F32)?, 0)?,
            grams: element(&gpu.scratch("loss tiles", bands.len() * area, DType::F32)?, 0)?,
            coefficients: element(&gpu.scratch("loss coefficients", area, DType::F32)?, 0)?,
            partials: element(&gpu.scratch("partials", tile.0.div_ceil(RADIAL_ROWS) * tile.1, DType::F32)?, 0)?,
        };
        sweep.each_tile(|place| sweep.sum(place))?;
        for (band, share) in bands.shares.iter().enumerate() {
            let launch = Launch::new("add_loss", [1, 1, 1], THREADS as u32)
                .shared_floats(THREADS / WARP)
                .with(element(loss, 0)?)
                .with(sweep.sums_of(band, 0))
                .count(rows)
                .with(*share as f32);
            // SAFETY: the loss is one number, and each width has a sum for each anchor.
            unsafe { gpu.backend().launch(&launch)? };
        }
        sweep.each_tile(|place| sweep.gradients(place))?;
        sweep.subtract_radials(&sweep.anchors)?;
        sweep.subtract_radials(&sweep.candidates)
    }
}

impl Sweep<'_> {
    fn each_tile(&self, mut work: impl FnMut(Place) -> Result<()>) -> Result<()> {
        for row in (0..self.anchors.rows).step_by(self.tile.0) {
            for column in (0..self.candidates.rows).step_by(self.tile.1) {
                let rows = self.tile.0.min(self.anchors.rows - row);
                let columns = self.tile.1.min(self.candidates.rows - column);
                work(Place { row, rows, column, columns })?;
            }
        }
        Ok(())
    }

    fn sums_of(&self, band: usize, row: usize) -> u64 {
        self.sums + (4 * ROW_SUM * (band * self.anchors.rows + row)) as u64
    }

    /// The Gram matrix of a width; of those below it in order.
    fn gram(&self, band: usize) -> u64 {
        self.grams + (4 * band * self.tile.0 * self.tile.1) as u64
    }

    fn tile(&self, place: Place, band: usize, gram: u64) -> Tile {
        Tile {
            gram,
            row_inverse: self.anchors.at(self.anchors.inverse, band, place.row),
            column_inverse: self.candidates.at(self.candidates.inverse, band, place.column),
            scale: self.loss.spec.scale as f32,
            rows: place.rows as u32,
            columns: place.columns as u32,
            first_own: (self.loss.own_offset + place.row) as u32,
            first_column: place.column as u32,
        }
    }

    /// A band's columns of a side's rows from `first` on, or of their gradients.
    fn matrix(&self, of: u64, first: usize, band: usize, transposed: bool) -> Matrix {
        let address = of + 4 * (first * self.h + self.bands.columns[band].start) as u64;
        Matrix { address, stride: self.h, transposed }
    }

    /// Adds a band's products to a Gram matrix, or begins with the first one's.
    fn add_band(&self, place: Place, band: usize, gram: u64) -> Result<()> {
        self.multiply(Product {
            sizes: (place.rows, place.columns, self.bands.columns[band].len()),
            left: self.matrix(self.anchors.vectors, place.row, band, false),
            right: self.matrix(self.candidates.vectors, place.column, band, true),
            out: (gram, place.columns),
            operands: Width::Wide,
            result: Width::Wide,
            accumulate: band > 0,
            repeats: Repeats::ONCE,
        })
    }

    fn multiply(&self, product: Product) -> Result<()> {
        // SAFETY: places lie within both sides, and a tile is as large as its place.
        unsafe { self.loss.gpu.backend().multiply(&product) }
    }

    /// First sweep: the anchors' sums.
    fn sum(&self, place: Place) -> Result<()> {
        for band in 0..self.bands.len() {
            self.add_band(place, band, self.grams)?;
            let launch = Launch::new("row_sums", [place.rows, 1, 1], THREADS as u32)
                .shared_floats(THREADS / WARP)
                .with(self.sums_of(band, place.row))
                .with(self.tile(place, band, self.grams))
                .with(u32::from(place.column == 0));
            // SAFETY: each of the tile's rows has its sum.
            unsafe { self.loss.gpu.backend().launch(&launch)? };
        }
        Ok(())
    }

    /// Second sweep: a band's columns take the coefficients of all widths that have them, so the widest comes first.
    fn gradients(&self, place: Place) -> Result<()> {
        let backend = self.loss.gpu.backend();
        let area = place.rows * place.columns;
        for band in 0..self.bands.len() {
            if band > 0 {
                let launch = Launch::new("copy_vector", [area.div_ceil(4 * THREADS), 1, 1], THREADS as u32)
                    .with(self.gram(band))
                    .with(self.gram(band - 1))
                    .count(area);
                // SAFETY: both are tiles.
                unsafe { backend.launch(&launch)? };
            }
            self.add_band(place, band, self.gram(band))?;
        }
        for band in (0..self.bands.len()).rev() {
            let (sums, tile) = (self.sums_of(band, place.row), self.tile(place, band, self.gram(band)));
            let coefficient = (self.bands.shares[band] * self.loss.spec.scale) as f32;
            let rows = Launch::new("coefficients", [place.rows, 1, 1], THREADS as u32)
                .shared_floats(THREADS / WARP)
                .with(self.coefficients)
                .with(self.anchors.at(self.anchors.radials, band, place.row))
                .with(sums)
                .with(tile)
                .with(coefficient)
                .with(u32::from(band + 1 == self.bands.len()));
            let chunks = place.rows.div_ceil(RADIAL_ROWS);
            let columns = Launch::new("column_radials", [place.columns.div_ceil(THREADS), chunks, 1], THREADS as u32)
                .with(self.partials)
                .with(sums)
                .with(tile)
                .with(coefficient);
            let radials = self.candidates.at(self.candidates.radials, band, place.column);
            // SAFETY: the coefficients are a tile, each row and column has its radial sum, and each chunk of rows one for every column.
            unsafe {
                backend.launch(&rows)?;
                backend.launch(&columns)?;
                backend.launch(&add_partials(&[radials], (self.partials, 0), (chunks, place.columns, place.columns)))?;
            }
            self.add_gradients(place, band)?;
        }
        Ok(())
    }

    /// Adds coefficients times the other side's vectors to the band's columns of both gradients.
    fn add_gradients(&self, place: Place, band: usize) -> Result<()> {
        let width = self.bands.columns[band].len();
        let coefficients = |transposed| Matrix { address: self.coefficients, stride: place.columns, transposed };
        let wide = |sizes, left, right, out: Matrix| Product {
            sizes,
            left,
            right,
            out: (out.address, out.stride),
            operands: Width::Wide,
            result: Width::Wide,
            accumulate: true,
            repeats: Repeats::ONCE,
        };
        self.multiply(wide(
            (place.rows, width, place.columns),
            coefficients(false),
            self.matrix(self.candidates.vectors, place.column, band, false),
            self.matrix(self.anchors.gradient, place.row, band, false),
        ))?;
        self.multiply(wide(
            (place.columns, width, place.rows),
            coefficients(true),
            self.matrix(self.anchors.vectors, place.row, band, false),
            self.matrix(self.candidates.gradient, place.column, band, false),
        ))
    }

    fn subtract_radials(&self, side: &Side) -> Result<()> {
        let launch = Launch::new("subtract_radials", [side.rows, 1, 1], THREADS as u32)
            .with(side.gradient)
            .with(side.vectors)
            .with(side.inverse)
            .with(side.radials)
            .with(address(&self.bands.widths, DType::U32)?)
            .count(self.bands.len())
            .count(side.rows)
            .count(self.h);
        // SAFETY: a side's vectors and gradients are [rows, h], its numbers [W, rows].
        unsafe { self.loss.gpu.backend().launch(&launch) }
    }
}
