//! The widths as bands of columns, the norms of prefixes, and what these take from a gradient.

use super::LossSpec;
use super::real::Real;

/// Below this a norm counts as this (PyTorch's `normalize`).
const NORM_FLOOR: f64 = 1e-12;

/// The columns between one width and the next smaller one.
pub(super) struct Band {
    pub start: usize,
    pub end: usize,
    /// Where its width stands in the spec.
    pub place: usize,
    /// weight * scale / anchors.
    pub coefficient: f64,
}

impl Band {
    /// The bands of a batch of `num_anchors` rows, narrowest width first.
    pub(super) fn of(spec: &LossSpec, num_anchors: usize) -> Vec<Band> {
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
pub(super) struct Norms<T> {
    pub inverse: Vec<Vec<T>>,
}

impl<T: Real> Norms<T> {
    /// Of rows [_, h].
    pub(super) fn of(rows: &[T], h: usize, bands: &[Band]) -> Self {
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

/// Subtracts `x sum_(widths that hold the column) n(x)^2 radial` from each row's gradient.
///
/// `rows` is [R, h], `radial` [band][R]; the gradients of the rows lie `stride` apart, and the rows stand from `first` on in `norms`.
pub(super) fn subtract_radial<T: Real>(
    gradient: (&mut [T], usize),
    rows: &[T],
    h: usize,
    first: usize,
    radial: &[Vec<f64>],
    norms: &Norms<T>,
    bands: &[Band],
) {
    let (gradient, stride) = gradient;
    for (row, (gradient, x)) in gradient.chunks_exact_mut(stride).zip(rows.chunks_exact(h)).enumerate() {
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
