//! One leaf's anchors against the batch's candidates, tile by tile: a sweep for the log-sum-exps, a sweep for the gradient.
//!
//! Shapes: R anchors of the leaf, C candidates of the batch, width h. The widths cut the columns into bands; the Gram
//! matrix of a width is that of the width below plus the band's product, so all widths cost one product. With
//! `n_d(x) = 1 / max(|x[..d]|, 1e-12)`:
//!
//! ```text
//! logit_ij = scale n(q_i) n(D_j) <q_i, D_j>          p_ij = exp(logit_ij - lse_i)
//! w_ij = weight scale / anchors (p_ij - [j is i's own])           (the gradient on the cosine)
//! dq_i = sum_j w_ij n(q_i) n(D_j) D_j  -  n(q_i)^2 q_i sum_j w_ij cos_ij      (and dD_j likewise)
//! ```
//!
//! A band belongs to its width and all wider ones, so its columns' gradient takes the sum of their coefficients, and
//! again all widths cost one product a side. Memory beside the arguments: some tiles, and R and C numbers a width.
//! Tiles lie on fixed indices, and every sum runs over them in order: an anchor's over the candidate tiles, a candidate's over
//! the leaf's anchor tiles. So the bits depend on the batch and the leaf alone, not on the block of candidates that is
//! taken at a time (SAME-3).

use super::bands::{Band, Norms, subtract_radial};
use super::kernels::{Coefficients, Span, SumExp, TILE_ANCHORS, TILE_CANDIDATES, own_column};
use super::matrix::{Product, View, product};
use super::real::{Real, vectorised};

/// What both sweeps over a leaf read.
pub(super) struct Sides<'a, T> {
    h: usize,
    scale: f64,
    bands: &'a [Band],
    /// The leaf's: [R, h].
    anchors: &'a [T],
    anchor_norms: Norms<T>,
    /// The batch's: [C, h].
    candidates: &'a [T],
    candidate_norms: &'a Norms<T>,
    /// The candidate that the leaf's first anchor owns.
    own_offset: usize,
}

/// The log-sum-exps of a leaf's anchors, [band][R]: `lse = max + ln(sum)`.
pub(super) struct RowSums<T> {
    max: Vec<Vec<T>>,
    sum: Vec<Vec<f64>>,
}

/// Gradients of some rows, and their radial parts, which are yet to be subtracted.
pub(super) struct Gradient<'a, T> {
    /// Rows that lie `stride` apart, of which the first h values are the gradient.
    pub values: &'a mut [T],
    pub stride: usize,
    /// [band][row].
    pub radial: &'a mut [Vec<f64>],
}

/// Buffers of one tile.
#[derive(Debug)]
pub(super) struct Scratch<T> {
    /// The Gram matrix of each width.
    grams: Vec<Vec<T>>,
    coefficients: Vec<T>,
    logits: [T; TILE_CANDIDATES],
    factors: [T; TILE_ANCHORS],
    column_sums: [T; TILE_CANDIDATES],
}

/// `0..len` in spans of `step`, the last as long as is left.
pub(super) fn spans(len: usize, step: usize) -> impl Iterator<Item = Span> {
    (0..len).step_by(step).map(move |first| Span { first, len: step.min(len - first) })
}

impl<T: Real> RowSums<T> {
    /// Of no candidate yet.
    pub(super) fn new(num_bands: usize, num_rows: usize) -> Self {
        Self { max: vec![vec![T::LOWEST; num_rows]; num_bands], sum: vec![vec![0.0; num_rows]; num_bands] }
    }
}

impl<T: Real> Scratch<T> {
    /// Bands that it serves.
    pub(super) fn num_bands(&self) -> usize {
        self.grams.len()
    }

    pub(super) fn new(num_bands: usize) -> Self {
        Self {
            grams: vec![vec![T::ZERO; TILE_ANCHORS * TILE_CANDIDATES]; num_bands],
            coefficients: vec![T::ZERO; TILE_ANCHORS * TILE_CANDIDATES],
            logits: [T::ZERO; TILE_CANDIDATES],
            factors: [T::ZERO; TILE_ANCHORS],
            column_sums: [T::ZERO; TILE_CANDIDATES],
        }
    }
}

impl<'a, T: Real> Sides<'a, T> {
    /// A leaf's anchors [R, h], the first of which owns candidate `own_offset`, and all candidates [C, h].
    pub(super) fn new(
        (h, scale, bands): (usize, f64, &'a [Band]),
        anchors: &'a [T],
        own_offset: usize,
        candidates: &'a [T],
        candidate_norms: &'a Norms<T>,
    ) -> Self {
        let anchor_norms = Norms::of(anchors, h, bands);
        Self { h, scale, bands, anchors, anchor_norms, candidates, candidate_norms, own_offset }
    }

    /// The leaf's anchor tiles.
    pub(super) fn tiles(&self) -> impl Iterator<Item = Span> + use<T> {
        spans(self.anchors.len() / self.h, TILE_ANCHORS)
    }

    /// Where a band's columns of these rows lie in a side's slice.
    fn view(&self, rows: Span, band: usize) -> View {
        let Band { start, end, .. } = self.bands[band];
        View { start: rows.first * self.h + start, stride: self.h, rows: rows.len, width: end - start }
    }

    /// Adds a band's products of the tile to what `gram` holds, or overwrites it with the first band's.
    fn add_band(&self, rows: Span, columns: Span, band: usize, gram: &mut [T]) {
        let lhs = (self.anchors, self.view(rows, band));
        let rhs = (self.candidates, self.view(columns, band));
        product(Product::ByTransposed, (gram, View::whole(rows.len, columns.len)), lhs, rhs, band > 0);
    }

    /// scale / norm of the tile's anchors.
    fn fill_factors(&self, rows: Span, band: usize, factors: &mut [T; TILE_ANCHORS]) {
        for (factor, inverse) in factors.iter_mut().zip(&self.anchor_norms.inverse[band][rows.first..rows.first + rows.len]) {
            *factor = T::from_f64(self.scale) * *inverse;
        }
    }

    /// First sweep: sets the log-sum-exps of an anchor tile over all candidates; adds its losses to `losses` [band].
    pub(super) fn log_sum_exps(&self, rows: Span, sums: &mut RowSums<T>, scratch: &mut Scratch<T>, losses: &mut [f64]) {
        let mut own_logits = vec![[T::ZERO; TILE_ANCHORS]; self.bands.len()];
        let tile = rows.first..rows.first + rows.len;
        let Scratch { grams, logits, factors, .. } = scratch;
        let gram = &mut grams[0];
        for columns in spans(self.candidates.len() / self.h, TILE_CANDIDATES) {
            for (band, own_logits) in own_logits.iter_mut().enumerate() {
                self.add_band(rows, columns, band, gram);
                self.fill_factors(rows, band, factors);
                let column_inverse = &self.candidate_norms.inverse[band][columns.first..columns.first + columns.len];
                for (row, own_logit) in own_logits[..rows.len].iter_mut().enumerate() {
                    if let Some(own) = own_column(self.own_offset + rows.first + row, columns) {
                        *own_logit = gram[row * columns.len + own] * column_inverse[own] * factors[row];
                    }
                }
                vectorised(SumExp {
                    gram: &gram[..rows.len * columns.len],
                    factors: &factors[..rows.len],
                    column_inverse,
                    logits,
                    max: &mut sums.max[band][tile.clone()],
                    sum: &mut sums.sum[band][tile.clone()],
                });
            }
        }
        for (band, loss) in losses.iter_mut().enumerate() {
            let (max, sum) = (&sums.max[band][tile.clone()], &sums.sum[band][tile.clone()]);
            for ((max, sum), own) in max.iter().zip(sum).zip(&own_logits[band]) {
                *loss += (max.to_f64() - own.to_f64()) + sum.ln();
            }
        }
    }

    /// Second sweep: adds the share of an anchor tile and a block of candidates to the gradients of the leaf's anchors and of
    /// the block. The block begins on a candidate tile.
    pub(super) fn gradients(
        &self,
        rows: Span,
        block: Span,
        sums: &RowSums<T>,
        scratch: &mut Scratch<T>,
        d_anchors: &mut Gradient<'_, T>,
        d_block: &mut Gradient<'_, T>,
    ) {
        for within in spans(block.len, TILE_CANDIDATES) {
            let columns = Span { first: block.first + within.first, len: within.len };
            let tile = rows.len * columns.len;
            self.add_band(rows, columns, 0, &mut scratch.grams[0]);
            for band in 1..self.bands.len() {
                let (below, above) = scratch.grams.split_at_mut(band);
                above[0][..tile].copy_from_slice(&below[band - 1][..tile]);
                self.add_band(rows, columns, band, &mut above[0]);
            }
            scratch.coefficients[..tile].fill(T::ZERO);
            for band in (0..self.bands.len()).rev() {
                let row_radial = &mut d_anchors.radial[band][rows.first..rows.first + rows.len];
                self.coefficients(rows, columns, band, sums, scratch, row_radial);
                let sums_of_columns = &scratch.column_sums[..columns.len];
                for (total, sum) in d_block.radial[band][within.first..].iter_mut().zip(sums_of_columns) {
                    *total += sum.to_f64();
                }
                let (row_view, column_view) = (self.view(rows, band), self.view(columns, band));
                let d_row_view =
                    View { start: rows.first * d_anchors.stride + self.bands[band].start, stride: d_anchors.stride, ..row_view };
                let d_column_view =
                    View { start: within.first * d_block.stride + self.bands[band].start, stride: d_block.stride, ..column_view };
                let weights = (&scratch.coefficients[..], View::whole(rows.len, columns.len));
                product(Product::Plain, (&mut *d_anchors.values, d_row_view), weights, (self.candidates, column_view), true);
                product(Product::TransposedBy, (&mut *d_block.values, d_column_view), weights, (self.anchors, row_view), true);
            }
        }
    }

    /// Adds a width's `w_ij n(q_i) n(D_j)` to the tile's coefficients, sets `column_sums`, adds to the rows' radial sums.
    fn coefficients(
        &self,
        rows: Span,
        columns: Span,
        band: usize,
        sums: &RowSums<T>,
        scratch: &mut Scratch<T>,
        row_radial: &mut [f64],
    ) {
        let Scratch { grams, coefficients, logits, factors, column_sums } = scratch;
        self.fill_factors(rows, band, factors);
        column_sums[..columns.len].fill(T::ZERO);
        let tile = rows.first..rows.first + rows.len;
        vectorised(Coefficients {
            gram: &grams[band][..rows.len * columns.len],
            factors: &factors[..rows.len],
            row_inverse: &self.anchor_norms.inverse[band][tile.clone()],
            column_inverse: &self.candidate_norms.inverse[band][columns.first..columns.first + columns.len],
            max: &sums.max[band][tile.clone()],
            sum: &sums.sum[band][tile],
            factor: self.bands[band].coefficient,
            columns,
            first_own: self.own_offset + rows.first,
            logits,
            coefficients,
            column_sums,
            row_radial,
        });
    }

    /// Ends the leaf's share of a block's gradient, after all its anchor tiles.
    pub(super) fn finish_block(&self, block: Span, gradient: &mut Gradient<'_, T>) {
        let candidates = &self.candidates[block.first * self.h..(block.first + block.len) * self.h];
        let values = (&mut *gradient.values, gradient.stride);
        subtract_radial(values, candidates, self.h, block.first, gradient.radial, self.candidate_norms, self.bands);
    }

    /// Ends the gradient of the leaf's anchors, after all blocks.
    pub(super) fn finish_anchors(&self, gradient: &mut Gradient<'_, T>) {
        let values = (&mut *gradient.values, gradient.stride);
        subtract_radial(values, self.anchors, self.h, 0, gradient.radial, &self.anchor_norms, self.bands);
    }
}
