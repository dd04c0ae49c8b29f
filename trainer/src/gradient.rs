//! The gradient of all parameters, in the parts in which it is made.
//!
//! Layer by layer it is as long as the parameters; of the word table it has only the rows of words that the batch names.

use std::ops::Range;

use crate::encoder::Encoder;
use crate::ops::WordRows;
use crate::optim::sum_squares;
use crate::pool::FloatPool;

/// What a gradient looks like: where its parts lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GradientShape {
    /// The parts as ranges of the flat vector: the embeddings, then the layers from below.
    pub parts: Vec<Range<usize>>,
    /// Rows of the word table that it has.
    pub word_rows: WordRows,
    vocab_size: usize,
    hidden: usize,
}

/// A gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient {
    shape: GradientShape,
    /// By part.
    values: Vec<Vec<f32>>,
}

impl GradientShape {
    /// That of batches whose words have these rows.
    pub fn new(encoder: &Encoder, word_rows: WordRows) -> Self {
        let config = encoder.config();
        Self { parts: encoder.parts(), word_rows, vocab_size: config.vocab_size, hidden: config.hidden_size }
    }

    /// Elements of a part.
    pub fn part_len(&self, part: usize) -> usize {
        self.parts[part].len() - self.left_out(part)
    }

    /// Which element of the flat vector a part begins at, as [`crate::ops::GradPart`] counts.
    pub fn part_first(&self, part: usize) -> usize {
        self.parts[part].start + self.left_out(part)
    }

    /// Elements of the word table that the part leaves out.
    fn left_out(&self, part: usize) -> usize {
        if part == 0 { self.word_rows.first(self.vocab_size, self.hidden) } else { 0 }
    }
}

impl Gradient {
    /// From its parts' values.
    ///
    /// # Panics
    /// They are not of the shape: a defect of the caller.
    pub fn new(shape: GradientShape, values: Vec<Vec<f32>>) -> Self {
        let suits =
            values.len() == shape.parts.len() && values.iter().enumerate().all(|(i, part)| part.len() == shape.part_len(i));
        assert!(suits, "the parts of a gradient are not of its shape");
        Self { shape, values }
    }

    /// Its Euclidean norm, the same bits for any number of threads and ranks.
    pub fn norm(&self) -> f64 {
        self.values.iter().map(|part| sum_squares(part)).sum::<f64>().sqrt()
    }

    /// Adds another one of the same shape.
    ///
    /// # Panics
    /// The shapes differ: a defect of the caller.
    pub fn add(&mut self, other: &Self) {
        assert!(self.shape == other.shape, "gradients of different shapes are not added");
        for (own, other) in self.values.iter_mut().zip(&other.values) {
            own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
        }
    }

    /// As long as the parameters.
    pub fn dense(&self) -> Vec<f32> {
        let total = self.shape.parts.last().map_or(0, |part| part.end);
        let mut dense = vec![0.0; total];
        self.pieces(0..total, |at, values| {
            if let Some(values) = values {
                dense[at].copy_from_slice(values);
            }
        });
        dense
    }

    /// Goes through a range of the flat vector in order: each piece with its values, or with none where they are zero.
    pub fn pieces(&self, range: Range<usize>, mut piece: impl FnMut(Range<usize>, Option<&[f32]>)) {
        for (index, part) in self.shape.parts.iter().enumerate() {
            let within = overlap(part, &range);
            match index {
                _ if within.is_empty() => {}
                0 => self.embedding_pieces(within, &mut piece),
                _ => piece(within.clone(), Some(&self.values[index][within.start - part.start..within.end - part.start])),
            }
        }
    }

    fn embedding_pieces(&self, range: Range<usize>, piece: &mut impl FnMut(Range<usize>, Option<&[f32]>)) {
        let GradientShape { vocab_size, hidden: h, ref word_rows, .. } = self.shape;
        let values = &self.values[0];
        let first = self.shape.part_first(0);
        let words = overlap(&(0..vocab_size * h), &range);
        match word_rows {
            WordRows::All if !words.is_empty() => piece(words.clone(), Some(&values[words])),
            WordRows::All => {}
            WordRows::Some(ids) => {
                let mut at = words.start;
                let begin = ids.partition_point(|&id| (id as usize + 1) * h <= words.start);
                for (row, &id) in ids.iter().enumerate().skip(begin) {
                    let own = overlap(&(id as usize * h..(id as usize + 1) * h), &words);
                    if own.is_empty() {
                        break;
                    }
                    if at < own.start {
                        piece(at..own.start, None);
                    }
                    let shift = |element: usize| element - id as usize * h + row * h;
                    piece(own.clone(), Some(&values[shift(own.start)..shift(own.end)]));
                    at = own.end;
                }
                if at < words.end {
                    piece(at..words.end, None);
                }
            }
        }
        let rest = overlap(&(vocab_size * h..usize::MAX), &range);
        if !rest.is_empty() {
            piece(rest.clone(), Some(&values[rest.start - first..rest.end - first]));
        }
    }

    /// Gives its memory back.
    pub fn release(self, pool: &FloatPool) {
        self.values.into_iter().for_each(|values| pool.give(values));
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    a.start.max(b.start)..a.end.min(b.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(word_rows: WordRows) -> Gradient {
        // 5 words of width 2, 3 elements more, a layer of 4
        let shape = GradientShape { parts: vec![0..13, 13..17], word_rows, vocab_size: 5, hidden: 2 };
        let mut next = 0.0;
        let values = (0..2).map(|part| {
            (0..shape.part_len(part))
                .map(|_| {
                    next += 1.0;
                    next
                })
                .collect()
        });
        let values = values.collect();
        Gradient::new(shape, values)
    }

    /// Goal: rows that are left out are zeros, whatever range is asked for. Method: against the dense vector, all ranges.
    #[test]
    fn pieces_are_those_of_the_dense_vector() {
        let some = gradient(WordRows::of(vec![3, 1, 3]));
        let dense = [0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0];
        assert_eq!(some.dense(), dense);
        assert_eq!(gradient(WordRows::All).dense(), (1..18).map(|i| i as f32).collect::<Vec<_>>());
        assert!((some.norm() - crate::optim::grad_norm(&dense)).abs() < 1e-12);
        for gradient in [some, gradient(WordRows::All), gradient(WordRows::of(vec![0, 4]))] {
            let dense = gradient.dense();
            for range in (0..=17).flat_map(|start| (start..=17).map(move |end| start..end)) {
                let mut found = Vec::new();
                gradient.pieces(range.clone(), |at, values| {
                    assert_eq!(at.start, range.start + found.len());
                    found.extend(values.map_or(vec![0.0; at.len()], <[f32]>::to_vec));
                });
                assert_eq!(found, dense[range]);
            }
        }
    }

    /// Goal: sums are element by element. Method: a gradient and itself.
    #[test]
    fn sums() {
        let mut sum = gradient(WordRows::of(vec![1, 3]));
        sum.add(&gradient(WordRows::of(vec![1, 3])));
        let doubled: Vec<f32> = gradient(WordRows::of(vec![1, 3])).dense().iter().map(|x| 2.0 * x).collect();
        assert_eq!(sum.dense(), doubled);
    }
}
