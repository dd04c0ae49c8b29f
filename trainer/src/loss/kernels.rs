//! What happens to each logit of a tile, as loops for vector instructions.
//!
//! The logit of anchor i and candidate j is `gram_ij * column_inverse_j * factor_i`: the prefixes' dot product, the inverse
//! norm of the candidate's prefix, and scale times that of the anchor's.

use super::real::{Kernel, LANES, Real};

/// Anchors of a tile.
pub const TILE_ANCHORS: usize = 128;
/// Candidates of a tile.
pub const TILE_CANDIDATES: usize = 512;

/// A run of rows.
#[derive(Clone, Copy)]
pub struct Span {
    pub first: usize,
    pub len: usize,
}

/// The place of candidate `own` in this span.
#[inline(always)]
pub fn own_column(own: usize, columns: Span) -> Option<usize> {
    (columns.first <= own && own < columns.first + columns.len).then(|| own - columns.first)
}

/// Writes a row's logits; the greatest of each lane.
#[inline(always)]
fn write_logits<T: Real>(gram: &[T], column_inverse: &[T], factor: T, logits: &mut [T]) -> [T; LANES] {
    let mut greatest = [T::LOWEST; LANES];
    let whole = gram.len() / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let (gram, inverse) = (&gram[start..start + LANES], &column_inverse[start..start + LANES]);
        let logits = &mut logits[start..start + LANES];
        for lane in 0..LANES {
            let logit = gram[lane] * inverse[lane] * factor;
            logits[lane] = logit;
            greatest[lane] = if logit > greatest[lane] { logit } else { greatest[lane] };
        }
    }
    for (lane, column) in (whole..gram.len()).enumerate() {
        let logit = gram[column] * column_inverse[column] * factor;
        logits[column] = logit;
        greatest[lane] = if logit > greatest[lane] { logit } else { greatest[lane] };
    }
    greatest
}

/// Merges a tile's logits into the running maximum and sum of exponentials of each row.
pub struct SumExp<'a, T> {
    pub gram: &'a [T],
    pub factors: &'a [T],
    pub column_inverse: &'a [T],
    pub logits: &'a mut [T; TILE_CANDIDATES],
    pub max: &'a mut [T],
    pub sum: &'a mut [f64],
}

impl<T: Real> Kernel for SumExp<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let num_columns = self.column_inverse.len();
        let logits = &mut self.logits[..num_columns];
        for (row, gram) in self.gram.chunks_exact(num_columns).enumerate() {
            let greatest = write_logits(gram, self.column_inverse, self.factors[row], logits);
            let mut max = self.max[row];
            for value in greatest {
                max = if value > max { value } else { max };
            }
            if max > self.max[row] {
                self.sum[row] *= (self.max[row].to_f64() - max.to_f64()).exp();
                self.max[row] = max;
            }
            let mut lanes = [T::ZERO; LANES];
            let mut groups = logits.chunks_exact(LANES);
            for group in &mut groups {
                for lane in 0..LANES {
                    lanes[lane] += (group[lane] - max).exp_nonpositive();
                }
            }
            for (lane, logit) in groups.remainder().iter().enumerate() {
                lanes[lane] += (*logit - max).exp_nonpositive();
            }
            self.sum[row] += lanes.iter().map(|lane| lane.to_f64()).sum::<f64>();
        }
    }
}

/// One width's share of the coefficients of a tile.
pub struct Coefficients<'a, T> {
    pub gram: &'a [T],
    pub factors: &'a [T],
    pub row_inverse: &'a [T],
    pub column_inverse: &'a [T],
    pub max: &'a [T],
    pub sum: &'a [f64],
    /// weight * scale / anchors.
    pub factor: f64,
    pub columns: Span,
    /// The candidate that the tile's first anchor owns.
    pub first_own: usize,
    pub logits: &'a mut [T; TILE_CANDIDATES],
    pub coefficients: &'a mut [T],
    pub column_sums: &'a mut [T; TILE_CANDIDATES],
    pub row_radial: &'a mut [f64],
}

impl<T: Real> Kernel for Coefficients<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let num_columns = self.columns.len;
        let logits = &mut self.logits[..num_columns];
        let tile = self.gram.chunks_exact(num_columns).zip(self.coefficients.chunks_exact_mut(num_columns));
        for (row, (gram, coefficients)) in tile.enumerate() {
            write_logits(gram, self.column_inverse, self.factors[row], logits);
            let (max, row_inverse) = (self.max[row], self.row_inverse[row]);
            let probability_factor = T::from_f64(self.factor / self.sum[row]);
            // The own entry is p - 1, taken apart where p is near 1.
            let own = own_column(self.first_own + row, self.columns);
            let own_weight = own.map(|own| {
                let exponent = (logits[own].to_f64() - max.to_f64()) - self.sum[row].ln();
                logits[own] = T::LOWEST;
                T::from_f64(self.factor * exponent.exp_m1())
            });
            let mut lanes = [T::ZERO; LANES];
            let mut spread = |lane: usize, column: usize, weight: T| {
                let cosine = gram[column] * self.column_inverse[column] * row_inverse;
                let radial = weight * cosine;
                coefficients[column] += weight * self.column_inverse[column] * row_inverse;
                self.column_sums[column] += radial;
                lanes[lane] += radial;
            };
            let whole = num_columns / LANES * LANES;
            for start in (0..whole).step_by(LANES) {
                for lane in 0..LANES {
                    spread(lane, start + lane, probability_factor * (logits[start + lane] - max).exp_nonpositive());
                }
            }
            for (lane, column) in (whole..num_columns).enumerate() {
                spread(lane, column, probability_factor * (logits[column] - max).exp_nonpositive());
            }
            if let Some((own, weight)) = own.zip(own_weight) {
                spread(0, own, weight);
            }
            self.row_radial[row] += lanes.iter().map(|lane| lane.to_f64()).sum::<f64>();
        }
    }
}
