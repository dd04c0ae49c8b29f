//! Pairs without an LLM: inverse cloze (Lee, Chang, Toutanova, "Latent Retrieval for Weakly Supervised Open Domain Question
//! Answering", 2019). A sentence of a chunk is the question, the chunk without it is the answer.
//!
//! These are no questions that a person asks; reports name them as what they are.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use crate::parse::QaPair;

/// What reports call pairs of this kind.
pub const NAME: &str = "inverse cloze";
/// Words of a sentence that makes a good question.
const GOOD_WORDS: std::ops::RangeInclusive<usize> = 5..=40;
/// Words of a sentence that makes a question at all.
const LEAST_WORDS: usize = 3;
/// Share of letters and spaces in a sentence that makes a question.
const LEAST_LETTERS: f64 = 0.7;

/// Up to `count` pairs of a chunk, a pure function of sentences, count and seed; in the order of the text. The chunk is parted into as many
/// runs of sentences of about the same length, and in each one sentence asks for the others, so that no answer holds the sentence that
/// asks for another: it would be found first, and training would learn that it is wrong. Sentences of a good length come before others,
/// and the first of a chunk, which often is a heading, comes last. Fewer pairs, or none, if the chunk has too few sentences.
pub fn pairs(sentences: &[&str], count: u32, seed: u64) -> Vec<QaPair> {
    let sentences: Vec<&str> = sentences.iter().map(|sentence| sentence.trim()).filter(|s| !s.is_empty()).collect();
    let ranks = ranks(&sentences, seed);
    runs(&sentences, count as usize, &ranks)
        .into_iter()
        .filter_map(|run| {
            let (.., at) = ranks[run.clone()].iter().flatten().min()?;
            pair(&sentences[run.clone()], at - run.start)
        })
        .collect()
}

/// Where a sentence stands among those that may ask, the lowest first: its own place comes last.
type Rank = (bool, bool, [u8; 32], usize);

/// The rank of each sentence, none for one that makes no question.
fn ranks(sentences: &[&str], seed: u64) -> Vec<Option<Rank>> {
    let chunk = Sha256::digest(sentences.join("\n").as_bytes());
    let rank = |(i, sentence): (usize, &&str)| {
        let words = sentence.split_whitespace().count();
        // one that stands in the rest as well would be found by its copy
        let copied = sentences.iter().enumerate().any(|(other, text)| other != i && text.contains(sentence));
        if words < LEAST_WORDS || copied || !is_prose(sentence) {
            return None;
        }
        let order = Sha256::new().chain_update(chunk).chain_update(seed.to_le_bytes()).chain_update((i as u64).to_le_bytes());
        Some((!GOOD_WORDS.contains(&words), i == 0, order.finalize().into(), i))
    };
    sentences.iter().enumerate().map(rank).collect()
}

/// Whether a sentence is made of words: rows of tables, programs, formulas and lists of numbers are none that a person asks.
fn is_prose(sentence: &str) -> bool {
    let letters = sentence.chars().filter(|c| c.is_alphabetic() || c.is_whitespace()).count();
    sentence.matches('|').count() < 2 && letters as f64 >= LEAST_LETTERS * sentence.chars().count() as f64
}

/// At most `count` runs that part the sentences, of about the same number of characters, each of two sentences at least and with one that
/// may ask; none if there is no such run.
fn runs(sentences: &[&str], count: usize, ranks: &[Option<Rank>]) -> Vec<Range<usize>> {
    let total: usize = sentences.iter().map(|sentence| sentence.len()).sum();
    let count = count.min(sentences.len() / 2);
    let (mut runs, mut start, mut before): (Vec<Range<usize>>, usize, usize) = (Vec::new(), 0, 0);
    for (i, sentence) in sentences.iter().enumerate() {
        before += sentence.len();
        let (whole, left) = (i + 1 - start >= 2, sentences.len() - i - 1);
        let asks = ranks[start..=i].iter().any(Option::is_some);
        let far = before * count >= total * (runs.len() + 1);
        // the last runs have two sentences each, however long those before are
        let must = left < 2 * (count.saturating_sub(runs.len() + 1)) + 1;
        if runs.len() < count && whole && asks && (far || must) && (left == 0 || runs.len() + 1 < count) {
            runs.push(start..i + 1);
            start = i + 1;
        }
    }
    match runs.last_mut() {
        // what is left over is too short, or nothing in it asks
        Some(last) if start < sentences.len() => last.end = sentences.len(),
        _ => {}
    }
    runs
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

    /// Goal: several pairs part the chunk between them, in order; too few sentences give fewer. Method: counts and small chunks.
    #[test]
    fn several_pairs() {
        let two = pairs(&TEXT, 2, 1);
        let parts: Vec<String> = two.iter().map(|pair| format!("{} {}", pair.question, pair.answer)).collect();
        assert!(
            parts[0].contains(TEXT[0]) && parts[0].contains(TEXT[1]) && parts[1].contains(TEXT[3]) && parts[1].contains(TEXT[4])
        );
        assert_eq!(pairs(&TEXT, 9, 1), two);
        assert_eq!(pairs(&TEXT[..1], 3, 1), []);
        assert_eq!(pairs(&[], 3, 1), []);
        assert_eq!(pairs(&["12 34 56 78 90.", "---"], 3, 1), []);
        let twice =
            ["The same sentence stands here twice.", "The same sentence stands here twice.", "Another one is here as well."];
        assert_eq!(pairs(&twice, 3, 1).len(), 1);
        let end = ["One sentence of good length.", "Another sentence of good length.", "1 2 3.", "4 5 6."];
        assert_eq!(pairs(&end, 2, 1).len(), 1);
        assert!(pairs(&end, 2, 1)[0].answer.ends_with("1 2 3. 4 5 6."));
    }

    /// Goal: questions are words; what is none stays in the answers. Method: a row of a table, a program, numbers, and prose of several scripts.
    #[test]
    fn prose_alone_asks() {
        for sentence in [
            "| key | type | meaning |",
            "[documents] sources = [\"docs/**/*.pdf\", \"s3://b/\"]",
            "12 34 56 a 78 90 b 1.5",
            "x² + y² = z² − 4ac/2b",
        ] {
            assert!(!is_prose(sentence), "{sentence}");
            let found = pairs(&[sentence, "It was built on the northern cliff in 1820."], 2, 1);
            assert!(found.len() == 1 && found[0].answer == sentence, "{found:?}");
        }
        for sentence in [
            "In 2019 revenue rose by 12.5% to 4.2 million.",
            "प्रकाशस्तंभ उत्तरी चट्टान पर बनाया गया था।",
            "灯台は北の崖に建てられた。",
            "Its (old) lamp, of 1820, is lit \"by hand\".",
        ] {
            assert!(is_prose(sentence), "{sentence}");
        }
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

        /// Goal: every sentence is in one pair, and a chunk of enough of them gives all the pairs wanted. Method: numbered sentences of
        /// random lengths.
        #[test]
        fn parted(words in proptest::collection::vec(3usize..30, 2..20), count in 1u32..5, seed in any::<u64>()) {
            let texts: Vec<String> = words.iter().enumerate().map(|(i, words)| format!("<{i}> says{}.", " word".repeat(*words))).collect();
            let sentences: Vec<&str> = texts.iter().map(String::as_str).collect();
            let found = pairs(&sentences, count, seed);
            prop_assert_eq!(found.len(), (count as usize).min(sentences.len() / 2));
            for i in 0..texts.len() {
                let name = format!("<{i}>");
                let holders = found.iter().filter(|pair| pair.question.contains(&name) || pair.answer.contains(&name)).count();
                prop_assert_eq!(holders, 1);
            }
        }
    }
}
