//! What was found by the base model, applied: pairs that do not find their chunk are dropped, and training rows get their hard negatives.

use std::collections::HashMap;

use artel_common::making::{MadeReport, NegativesReport, TakenOut};
use artel_common::mining::{FoundRow, MiningState};
use artel_common::records::Pair;
use artel_common::store::Store;
use artel_common::{Error, Result};

use crate::build::{Gathered, all_taken, filtered_by, put_for_people};
use crate::dataset::{Filtered, GeneratedPair, Split};
use crate::pool::{Asked, Lists, Pooled};

/// Name of the rule for pairs whose question does not find its chunk.
pub(crate) const ROUND_TRIP: &str = "round_trip";
/// Name of the rule for training rows with fewer hard negatives than are wanted.
pub(crate) const FEW_NEGATIVES: &str = "few_negatives";
/// Rows that in-batch negatives need.
const MIN_TRAIN_ROWS: usize = 2;

/// What becomes of a row.
#[derive(Debug, Clone, Default, PartialEq)]
enum Verdict {
    /// It was not asked about.
    #[default]
    Kept,
    /// It stays, with these passages.
    Mined(Vec<u64>),
    /// Its question does not find its chunk.
    Lost,
    /// It has too few negatives.
    Poor(usize),
}

/// The data set as it is to be, with its report; puts the pairs that found their chunks where people look for them.
///
/// # Errors
/// The store refuses or an object is damaged; too few rows are left.
pub(crate) async fn sift(store: &Store, pooled: Pooled, mining: &MiningState) -> Result<Split> {
    let mut searched: Vec<_> = mining.searched.iter().collect();
    searched.sort_by_key(|shard| shard.index);
    let mut found: Vec<FoundRow> = Vec::with_capacity(pooled.lists.asked.len());
    for shard in searched {
        found.extend(store.get_json_verified::<Vec<FoundRow>>(&shard.found).await?);
    }
    if found.len() != pooled.lists.asked.len() {
        return Err(Error::Internal(format!(
            "{} of {} questions were searched for: this is a defect; please report it",
            found.len(),
            pooled.lists.asked.len()
        )));
    }
    let Sifted { split, kept, taken_out } = apply(pooled, &found)?;
    put_for_people(store, &kept, &taken_out).await?;
    Ok(split)
}

/// What comes of a data set.
struct Sifted {
    split: Split,
    /// Pairs that found their chunks.
    kept: Vec<GeneratedPair>,
    /// All that are not in the data set.
    taken_out: TakenOut,
}

/// Drops, adds, counts; a pure function of its arguments.
fn apply(pooled: Pooled, found: &[FoundRow]) -> Result<Sifted> {
    let Pooled { gathered, mut split, numbers, lists } = pooled;
    let mut verdicts = [vec![Verdict::Kept; split.train.len()], vec![Verdict::Kept; split.test.len()]];
    for (index, (asked, found)) in lists.asked.iter().zip(found).enumerate() {
        verdicts[usize::from(asked.is_test)][asked.row] = verdict(asked, found, &lists, index);
    }
    let (mut lost, mut poor) = (Filtered::new(ROUND_TRIP), Filtered::new(FEW_NEGATIVES));
    let mut gone: HashMap<usize, bool> = HashMap::new();
    let sides = [&split.train, &split.test];
    for (pair, verdict) in sides.into_iter().zip(&verdicts).flat_map(|(rows, verdicts)| rows.iter().zip(verdicts)) {
        let (filtered, reason) = match verdict {
            Verdict::Kept | Verdict::Mined(_) => continue,
            Verdict::Lost => (&mut lost, "its chunk is beyond the rank that is asked for".to_owned()),
            Verdict::Poor(count) => (&mut poor, format!("{count} of {} negatives were found", lists.rule.num_negatives)),
        };
        let number = numbers.get(&pair.id).copied();
        filtered.add(&number.map_or_else(|| of_file(pair), |number| gathered.kept[number].clone()), || reason, true);
        if let Some(number) = number {
            gone.insert(number, *verdict == Verdict::Lost);
        }
    }
    let negatives = negatives_report(&lists, &verdicts[0], found);
    let before = (split.train.len(), split.test.len());
    let [train, test] = verdicts;
    split.train = keep(std::mem::take(&mut split.train), train, &lists.passages);
    split.test = match split.test_is_train {
        true => split.train.clone(),
        false => keep(std::mem::take(&mut split.test), test, &lists.passages),
    };
    let mut taken_out = gathered.taken_out.clone();
    for (number, is_lost) in &gone {
        let rule = if *is_lost { ROUND_TRIP } else { FEW_NEGATIVES };
        taken_out.entry(rule.to_owned()).or_default().extend(gathered.kept[*number].id.parse::<u64>());
    }
    taken_out.values_mut().for_each(|numbers| numbers.sort_unstable());
    let (made, kept) = report(gathered, &gone, [&lost, &poor], negatives)?;
    check(&split, before, &made)?;
    say(&mut split, before);
    split.made = Some(made);
    Ok(Sifted { split, kept, taken_out })
}

fn verdict(asked: &Asked, found: &FoundRow, lists: &Lists, index: usize) -> Verdict {
    if asked.checks && found.rank == 0 {
        return Verdict::Lost;
    }
    if !asked.mines {
        return Verdict::Kept;
    }
    // a row may not have a text twice (DUP-1)
    let question = &lists.questions[index].question;
    let is_other = |number: &&u64| lists.passages[**number as usize] != *question;
    match found.negatives.iter().filter(is_other).count() {
        count if (count as u64) < lists.rule.num_negatives => Verdict::Poor(count),
        _ => Verdict::Mined(found.negatives.clone()),
    }
}

/// The rows that stay, with their negatives.
fn keep(rows: Vec<Pair>, verdicts: Vec<Verdict>, passages: &[String]) -> Vec<Pair> {
    let kept = rows.into_iter().zip(verdicts).filter_map(|(pair, verdict)| match verdict {
        Verdict::Kept => Some(pair),
        Verdict::Mined(numbers) => {
            let negatives = numbers.iter().map(|&number| passages[number as usize].clone()).collect();
            Some(Pair { negatives, ..pair })
        }
        Verdict::Lost | Verdict::Poor(_) => None,
    });
    kept.collect()
}

/// A row of a file, as an example of a rule.
fn of_file(pair: &Pair) -> GeneratedPair {
    let (question, answer) = (pair.anchor.clone(), pair.positive.clone());
    GeneratedPair { id: pair.id.clone(), question, answer, chunk: "".into(), document: "".into(), score: None }
}

fn negatives_report(lists: &Lists, train: &[Verdict], found: &[FoundRow]) -> Option<NegativesReport> {
    let per_row = lists.rule.num_negatives;
    if per_row == 0 {
        return None;
    }
    let is_kept = |asked: &Asked| asked.mines && matches!(train[asked.row], Verdict::Mined(_));
    let rows = lists.asked.iter().zip(found).filter(|(asked, _)| is_kept(asked));
    let scores: Vec<f64> = rows.flat_map(|(_, found)| found.scores.iter().copied().map(f64::from)).collect();
    let mean_score = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    Some(NegativesReport { per_row, candidates: lists.candidates.end - lists.candidates.start, mean_score })
}

/// The report, and the pairs that found their chunks; `gone` are pairs that are not in the data set, and whether for that.
fn report(
    mut gathered: Gathered,
    gone: &HashMap<usize, bool>,
    rules: [&Filtered; 2],
    negatives: Option<NegativesReport>,
) -> Result<(MadeReport, Vec<GeneratedPair>)> {
    gathered.questions.filtered.extend(rules.into_iter().filter(|rule| rule.count > 0).map(filtered_by));
    gathered.questions.negatives = negatives;
    let pairs = std::mem::take(&mut gathered.kept);
    let in_set = pairs.iter().enumerate().filter(|(number, _)| !gone.contains_key(number)).map(|(_, pair)| pair.clone());
    gathered.kept = in_set.collect();
    if gathered.kept.is_empty() {
        return Err(all_taken(&gathered.questions.filtered));
    }
    let found = pairs.into_iter().enumerate().filter(|(number, _)| gone.get(number) != Some(&true)).map(|(_, pair)| pair);
    Ok((gathered.report(), found.collect()))
}

fn check(split: &Split, (train, test): (usize, usize), made: &MadeReport) -> Result<()> {
    let (side, had) = match (split.train.len() < MIN_TRAIN_ROWS, split.test.is_empty()) {
        (false, false) => return Ok(()),
        (true, _) => ("training", train),
        (false, true) => ("test", test),
    };
    let counts = |rule: &str| made.questions.filtered.iter().find(|by| by.rule == rule).map_or(0, |by| by.count);
    Err(Error::Data(format!(
        "of {had} {side} rows [cleaning] leaves too few: {} pairs do not find their chunks (round_trip), {} training rows have fewer negatives than num_negatives; \
         raise round_trip or range_max, lower num_negatives, range_min or relative_margin, or give more documents",
        counts(ROUND_TRIP),
        counts(FEW_NEGATIVES)
    )))
}

fn say(split: &mut Split, (train, test): (usize, usize)) {
    let train = train - split.train.len();
    let test = if split.test_is_train { 0 } else { test - split.test.len() };
    if train + test > 0 {
        split.report.split += &format!("; of these [cleaning] takes {train} rows to train on and {test} to measure on out again");
    }
}

#[cfg(test)]
mod tests;
