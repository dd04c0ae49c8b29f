//! MultipleNegativesRanking of one leaf: a sweep for the log-sum-exps, a sweep for the gradient.
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
//! again all widths cost one product a side. Memory beside the arguments: some tiles, and `C` numbers a width.
//! The tiles lie on fixed indices, so the bits depend on the batch and the leaf alone (SAME-3).

use super::kernels::{Coefficients, Span, SumExp, TILE_ANCHORS, TILE_CANDIDATES, own_column};
use super::matrix::{Product, View, product};
use super::real::{Real, vectorised};
use super::{LeafLoss, LossSpec};

/// Below this a norm counts as this (PyTorch's `normalize`).
const NORM_FLOOR: f64 = 1e-12;

/// The loss of one leaf's anchors against all candidates of the batch, and its gradient.
///
/// `anchors` is [R, h], `candidates` [C, h] (all positives, then all first negatives, and so on), row-major and not
/// necessarily normalised; anchor i owns candidate `own_offset + i`. `num_anchors` is the number of anchors of the whole
/// batch. Overwrites `d_anchors` [R, h] and `d_candidates` [C, h] with the gradient of the weighted loss; summed over the
/// leaves, `d_candidates` is the batch's. NaN or infinite input shows as a NaN loss.
///
/// Formula: PARITY.md, MultipleNegativesRankingLoss and MatryoshkaLoss.
///
/// # Panics
/// When the slices' lengths disagree, an own candidate does not exist, or `spec` would not pass [`LossSpec::check`].
#[allow(clippy::too_many_arguments)]
pub fn mnrl_leaf<T: Real>(
    spec: &LossSpec,
    h: usize,
    anchors: &[T],
    candidates: &[T],
    own_offset: usize,
    num_anchors: usize,
    d_anchors: &mut [T],
    d_candidates: &mut [T],
) -> LeafLoss {
    spec.check(h).expect("the loss's settings were checked before the run");
    assert!(anchors.len().is_multiple_of(h) && candidates.len().is_multiple_of(h), "embeddings are whole rows");
    assert!(d_anchors.len() == anchors.len() && d_candidates.len() == candidates.len(), "gradients have their rows' shape");
    let (num_rows, num_candidates) = (anchors.len() / h, candidates.len() / h);
    assert!(own_offset + num_rows <= num_candidates, "every anchor owns a candidate");
    assert!(num_rows <= num_anchors, "a leaf is a part of its batch");
    d_anchors.fill(T::ZERO);
    d_candidates.fill(T::ZERO);
    let bands = Band::of(spec, num_anchors);
    let sides = Sides {
        h,
        anchors,
        candidates,
        own_offset,
        scale: spec.scale,
        anchor_norms: Norms::of(anchors, h, &bands),
        candidate_norms: Norms::of(candidates, h, &bands),
        bands: &bands,
    };
    let mut losses = vec![0.0; bands.len()];
    let mut radial = vec![vec![0.0; num_candidates]; bands.len()];
    let mut scratch = Scratch::new(bands.len());
    for first in (0..num_rows).step_by(TILE_ANCHORS) {
        let rows = Span { first, len: TILE_ANCHORS.min(num_rows - first) };
        let sums = sides.log_sum_exps(rows, &mut scratch, &mut losses);
        sides.gradients(rows, &sums, &mut scratch, d_anchors, d_candidates, &mut radial);
    }
    subtract_radial(d_candidates, candidates, h, 0, &radial, &sides.candidate_norms, &bands);
    let mut per_dim = vec![0.0; bands.len()];
    for (band, loss) in bands.iter().zip(&losses) {
        per_dim[band.place] = loss / num_anchors as f64;
    }
    LeafLoss { per_dim }
}

/// The columns between one width and the next smaller one.
struct Band {
    start: usize,
    end: usize,
    /// Where its width stands in the spec.
    place: usize,
    /// weight * scale / anchors.
    coefficient: f64,
}

impl Band {
    fn of(spec: &LossSpec, num_anchors: usize) -> Vec<Band> {
        let mut places: Vec<usize> = (0..spec.dims.len()).collect();
        places.sort_by_key(|&place| spec.dims[place]);
        let mut start = 0;
        let mut bands = Vec::with_capacity(places.len());
        for place in places {
            let end = spec.dims[place];
            bands.push(Band { start, end, place, coefficient: spec.weights[place] * spec.scale / num_anchors as f64 });
            start = end;
        }
        bands
    }
}

/// 1 / max(norm, floor) of each row's prefix: [band][row].
struct Norms<T> {
    inverse: Vec<Vec<T>>,
}

impl<T: Real> Norms<T> {
    fn of(rows: &[T], h: usize, bands: &[Band]) -> Self {
        let mut inverse = vec![Vec::with_capacity(rows.len() / h); bands.len()];
        for row in rows.chunks_exact(h) {
            let mut squares = 0.0;
            for (band, inverse) in bands.iter().zip(&mut inverse) {
                squares += row[band.start..band.end].iter().map(|x| x.to_f64() * x.to_f64()).sum::<f64>();
                // Not `max`: it would hide a NaN.
                let norm = squares.sqrt();
                inverse.push(T::from_f64(1.0 / if norm < NORM_FLOOR { NORM_FLOOR } else { norm }));
            }
        }
        Self { inverse }
    }

    /// The factor of the radial part: nought where the floor stood in for the norm.
    fn inverse_square(&self, band: usize, row: usize) -> f64 {
        let inverse = self.inverse[band][row];
        if inverse == T::from_f64(1.0 / NORM_FLOOR) { 0.0 } else { inverse.to_f64() * inverse.to_f64() }
    }
}

/// What both sweeps read.
struct Sides<'a, T> {
    h: usize,
    anchors: &'a [T],
    candidates: &'a [T],
    own_offset: usize,
    scale: f64,
    anchor_norms: Norms<T>,
    candidate_norms: Norms<T>,
    bands: &'a [Band],
}

/// The log-sum-exps of an anchor tile, [band][row]: `lse = max + ln(sum)`.
struct TileSums<T> {
    max: Vec<[T; TILE_ANCHORS]>,
    sum: Vec<[f64; TILE_ANCHORS]>,
}

/// Buffers of one tile.
struct Scratch<T> {
    /// The Gram matrix of each width.
    grams: Vec<Vec<T>>,
    coefficients: Vec<T>,
    logits: [T; TILE_CANDIDATES],
    factors: [T; TILE_ANCHORS],
    column_sums: [T; TILE_CANDIDATES],
}

impl<T: Real> Scratch<T> {
    fn new(num_bands: usize) -> Self {
        Self {
            grams: vec![vec![T::ZERO; TILE_ANCHORS * TILE_CANDIDATES]; num_bands],
            coefficients: vec![T::ZERO; TILE_ANCHORS * TILE_CANDIDATES],
            logits: [T::ZERO; TILE_CANDIDATES],
            factors: [T::ZERO; TILE_ANCHORS],
            column_sums: [T::ZERO; TILE_CANDIDATES],
        }
    }
}

impl<T: Real> Sides<'_, T> {
    fn candidate_spans(&self) -> impl Iterator<Item = Span> + use<T> {
        let num_candidates = self.candidates.len() / self.h;
        (0..num_candidates)
            .step_by(TILE_CANDIDATES)
            .map(move |first| Span { first, len: TILE_CANDIDATES.min(num_candidates - first) })
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

    /// First sweep: the log-sum-exps of an anchor tile; adds its losses to `losses` [band].
    fn log_sum_exps(&self, rows: Span, scratch: &mut Scratch<T>, losses: &mut [f64]) -> TileSums<T> {
        let num_bands = self.bands.len();
        let mut sums = TileSums { max: vec![[T::LOWEST; TILE_ANCHORS]; num_bands], sum: vec![[0.0; TILE_ANCHORS]; num_bands] };
        let mut own_logits = vec![[T::ZERO; TILE_ANCHORS]; num_bands];
        let Scratch { grams, logits, factors, .. } = scratch;
        let gram = &mut grams[0];
        for columns in self.candidate_spans() {
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
                    max: &mut sums.max[band],
                    sum: &mut sums.sum[band],
                });
            }
        }
        for (band, loss) in losses.iter_mut().enumerate() {
            let tile = sums.max[band].iter().zip(&sums.sum[band]).zip(&own_logits[band]).take(rows.len);
            for ((max, sum), own) in tile {
                *loss += (max.to_f64() - own.to_f64()) + sum.ln();
            }
        }
        sums
    }

    /// Second sweep: adds the tile's share to the gradients, the candidates' radial parts left in `radial` [band][C].
    fn gradients(
        &self,
        rows: Span,
        sums: &TileSums<T>,
        scratch: &mut Scratch<T>,
        d_anchors: &mut [T],
        d_candidates: &mut [T],
        radial: &mut [Vec<f64>],
    ) {
        let h = self.h;
        let mut row_radial = vec![vec![0.0; rows.len]; self.bands.len()];
        for columns in self.candidate_spans() {
            let tile = rows.len * columns.len;
            self.add_band(rows, columns, 0, &mut scratch.grams[0]);
            for band in 1..self.bands.len() {
                let (below, above) = scratch.grams.split_at_mut(band);
                above[0][..tile].copy_from_slice(&below[band - 1][..tile]);
                self.add_band(rows, columns, band, &mut above[0]);
            }
            scratch.coefficients[..tile].fill(T::ZERO);
            for band in (0..self.bands.len()).rev() {
                self.coefficients(rows, columns, band, sums, scratch, &mut row_radial[band]);
                let sums_of_columns = &scratch.column_sums[..columns.len];
                for (total, sum) in radial[band][columns.first..].iter_mut().zip(sums_of_columns) {
                    *total += sum.to_f64();
                }
                let (row_view, column_view) = (self.view(rows, band), self.view(columns, band));
                let weights = (&scratch.coefficients[..], View::whole(rows.len, columns.len));
                product(Product::Plain, (&mut *d_anchors, row_view), weights, (self.candidates, column_view), true);
                product(Product::TransposedBy, (&mut *d_candidates, column_view), weights, (self.anchors, row_view), true);
            }
        }
        let span = rows.first * h..(rows.first + rows.len) * h;
        let (gradient, anchors) = (&mut d_anchors[span.clone()], &self.anchors[span]);
        subtract_radial(gradient, anchors, h, rows.first, &row_radial, &self.anchor_norms, self.bands);
    }

    /// Adds a width's `w_ij n(q_i) n(D_j)` to the tile's coefficients, sets `column_sums`, adds to the rows' radial sums.
    fn coefficients(
        &self,
        rows: Span,
        columns: Span,
        band: usize,
        sums: &TileSums<T>,
        scratch: &mut Scratch<T>,
        row_radial: &mut [f64],
    ) {
        let Scratch { grams, coefficients, logits, factors, column_sums } = scratch;
        self.fill_factors(rows, band, factors);
        column_sums[..columns.len].fill(T::ZERO);
        vectorised(Coefficients {
            gram: &grams[band][..rows.len * columns.len],
            factors: &factors[..rows.len],
            row_inverse: &self.anchor_norms.inverse[band][rows.first..rows.first + rows.len],
            column_inverse: &self.candidate_norms.inverse[band][columns.first..columns.first + columns.len],
            max: &sums.max[band],
            sum: &sums.sum[band],
            factor: self.bands[band].coefficient,
            columns,
            first_own: self.own_offset + rows.first,
            logits,
            coefficients,
            column_sums,
            row_radial,
        });
    }
}

/// Subtracts `x sum_(widths that hold the column) n(x)^2 radial` from each row's gradient; the rows stand from `first` on in `norms`.
fn subtract_radial<T: Real>(
    gradient: &mut [T],
    rows: &[T],
    h: usize,
    first: usize,
    radial: &[Vec<f64>],
    norms: &Norms<T>,
    bands: &[Band],
) {
    for (row, (gradient, x)) in gradient.chunks_exact_mut(h).zip(rows.chunks_exact(h)).enumerate() {
        let mut factor = 0.0;
        for (place, band) in bands.iter().enumerate().rev() {
            factor += radial[place][row] * norms.inverse_square(place, first + row);
            let factor = T::from_f64(factor);
            for (gradient, x) in gradient[band.start..band.end].iter_mut().zip(&x[band.start..band.end]) {
                *gradient = *gradient - factor * *x;
            }
        }
    }
}
