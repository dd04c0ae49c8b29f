//! Products of small matrices in tiles that stay in registers: attention's, whose operands are a few rows each, lie in the first
//! caches and are used as soon as they are made, so that packing them would cost more than it saves.

use super::microkernel::{COLUMNS, Source, Target};
use super::{Real, dispatch};

/// Columns of a tile; the right side is padded to a multiple.
pub const TILE_COLUMNS: usize = COLUMNS;

/// The left side of a product: element (i, k) lies at `i * row_stride + k * column_stride`.
#[derive(Clone, Copy)]
pub struct Left<'a, T> {
    values: &'a [T],
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Left<'a, T> {
    /// Rows that are so far apart.
    pub fn rows(values: &'a [T], stride: usize) -> Self {
        Self { values, row_stride: stride, column_stride: 1 }
    }

    /// The transposed of rows that are so far apart.
    pub fn columns(values: &'a [T], stride: usize) -> Self {
        Self { values, row_stride: 1, column_stride: stride }
    }
}

/// The sizes of a product.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Rows of the left side and of the result.
    pub rows: usize,
    /// What is summed over: columns of the left side, rows of the right.
    pub depth: usize,
    /// Columns of the right side and of the result, with their padding.
    pub columns: usize,
}

/// How long a right side of so many rows and columns is, as [`panels`] writes it.
pub fn panels_len(depth: usize, columns: usize) -> usize {
    depth * columns.next_multiple_of(TILE_COLUMNS)
}

/// A row stride for so many columns with which a column's elements do not all fall into the same few sets of a cache.
pub fn spread_stride(columns: usize) -> usize {
    (columns.div_ceil(TILE_COLUMNS) | 1) * TILE_COLUMNS
}

/// dst = left right, or dst += left right where `accumulate`; `dst` comes with its row stride, `right` in [`panels`].
/// An element is summed over k in order, from its old value on where it accumulates, whatever the shape.
///
/// # Panics
/// A side is empty, the columns are no multiple of a tile's, or a slice is too short.
pub fn product<T: Real>((dst, row_stride): (&mut [T], usize), accumulate: bool, left: Left<'_, T>, right: &[T], shape: Shape) {
    let Shape { rows, depth, columns } = shape;
    assert!(rows > 0 && depth > 0 && columns > 0 && columns.is_multiple_of(TILE_COLUMNS), "a product of nothing");
    let reach = (rows - 1) * left.row_stride + (depth - 1) * left.column_stride;
    let dst_reach = (rows - 1) * row_stride + columns;
    let fits = reach < left.values.len() && right.len() >= panels_len(depth, columns);
    assert!(fits && row_stride >= columns && dst_reach <= dst.len(), "a product lies outside its slices");
    let Left { values, row_stride: left_stride, column_stride } = left;
    let left = Source { first: values.as_ptr(), row_stride: left_stride, column_stride };
    for (panel, right) in right.as_chunks::<TILE_COLUMNS>().0.chunks_exact(depth).take(columns / TILE_COLUMNS).enumerate() {
        // SAFETY: what the pointers reach was checked.
        unsafe {
            let first = dst.as_mut_ptr().add(panel * TILE_COLUMNS);
            T::panel(rows, Target { first, row_stride }, accumulate, left, right);
        }
    }
}

#[inline(always)]
fn gather_body<T: Real, const FMA: bool>(to: &mut [T], from: &[T], stride: usize, bias: &[T]) {
    for (to, from) in to.chunks_exact_mut(bias.len()).zip(from.chunks(stride)) {
        for ((to, from), bias) in to.iter_mut().zip(from).zip(bias) {
            *to = *from + *bias;
        }
    }
}

dispatch! {
    /// Copies rows that are `stride` apart, with a bias added, to where they lie close together.
    pub fn gather<T>(to: &mut [T], from: &[T], stride: usize, bias: &[T]) = gather_body
}

/// Writes rows of `width` elements, `stride` apart, as the right side of a product: columns by the tile's width, each such panel
/// row by row, padded with zeros. `to` is [`panels_len`] long.
pub fn panels<T: Real>(to: &mut [T], from: &[T], stride: usize, width: usize) {
    let depth = from.len().div_ceil(stride);
    for (panel, to) in to.chunks_exact_mut(depth * TILE_COLUMNS).enumerate() {
        let columns = panel * TILE_COLUMNS..((panel + 1) * TILE_COLUMNS).min(width);
        for (to, from) in to.as_chunks_mut::<TILE_COLUMNS>().0.iter_mut().zip(from.chunks(stride)) {
            to[..columns.len()].copy_from_slice(&from[columns.clone()]);
            to[columns.len()..].fill(T::ZERO);
        }
    }
}

#[inline(always)]
fn turned_panels_body<T: Real, const FMA: bool>(to: &mut [T], from: &[T], width: usize, scale: T) {
    for (rows, to) in from.chunks(width * TILE_COLUMNS).zip(to.chunks_exact_mut(width * TILE_COLUMNS)) {
        let columns = rows.len() / width;
        for (k, to) in to.as_chunks_mut::<TILE_COLUMNS>().0.iter_mut().enumerate() {
            for j in 0..columns {
                to[j] = rows[j * width + k] * scale;
            }
            to[columns..].fill(T::ZERO);
        }
    }
}

dispatch! {
    /// As [`panels`], of the transposed rows times `scale`: each of them, `width` long, becomes a column.
    pub fn turned_panels<T>(to: &mut [T], from: &[T], width: usize, scale: T) = turned_panels_body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize, step: f64) -> Vec<f64> {
        (0..len).map(|i| (i as f64 * step).sin()).collect()
    }

    /// Goal: both kinds of left and of right side, all heights of a tile, both orders of tiles. Method: against the triple loop.
    #[test]
    fn products_match_the_triple_loop() {
        for rows in [1, 2, 3, 4, 5, 6, 7, 12, 23] {
            for (depth, width) in [(1, 16), (5, 29), (300, 16), (40, 112)] {
                let (left, right) = (values(rows * depth, 0.7), values(depth * width, 0.3));
                let (left_turned, right_turned) = (turned(&left, depth), turned(&right, width));
                let columns = width.next_multiple_of(TILE_COLUMNS);
                let (shape, stride) = (Shape { rows, depth, columns }, spread_stride(width));
                let mut sides = [vec![f64::NAN; panels_len(depth, width)], vec![f64::NAN; panels_len(depth, width)]];
                panels(&mut sides[0], &right, width, width);
                turned_panels(&mut sides[1], &right_turned, depth, 1.0);
                assert_eq!(sides[0], sides[1]);
                for left_side in [Left::rows(&left, depth), Left::columns(&left_turned, rows)] {
                    let mut dst = vec![f64::NAN; rows * stride];
                    product((&mut dst, stride), false, left_side, &sides[0], shape);
                    product((&mut dst, stride), true, left_side, &sides[0], shape);
                    for (i, row) in dst.chunks(stride).enumerate() {
                        for (j, found) in row[..width].iter().enumerate() {
                            let sum: f64 = (0..depth).map(|k| left[i * depth + k] * right[k * width + j]).sum();
                            assert!((found - 2.0 * sum).abs() < 1e-12, "{rows} x {depth} x {width} at {i}, {j}");
                        }
                        assert!(row[width..columns].iter().all(|x| *x == 0.0) && row[columns..].iter().all(|x| x.is_nan()));
                    }
                }
            }
        }
    }

    /// The transposed of rows of `width`.
    fn turned(rows: &[f64], width: usize) -> Vec<f64> {
        (0..width).flat_map(|j| rows.iter().skip(j).step_by(width).copied()).collect()
    }

    /// Goal: an element's bits do not depend on where in which tile it lies. Method: a row alone and among others, in f32.
    #[test]
    fn bits_do_not_depend_on_the_shape() {
        let (depth, columns) = (77, 48);
        let left: Vec<f32> = values(11 * depth, 0.7).iter().map(|x| *x as f32).collect();
        let right: Vec<f32> = values(depth * columns, 0.3).iter().map(|x| *x as f32).collect();
        let mut all = vec![0.0; 11 * columns];
        product((&mut all, columns), false, Left::rows(&left, depth), &right, Shape { rows: 11, depth, columns });
        for row in 0..11 {
            let mut one = vec![0.0; columns];
            let left = Left::rows(&left[row * depth..], depth);
            product((&mut one, columns), false, left, &right, Shape { rows: 1, depth, columns });
            assert_eq!(one, all[row * columns..][..columns], "row {row}");
        }
    }

    /// Goal: rows are gathered with their bias. Method: by hand, the last row cut short.
    #[test]
    fn rows_are_gathered() {
        let mut to = [0.0; 6];
        gather(&mut to, &[1.0, 2.0, f64::NAN, 3.0, 4.0, f64::NAN, 5.0, 6.0], 3, &[10.0, 20.0]);
        assert_eq!(to, [11.0, 22.0, 13.0, 24.0, 15.0, 26.0]);
    }

    /// Goal: what does not fit is refused before anything is read. Method: slices one element short.
    #[test]
    fn short_slices_are_refused() {
        let shape = Shape { rows: 7, depth: 5, columns: 16 };
        let (left, right) = (values(35, 0.7), values(80, 0.3));
        let run = |dst: usize, left: &[f64], right: &[f64]| {
            let mut dst = vec![0.0; dst];
            let product = std::panic::AssertUnwindSafe(|| product((&mut dst, 16), false, Left::rows(left, 5), right, shape));
            std::panic::catch_unwind(product).is_ok()
        };
        assert!(run(112, &left, &right));
        assert!(!run(111, &left, &right) && !run(112, &left[1..], &right) && !run(112, &left, &right[1..]));
    }
}
