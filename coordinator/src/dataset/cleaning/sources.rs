//! Whether two alike pairs are about two things: their answers and chunks compared.

use super::super::words::Words;
use super::near_pairs::PairTexts;
use super::weights::{Weights, word_set};

/// A word says which of two sources it is from if the one has it more often than so many times the other.
const TIMES_MORE: usize = 2;

/// Answers and chunks; their words are read when they are compared.
pub(super) struct Sources<'a> {
    pairs: &'a [PairTexts<'a>],
    /// Of the answers' words.
    weights: Weights,
    words: Words,
    sets: [Vec<u32>; 2],
}

impl<'a> Sources<'a> {
    pub(super) fn new(pairs: &'a [PairTexts<'a>], weights: Weights) -> Self {
        Self { pairs, weights, words: Words::default(), sets: [Vec::new(), Vec::new()] }
    }

    /// Whether two pairs' answers are alike.
    pub(super) fn answers_alike(&mut self, a: u32, b: u32, least: f32) -> bool {
        for (pair, set) in [a, b].into_iter().zip(&mut self.sets) {
            word_set(self.pairs[pair as usize][1], &mut self.words, set);
        }
        self.weights.likeness(&self.sets[0], &self.sets[1]) >= least
    }

    /// Whether each of two questions that has words of its own has a name among them: a rare word that its own source (answer and
    /// chunk) has and the other's has not, or much less often. Two products' names are such, and two words of a paraphrase are not.
    ///
    /// `questions` are the questions' words, ascending. False where neither has words of its own.
    pub(super) fn about_two_things(&mut self, pairs: [u32; 2], questions: [&[u32]; 2]) -> bool {
        let own = [0, 1].map(|side: usize| -> Vec<u32> {
            let other = questions[1 - side];
            questions[side].iter().copied().filter(|word| other.binary_search(word).is_err()).collect()
        });
        let counts = pairs.map(|pair| self.count_in_source(pair, &own));
        let has_name = |side: usize| {
            let counted = counts[side][side].iter().zip(&counts[1 - side][side]);
            let mut words = own[side].iter().zip(counted);
            words.any(|(&word, (in_own, in_other))| *in_own > TIMES_MORE * in_other && self.weights.is_name(word))
        };
        let mut sides = (0..2).filter(|&side| !own[side].is_empty()).peekable();
        sides.peek().is_some() && sides.all(has_name)
    }

    /// How often a pair's answer and chunk have each of the words of each question.
    fn count_in_source(&mut self, pair: u32, words: &[Vec<u32>; 2]) -> [Vec<usize>; 2] {
        let mut counts = [vec![0; words[0].len()], vec![0; words[1].len()]];
        for text in &self.pairs[pair as usize][1..] {
            self.words.read(text);
            for hash in self.words.hashes() {
                for (counts, words) in counts.iter_mut().zip(words) {
                    if let Ok(place) = words.binary_search(&((hash >> 32) as u32)) {
                        counts[place] += 1;
                    }
                }
            }
        }
        counts
    }
}
