//! Self-attention inside each sequence of a packed batch.
//!
//! No probabilities are kept: the forward saves the log-sum-exp of each row of scores, and the backward makes
//! scores, probabilities and dropout masks again. Scores exist for one block of queries of one head at a time.

use candle_core::Tensor;

use super::access::{by_dtype, read, write};
use crate::Result;
use crate::dropout::SiteDropout;
use crate::kernels::softmax::{Block, softmax, softmax_backward};
use crate::kernels::{Mat, MatMut, Real, gemm};
use crate::packed::PackedBatch;

/// Queries whose scores exist at one time.
const QUERY_BLOCK: usize = 128;
/// Score rows begin at multiples of this many elements.
const ROW_ALIGN: usize = 16;

/// The shape that forward and backward share. A row of `qkv` is the queries of all heads, their keys, their values.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// How many.
    pub num: usize,
    /// The width of one; num * size is h.
    pub size: usize,
}

impl Heads {
    fn width(self) -> usize {
        self.num * self.size
    }

    /// One of queries (0), keys (1) and values (2) of `len` tokens from `token` on, for one head.
    fn part<'a, T>(self, qkv: &'a [T], which: usize, head: usize, token: usize, len: usize) -> Mat<'a, T> {
        let stride = 3 * self.width();
        Mat::new(&qkv[token * stride + which * self.width() + head * self.size..], len, self.size, stride)
    }

    fn part_mut<'a, T>(self, qkv: &'a mut [T], which: usize, head: usize, token: usize, len: usize) -> MatMut<'a, T> {
        let stride = 3 * self.width();
        MatMut::new(&mut qkv[token * stride + which * self.width() + head * self.size..], len, self.size, stride)
    }

    fn scale<T: Real>(self) -> T {
        T::of(1.0 / (self.size as f64).sqrt())
    }
}

/// The shape of the scratch that a batch needs: a block of score rows. The first is their length, so that batches of all
/// lengths are served by one buffer.
pub fn scratch_shape(batch: &PackedBatch) -> (usize, usize) {
    (batch.max_len().next_multiple_of(ROW_ALIGN), QUERY_BLOCK)
}

/// One block of queries: the first token, how many, and the sequence's length.
fn query_blocks(len: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(QUERY_BLOCK).map(move |begin| (begin, QUERY_BLOCK.min(len - begin)))
}

/// context = dropout(softmax(Q K^T / sqrt(size))) V, head by head.
pub struct Attention<'a> {
    /// The heads.
    pub heads: Heads,
    /// The sequences.
    pub batch: &'a PackedBatch,
    /// The dropout on probabilities.
    pub dropout: Option<SiteDropout>,
    /// [N, 3h], biases included.
    pub qkv: &'a Tensor,
    /// [heads, N]: receives the log-sum-exp of each row of scores.
    pub log_sums: &'a Tensor,
    /// [N, h], overwritten.
    pub context: &'a Tensor,
    /// At least [`scratch_shape`] elements.
    pub scratch: &'a Tensor,
}

impl Attention<'_> {
    /// Computes `context` and `log_sums`.
    pub fn run(&self) -> Result<()> {
        by_dtype!(self.context, T => self.cpu::<T>())
    }

    fn cpu<T: Real>(&self) -> Result<()> {
        let qkv = read(self.qkv)?;
        let qkv = qkv.slice::<T>()?;
        write::<T, _>(self.log_sums, |log_sums| {
            write::<T, _>(self.context, |context| {
                write::<T, _>(self.scratch, |scratch| {
                    for sequence in 0..self.batch.num_sequences() {
                        self.sequence(sequence, qkv, log_sums, context, scratch);
                    }
                    Ok(())
                })
            })
        })
    }

    fn sequence<T: Real>(&self, sequence: usize, qkv: &[T], log_sums: &mut [T], context: &mut [T], scratch: &mut [T]) {
        let tokens = self.batch.rows(sequence);
        let (len, num_tokens, h) = (tokens.len(), self.batch.num_tokens(), self.heads.width());
        let row_stride = len.next_multiple_of(ROW_ALIGN);
        let mut mask = self.dropout.map(|site| site.stream(self.batch.keys[sequence], len));
        for head in 0..self.heads.num {
            let keys = self.heads.part(qkv, 1, head, tokens.start, len);
            let values = self.heads.part(qkv, 2, head, tokens.start, len);
            for (begin, count) in query_blocks(len) {
                let first = tokens.start + begin;
                let queries = self.heads.part(qkv, 0, head, first, count);
                let scores = &mut scratch[..count * row_stride];
                gemm(MatMut::new(scores, count, len, row_stride), false, self.heads.scale(), queries, keys.t());
                let log_sums = &mut log_sums[head * num_tokens + first..][..count];
                softmax(scores, Block { len, row_stride }, log_sums, mask.as_mut());
                let out = MatMut::new(&mut context[first * h + head * self.heads.size..], count, self.heads.size, h);
                gemm(out, false, T::ONE, Mat::new(scores, count, len, row_stride), values);
            }
        }
    }
}

/// The backward of [`Attention`].
pub struct AttentionBackward<'a> {
    /// The heads.
    pub heads: Heads,
    /// The sequences.
    pub batch: &'a PackedBatch,
    /// The dropout on probabilities.
    pub dropout: Option<SiteDropout>,
    /// [N, 3h].
    pub qkv: &'a Tensor,
    /// [heads, N], from the forward.
    pub log_sums: &'a Tensor,
    /// [N, h].
    pub d_context: &'a Tensor,
    /// [N, 3h], overwritten.
    pub d_qkv: &'a Tensor,
    /// At least [`scratch_shape`] elements each.
    pub scratch: [&'a Tensor; 2],
}

/// The slices that the backward reads.
struct Saved<'a, T> {
    qkv: &'a [T],
    log_sums: &'a [T],
    d_context: &'a [T],
}

impl AttentionBackward<'_> {
    /// Computes `d_qkv`.
    pub fn run(&self) -> Result<()> {
        by_dtype!(self.d_qkv, T => self.cpu::<T>())
    }

    fn cpu<T: Real>(&self) -> Result<()> {
        let (qkv, log_sums, d_context) = (read(self.qkv)?, read(self.log_sums)?, read(self.d_context)?);
        let saved = Saved { qkv: qkv.slice::<T>()?, log_sums: log_sums.slice()?, d_context: d_context.slice()? };
        write::<T, _>(self.d_qkv, |d_qkv| {
            write::<T, _>(self.scratch[0], |scores| {
                write::<T, _>(self.scratch[1], |d_scores| {
                    for sequence in 0..self.batch.num_sequences() {
                        self.sequence(sequence, &saved, d_qkv, scores, d_scores);
                    }
                    Ok(())
                })
            })
        })
    }

    fn sequence<T: Real>(&self, sequence: usize, saved: &Saved<'_, T>, d_qkv: &mut [T], scores: &mut [T], d_scores: &mut [T]) {
        let tokens = self.batch.rows(sequence);
        let (start, len, num_tokens, h) = (tokens.start, tokens.len(), self.batch.num_tokens(), self.heads.width());
        let row_stride = len.next_multiple_of(ROW_ALIGN);
        let mut mask = self.dropout.map(|site| site.stream(self.batch.keys[sequence], len));
        for head in 0..self.heads.num {
            let keys = self.heads.part(saved.qkv, 1, head, start, len);
            let values = self.heads.part(saved.qkv, 2, head, start, len);
            for (begin, count) in query_blocks(len) {
                let (first, accumulate) = (start + begin, begin > 0);
                let queries = self.heads.part(saved.qkv, 0, head, first, count);
                let d_out = Mat::new(&saved.d_context[first * h + head * self.heads.size..], count, self.heads.size, h);
                let (scores, d_scores) = (&mut scores[..count * row_stride], &mut d_scores[..count * row_stride]);
                gemm(MatMut::new(scores, count, len, row_stride), false, self.heads.scale(), queries, keys.t());
                gemm(MatMut::new(d_scores, count, len, row_stride), false, T::ONE, d_out, values.t());
                let log_sums = &saved.log_sums[head * num_tokens + first..][..count];
                let block = Block { len, row_stride };
                softmax_backward((&mut *scores, &mut *d_scores), block, log_sums, self.heads.scale(), mask.as_mut());
                let (scores, d_scores) = (Mat::new(scores, count, len, row_stride), Mat::new(d_scores, count, len, row_stride));
                gemm(self.heads.part_mut(d_qkv, 0, head, first, count), false, T::ONE, d_scores, keys);
                gemm(self.heads.part_mut(d_qkv, 1, head, start, len), accumulate, T::ONE, d_scores.t(), queries);
                gemm(self.heads.part_mut(d_qkv, 2, head, start, len), accumulate, T::ONE, scores.t(), d_out);
            }
        }
    }
}
