//! Word, position and token type embeddings with their LayerNorm and dropout.

use std::ops::Range;

use candle_core::Tensor;

use super::GradPart;
use super::access::{by_dtype, read, write};
use super::norm::NormParams;
use crate::dropout::{MaskStream, SiteDropout};
use crate::kernels::layer_norm::{drop_row, normalize_backward, normalize_dropout};
use crate::kernels::{Real, rows};
use crate::packed::PackedBatch;
use crate::{Error, Result};

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

/// Which rows of the word table a gradient holds, in order. The table stands at the front of the flat vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WordRows {
    /// All of them.
    All,
    /// Those of these ids, ascending: a batch names few of a vocabulary's words, and all other rows are zero.
    Some(Vec<u32>),
}

impl WordRows {
    /// The rows of these tokens' words.
    pub fn of(mut ids: Vec<u32>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        Self::Some(ids)
    }

    /// How many there are, of a vocabulary of this size.
    pub fn len(&self, vocab_size: usize) -> usize {
        match self {
            Self::All => vocab_size,
            Self::Some(ids) => ids.len(),
        }
    }

    /// Which element of the flat vector would be the gradient's first one if no row were left out between it and what
    /// follows the table; `h` is the width of a row.
    pub fn first(&self, vocab_size: usize, h: usize) -> usize {
        (vocab_size - self.len(vocab_size)) * h
    }

    fn row(&self, id: u32) -> Result<usize> {
        match self {
            Self::All => Ok(id as usize),
            Self::Some(ids) => {
                ids.binary_search(&id).map_err(|_| Error::Internal(format!("the gradient has no row of token {id}")))
            }
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
    /// Which word vectors the gradient holds.
    pub word_rows: &'a WordRows,
    /// The embeddings' gradients: those of the tables and the LayerNorm are added, token by token. Words without a row
    /// are left out, so what follows them begins earlier: see [`WordRows::first`].
    pub grad: GradPart<'a>,
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
            write::<T, _>(self.grad.tensor, |grad| {
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
                        let (id, [_, position, kind]) = (self.batch.ids[token], parts);
                        if id != self.pad_token_id {
                            let row = self.word_rows.row(id)?;
                            rows::add(&mut grad[row * h..(row + 1) * h], d);
                        }
                        rows::add(&mut grad[self.grad.place(&position)], d);
                        rows::add(&mut grad[self.grad.place(&kind)], d);
                    }
                }
                norm.add(grad, self.grad, &norm_sums);
                Ok(())
            })
        })
    }
}
