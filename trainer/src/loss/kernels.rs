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

/// Adds a row's weights on the cosines to the coefficients, and their radial parts to the sums of columns and of each lane.
#[inline(always)]
fn spread<T: Real>(
    weights: &[T],
    gram: &[T],
    column_inverse: &[T],
    row_inverse: T,
    coefficients: &mut [T],
    column_sums: &mut [T],
    lanes: &mut [T; LANES],
) {
    let mut sums = *lanes;
    let (weights_16, weights) = weights.as_chunks::<LANES>();
    let (gram_16, gram) = gram.as_chunks::<LANES>();
    let (inverse_16, inverse) = column_inverse.as_chunks::<LANES>();
    let (coefficients_16, coefficients) = coefficients.as_chunks_mut::<LANES>();
    let (columns_16, columns) = column_sums.as_chunks_mut::<LANES>();
    let whole = weights_16.iter().zip(gram_16).zip(inverse_16).zip(coefficients_16.iter_mut().zip(columns_16));
    for (((weights, gram), inverse), (coefficients, columns)) in whole {
        for lane in 0..LANES {
            let radial = weights[lane] * (gram[lane] * inverse[lane] * row_inverse);
            coefficients[lane] += weights[lane] * inverse[lane] * row_inverse;
            columns[lane] += radial;
            sums[lane] += radial;
        }
    }
    for lane in 0..weights.len() {
        let radial = weights[lane] * (gram[lane] * inverse[lane] * row_inverse);
        coefficients[lane] += weights[lane] * inverse[lane] * row_inverse;
        columns[lane] += radial;
        sums[lane] += radial;
    }
    *lanes = sums;
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
            let mut radial = [T::ZERO; LANES];
            for weight in logits.iter_mut() {
                *weight = probability_factor * (*weight - max).exp_nonpositive();
            }
            let sums = &mut self.column_sums[..num_columns];
            spread(logits, gram, self.column_inverse, row_inverse, coefficients, sums, &mut radial);
            if let Some((own, weight)) = own.zip(own_weight) {
                let place = own..own + 1;
                let (gram, inverse) = (&gram[place.clone()], &self.column_inverse[place.clone()]);
                spread(&[weight], gram, inverse, row_inverse, &mut coefficients[place.clone()], &mut sums[place], &mut radial);
            }
            self.row_radial[row] += radial.iter().map(|lane| lane.to_f64()).sum::<f64>();
        }
    }
}
