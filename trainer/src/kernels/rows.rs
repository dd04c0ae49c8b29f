//! Sums over and into rows.

use super::{LANES, Real, dispatch};

/// The sum of a row, in `LANES` partial sums that are then folded in halves.
#[inline(always)]
pub(crate) fn sum<T: Real>(row: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += chunk[i];
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    fold(lanes)
}

/// The sum of squared differences from `mean`.
#[inline(always)]
pub(crate) fn sum_squares<T: Real, const FMA: bool>(row: &[T], mean: T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            let d = chunk[i] - mean;
            lanes[i] = d.fma::<FMA>(d, lanes[i]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        let d = x - mean;
        *lane = d.fma::<FMA>(d, *lane);
    }
    fold(lanes)
}

/// The sum of a (b - mean) over two rows of one length.
#[inline(always)]
pub(crate) fn dot_centered<T: Real, const FMA: bool>(a: &[T], b: &[T], mean: T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let ((a_chunks, a_rest), (b_chunks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] = x[i].fma::<FMA>(y[i] - mean, lanes[i]);
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane = x.fma::<FMA>(y - mean, *lane);
    }
    fold(lanes)
}

/// The scalar product of two rows of one length.
#[inline(always)]
pub(crate) fn dot<T: Real, const FMA: bool>(a: &[T], b: &[T]) -> T {
    dot_centered::<T, FMA>(a, b, T::ZERO)
}

/// The greatest element; NaN elements are passed over here and show in the sums that follow.
#[inline(always)]
pub(crate) fn max<T: Real>(row: &[T]) -> T {
    let mut lanes = [T::LOWEST; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = if x > *lane { x } else { *lane };
    }
    lanes.into_iter().fold(T::LOWEST, |a, b| if b > a { b } else { a })
}

#[inline(always)]
fn fold<T: Real>(mut lanes: [T; LANES]) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn add_column_sums_body<T: Real, const FMA: bool>(sums: &mut [T], rows: &[T], row_stride: usize) {
    let width = sums.len();
    let mut columns = 0;
    while columns < width {
        let end = (columns + 2 * LANES).min(width);
        let mut lanes = [T::ZERO; 2 * LANES];
        for row in rows.chunks(row_stride) {
            let part = &row[columns..end];
            if let Ok(part) = <&[T; 2 * LANES]>::try_from(part) {
                for i in 0..2 * LANES {
                    lanes[i] += part[i];
                }
            } else {
                for (lane, &x) in lanes.iter_mut().zip(part) {
                    *lane += x;
                }
            }
        }
        for (sum, lane) in sums[columns..end].iter_mut().zip(lanes) {
            *sum += lane;
        }
        columns = end;
    }
}

dispatch! {
    /// Adds to `sums[j]` the sum over all rows of element j; rows are `row_stride` apart.
    pub fn add_column_sums<T>(sums: &mut [T], rows: &[T], row_stride: usize) = add_column_sums_body
}

#[inline(always)]
fn add_body<T: Real, const FMA: bool>(dst: &mut [T], src: &[T]) {
    for (d, &s) in dst.iter_mut().zip(src) {
        *d += s;
    }
}

dispatch! {
    /// dst += src.
    pub fn add<T>(dst: &mut [T], src: &[T]) = add_body
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: reductions are right at every length. Method: against plain sums, lengths around the lane count.
    #[test]
    fn reductions_match_plain_loops() {
        for len in [1, 3, 31, 32, 33, 64, 100, 129] {
            let a: Vec<f64> = (0..len).map(|i| ((i * 37 % 101) as f64).sin()).collect();
            let b: Vec<f64> = (0..len).map(|i| ((i * 53 % 97) as f64).cos()).collect();
            let plain: f64 = a.iter().sum();
            assert!((sum(&a) - plain).abs() < 1e-12);
            let squares: f64 = a.iter().map(|x| (x - 0.3) * (x - 0.3)).sum();
            assert!((sum_squares::<f64, false>(&a, 0.3) - squares).abs() < 1e-12);
            let product: f64 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
            assert!((dot::<f64, false>(&a, &b) - product).abs() < 1e-12);
            assert_eq!(max(&a), a.iter().copied().fold(f64::MIN, f64::max));
            let mut sums = vec![1.0; len];
            let mut rows = a.clone();
            rows.extend(&b);
            add_column_sums(&mut sums, &rows, len);
            for j in 0..len {
                assert!((sums[j] - (1.0 + a[j] + b[j])).abs() < 1e-12);
            }
        }
    }
}
