//! Strided matrices over slices, and their product on one thread.

use gemm::Parallelism;

use super::Real;

/// A matrix read from a slice: element (i, j) lies at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy)]
pub struct Mat<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// A row-major matrix written to a slice: element (i, j) lies at `i * row_stride + j`.
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// Rows of `cols` elements, `row_stride` apart. Panics if the slice is too short.
    pub fn new(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, cols, row_stride), "a matrix lies outside its slice");
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transposed matrix, over the same elements.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

impl<'a, T> MatMut<'a, T> {
    /// Rows of `cols` elements, `row_stride` apart. Panics if the slice is too short or rows overlap.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, cols, row_stride), "a matrix lies outside its slice");
        assert!(rows <= 1 || row_stride >= cols, "the rows of a result overlap");
        Self { data, rows, cols, row_stride }
    }
}

fn fits(len: usize, rows: usize, cols: usize, row_stride: usize) -> bool {
    rows == 0 || cols == 0 || (rows - 1) * row_stride + cols <= len
}

/// dst = scale * lhs * rhs, or dst += scale * lhs * rhs where `accumulate`. One thread.
pub fn gemm<T: Real>(dst: MatMut<'_, T>, accumulate: bool, scale: T, lhs: Mat<'_, T>, rhs: Mat<'_, T>) {
    assert!(dst.rows == lhs.rows && dst.cols == rhs.cols && lhs.cols == rhs.rows, "the shapes of a product do not match");
    // SAFETY: `Mat::new` and `MatMut::new` checked that every element lies inside its slice; the result's slice is borrowed
    // mutably and so shares nothing with the sources.
    unsafe {
        gemm::gemm(
            dst.rows,
            dst.cols,
            lhs.cols,
            dst.data.as_mut_ptr(),
            1,
            dst.row_stride as isize,
            accumulate,
            lhs.data.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            T::ONE,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: strides, transposes, scale and accumulation mean what they say. Method: against the triple loop.
    #[test]
    fn products_match_the_triple_loop() {
        let (m, n, k, ld) = (5, 7, 3, 9);
        let a: Vec<f64> = (0..k * ld).map(|i| (i as f64 * 0.7).sin()).collect();
        let b: Vec<f64> = (0..n * ld).map(|i| (i as f64 * 0.3).cos()).collect();
        let mut got = vec![1.0; m * ld];
        let (lhs, rhs) = (Mat::new(&a, k, m, ld).t(), Mat::new(&b, n, k, ld).t());
        gemm(MatMut::new(&mut got, m, n, ld), true, 0.5, lhs, rhs);
        for i in 0..m {
            for j in 0..ld {
                let sum: f64 = if j < n { (0..k).map(|l| a[l * ld + i] * b[j * ld + l]).sum() } else { 0.0 };
                assert!((got[i * ld + j] - (1.0 + 0.5 * sum)).abs() < 1e-14);
            }
        }
    }

    /// Goal: adding a product to what is there gives the bits of the product and a sum, as long as one go sums it: gradients that are
    /// added where they are made rely on it. (A vector's product is another matter.) Method: both ways, over depths and shapes, as gradients lie in memory.
    #[test]
    fn adding_a_product_is_a_product_and_a_sum() {
        for depth in [3, 4, 17, 190, 305, 511, 512] {
            for (m, n) in [(384, 384), (384, 96), (64, 256), (7, 5), (2, 40), (16, 16)] {
                let values = |len: usize, step: f32| -> Vec<f32> { (0..len).map(|i| (i as f32 * step).sin()).collect() };
                let (d, x) = (values(depth * m, 0.7), values(depth * n, 0.3));
                let (d, x) = (Mat::new(&d, depth, m, m).t(), Mat::new(&x, depth, n, n));
                let (mut added, mut product) = (values(m * n, 0.11), vec![0.0; m * n]);
                let sums: Vec<f32> = {
                    gemm(MatMut::new(&mut product, m, n, n), false, 1.0, d, x);
                    added.iter().zip(&product).map(|(a, b)| a + b).collect()
                };
                gemm(MatMut::new(&mut added, m, n, n), true, 1.0, d, x);
                assert!(added.iter().zip(&sums).all(|(a, b)| a.to_bits() == b.to_bits()), "{m} x {depth} x {n}");
            }
        }
    }
}
