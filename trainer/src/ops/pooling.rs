//! From token vectors to one embedding a sequence.

use std::ops::Range;

use candle_core::Tensor;

use super::access::{by_dtype, read, write};
use crate::Result;
use crate::kernels::Real;
use crate::model::pooling::{Pooling, PoolingMode};
use crate::packed::PackedBatch;

/// The least norm that a vector is divided by, as torch's `normalize` has it.
const NORM_EPS: f64 = 1e-12;

/// embeddings = normalise(pool(hidden)), S rows.
pub struct Pool<'a> {
    /// How.
    pub pooling: Pooling,
    /// The sequences.
    pub batch: &'a PackedBatch,
    /// [N, h].
    pub hidden: &'a Tensor,
    /// [S, h]: receives the vectors before they are normalised.
    pub pooled: &'a Tensor,
    /// [S, h], overwritten.
    pub embeddings: &'a Tensor,
}

/// The backward of [`Pool`].
pub struct PoolBackward<'a> {
    /// How.
    pub pooling: Pooling,
    /// The sequences.
    pub batch: &'a PackedBatch,
    /// [N, h], from the forward; only the maximum asks for it.
    pub hidden: Option<&'a Tensor>,
    /// [S, h], from the forward.
    pub pooled: &'a Tensor,
    /// [S, h].
    pub d_embeddings: &'a Tensor,
    /// [N, h], overwritten.
    pub d_hidden: &'a Tensor,
}

/// The rows of a sequence that count, and none where a prompt fills it: then the mean and the maximum are zero.
fn counted(pooling: Pooling, batch: &PackedBatch, sequence: usize) -> Range<usize> {
    let tokens = batch.rows(sequence);
    let left_out = if pooling.include_prompt { 0 } else { batch.prompt_lens[sequence] as usize };
    tokens.start + left_out.min(tokens.len())..tokens.end
}

/// The row that `cls` takes: the first that counts.
fn first_row(pooling: Pooling, batch: &PackedBatch, sequence: usize) -> usize {
    let counted = counted(pooling, batch, sequence);
    if counted.is_empty() { batch.rows(sequence).start } else { counted.start }
}

/// For each feature, the first row with the greatest value.
fn greatest_rows<T: Real>(hidden: &[T], rows: Range<usize>, h: usize) -> Vec<usize> {
    let mut greatest = vec![rows.start; h];
    for row in rows {
        for (feature, best) in greatest.iter_mut().enumerate() {
            if hidden[row * h + feature] > hidden[*best * h + feature] {
                *best = row;
            }
        }
    }
    greatest
}

impl Pool<'_> {
    /// Computes `pooled` and `embeddings`.
    pub fn run(&self) -> Result<()> {
        by_dtype!(self.embeddings, T => self.cpu::<T>())
    }

    fn cpu<T: Real>(&self) -> Result<()> {
        let hidden = read(self.hidden)?;
        let (hidden, h) = (hidden.slice::<T>()?, self.hidden.dims2()?.1);
        write::<T, _>(self.pooled, |pooled| {
            for (sequence, out) in pooled.chunks_exact_mut(h).enumerate() {
                self.pool_one(hidden, sequence, out);
            }
            write::<T, _>(self.embeddings, |embeddings| {
                for (out, x) in embeddings.chunks_exact_mut(h).zip(pooled.chunks_exact(h)) {
                    let divisor = if self.pooling.normalize { clamped_norm(x).0 } else { T::ONE };
                    out.iter_mut().zip(x).for_each(|(out, &x)| *out = x / divisor);
                }
                Ok(())
            })
        })
    }

    fn pool_one<T: Real>(&self, hidden: &[T], sequence: usize, out: &mut [T]) {
        let (rows, h) = (counted(self.pooling, self.batch, sequence), out.len());
        match self.pooling.mode {
            PoolingMode::Cls => {
                let row = first_row(self.pooling, self.batch, sequence);
                out.copy_from_slice(&hidden[row * h..(row + 1) * h]);
            }
            PoolingMode::Mean => {
                out.fill(T::ZERO);
                let count = T::of(rows.len().max(1) as f64);
                for row in rows {
                    out.iter_mut().zip(&hidden[row * h..]).for_each(|(sum, &x)| *sum += x);
                }
                out.iter_mut().for_each(|sum| *sum /= count);
            }
            PoolingMode::Max if rows.is_empty() => out.fill(T::ZERO),
            PoolingMode::Max => {
                for (feature, row) in greatest_rows(hidden, rows, h).into_iter().enumerate() {
                    out[feature] = hidden[row * h + feature];
                }
            }
        }
    }
}

/// (the norm, at least `NORM_EPS`; whether that bound was reached).
fn clamped_norm<T: Real>(x: &[T]) -> (T, bool) {
    let norm = crate::kernels::rows::dot::<T, false>(x, x).root();
    let least = T::of(NORM_EPS);
    if norm < least { (least, true) } else { (norm, false) }
}

impl PoolBackward<'_> {
    /// Computes `d_hidden`.
    pub fn run(&self) -> Result<()> {
        by_dtype!(self.d_hidden, T => self.cpu::<T>())
    }

    fn cpu<T: Real>(&self) -> Result<()> {
        let (pooled, d_embeddings) = (read(self.pooled)?, read(self.d_embeddings)?);
        let (pooled, d_embeddings) = (pooled.slice::<T>()?, d_embeddings.slice::<T>()?);
        let hidden = self.hidden.map(read).transpose()?;
        let hidden = hidden.as_ref().map(|source| source.slice::<T>()).transpose()?;
        let h = self.pooled.dims2()?.1;
        write::<T, _>(self.d_hidden, |d_hidden| {
            d_hidden.fill(T::ZERO);
            for (sequence, (x, d)) in pooled.chunks_exact(h).zip(d_embeddings.chunks_exact(h)).enumerate() {
                let mut d = d.to_vec();
                if self.pooling.normalize {
                    normalize_backward(&mut d, x);
                }
                self.spread(&d, sequence, hidden, d_hidden)?;
            }
            Ok(())
        })
    }

    fn spread<T: Real>(&self, d: &[T], sequence: usize, hidden: Option<&[T]>, d_hidden: &mut [T]) -> Result<()> {
        let (rows, h) = (counted(self.pooling, self.batch, sequence), d.len());
        match self.pooling.mode {
            PoolingMode::Cls => {
                let row = first_row(self.pooling, self.batch, sequence);
                d_hidden[row * h..(row + 1) * h].copy_from_slice(d);
            }
            PoolingMode::Mean => {
                let count = T::of(rows.len().max(1) as f64);
                for row in d_hidden[rows.start * h..rows.end * h].chunks_exact_mut(h) {
                    row.iter_mut().zip(d).for_each(|(out, &d)| *out = d / count);
                }
            }
            PoolingMode::Max if rows.is_empty() => {}
            PoolingMode::Max => {
                let hidden =
                    hidden.ok_or_else(|| crate::Error::Internal("the maximum's backward needs the hidden states".to_owned()))?;
                for (feature, row) in greatest_rows(hidden, rows, h).into_iter().enumerate() {
                    d_hidden[row * h + feature] = d[feature];
                }
            }
        }
        Ok(())
    }
}

/// The gradient of x / max(|x|, eps): with y = x / |x|, (d - y (y . d)) / |x|, or d / eps below the bound.
fn normalize_backward<T: Real>(d: &mut [T], x: &[T]) {
    let (norm, bounded) = clamped_norm(x);
    let along = if bounded { T::ZERO } else { crate::kernels::rows::dot::<T, false>(x, d) / (norm * norm) };
    d.iter_mut().zip(x).for_each(|(d, &x)| *d = (*d - x * along) / norm);
}
