//! Copies and near-duplicates among generated pairs: the first of them stays.

use std::collections::HashMap;

use super::super::words::{Words, hash_bytes, mix};
use super::near_pairs::{Likeness, NearDuplicates, PairTexts, near_duplicates};
use super::pair::GeneratedPair;
use super::report::Filtered;
use super::settings::CleanSettings;

/// Name of the rule for pairs that an earlier pair equals but for case, punctuation and spacing.
pub const EXACT_DUPLICATE: &str = "exact_duplicate";
/// Name of the rule for pairs that are nearly an earlier pair.
pub const NEAR_DUPLICATE: &str = "near_duplicate";

/// Takes out copies: the same question, or the same question and answer.
pub(super) fn remove_exact(pairs: &mut Vec<GeneratedPair>, settings: &CleanSettings) -> Filtered {
    let mut filtered = Filtered::new(EXACT_DUPLICATE);
    let mut words = Words::default();
    let mut firsts: HashMap<u128, u32> = HashMap::with_capacity(pairs.len());
    let mut original_of = Vec::new();
    for (pair, number) in pairs.iter().zip(0u32..) {
        let question = text_key(&pair.question, &mut words);
        let key = if settings.same_question { question } else { joined(question, text_key(&pair.answer, &mut words)) };
        let first = *firsts.entry(key).or_insert(number);
        original_of.push((first != number).then_some(first));
    }
    drop(firsts);
    remove(pairs, &original_of, &mut filtered, "the question of");
    filtered
}

/// Takes out near-duplicates, and says how many pairs were compared in part only.
pub(super) fn remove_near(pairs: &mut Vec<GeneratedPair>, settings: &CleanSettings) -> (Filtered, u64) {
    let mut filtered = Filtered::new(NEAR_DUPLICATE);
    let texts: Vec<PairTexts<'_>> =
        pairs.iter().map(|pair| [pair.question.as_str(), pair.answer.as_str(), &*pair.chunk]).collect();
    let least = Likeness { question: settings.near_question as f32, answer: settings.near_answer as f32 };
    let NearDuplicates { originals, num_cut_short } = near_duplicates(&texts, least);
    drop(texts);
    remove(pairs, &originals, &mut filtered, "nearly");
    (filtered, num_cut_short)
}

/// Takes out what has an original, in order.
fn remove(pairs: &mut Vec<GeneratedPair>, original_of: &[Option<u32>], filtered: &mut Filtered, what: &str) {
    for (pair, original) in pairs.iter().zip(original_of) {
        let Some(original) = original else { continue };
        let original = &pairs[*original as usize];
        let reason = || format!("{what} pair {} of {}: {}", original.id, original.document, original.question);
        filtered.add(pair, reason, true);
    }
    let mut originals = original_of.iter();
    pairs.retain(|_| originals.next().expect("one entry a pair").is_none());
}

/// A text without case and punctuation, as a number; as it stands if nothing is left of it.
fn text_key(text: &str, words: &mut Words) -> u128 {
    words.read(text);
    words.key().unwrap_or_else(|| u128::from(mix(11, hash_bytes(text.trim().as_bytes()))))
}

fn joined(a: u128, b: u128) -> u128 {
    let halves = |start| [a, a >> 64, b, b >> 64].iter().fold(start, |sum, half| mix(sum, *half as u64));
    u128::from(halves(12)) << 64 | u128::from(halves(13))
}
