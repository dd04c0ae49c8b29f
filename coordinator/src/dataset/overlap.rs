//! What training rows share with the rows that are measured on: questions, passages, near-duplicates.

use std::collections::{HashMap, HashSet};

use artel_common::records::{Overlap, Pair};

use super::near::ShingleSets;
use super::words::Words;

/// What was counted, and which training rows it concerns.
pub(super) struct Leaks {
    pub(super) overlap: Overlap,
    /// One flag a training row.
    pub(super) rows: Vec<bool>,
}

/// Counts training rows that share something with the test rows.
///
/// `questions`: the row's question is, letter for letter, a test question. `texts`: one of its texts is a test passage.
/// `near_duplicates`: neither of these, but one of its texts is, but for case and punctuation, a text of a test row, or shares
/// word 5-grams with one to a Jaccard index of at least `threshold`.
pub(super) fn find_leaks(train: &[Pair], test: &[Pair], threshold: f64) -> Leaks {
    let questions: HashSet<&str> = test.iter().map(|pair| pair.anchor.as_str()).collect();
    let passages: HashSet<&str> = test.iter().map(|pair| pair.positive.as_str()).collect();
    let near = near_texts(train, test, threshold);
    let mut overlap = Overlap::default();
    let mut flag = |pair: &Pair| {
        let question = questions.contains(pair.anchor.as_str());
        let text = pair.columns().any(|text| passages.contains(text));
        let alike = !question && !text && pair.columns().any(|text| near.contains(text));
        overlap.questions += u64::from(question);
        overlap.texts += u64::from(text);
        overlap.near_duplicates += u64::from(alike);
        question || text || alike
    };
    let rows = train.iter().map(&mut flag).collect();
    Leaks { overlap, rows }
}

/// Texts of training rows that are like a text of a test row.
fn near_texts<'a>(train: &'a [Pair], test: &[Pair], threshold: f64) -> HashSet<&'a str> {
    let train: HashSet<&str> = train.iter().flat_map(Pair::columns).collect();
    let test: HashSet<&str> = test.iter().flat_map(|pair| [pair.anchor.as_str(), pair.positive.as_str()]).collect();
    let mut words = Words::default();
    let mut near = HashSet::new();
    let mut key_of = |text: &str| {
        words.read(text);
        words.key()
    };
    // Texts of one key have one set of 5-grams: compare the first of each.
    let test_keys: HashMap<u128, &str> = test.iter().filter_map(|text| Some((key_of(text)?, *text))).collect();
    let mut train_keys: HashMap<u128, Vec<&'a str>> = HashMap::new();
    for text in train {
        match key_of(text) {
            Some(key) if test_keys.contains_key(&key) => drop(near.insert(text)),
            Some(key) => train_keys.entry(key).or_default().push(text),
            None => {}
        }
    }
    let groups: Vec<Vec<&str>> = train_keys.into_values().collect();
    let firsts = groups.iter().map(|group| group[0]);
    let all: Vec<&str> = firsts.chain(test_keys.into_values()).collect();
    let flags = ShingleSets::new(&all).alike_across(threshold, groups.len());
    for (group, _) in groups.iter().zip(flags).filter(|(_, alike)| *alike) {
        near.extend(group.iter().copied());
    }
    near
}
