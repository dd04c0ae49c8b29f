//! Mining against sentence-transformers, and what it must hold by itself.

use artel_common::mining::{MiningRule, Pool, PoolQuestion};
use serde_json::Value;

use super::*;

const H: usize = 12;
const NUM_QUESTIONS: usize = 40;
const NUM_PASSAGES: usize = 60;

/// The vectors that the figures were made with.
fn vector(number: usize, salt: usize) -> Vec<f32> {
    (0..H).map(|k| ((number * 7919 + k * 104_729 + salt * 31_337 + number * k * 613) % 2003) as f32 - 1001.0).collect()
}

fn passage(number: usize) -> Vec<f32> {
    vector(number, 1)
}

fn question(number: usize) -> Vec<f32> {
    let factor = (1 + number % 3) as f32;
    passage(number).iter().zip(vector(number, 2)).map(|(a, b)| a + b * factor).collect()
}

fn pool(rule: MiningRule, num_chunks: u64, candidates: Range<u64>) -> Pool {
    Pool { format: 1, rule, questions: Vec::new(), passages: Vec::new(), chunks: 0..num_chunks, candidates }
}

/// Rows of question and passage, and which passages each question has in all.
fn rows(fixture: &Value) -> Vec<(usize, PoolQuestion)> {
    let number = |value: &Value| value.as_u64().unwrap() as usize;
    let pairs: Vec<(usize, usize)> =
        fixture["rows"].as_array().unwrap().iter().map(|row| (number(&row[0]), number(&row[1]))).collect();
    let positives = |question: usize| pairs.iter().filter(|row| row.0 == question).map(|row| row.1 as u64).collect::<Vec<_>>();
    let row = |&(question, positive): &(usize, usize)| {
        let text = format!("q{question}");
        (question, PoolQuestion { question: text, chunk: Some(positive as u64), positives: positives(question) })
    };
    pairs.iter().map(row).collect()
}

/// Goal: negatives, their scores, and which rows have too few are those of `mine_hard_negatives` in its form of n-tuples. Method: figures of four
/// settings made by tests/tools/hard_negatives_figures.py, with questions of several positives and positives of negative cosine.
#[test]
fn negatives_of_sentence_transformers() {
    let fixture: Value = serde_json::from_str(include_str!("../../../tests/figures/hard_negatives.json")).unwrap();
    let rows = rows(&fixture);
    // the figures' corpus is the positives alone
    let last = 1 + rows.iter().flat_map(|(_, row)| &row.positives).max().unwrap();
    let questions: Vec<f32> = rows.iter().flat_map(|(number, _)| question(*number)).collect();
    let passages: Vec<f32> = (0..NUM_PASSAGES).flat_map(passage).collect();
    let (ids, asked): (_, Vec<PoolQuestion>) = (passage_ids(NUM_PASSAGES), rows.iter().map(|(_, row)| row.clone()).collect());
    for case in fixture["cases"].as_array().unwrap() {
        let number = |key: &str| case[key].as_u64();
        let max_positives = rows.iter().map(|(_, row)| row.positives.len() as u64).max().unwrap();
        let (num_negatives, range_min) = (number("num_negatives").unwrap(), number("range_min").unwrap());
        let rule = MiningRule {
            round_trip: None,
            num_negatives,
            range_min,
            range_max: number("range_max").unwrap_or(range_min + 10 * num_negatives + max_positives),
            max_positives,
            relative_margin: case["relative_margin"].as_f64().unwrap(),
        };
        let pool = pool(rule, 0, 0..last);
        let task = MineTask { hidden: H, questions: &questions, rows: &asked, passages: &passages, ids: &ids, pool: &pool };
        let found = mine(&task, 2, &Interrupt::default()).unwrap();
        let mut ours: Vec<(usize, u64, Vec<u64>, Vec<f32>)> = Vec::new();
        for ((question, row), found) in rows.iter().zip(&found) {
            if found.negatives.len() as u64 == num_negatives {
                ours.push((*question, row.chunk.unwrap(), found.negatives.clone(), found.scores.clone()));
            }
        }
        // they group rows by question
        ours.sort_by_key(|row| row.0);
        let theirs = case["found"].as_array().unwrap();
        assert_eq!(ours.len(), theirs.len(), "{case}");
        for ((question, positive, negatives, scores), theirs) in ours.iter().zip(theirs) {
            assert_eq!((Some(*question as u64), Some(*positive)), (theirs["question"].as_u64(), theirs["positive"].as_u64()));
            let expected: Vec<u64> = theirs["negatives"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
            assert_eq!(*negatives, expected, "question {question}");
            for (score, expected) in scores.iter().zip(&theirs["scores"].as_array().unwrap()[1..]) {
                assert!((f64::from(*score) - expected.as_f64().unwrap()).abs() < 1e-5, "{score}, expected {expected}");
            }
        }
    }
}

/// Goal: a question's rank is that of its chunk among the chunks, equal ones by number, and beyond the rule's it has none. Method: a chunk twice, passages
/// that are no chunks, ranks counted by hand over all scores; one thread and three.
#[test]
fn ranks_of_chunks() {
    let passages: Vec<f32> = (0..NUM_PASSAGES).flat_map(|number| passage(if number == 49 { 3 } else { number })).collect();
    let questions: Vec<f32> = (0..NUM_QUESTIONS).flat_map(question).collect();
    let rows: Vec<PoolQuestion> = (0..NUM_QUESTIONS as u64)
        .map(|number| PoolQuestion {
            question: String::new(),
            chunk: Some(if number == 5 { 49 } else { number }),
            positives: vec![],
        })
        .collect();
    let rule =
        MiningRule { round_trip: Some(2), num_negatives: 0, range_min: 0, range_max: 0, max_positives: 0, relative_margin: 0.05 };
    let (pool, ids) = (pool(rule, 50, 0..0), passage_ids(NUM_PASSAGES));
    let task = MineTask { hidden: H, questions: &questions, rows: &rows, passages: &passages, ids: &ids, pool: &pool };
    let found = mine(&task, 1, &Interrupt::default()).unwrap();
    assert_eq!(found, mine(&task, 3, &Interrupt::default()).unwrap());
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    for (number, (row, found)) in rows.iter().zip(&found).enumerate() {
        let scores: Vec<f64> =
            passages.chunks(H).take(50).map(|passage| cosine(&questions[number * H..(number + 1) * H], passage)).collect();
        let own = row.chunk.unwrap() as usize;
        let before =
            |other: &usize| scores[*other] > scores[own] + 1e-9 || ((scores[*other] - scores[own]).abs() < 1e-9 && *other < own);
        let rank = 1 + (0..50).filter(before).count() as u64;
        assert_eq!(found.rank, if rank <= 2 { rank } else { 0 }, "question {number}");
        assert!(found.negatives.is_empty());
    }
    assert!(found.iter().any(|found| found.rank == 0) && found.iter().any(|found| found.rank == 1));
    let beyond = vec![PoolQuestion { chunk: Some(NUM_PASSAGES as u64), ..PoolQuestion::default() }; NUM_QUESTIONS];
    assert!(mine(&MineTask { rows: &beyond, ..task }, 1, &Interrupt::default()).is_err());
}

/// Goal: a positive's score is the one that the ranking has for it, bit by bit. Method: the scores of all documents by both ways, over several tiles.
#[test]
fn scores_are_those_of_the_ranking() {
    let corpus: Vec<f32> = (0..700).flat_map(|number| vector(number, 1)).collect();
    let queries: Vec<f32> = (0..70).flat_map(|number| vector(number, 2)).collect();
    let ids = passage_ids(700);
    let task = RankTask { hidden: H, queries: &queries, corpus: &corpus, corpus_ids: &ids, top_k: 700 };
    let ranked = rank_scored(&task, H, 3..70).unwrap();
    let wanted: Vec<Vec<u32>> = ranked.iter().map(|hits| hits.iter().map(|hit| hit.row).collect()).collect();
    let scores = scores_of(&task, H, 3..70, &wanted).unwrap();
    for (hits, scores) in ranked.iter().zip(&scores) {
        assert!(hits.iter().map(|hit| hit.score).eq(scores.iter().copied()));
    }
    assert!(scores_of(&task, H, 0..1, &[vec![700]]).is_err() && scores_of(&task, H, 0..2, &[vec![0]]).is_err());
}
