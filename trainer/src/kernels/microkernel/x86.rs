//! Tiles of f32 by intrinsics.

use std::arch::x86_64::{
    __m256, __m512, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::{COLUMNS, Source, Target};

/// Goes through the rows in tiles of `$most`, the last of as many as are left; `$tile` is generic over their number.
macro_rules! by_tiles {
    ($tile:ident, $rows:expr, $dst:expr, $accumulate:expr, $left:expr, $right:expr, $most:literal: $($fewer:literal)*) => {
        let mut row = 0;
        while row < $rows {
            // SAFETY: the caller's promise, for rows that there are.
            unsafe {
                let dst = Target { first: $dst.first.add(row * $dst.row_stride), ..$dst };
                match $rows - row {
                    $($fewer => $tile::<$fewer>(dst, $accumulate, $left.row(row), $right),)*
                    _ => $tile::<$most>(dst, $accumulate, $left.row(row), $right),
                }
            }
            row += $most;
        }
    };
}

/// Six rows take twelve of the sixteen registers.
///
/// # Safety
/// As for [`super::Panel::panel`].
#[target_feature(enable = "avx2,fma")]
pub unsafe fn panel_avx2(rows: usize, dst: Target<f32>, accumulate: bool, left: Source<f32>, right: &[[f32; COLUMNS]]) {
    by_tiles!(tile_avx2, rows, dst, accumulate, left, right, 6: 1 2 3 4 5);
}

/// Twelve rows take twelve of the thirty-two registers, enough for the latency of two units.
///
/// # Safety
/// As for [`super::Panel::panel`].
#[target_feature(enable = "avx512f")]
pub unsafe fn panel_avx512(rows: usize, dst: Target<f32>, accumulate: bool, left: Source<f32>, right: &[[f32; COLUMNS]]) {
    by_tiles!(tile_avx512, rows, dst, accumulate, left, right, 12: 1 2 3 4 5 6 7 8 9 10 11);
}

/// # Safety
/// As for [`super::Panel::panel`], of `ROWS` rows.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn tile_avx2<const ROWS: usize>(dst: Target<f32>, accumulate: bool, left: Source<f32>, right: &[[f32; COLUMNS]]) {
    let mut sums: [[__m256; 2]; ROWS] = [[_mm256_setzero_ps(); 2]; ROWS];
    // SAFETY: the caller's promise.
    unsafe {
        if accumulate {
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = dst.first.add(i * dst.row_stride);
                *sums = [_mm256_loadu_ps(row), _mm256_loadu_ps(row.add(COLUMNS / 2))];
            }
        }
        let mut column = left.first;
        for right in right {
            let right = right.as_ptr();
            let right = [_mm256_loadu_ps(right), _mm256_loadu_ps(right.add(COLUMNS / 2))];
            for (i, sums) in sums.iter_mut().enumerate() {
                let factor = _mm256_broadcast_ss(&*column.add(i * left.row_stride));
                *sums = [_mm256_fmadd_ps(factor, right[0], sums[0]), _mm256_fmadd_ps(factor, right[1], sums[1])];
            }
            // the last time it points beyond the end, and is not read any more
            column = column.wrapping_add(left.column_stride);
        }
        for (i, sums) in sums.iter().enumerate() {
            let row = dst.first.add(i * dst.row_stride);
            _mm256_storeu_ps(row, sums[0]);
            _mm256_storeu_ps(row.add(COLUMNS / 2), sums[1]);
        }
    }
}

/// # Safety
/// As for [`super::Panel::panel`], of `ROWS` rows.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn tile_avx512<const ROWS: usize>(dst: Target<f32>, accumulate: bool, left: Source<f32>, right: &[[f32; COLUMNS]]) {
    let mut sums: [__m512; ROWS] = [_mm512_setzero_ps(); ROWS];
    // SAFETY: the caller's promise.
    unsafe {
        if accumulate {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_loadu_ps(dst.first.add(i * dst.row_stride));
            }
        }
        let mut column = left.first;
        for right in right {
            let right = _mm512_loadu_ps(right.as_ptr());
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_fmadd_ps(_mm512_set1_ps(*column.add(i * left.row_stride)), right, *sum);
            }
            // as above
            column = column.wrapping_add(left.column_stride);
        }
        for (i, sum) in sums.iter().enumerate() {
            _mm512_storeu_ps(dst.first.add(i * dst.row_stride), *sum);
        }
    }
}
