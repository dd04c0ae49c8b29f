//! Checked views of matrices in slices, and their product by the `gemm` crate on one thread.

use gemm::Parallelism;

use super::real::Real;

/// A matrix in a slice: rows of `width` values that lie `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct View {
    pub start: usize,
    pub stride: usize,
    pub rows: usize,
    pub width: usize,
}

impl View {
    /// A whole slice of rows without gaps.
    pub(crate) fn whole(rows: usize, width: usize) -> Self {
        Self { start: 0, stride: width, rows, width }
    }

    fn fits(&self, len: usize) -> bool {
        self.width <= self.stride && (self.rows == 0 || self.start + (self.rows - 1) * self.stride + self.width <= len)
    }
}

/// How a product's operands lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Product {
    /// a b^T.
    ByTransposed,
    /// a b.
    Plain,
    /// a^T b.
    TransposedBy,
}

/// `out = a . b`, or `out += a . b` if `add`; on this thread, so the bits depend on the shapes and numbers alone.
pub(crate) fn product<T: Real>(kind: Product, out: (&mut [T], View), a: (&[T], View), b: (&[T], View), add: bool) {
    let ((out, vo), (a, va), (b, vb)) = (out, a, b);
    assert!(vo.fits(out.len()) && va.fits(a.len()) && vb.fits(b.len()), "a view must lie within its slice");
    let (m, k) = if kind == Product::TransposedBy { (va.width, va.rows) } else { (va.rows, va.width) };
    let (kb, n) = if kind == Product::ByTransposed { (vb.width, vb.rows) } else { (vb.rows, vb.width) };
    assert!(k == kb && vo.rows == m && vo.width == n, "shapes of a product must agree");
    let (sa, sb, so) = (va.stride as isize, vb.stride as isize, vo.stride as isize);
    let (a_cs, a_rs) = if kind == Product::TransposedBy { (sa, 1) } else { (1, sa) };
    let (b_cs, b_rs) = if kind == Product::ByTransposed { (sb, 1) } else { (1, sb) };
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: the views lie within their slices (asserted), `out` is borrowed mutably so nothing else overlaps it.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr().add(vo.start),
            1,
            so,
            add,
            a.as_ptr().add(va.start),
            a_cs,
            a_rs,
            b.as_ptr().add(vb.start),
            b_cs,
            b_rs,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
