//! What is trained on and what is measured on: by the user's test file, or by whole documents set aside.

use artel_common::records::Pair;
use artel_common::spec::DataSection;
use artel_common::{Error, Result};

use super::clean::remove_copies;
use super::components::{Component, Ties};
use super::overlap::find_leaks;
use super::read::TEST_IS_TRAIN;
use super::{Rows, Split};

/// Rows that in-batch negatives need.
const MIN_TRAIN_ROWS: usize = 2;

/// Removes exact copies and parts the rows; a pure function of its arguments.
///
/// With a test file nothing moves: what both sides share is counted, warned of, and with `drop_leaks` left out of training.
/// With `test = "train"` both sides are the training rows. Else whole components (rows that share a document, a text, or
/// near-duplicate texts) go to the test side until it has `test_fraction` of the rows.
///
/// # Errors
/// Fewer than two rows are left to train on, or none to measure on.
pub fn split(rows: Rows, data: &DataSection, seed: u64) -> Result<Split> {
    check_settings(data)?;
    let Rows { mut train, test, mut report, warnings } = rows;
    report.exact_duplicates += remove_copies(&mut train);
    if train.len() < MIN_TRAIN_ROWS {
        return Err(too_few(train.len(), "after bad rows and exact copies are left out"));
    }
    let done = Split { train, test: Vec::new(), test_is_train: false, report, warnings, made: None };
    match test {
        Some(test) => with_test_file(done, test, data),
        None if data.test.as_deref() == Some(TEST_IS_TRAIN) => Ok(on_train(done)),
        None => by_components(done, data, seed),
    }
}

fn check_settings(data: &DataSection) -> Result<()> {
    let threshold = data.near_duplicate_threshold;
    if !(threshold > 0.0 && threshold <= 1.0) {
        return Err(Error::Spec(format!("data.near_duplicate_threshold is {threshold}; it must be above 0 and at most 1")));
    }
    let share = data.test_fraction;
    if data.test.is_none() && !(share > 0.0 && share < 1.0) {
        return Err(Error::Spec(format!(
            "data.test_fraction is {share}; it must be above 0 and below 1, or data.test name a file"
        )));
    }
    Ok(())
}

fn too_few(num_rows: usize, when: &str) -> Error {
    let rows = if num_rows == 1 { "1 row is" } else { "no rows are" };
    Error::Data(format!("{rows} left to train on {when}; in-batch negatives need at least {MIN_TRAIN_ROWS}, so give more pairs"))
}

fn on_train(mut split: Split) -> Split {
    split.test = split.train.clone();
    split.test_is_train = true;
    split.report.split = format!("no split: measured on the {} training rows themselves", split.train.len());
    split.warnings.push("data.test = \"train\": the metrics are of the training pairs and say nothing about unseen ones".into());
    split
}

fn with_test_file(mut split: Split, test: Vec<Pair>, data: &DataSection) -> Result<Split> {
    let leaks = find_leaks(&split.train, &test, data.near_duplicate_threshold);
    split.report.overlap = leaks.overlap;
    split.test = test;
    let num_leaks = leaks.rows.iter().filter(|&&leak| leak).count();
    let overlap = &mut split.report.overlap;
    let shared = format!(
        "{num_leaks} of {} training rows share a text with the test file: {} a question, {} a passage, {} a near-duplicate",
        split.train.len(),
        overlap.questions,
        overlap.texts,
        overlap.near_duplicates
    );
    if data.drop_leaks {
        let mut leak = leaks.rows.into_iter();
        split.train.retain(|_| !leak.next().expect("one flag a row"));
        overlap.dropped = num_leaks as u64;
        if split.train.len() < MIN_TRAIN_ROWS {
            return Err(too_few(
                split.train.len(),
                "after rows that share a text with the test file are left out (data.drop_leaks)",
            ));
        }
        if num_leaks > 0 {
            split.warnings.push(format!("{shared}; they are left out of training (data.drop_leaks)"));
        }
    } else if num_leaks > 0 {
        split.warnings.push(format!(
            "{shared}; the metrics after training are flattered by them (data.drop_leaks = true leaves them out of training)"
        ));
    }
    split.report.split =
        format!("a test file: {} rows to train on, {} to measure on, nothing moved", split.train.len(), split.test.len());
    Ok(split)
}

fn by_components(mut split: Split, data: &DataSection, seed: u64) -> Result<Split> {
    let num_rows = split.train.len();
    let wanted = ((num_rows as f64 * data.test_fraction).round() as usize).clamp(1, num_rows - 1);
    let ties = Ties::find(&split.train, data.near_duplicate_threshold);
    let has_negatives = split.train.iter().any(|pair| !pair.negatives.is_empty());
    let mut components = ties.components(&split.train, has_negatives, seed);
    let mut chosen = choose(&components, num_rows, wanted);
    // Mined negatives are other rows' passages, and may tie all rows into one.
    let negatives_tie = has_negatives && chosen.iter().map(|&c| components[c].rows.len()).sum::<usize>() * 2 < wanted;
    if negatives_tie {
        components = ties.components(&split.train, false, seed);
        chosen = choose(&components, num_rows, wanted);
    }
    let largest = components.iter().map(|component| component.rows.len()).max().unwrap_or(0);
    if chosen.is_empty() {
        return Err(Error::Data(format!(
            "no test rows can be set aside: of {num_rows} rows, {largest} hang together by documents, equal texts or near-duplicates; \
             give a test file (data.test), or raise data.near_duplicate_threshold (now {})",
            data.near_duplicate_threshold
        )));
    }
    let mut is_test = vec![false; num_rows];
    for &row in chosen.iter().flat_map(|&c| &components[c].rows) {
        is_test[row as usize] = true;
    }
    let mut flags = is_test.into_iter();
    (split.test, split.train) = std::mem::take(&mut split.train).into_iter().partition(|_| flags.next().expect("one flag a row"));
    if negatives_tie {
        warn_of_negatives(&mut split);
    }
    let (num_test, num_train) = (split.test.len(), split.train.len());
    if num_test * 2 < wanted {
        split.warnings.push(format!(
            "{num_test} test rows are set aside where data.test_fraction asks for {wanted}: {largest} of {num_rows} rows hang together by \
             documents, equal texts or near-duplicates, and stay on one side"
        ));
    }
    split.report.split = format!(
        "whole documents and near-duplicates set aside: {num_train} rows to train on, {num_test} to measure on ({:.1}%, wanted {:.1}%), \
         {} of {} components, the largest of {largest} rows",
        100.0 * num_test as f64 / num_rows as f64,
        100.0 * data.test_fraction,
        chosen.len(),
        components.len()
    );
    Ok(split)
}

/// The components to set aside: in their order, each that does not overshoot; if none fits, the smallest if that leaves enough.
fn choose(components: &[Component], num_rows: usize, wanted: usize) -> Vec<usize> {
    let mut chosen = Vec::new();
    let mut num_test = 0;
    for (index, component) in components.iter().enumerate() {
        if num_test + component.rows.len() <= wanted && num_rows - num_test - component.rows.len() >= MIN_TRAIN_ROWS {
            num_test += component.rows.len();
            chosen.push(index);
        }
    }
    if chosen.is_empty() {
        let smallest = (0..components.len()).min_by_key(|&index| components[index].rows.len());
        let fits = |index: &usize| {
            let length = components[*index].rows.len();
            length * 2 <= num_rows && num_rows - length >= MIN_TRAIN_ROWS
        };
        chosen.extend(smallest.filter(fits));
    }
    chosen
}

/// Counts training rows whose negatives are test texts after a split that negatives could not take part in.
fn warn_of_negatives(split: &mut Split) {
    let leaks = find_leaks(&split.train, &split.test, 1.0);
    split.report.overlap.texts = leaks.overlap.texts;
    if leaks.overlap.texts > 0 {
        split.warnings.push(format!(
            "{} training rows have a test passage among their negatives: negatives tie too many rows together to be kept apart",
            leaks.overlap.texts
        ));
    }
}
