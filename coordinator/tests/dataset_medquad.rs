//! The data set's stages on real pairs: MedQuAD, 8,000 to train on and 2,000 to measure on.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as they do")]

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use artel_common::spec::{Columns, DataSection};
use artel_coordinator::dataset::{CleanSettings, GeneratedPair, NEAR_DUPLICATE, Rows, clean, plan_epoch, read_rows, split};

/// The folder of the real data, if this machine has it.
fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("ARTEL_SHARED").map(|shared| PathBuf::from(shared).join("data"));
    if folder.is_none() {
        println!("skipped: the MedQuAD pairs are not here (ARTEL_SHARED not set)");
    }
    folder
}

fn data(test: Option<&str>) -> DataSection {
    DataSection {
        pairs: vec!["medquad_train.jsonl".into()],
        columns: Columns::default(),
        limit: None,
        test: test.map(str::to_owned),
        test_fraction: 0.1,
        drop_leaks: false,
        near_duplicate_threshold: 0.8,
        positive: Default::default(),
    }
}

fn read(data: &DataSection, folder: &std::path::Path) -> Rows {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(read_rows(data, folder, &|_, _| {})).unwrap()
}

/// Goal: what MedQuAD's files share is counted as it is. Method: the exact counts again from sets of texts; the near ones printed.
#[test]
fn overlap_with_the_test_file() {
    let Some(folder) = folder() else { return };
    let data = data(Some("medquad_test.jsonl"));
    let rows = read(&data, &folder);
    assert_eq!((rows.train.len(), rows.test.as_ref().map(Vec::len), rows.report.rows_bad), (8000, Some(2000), 0));
    let done = split(rows, &data, 42).unwrap();
    println!("{:?}\n{:?}\n{}", done.report.overlap, done.warnings, done.report.split);
    println!("exact copies removed: {}", done.report.exact_duplicates);
    let questions: HashSet<_> = done.test.iter().map(|pair| &pair.anchor).collect();
    let passages: HashSet<_> = done.test.iter().map(|pair| &pair.positive).collect();
    let count = |set: &HashSet<&String>, text: fn(&artel_common::records::Pair) -> &String| {
        done.train.iter().filter(|pair| set.contains(text(pair))).count() as u64
    };
    assert_eq!(done.report.overlap.questions, count(&questions, |pair| &pair.anchor));
    assert!(done.report.overlap.texts >= count(&passages, |pair| &pair.positive));
    assert_eq!(done.test.len(), 2000);
    assert_eq!(done.train.len() as u64 + done.report.exact_duplicates, 8000);
}

/// Goal: MedQuAD splits by documents into parts that share nothing, and plans without repeats. Method: split the training
/// file, look for shared documents and texts, go through the plan.
#[test]
fn split_by_documents() {
    let Some(folder) = folder() else { return };
    let data = data(None);
    let done = split(read(&data, &folder), &data, 42).unwrap();
    println!("{}", done.report.split);
    assert!((700..=800).contains(&done.test.len()), "{}", done.test.len());
    let groups: HashSet<_> = done.test.iter().map(|pair| pair.group.as_deref()).collect();
    let texts: HashSet<_> = done.test.iter().flat_map(|pair| pair.columns()).collect();
    for pair in &done.train {
        assert!(!groups.contains(&pair.group.as_deref()) && pair.columns().all(|text| !texts.contains(text)));
    }
    let plan = plan_epoch(&done.train, 42, 0, 32, false).unwrap();
    println!("{} batches of 32, {} rows left out", plan.num_batches(), plan.left_out);
    for batch in plan.batches() {
        let mut seen = HashSet::new();
        assert!(batch.iter().flat_map(|&row| done.train[row as usize].columns()).all(|text| seen.insert(text)));
    }
}

/// Goal: cleaning keeps pairs of real text, questions from templates about different things above all. Method: MedQuAD, whose
/// 8,000 questions all differ, once with each answer as its own chunk, once with all answers of a document as their chunk.
#[test]
fn cleaning_keeps_templates() {
    let Some(folder) = folder() else { return };
    let rows = read(&data(None), &folder).train;
    let mut documents: HashMap<&str, String> = HashMap::new();
    for row in &rows {
        let text = documents.entry(row.group.as_deref().unwrap_or_default()).or_default();
        text.push_str(&row.positive);
        text.push('\n');
    }
    let documents: HashMap<&str, Arc<str>> = documents.into_iter().map(|(name, text)| (name, text.into())).collect();
    for whole_documents in [false, true] {
        let pair = |row: &artel_common::records::Pair| {
            let document = row.group.as_deref().unwrap_or_default();
            let chunk = if whole_documents { documents[document].clone() } else { row.positive.as_str().into() };
            let (question, answer) = (row.anchor.clone(), row.positive.clone());
            GeneratedPair { id: row.id.clone(), question, answer, chunk, document: document.into(), score: None }
        };
        let cleaned = clean(rows.iter().map(pair).collect(), &CleanSettings::default());
        for filtered in &cleaned.filtered {
            println!("{}: {}", filtered.rule, filtered.count);
            filtered.examples.iter().for_each(|example| println!("    {} | {}", example.question, example.reason));
        }
        let num_near = cleaned.count(NEAR_DUPLICATE);
        assert!((1..=32).contains(&num_near), "{num_near}");
        assert!(rows.len() as u64 - cleaned.kept.len() as u64 - num_near <= 4);
    }
}
