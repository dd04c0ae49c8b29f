//! Self-attention inside each sequence of a packed batch.
//!
//! No probabilities are kept: the forward saves the log-sum-exp of each row of scores, and the backward makes
//! scores, probabilities and dropout masks again. Scores exist for one block of queries of one head at a time, and a head's
//! queries, keys and values are copied to where they lie close together, which is where they get their biases.

use std::ops::Range;

use candle_core::Tensor;

use super::access::{by_dtype, read, write};
use crate::Result;
use crate::dropout::SiteDropout;
use crate::kernels::Real;
use crate::kernels::softmax::{Block, softmax, softmax_backward};
use crate::kernels::tiles::{Left, Shape, TILE_COLUMNS, gather, panels, panels_len, product, spread_stride, turned_panels};
use crate::packed::PackedBatch;

/// Queries whose scores exist at one time.
const QUERY_BLOCK: usize = 96;

/// The shape that forward and backward share. A row of `qkv` is the queries of all heads, their keys, their values.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// How many.
    pub num: usize,
    /// The width of one; num * size is h.
    pub size: usize,
}

/// Where a head's vectors lie among all heads': rows of `size` elements, `stride` apart, the first at `first`.
#[derive(Clone, Copy)]
struct Rows {
    first: usize,
    stride: usize,
    size: usize,
}

impl Rows {
    /// The rows of `len` tokens from `token` on; what lies between them belongs to others.
    fn of<T>(self, values: &[T], token: usize, len: usize) -> &[T] {
        &values[self.first + token * self.stride..][..(len - 1) * self.stride + self.size]
    }

    /// Copies padded rows to the tokens from `token` on.
    fn put<T: Real>(self, values: &mut [T], token: usize, from: &[T], from_stride: usize) {
        let rows = values[self.first + token * self.stride..].chunks_mut(self.stride);
        for (row, from) in rows.zip(from.chunks_exact(from_stride)) {
            row[..self.size].copy_from_slice(&from[..self.size]);
        }
    }
}

impl Heads {
    fn width(self) -> usize {
        self.num * self.size
    }

    /// One head's queries (0), keys (1) or values (2) in `qkv`.
    fn part(self, which: usize, head: usize) -> Rows {
        Rows { first: which * self.width() + head * self.size, stride: 3 * self.width(), size: self.size }
    }

    /// One head's columns of the context.
    fn context(self, head: usize) -> Rows {
        Rows { first: head * self.size, stride: self.width(), size: self.size }
    }

    fn scale<T: Real>(self) -> T {
        T::of(1.0 / (self.size as f64).sqrt())
    }

    fn padded_size(self) -> usize {
        self.size.next_multiple_of(TILE_COLUMNS)
    }

    /// The shape of the scratch that the forward of a batch needs. The first is the length of its rows of scores and more, so
    /// that batches of all lengths are served by one buffer.
    pub fn scratch_shape(self, batch: &PackedBatch) -> (usize, usize) {
        (spread_stride(batch.max_len()) + QUERY_BLOCK, 5 * self.padded_size() + QUERY_BLOCK)
    }

    /// The shape of the scratch that the backward needs.
    pub fn backward_scratch_shape(self, batch: &PackedBatch) -> (usize, usize) {
        (spread_stride(batch.max_len()) + QUERY_BLOCK, 8 * self.padded_size() + 2 * QUERY_BLOCK)
    }
}

/// Cuts parts of these lengths off the front of a buffer.
fn split<T, const N: usize>(mut buffer: &mut [T], lens: [usize; N]) -> [&mut [T]; N] {
    lens.map(|len| {
        let (part, rest) = std::mem::take(&mut buffer).split_at_mut(len);
        buffer = rest;
        part
    })
}

/// One block of queries: the first, and how many; of a sequence of this length.
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
    /// The flat parameters.
    pub params: &'a Tensor,
    /// Where the biases of queries, keys and values lie.
    pub biases: [Range<usize>; 3],
    /// [N, 3h], without the biases.
    pub qkv: &'a Tensor,
    /// [heads, N]: receives the log-sum-exp of each row of scores.
    pub log_sums: &'a Tensor,
    /// [N, h], overwritten.
    pub context: &'a Tensor,
    /// At least [`Heads::scratch_shape`] elements.
    pub scratch: &'a Tensor,
}

impl Attention<'_> {
    /// Computes `context` and `log_sums`.
    pub fn run(&self) -> Result<()> {
        by_dtype!(self.context, T => self.cpu::<T>())
    }

    fn cpu<T: Real>(&self) -> Result<()> {
        let (params, qkv) = (read(self.params)?, read(self.qkv)?);
        let (params, qkv) = (params.slice::<T>()?, qkv.slice::<T>()?);
        let saved = Projected { qkv, biases: [0, 1, 2].map(|which| &params[self.biases[which].clone()]) };
        write::<T, _>(self.log_sums, |log_sums| {
            write::<T, _>(self.context, |context| {
                write::<T, _>(self.scratch, |scratch| {
                    for sequence in 0..self.batch.num_sequences() {
                        self.sequence(sequence, &saved, log_sums, context, scratch);
                    }
                    Ok(())
                })
            })
        })
    }

    fn sequence<T: Real>(
        &self,
        sequence: usize,
        projected: &Projected<'_, T>,
        log_sums: &mut [T],
        context: &mut [T],
        scratch: &mut [T],
    ) {
        let (heads, tokens) = (self.heads, self.batch.rows(sequence));
        let (start, len, num_tokens) = (tokens.start, tokens.len(), self.batch.num_tokens());
        let (size, width, row_stride) = (heads.size, heads.padded_size(), spread_stride(len));
        let all = len * size;
        let lens = [all, all, all, panels_len(size, len), panels_len(len, size), QUERY_BLOCK * row_stride, QUERY_BLOCK * width];
        let [queries, keys, values, keys_turned, value_panels, scores, out] = split(scratch, lens);
        let mut mask = self.dropout.map(|site| site.stream(self.batch.keys[sequence], len));
        for head in 0..heads.num {
            projected.gather(heads, head, start, [&mut *queries, &mut *keys, &mut *values]);
            turned_panels(keys_turned, keys, size, heads.scale());
            panels(value_panels, values, size, size);
            for (begin, rows) in query_blocks(len) {
                let (first, queries) = (start + begin, &queries[begin * size..]);
                let scores = &mut scores[..rows * row_stride];
                let by_key = Shape { rows, depth: size, columns: len.next_multiple_of(TILE_COLUMNS) };
                product((scores, row_stride), false, Left::rows(queries, size), keys_turned, by_key);
                let log_sums = &mut log_sums[head * num_tokens + first..][..rows];
                softmax(scores, Block { len, row_stride }, log_sums, mask.as_mut());
                let out = &mut out[..rows * width];
                let by_feature = Shape { rows, depth: len, columns: width };
                product((out, width), false, Left::rows(scores, row_stride), value_panels, by_feature);
                heads.context(head).put(context, first, out, width);
            }
        }
    }
}

/// Queries, keys and values of all heads as the projection left them, and their biases.
struct Projected<'a, T> {
    qkv: &'a [T],
    biases: [&'a [T]; 3],
}

impl<T: Real> Projected<'_, T> {
    /// One head's, of the tokens from `token` on.
    fn gather(&self, heads: Heads, head: usize, token: usize, to: [&mut [T]; 3]) {
        for (which, to) in to.into_iter().enumerate() {
            let (rows, bias) = (heads.part(which, head), &self.biases[which][head * heads.size..][..heads.size]);
            gather(to, rows.of(self.qkv, token, to.len() / heads.size), rows.stride, bias);
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
    /// The flat parameters.
    pub params: &'a Tensor,
    /// Where the biases of queries, keys and values lie.
    pub biases: [Range<usize>; 3],
    /// [N, 3h], without the biases.
    pub qkv: &'a Tensor,
    /// [heads, N], from the forward.
    pub log_sums: &'a Tensor,
    /// [N, h], from the forward; a CPU makes what it needs of it again.
    pub context: &'a Tensor,
    /// [N, h].
    pub d_context: &'a Tensor,
    /// [N, 3h], overwritten.
    pub d_qkv: &'a Tensor,
    /// At least [`Heads::backward_scratch_shape`] elements.
    pub scratch: &'a Tensor,
}

/// The slices that the backward reads.
struct Saved<'a, T> {
    projected: Projected<'a, T>,
    log_sums: &'a [T],
    d_context: &'a [T],
}

impl AttentionBackward<'_> {
    /// Computes `d_qkv`.
    pub fn run(&self) -> Result<()> {
        by_dtype!(self.d_qkv, T => self.cpu::<T>())
    }

    fn cpu<T: Real>(&self) -> Result<()> {
        let (params, qkv) = (read(self.params)?, read(self.qkv)?);
        let (log_sums, d_context) = (read(self.log_sums)?, read(self.d_context)?);
        let (params, qkv) = (params.slice::<T>()?, qkv.slice::<T>()?);
        let projected = Projected { qkv, biases: [0, 1, 2].map(|which| &params[self.biases[which].clone()]) };
        let saved = Saved { projected, log_sums: log_sums.slice()?, d_context: d_context.slice()? };
        write::<T, _>(self.d_qkv, |d_qkv| {
            write::<T, _>(self.scratch, |scratch| {
                for sequence in 0..self.batch.num_sequences() {
                    self.sequence(sequence, &saved, d_qkv, scratch);
                }
                Ok(())
            })
        })
    }

    fn sequence<T: Real>(&self, sequence: usize, saved: &Saved<'_, T>, d_qkv: &mut [T], scratch: &mut [T]) {
        let (heads, tokens) = (self.heads, self.batch.rows(sequence));
        let (start, len, num_tokens) = (tokens.start, tokens.len(), self.batch.num_tokens());
        let (size, width, row_stride) = (heads.size, heads.padded_size(), spread_stride(len));
        let (all, padded, turned) = (len * size, len * width, panels_len(size, len));
        let (block, block_rows) = (QUERY_BLOCK * row_stride, QUERY_BLOCK * width);
        let [queries, keys, values, keys_turned, values_turned, rest] =
            split(scratch, [all, all, all, turned, turned, 3 * padded + 2 * block + 3 * block_rows]);
        let [key_panels, d_keys, d_values, scores, d_scores, query_panels, d_out_panels, d_queries] =
            split(rest, [padded, padded, padded, block, block, block_rows, block_rows, block_rows]);
        let mut mask = self.dropout.map(|site| site.stream(self.batch.keys[sequence], len));
        for head in 0..heads.num {
            let [query_rows, key_rows, value_rows] = [0, 1, 2].map(|which| heads.part(which, head));
            let context_rows = heads.context(head);
            saved.projected.gather(heads, head, start, [&mut *queries, &mut *keys, &mut *values]);
            turned_panels(keys_turned, keys, size, heads.scale());
            turned_panels(values_turned, values, size, T::ONE);
            panels(key_panels, keys, size, size);
            for (begin, rows) in query_blocks(len) {
                let (first, accumulate) = (start + begin, begin > 0);
                let queries = &queries[begin * size..(begin + rows) * size];
                let d_out = context_rows.of(saved.d_context, first, rows);
                let (query_panels, d_out_panels) = (&mut query_panels[..rows * width], &mut d_out_panels[..rows * width]);
                panels(query_panels, queries, size, size);
                panels(d_out_panels, d_out, context_rows.stride, size);
                let (scores, d_scores) = (&mut scores[..rows * row_stride], &mut d_scores[..rows * row_stride]);
                let by_key = Shape { rows, depth: size, columns: len.next_multiple_of(TILE_COLUMNS) };
                product((scores, row_stride), false, Left::rows(queries, size), keys_turned, by_key);
                product((d_scores, row_stride), false, Left::rows(d_out, context_rows.stride), values_turned, by_key);
                let log_sums = &saved.log_sums[head * num_tokens + first..][..rows];
                let edited = (&mut *scores, &mut *d_scores);
                softmax_backward(edited, Block { len, row_stride }, log_sums, heads.scale(), mask.as_mut());
                let d_queries = &mut d_queries[..rows * width];
                let by_feature = Shape { rows, depth: len, columns: width };
                product((d_queries, width), false, Left::rows(d_scores, row_stride), key_panels, by_feature);
                query_rows.put(d_qkv, first, d_queries, width);
                let over_queries = Shape { rows: len, depth: rows, columns: width };
                product((d_keys, width), accumulate, Left::columns(d_scores, row_stride), query_panels, over_queries);
                product((d_values, width), accumulate, Left::columns(scores, row_stride), d_out_panels, over_queries);
            }
            key_rows.put(d_qkv, start, d_keys, width);
            value_rows.put(d_qkv, start, d_values, width);
        }
    }
}
