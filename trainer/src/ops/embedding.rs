//! Word, position and token type embeddings with their LayerNorm and dropout.

use std::ops::Range;

use candle_core::Tensor;

use super::access::{by_dtype, read, write};
use super::norm::NormParams;
use crate::Result;
use crate::dropout::{MaskStream, SiteDropout};
use crate::kernels::layer_norm::{drop_row, normalize_backward, normalize_dropout};
use crate::kernels::{Real, rows};
use crate::packed::PackedBatch;

/// The embeddings' places in the flat parameter vector; tables are row-major, h wide.
#[derive(Debug, Clone)]
pub struct EmbeddingParams {
    /// [vocabulary, h].
    pub words: Range<usize>,
    /// [positions, h]; a sequence's first token has position 0.
    pub positions: Range<usize>,
    /// [token types, h].
    pub types: Range<usize>,
    /// The LayerNorm over their sum.
    pub norm: NormParams,
}

impl EmbeddingParams {
    fn width(&self) -> usize {
        self.norm.gamma.len()
    }

    /// The three rows that are added for a token.
    fn rows(&self, batch: &PackedBatch, token: usize, position: usize) -> [Range<usize>; 3] {
        let h = self.width();
        let row = |table: &Range<usize>, index: usize| {
            let begin = table.start + index * h;
            assert!(begin + h <= table.end, "row {index} lies outside its embedding table");
            begin..begin + h
        };
        [
            row(&self.words, batch.ids[token] as usize),
            row(&self.positions, position),
            row(&self.types, batch.type_ids[token] as usize),
        ]
    }

    fn sum<T: Real>(&self, out: &mut [T], params: &[T], parts: [Range<usize>; 3]) {
        let [word, position, kind] = parts.map(|range| &params[range]);
        for i in 0..out.len() {
            out[i] = word[i] + kind[i] + position[i];
        }
    }
}

/// output = dropout(LayerNorm(word + position + type)).
pub struct Embed<'a> {
    /// The flat parameters.
    pub params: &'a Tensor,
    /// Which of them.
    pub embedding: &'a EmbeddingParams,
    /// The tokens; ids, types and lengths lie inside the tables.
    pub batch: &'a PackedBatch,
    /// The site's dropout.
    pub dropout: Option<SiteDropout>,
    /// [N, h], overwritten.
    pub output: &'a Tensor,
}

impl Embed<'_> {
    /// Computes `output`.
    pub fn run(&self) -> Result<()> {
        by_dtype!(self.output, T => self.cpu::<T>())
    }

    fn cpu<T: Real>(&self) -> Result<()> {
        let params = read(self.params)?;
        let params = params.slice::<T>()?;
        let (h, norm) = (self.embedding.width(), self.embedding.norm.of(params));
        let mut sum = vec![T::ZERO; h];
        write::<T, _>(self.output, |output| {
            for sequence in 0..self.batch.num_sequences() {
                let mut mask = self.dropout.map(|site| site.stream(self.batch.keys[sequence], h));
                for (position, token) in self.batch.rows(sequence).enumerate() {
                    self.embedding.sum(&mut sum, params, self.embedding.rows(self.batch, token, position));
                    normalize_dropout(&mut output[token * h..(token + 1) * h], &sum, norm, mask.as_mut());
                }
            }
            Ok(())
        })
    }
}

/// The backward of [`Embed`].
pub struct EmbedBackward<'a> {
    /// The flat parameters.
    pub params: &'a Tensor,
    /// Which of them.
    pub embedding: &'a EmbeddingParams,
    /// The tokens.
    pub batch: &'a PackedBatch,
    /// The site's dropout.
    pub dropout: Option<SiteDropout>,
    /// The padding token: as in PyTorch its word vector gets no gradient, should a text spell it out.
    pub pad_token_id: u32,
    /// [N, h]: the output's gradient; used up.
    pub d: &'a Tensor,
    /// The flat gradients: those of the tables and the LayerNorm are added, token by token.
    pub grad: &'a Tensor,
}

impl EmbedBackward<'_> {
    /// Adds to `grad`.
    pub fn run(&self) -> Result<()> {
        by_dtype!(self.d, T => self.cpu::<T>())
    }

    fn cpu<T: Real>(&self) -> Result<()> {
        let params = read(self.params)?;
        let params = params.slice::<T>()?;
        let (h, norm) = (self.embedding.width(), &self.embedding.norm);
        let (mut sum, mut norm_sums) = (vec![T::ZERO; h], norm.sums::<T>());
        write::<T, _>(self.d, |d| {
            write::<T, _>(self.grad, |grad| {
                for sequence in 0..self.batch.num_sequences() {
                    let mut mask: Option<MaskStream> = self.dropout.map(|site| site.stream(self.batch.keys[sequence], h));
                    for (position, token) in self.batch.rows(sequence).enumerate() {
                        let d = &mut d[token * h..(token + 1) * h];
                        let parts = self.embedding.rows(self.batch, token, position);
                        self.embedding.sum(&mut sum, params, parts.clone());
                        if let Some(mask) = mask.as_mut() {
                            drop_row(d, mask);
                        }
                        normalize_backward(d, &sum, norm.of(params), &mut norm.split(&mut norm_sums));
                        let [word, position, kind] = parts;
                        if self.batch.ids[token] != self.pad_token_id {
                            rows::add(&mut grad[word], d);
                        }
                        rows::add(&mut grad[position], d);
                        rows::add(&mut grad[kind], d);
                    }
                }
                norm.add(grad, &norm_sums);
                Ok(())
            })
        })
    }
}
