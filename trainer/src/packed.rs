//! Batches without padding: the tokens of all sequences behind one another, and where each sequence begins.

use std::ops::Range;

use crate::{Error, Result};

/// Which text of the data set a sequence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SampleKey {
    /// Row index in the data set.
    pub sample: u64,
    /// 0 anchor, 1 positive, 2.. negatives.
    pub column: u32,
}

/// S sequences of N tokens in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackedBatch {
    /// Token ids, N.
    pub ids: Vec<u32>,
    /// Token types, N; 0 unless told.
    pub type_ids: Vec<u32>,
    /// Where each sequence begins, then N: S + 1, from 0, ascending.
    pub cu_seqlens: Vec<u32>,
    /// Which text each sequence is, S.
    pub keys: Vec<SampleKey>,
    /// Tokens at each sequence's front that pooling leaves out when the model does not include prompts, S.
    pub prompt_lens: Vec<u32>,
}

impl PackedBatch {
    /// An empty batch, to be filled by [`Self::push`].
    pub fn new() -> Self {
        Self { cu_seqlens: vec![0], ..Self::default() }
    }

    /// Appends a sequence of token type 0.
    pub fn push(&mut self, key: SampleKey, ids: &[u32], prompt_len: u32) {
        if self.cu_seqlens.is_empty() {
            self.cu_seqlens.push(0);
        }
        self.ids.extend_from_slice(ids);
        self.type_ids.resize(self.ids.len(), 0);
        self.cu_seqlens.push(u32::try_from(self.ids.len()).expect("a micro-batch holds fewer than 2^32 tokens"));
        self.keys.push(key);
        self.prompt_lens.push(prompt_len);
    }

    /// N, the tokens of all sequences.
    pub fn num_tokens(&self) -> usize {
        self.ids.len()
    }

    /// S.
    pub fn num_sequences(&self) -> usize {
        self.keys.len()
    }

    /// The rows of sequence `index`.
    pub fn rows(&self, index: usize) -> Range<usize> {
        self.cu_seqlens[index] as usize..self.cu_seqlens[index + 1] as usize
    }

    /// The length of the longest sequence; 0 for an empty batch.
    pub fn max_len(&self) -> usize {
        (0..self.num_sequences()).map(|index| self.rows(index).len()).max().unwrap_or(0)
    }

    /// Checks that the parts fit together and that every sequence has a token.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn validate(&self) -> Result<()> {
        let (tokens, sequences) = (self.num_tokens(), self.num_sequences());
        let wrong = |what: String| Err(Error::Internal(format!("a packed batch of {sequences} sequences: {what}")));
        if self.type_ids.len() != tokens || self.cu_seqlens.len() != sequences + 1 || self.prompt_lens.len() != sequences {
            return wrong("its parts differ in length".to_owned());
        }
        if self.cu_seqlens[0] != 0 || self.cu_seqlens[sequences] as usize != tokens {
            return wrong(format!("its bounds do not cover its {tokens} tokens"));
        }
        match self.cu_seqlens.windows(2).position(|pair| pair[0] >= pair[1]) {
            Some(index) => wrong(format!("sequence {index} has no token")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what `push` builds is valid, and broken bounds are found. Method: build one, then break it.
    #[test]
    fn bounds_are_checked() {
        let mut batch = PackedBatch::new();
        batch.push(SampleKey { sample: 3, column: 0 }, &[5, 6, 7], 1);
        batch.push(SampleKey { sample: 3, column: 1 }, &[8], 0);
        batch.validate().unwrap();
        assert_eq!((batch.num_tokens(), batch.num_sequences(), batch.max_len(), batch.rows(1)), (4, 2, 3, 3..4));
        let mut empty_sequence = batch.clone();
        empty_sequence.cu_seqlens[1] = 4;
        assert!(empty_sequence.validate().unwrap_err().to_string().contains("sequence 1 has no token"));
        let mut short = batch;
        short.type_ids.pop();
        assert!(short.validate().is_err());
    }
}
