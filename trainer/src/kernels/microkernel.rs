//! One panel of a small product, with sums in registers: by intrinsics for f32, since arrays of sums do not stay in registers
//! otherwise; in plain loops for f64, which is there to check f32.

use super::{Path, dispatch};

/// Columns of a panel: one AVX-512 register of f32, two of AVX2.
pub const COLUMNS: usize = 16;

/// A matrix behind a pointer: element (i, k) lies at `i * row_stride + k * column_stride`.
#[derive(Clone, Copy)]
pub struct Source<T> {
    pub first: *const T,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<T> Source<T> {
    /// From row `row` on.
    ///
    /// # Safety
    /// There is such a row.
    #[inline(always)]
    unsafe fn row(self, row: usize) -> Self {
        // SAFETY: the caller's promise.
        Self { first: unsafe { self.first.add(row * self.row_stride) }, ..self }
    }
}

/// Rows of [`COLUMNS`] elements behind a pointer, `row_stride` apart.
#[derive(Clone, Copy)]
pub struct Target<T> {
    pub first: *mut T,
    pub row_stride: usize,
}

/// What products in panels need of an element type.
pub trait Panel: Sized {
    /// dst = left right, or dst += left right where `accumulate`: `rows` rows of one panel; `right` is depth x [`COLUMNS`].
    /// An element is summed over k in order, from its old value on where it accumulates.
    ///
    /// # Safety
    /// `dst` reaches over `rows` rows, `left` over `rows` rows of as many elements as `right` has.
    unsafe fn panel(rows: usize, dst: Target<Self>, accumulate: bool, left: Source<Self>, right: &[[Self; COLUMNS]]);
}

#[cfg(target_arch = "x86_64")]
mod x86;

impl Panel for f32 {
    unsafe fn panel(rows: usize, dst: Target<f32>, accumulate: bool, left: Source<f32>, right: &[[f32; COLUMNS]]) {
        // SAFETY: the caller's promise; a path is returned only where the machine has its features.
        unsafe {
            match Path::current() {
                #[cfg(target_arch = "x86_64")]
                Path::Avx512 => x86::panel_avx512(rows, dst, accumulate, left, right),
                #[cfg(target_arch = "x86_64")]
                Path::Avx2 => x86::panel_avx2(rows, dst, accumulate, left, right),
                _ => panel_in_loops(rows, dst, accumulate, left, right),
            }
        }
    }
}

impl Panel for f64 {
    unsafe fn panel(rows: usize, dst: Target<f64>, accumulate: bool, left: Source<f64>, right: &[[f64; COLUMNS]]) {
        panel_in_loops(rows, dst, accumulate, left, right);
    }
}

/// As [`Panel::panel`], whose caller promises the same here.
#[inline(always)]
fn loops_body<T: super::Real, const FMA: bool>(
    rows: usize,
    dst: Target<T>,
    accumulate: bool,
    left: Source<T>,
    right: &[[T; COLUMNS]],
) {
    for row in 0..rows {
        // SAFETY: the caller's promise, for rows that there are.
        let (dst, left) = unsafe { (dst.first.add(row * dst.row_stride).cast::<[T; COLUMNS]>(), left.row(row)) };
        // SAFETY: as above; an element's alignment is enough.
        let mut sums = if accumulate { unsafe { dst.read_unaligned() } } else { [T::ZERO; COLUMNS] };
        for (k, right) in right.iter().enumerate() {
            // SAFETY: as above.
            let factor = unsafe { *left.first.add(k * left.column_stride) };
            for j in 0..COLUMNS {
                sums[j] = factor.fma::<FMA>(right[j], sums[j]);
            }
        }
        // SAFETY: as above.
        unsafe { dst.write_unaligned(sums) };
    }
}

dispatch! {
    fn panel_in_loops<T>(rows: usize, dst: Target<T>, accumulate: bool, left: Source<T>, right: &[[T; COLUMNS]]) = loops_body
}
