//! Ranking and its metrics against sentence-transformers.

use artel_common::records::Metrics;
use serde_json::Value;

use super::*;
use crate::metrics::{mean, query_metrics};

const H: usize = 12;
const NUM_QUERIES: usize = 70;
const NUM_DOCUMENTS: usize = 700;

/// The vectors that the fixture was made with.
fn vector(i: usize, salt: usize) -> Vec<f32> {
    (0..H).map(|k| ((i * 7919 + k * 104_729 + salt * 31_337 + i * k * 613) % 2003) as f32 - 1001.0).collect()
}

/// Documents of which 300 repeat others, so that they tie, and queries near them.
fn texts() -> (Vec<f32>, Vec<f32>, Vec<String>, Vec<Vec<u32>>) {
    let documents: Vec<Vec<f32>> = (0..NUM_DOCUMENTS).map(|i| vector(i % 400, 1)).collect();
    let near = |q: usize| documents[q * 13 % NUM_DOCUMENTS].iter().zip(vector(q, 2)).map(|(a, b)| a + b).collect::<Vec<f32>>();
    let queries: Vec<f32> = (0..NUM_QUERIES).flat_map(near).collect();
    let ids = (0..NUM_DOCUMENTS).map(|i| format!("d{i}")).collect();
    let relevant = |q: usize| (0..=q % 4).map(|j| ((q * 13 + j * 400 + (j / 2) * 17) % NUM_DOCUMENTS) as u32).collect();
    (queries, documents.concat(), ids, (0..NUM_QUERIES).map(relevant).collect())
}

/// Goal: EVAL-1, the ranking and every metric are those of `InformationRetrievalEvaluator`, ties included. Method: a
/// fixture made by tests/tools/retrieval_figures.py from vectors of which many are equal.
#[test]
fn metrics_of_sentence_transformers() {
    let fixture: Value = serde_json::from_str(include_str!("../../fixtures/retrieval.json")).unwrap();
    let (queries, corpus, ids, relevant) = texts();
    let task = RankTask { hidden: H, queries: &queries, corpus: &corpus, corpus_ids: &ids, top_k: 100 };
    let mut metrics = Metrics::new();
    for dim in [12, 8, 4] {
        let ranked = rank(&task, dim, 0..NUM_QUERIES).unwrap();
        for (ranked, expected) in ranked.iter().zip(fixture[format!("top5_{dim}")].as_array().unwrap()) {
            let expected: Vec<u32> = expected.as_array().unwrap().iter().map(|row| row.as_u64().unwrap() as u32).collect();
            assert_eq!(ranked[..5], expected, "width {dim}");
        }
        let per_query: Vec<_> = ranked.iter().zip(&relevant).map(|(top, relevant)| query_metrics(top, relevant)).collect();
        mean(&per_query, dim, &mut metrics);
    }
    assert_eq!(metrics.len(), 45);
    for (key, value) in &metrics {
        let expected = fixture[key].as_f64().unwrap();
        assert!((value - expected).abs() < 1e-12, "{key}: {value}, expected {expected}");
    }
}

/// Goal: it does not matter who ranks which queries. Method: queries one by one against all at once.
#[test]
fn parts_rank_like_the_whole() {
    let (queries, corpus, ids, _) = texts();
    let task = RankTask { hidden: H, queries: &queries, corpus: &corpus, corpus_ids: &ids, top_k: 700 };
    let whole = rank(&task, 12, 0..NUM_QUERIES).unwrap();
    let parts: Vec<Vec<u32>> = (0..NUM_QUERIES).flat_map(|query| rank(&task, 12, query..query + 1).unwrap()).collect();
    assert!(whole == parts && whole.iter().all(|rows| rows.len() == 700));
}

/// Goal: NaN and misfits are errors. Method: put them in.
#[test]
fn bad_input() {
    let (queries, mut corpus, ids, _) = texts();
    corpus[699 * H] = f32::NAN;
    let task = RankTask { hidden: H, queries: &queries, corpus: &corpus, corpus_ids: &ids, top_k: 3 };
    let error = rank(&task, 12, 0..1).unwrap_err();
    assert!(matches!(error, Error::NotFinite(_)) && error.to_string().contains("\"d699\""), "{error}");
    assert!(rank(&task, 13, 0..1).is_err() && rank(&task, 12, 0..71).is_err());
}
