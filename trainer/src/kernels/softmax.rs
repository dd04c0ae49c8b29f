//! The softmax over attention scores with dropout on the probabilities, forward and backward, on blocks of rows.

use super::{Real, dispatch, rows};
use crate::dropout::MaskStream;

/// A block of score rows: row i lies at `i * row_stride` and has `len` elements.
#[derive(Clone, Copy)]
pub struct Block {
    /// Elements of a row.
    pub len: usize,
    /// From one row to the next.
    pub row_stride: usize,
}

#[inline(always)]
fn forward_body<T: Real, const FMA: bool>(scores: &mut [T], block: Block, log_sums: &mut [T], mut mask: Option<&mut MaskStream>) {
    for (row, log_sum) in scores.chunks_mut(block.row_stride).zip(log_sums) {
        let row = &mut row[..block.len];
        let greatest = rows::max(row);
        for x in row.iter_mut() {
            *x = (*x - greatest).exp::<FMA>();
        }
        let sum = rows::sum(row);
        *log_sum = greatest + sum.log();
        let inverse = T::ONE / sum;
        match mask.as_deref_mut() {
            None => row.iter_mut().for_each(|x| *x *= inverse),
            Some(mask) => {
                let (threshold, scale) = (mask.threshold(), T::of(mask.scale()) * inverse);
                for (x, &number) in row.iter_mut().zip(mask.take(block.len)) {
                    *x = if number >= threshold { *x * scale } else { T::ZERO };
                }
            }
        }
    }
}

dispatch! {
    /// Turns scores into dropped-out probabilities in place; `log_sums` receives each row's log-sum-exp.
    pub fn softmax<T>(scores: &mut [T], block: Block, log_sums: &mut [T], mask: Option<&mut MaskStream>) = forward_body
}

#[inline(always)]
fn backward_body<T: Real, const FMA: bool>(
    (scores, d): (&mut [T], &mut [T]),
    block: Block,
    log_sums: &[T],
    scale: T,
    mut mask: Option<&mut MaskStream>,
) {
    let both = scores.chunks_mut(block.row_stride).zip(d.chunks_mut(block.row_stride));
    for ((row, d), &log_sum) in both.zip(log_sums) {
        let (row, d) = (&mut row[..block.len], &mut d[..block.len]);
        for x in row.iter_mut() {
            *x = (*x - log_sum).exp::<FMA>();
        }
        match mask.as_deref_mut() {
            None => {
                let delta = rows::dot::<T, FMA>(row, d);
                for (d, &p) in d.iter_mut().zip(row.iter()) {
                    *d = p * (*d - delta) * scale;
                }
            }
            Some(mask) => {
                let (threshold, keep) = (mask.threshold(), T::of(mask.scale()));
                let numbers = mask.take(block.len);
                for (d, &number) in d.iter_mut().zip(numbers) {
                    *d = if number >= threshold { *d * keep } else { T::ZERO };
                }
                let delta = rows::dot::<T, FMA>(row, d);
                for ((d, p), &number) in d.iter_mut().zip(row.iter_mut()).zip(numbers) {
                    *d = *p * (*d - delta) * scale;
                    *p = if number >= threshold { *p * keep } else { T::ZERO };
                }
            }
        }
    }
}

dispatch! {
    /// The backward: of the pair, the first holds scores and receives the dropped-out probabilities, the second goes
    /// from their gradient to that of the unscaled scores, which were multiplied by `scale`.
    pub fn softmax_backward<T>(
        scores_and_d: (&mut [T], &mut [T]), block: Block, log_sums: &[T], scale: T, mask: Option<&mut MaskStream>,
    ) = backward_body
}
