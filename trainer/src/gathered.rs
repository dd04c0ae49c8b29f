//! A batch's embeddings by their part in the loss.
//!
//! Shapes: B rows of the batch, C columns a row, h width.

use crate::error::{Error, Result};
use crate::pool::FloatPool;

/// Anchors and candidates of a batch, filled row by row.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub hidden: usize,
    /// [B, h].
    pub anchors: Vec<f32>,
    /// [B * (C - 1), h]: all positives, all first negatives, and so on.
    pub candidates: Vec<f32>,
    num_rows: usize,
    num_columns: usize,
    /// Embeddings taken in so far.
    num_texts: usize,
}

impl Gathered {
    /// Room for a batch, of vectors from `pool`.
    pub(crate) fn new(num_rows: usize, num_columns: usize, hidden: usize, pool: &FloatPool) -> Self {
        let anchors = pool.take(num_rows * hidden);
        let candidates = pool.take(num_rows * (num_columns - 1) * hidden);
        Self { hidden, anchors, candidates, num_rows, num_columns, num_texts: 0 }
    }

    /// Takes in the next embeddings of [B, C, h].
    ///
    /// # Errors
    /// They are no whole embeddings, or more than the batch has.
    pub(crate) fn push(&mut self, embeddings: &[f32]) -> Result<()> {
        let embeddings = embeddings.chunks_exact(self.hidden);
        self.count(embeddings.remainder().len(), embeddings.len())?;
        for embedding in embeddings {
            self.next().copy_from_slice(embedding);
        }
        Ok(())
    }

    /// As [`Gathered::push`], of little-endian bytes.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let embeddings = bytes.chunks_exact(4 * self.hidden);
        self.count(embeddings.remainder().len(), embeddings.len())?;
        for embedding in embeddings {
            let values = embedding.as_chunks::<4>().0;
            self.next().iter_mut().zip(values).for_each(|(to, value)| *to = f32::from_le_bytes(*value));
        }
        Ok(())
    }

    /// To be called in the end.
    ///
    /// # Errors
    /// Embeddings are missing.
    pub(crate) fn check_complete(&self) -> Result<()> {
        if self.num_texts < self.num_rows * self.num_columns { Err(self.disagreement(self.num_texts)) } else { Ok(()) }
    }

    /// Gives its memory back.
    pub(crate) fn release(self, pool: &FloatPool) {
        pool.give(self.anchors);
        pool.give(self.candidates);
    }

    fn count(&self, rest: usize, more: usize) -> Result<()> {
        let found = self.num_texts + more;
        if rest > 0 || found > self.num_rows * self.num_columns { Err(self.disagreement(found)) } else { Ok(()) }
    }

    fn disagreement(&self, found: usize) -> Error {
        let expected = self.num_rows * self.num_columns;
        Error::Collective(format!("gathered {found} embeddings, expected {expected}: the ranks disagree about the batch"))
    }

    /// The place of the next embedding.
    fn next(&mut self) -> &mut [f32] {
        let (row, column) = (self.num_texts / self.num_columns, self.num_texts % self.num_columns);
        self.num_texts += 1;
        let (side, at) = match column.checked_sub(1) {
            None => (&mut self.anchors, row),
            Some(before) => (&mut self.candidates, before * self.num_rows + row),
        };
        &mut side[at * self.hidden..(at + 1) * self.hidden]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: embeddings stand where the loss looks for them. Method: three rows of three columns, each embedding its own number,
    /// some as values and some as bytes; then one too few, one too many and half a one.
    #[test]
    fn columns_are_parted() {
        let values: Vec<f32> = (0..9).flat_map(|text| [text as f32, -(text as f32)]).collect();
        let bytes: Vec<u8> = values[8..].iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut all = Gathered::new(3, 3, 2, &FloatPool::new());
        all.push(&values[..8]).unwrap();
        assert!(all.check_complete().unwrap_err().to_string().contains("gathered 4 embeddings, expected 9"));
        assert!(all.push_bytes(&bytes[..12]).is_err());
        all.push_bytes(&bytes).unwrap();
        all.check_complete().unwrap();
        assert_eq!(all.anchors, [0.0, -0.0, 3.0, -3.0, 6.0, -6.0]);
        assert_eq!(all.candidates, [1.0, -1.0, 4.0, -4.0, 7.0, -7.0, 2.0, -2.0, 5.0, -5.0, 8.0, -8.0]);
        assert!(all.push(&[1.0, 2.0]).unwrap_err().to_string().contains("gathered 10 embeddings"));
    }
}
