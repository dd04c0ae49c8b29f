//! Pairs without an LLM: inverse cloze (Lee, Chang, Toutanova, "Latent Retrieval for Weakly Supervised Open Domain Question
//! Answering", 2019). A sentence of a chunk is the question, the chunk without it is the answer.
//!
//! These are no questions that a person asks; reports name them as what they are.

use sha2::{Digest as _, Sha256};

use crate::parse::QaPair;

/// What reports call pairs of this kind.
pub const NAME: &str = "inverse cloze";
/// Words of a sentence that makes a good question.
const GOOD_WORDS: std::ops::RangeInclusive<usize> = 5..=40;
/// Words of a sentence that makes a question at all.
const LEAST_WORDS: usize = 3;

/// Up to `count` pairs from different sentences of a chunk, a pure function of sentences, count and seed; in the order of the text.
/// Sentences of a good length come before others, and the first of a chunk, which often is a heading, comes last. Fewer pairs, or none, if
/// the chunk has too few sentences.
pub fn pairs(sentences: &[&str], count: u32, seed: u64) -> Vec<QaPair> {
    let sentences: Vec<&str> = sentences.iter().map(|sentence| sentence.trim()).filter(|s| !s.is_empty()).collect();
    if sentences.len() < 2 {
        return Vec::new();
    }
    let chunk = Sha256::digest(sentences.join("\n").as_bytes());
    let mut ranked: Vec<(bool, bool, [u8; 32], usize)> = Vec::new();
    for (i, sentence) in sentences.iter().enumerate() {
        let words = sentence.split_whitespace().count();
        // one that stands in the rest as well would be found by its copy
        let copied = sentences.iter().enumerate().any(|(other, text)| other != i && text.contains(sentence));
        let says = sentence.chars().any(char::is_alphabetic);
        if words < LEAST_WORDS || copied || !says {
            continue;
        }
        let order = Sha256::new().chain_update(chunk).chain_update(seed.to_le_bytes()).chain_update((i as u64).to_le_bytes());
        ranked.push((!GOOD_WORDS.contains(&words), i == 0, order.finalize().into(), i));
    }
    ranked.sort_unstable();
    let mut chosen: Vec<usize> = ranked.into_iter().take(count as usize).map(|(.., i)| i).collect();
    chosen.sort_unstable();
    chosen.into_iter().filter_map(|at| pair(&sentences, at)).collect()
}

fn pair(sentences: &[&str], at: usize) -> Option<QaPair> {
    let question = sentences[at].split_whitespace().collect::<Vec<_>>().join(" ");
    let rest: Vec<&str> = sentences.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, sentence)| *sentence).collect();
    let answer = rest.join(" ");
    answer.chars().any(char::is_alphanumeric).then_some(QaPair { question, answer })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const TEXT: [&str; 5] = [
        "The history of the lighthouse.",
        "It was built on the northern cliff in 1820.",
        "Its light was seen from a distance of thirty miles.",
        "Yes.",
        "Fishermen paid for the oil with a share of their catch.",
    ];

    /// Goal: a sentence asks for the rest; the first and the short ones do not ask. Method: one pair for each of many seeds.
    #[test]
    fn one_pair() {
        let mut asked = BTreeSet::new();
        for seed in 0..50 {
            let found = pairs(&TEXT, 1, seed);
            assert_eq!(found, pairs(&TEXT, 1, seed));
            let [pair] = found.as_slice() else { panic!("{found:?}") };
            assert!(!pair.answer.contains(&pair.question) && pair.answer.contains("lighthouse"));
            asked.insert(pair.question.clone());
        }
        assert_eq!(asked.into_iter().collect::<Vec<_>>(), [TEXT[4], TEXT[1], TEXT[2]]);
    }

    /// Goal: several pairs come from different sentences, in order; too few sentences give fewer. Method: counts and small chunks.
    #[test]
    fn several_pairs() {
        let asked: Vec<String> = pairs(&TEXT, 9, 1).into_iter().map(|pair| pair.question).collect();
        assert_eq!(asked, [TEXT[0], TEXT[1], TEXT[2], TEXT[4]]);
        assert_eq!(pairs(&TEXT[..1], 3, 1), []);
        assert_eq!(pairs(&[], 3, 1), []);
        assert_eq!(pairs(&["12 34 56 78 90.", "---"], 3, 1), []);
        let twice =
            ["The same sentence stands here twice.", "The same sentence stands here twice.", "Another one is here as well."];
        assert_eq!(pairs(&twice, 3, 1).len(), 1);
    }

    proptest! {
        /// Goal: no text makes it panic, halves are never empty. Method: random sentences.
        #[test]
        fn any_text(sentences in proptest::collection::vec(any::<String>(), 0..8), count in 0u32..5, seed in any::<u64>()) {
            let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();
            let found = pairs(&sentences, count, seed);
            prop_assert!(found.len() <= count as usize);
            prop_assert!(found.iter().all(|pair| !pair.question.is_empty() && !pair.answer.is_empty()));
        }
    }
}
