//! How much a word says: rare words much, common ones little. And how alike two sets of words are when that is counted.
//!
//! A word that df of N texts have weighs ln(1 + N / df), at most ln(1 + 1,000): a name that one text in a thousand has says as
//! much as any, so a slip of the pen does not outweigh a sentence.

use super::super::words::Words;
use super::parts::by_parts;

/// Texts for each that has a word, above which the word weighs no more.
const MAX_RARITY: f32 = 1000.0;
/// Texts for each that has a word, from which the word may be a name; of few texts their square root.
const MIN_RARITY_OF_NAME: f32 = 25.0;
/// Bytes of text for each slot of the table of counts.
const TEXT_BYTES_PER_SLOT: usize = 8;
const MIN_SLOTS: usize = 1 << 12;
const MAX_SLOTS: usize = 1 << 22;

/// Words by weight. Words share slots by hash; a word whose slot a common one has weighs too little, which a large table makes rare.
pub(super) struct Weights {
    /// By slot.
    weights: Vec<f32>,
    least_of_name: f32,
}

/// Reads a text's set of words, as 32-bit hashes, ascending.
pub(super) fn word_set(text: &str, words: &mut Words, into: &mut Vec<u32>) {
    words.read(text);
    into.clear();
    into.extend(words.hashes().iter().map(|hash| (hash >> 32) as u32));
    into.sort_unstable();
    into.dedup();
}

impl Weights {
    /// Counts in how many of the texts each word is.
    pub(super) fn new<'a>(num_texts: usize, text: impl Fn(usize) -> &'a str + Sync) -> Self {
        let num_bytes: usize = (0..num_texts).map(|index| text(index).len()).sum();
        let num_slots = (num_bytes / TEXT_BYTES_PER_SLOT).next_power_of_two().clamp(MIN_SLOTS, MAX_SLOTS);
        let counted = by_parts(num_texts, |range| {
            let (mut words, mut set) = (Words::default(), Vec::new());
            let mut counts = vec![0u32; num_slots];
            for index in range {
                word_set(text(index), &mut words, &mut set);
                set.iter().for_each(|&word| counts[word as usize & (num_slots - 1)] += 1);
            }
            counts
        });
        let count = |slot: usize| counted.iter().map(|counts| counts[slot]).sum::<u32>().max(1);
        let rarity = |slot: usize| (num_texts as f32 / count(slot) as f32).min(MAX_RARITY);
        let least_of_name = (1.0 + MIN_RARITY_OF_NAME.min((num_texts as f32).sqrt())).ln();
        Self { weights: (0..num_slots).map(|slot| (1.0 + rarity(slot)).ln()).collect(), least_of_name }
    }

    /// Whether few texts have the word, so that it may name what a text is about.
    pub(super) fn is_name(&self, word: u32) -> bool {
        self.of(word) >= self.least_of_name
    }

    /// A word's weight.
    pub(super) fn of(&self, word: u32) -> f32 {
        self.weights[word as usize & (self.weights.len() - 1)]
    }

    /// The weight of the words that both sets have over the weight of those that either has (Jaccard, by weight); 0 for empty sets.
    pub(super) fn likeness(&self, a: &[u32], b: &[u32]) -> f32 {
        let (mut left, mut right) = (a, b);
        let (mut shared, mut total) = (0.0, 0.0);
        while let (Some((&l, left_rest)), Some((&r, right_rest))) = (left.split_first(), right.split_first()) {
            let weight = self.of(l.min(r));
            total += weight;
            if l == r {
                shared += weight;
            }
            (left, right) = (if l <= r { left_rest } else { left }, if r <= l { right_rest } else { right });
        }
        total += left.iter().chain(right).map(|&word| self.of(word)).sum::<f32>();
        if total > 0.0 { shared / total } else { 0.0 }
    }
}
