//! The example data is what its README says: enough pairs, no text twice, no near-duplicates, documents of a few pairs.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result};

/// One line of `examples/handbook.jsonl`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    id: String,
    anchor: String,
    positive: String,
    doc: String,
}

fn pairs() -> Result<Vec<Pair>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/handbook.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn five_grams(text: &str) -> HashSet<Vec<String>> {
    let lower = text.to_lowercase();
    let words: Vec<String> = lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_owned).collect();
    match words.len() {
        0..=4 => HashSet::from([words]),
        _ => words.windows(5).map(<[String]>::to_vec).collect(),
    }
}

/// Goal: nothing in the example leaks from train to test. Method: ids and texts are unique, documents are small.
#[test]
fn pairs_are_distinct_and_grouped() -> Result<()> {
    let pairs = pairs()?;
    assert!(pairs.len() >= 390, "{} pairs", pairs.len());
    let ids: HashSet<&str> = pairs.iter().map(|p| p.id.as_str()).collect();
    let texts: HashSet<&str> = pairs.iter().flat_map(|p| [p.anchor.as_str(), p.positive.as_str()]).collect();
    assert_eq!((ids.len(), texts.len()), (pairs.len(), 2 * pairs.len()));
    let mut documents: BTreeMap<&str, usize> = BTreeMap::new();
    for pair in &pairs {
        *documents.entry(&pair.doc).or_default() += 1;
    }
    assert!(documents.len() >= 70 && documents.values().all(|n| (4..=7).contains(n)), "{documents:?}");
    Ok(())
}

/// Goal: no near-duplicates. Method: Jaccard similarity of word 5-grams of every two questions and every two passages.
#[test]
fn no_two_texts_are_near_duplicates() -> Result<()> {
    let pairs = pairs()?;
    for column in [|p: &Pair| p.anchor.clone(), |p: &Pair| p.positive.clone()] {
        let texts: Vec<String> = pairs.iter().map(column).collect();
        let grams: Vec<_> = texts.iter().map(|t| five_grams(t)).collect();
        for (i, left) in grams.iter().enumerate() {
            for (j, right) in grams.iter().enumerate().skip(i + 1) {
                let shared = left.intersection(right).count();
                let share = shared as f64 / (left.len() + right.len() - shared) as f64;
                assert!(share < 0.5, "{share:.2}: {:?} and {:?}", texts[i], texts[j]);
            }
        }
    }
    Ok(())
}
