//! What the base model is asked about pairs that were made from documents: they are cleaned and split, and their texts put into the store.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use artel_common::digest::Digest;
use artel_common::making::{MadeReport, MakingState};
use artel_common::mining::{
    MiningRecord, MiningRule, Pool, PoolQuestion, PoolShard, SHARD_TEXTS, encode_passages, encode_questions,
};
use artel_common::records::Pair;
use artel_common::spec::CleaningSection;
use artel_common::store::Store;
use artel_common::{Error, Result, layout};
use bytes::Bytes;

use crate::build::{Gathered, Made, gather};
use crate::dataset::Split;
use crate::prepare::Preparation;

/// Version of [`Pool`].
const FORMAT: u32 = 1;

/// A split data set on its way past the base model.
pub(crate) struct Pooled {
    /// What documents came to.
    pub gathered: Gathered,
    /// Its rows, and those of files.
    pub split: Split,
    /// Which of the gathered pairs a row is, by its id; rows of files are none.
    pub numbers: HashMap<String, usize>,
    /// What is asked.
    pub lists: Lists,
}

/// A row that is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// On which side it stands.
    pub is_test: bool,
    /// Its number there.
    pub row: usize,
    /// It must find its chunk.
    pub checks: bool,
    /// It wants negatives.
    pub mines: bool,
}

/// Questions and passages, and which are held against which.
pub(crate) struct Lists {
    /// What is wanted.
    pub rule: MiningRule,
    /// A row for each question.
    pub asked: Vec<Asked>,
    /// The questions.
    pub questions: Vec<PoolQuestion>,
    /// The passages, each text once.
    pub passages: Vec<String>,
    /// Those that are chunks.
    pub chunks: Range<u64>,
    /// Those that may become negatives.
    pub candidates: Range<u64>,
}

/// Cleans and splits the pairs and puts what is to be embedded into the store; what the journal is to say of it.
///
/// # Errors
/// The store refuses or an object is damaged; no pair is left, or rows of files have negatives of their own where some are to be mined.
pub(crate) async fn pool(preparation: &Preparation, state: &MakingState) -> Result<(Pooled, MiningRecord)> {
    let Preparation { spec, store, .. } = preparation;
    let (Some(cleaning), Some(settings)) = (spec.mining().cloned(), spec.mining_digest()) else {
        return Err(Error::Internal("the spec asks the base model for nothing".into()));
    };
    let gathered = gather(spec, store, state).await?;
    let pairs = gathered.pairs(spec.data.positive);
    let num_made = pairs.len();
    let (rows, _) = preparation.rows(Some(Made { pairs, report: MadeReport::default() }), &|_| {}).await?;
    let made = &rows.train[rows.train.len() - num_made..];
    let numbers: HashMap<String, usize> = made.iter().enumerate().map(|(number, pair)| (pair.id.clone(), number)).collect();
    let split = preparation.split(rows).await?;
    let chunk = |pair: &Pair| numbers.get(&pair.id).map(|&number| &*gathered.kept[number].chunk);
    // the rows of a test file were not made of chunks, and their ids are their own
    let lists = lists(&cleaning, &split, spec.data.test.is_none(), chunk)?;
    let record = put(store, &lists, settings).await?;
    Ok((Pooled { gathered, split, numbers, lists }, record))
}

/// Passages by text, with what each is.
#[derive(Default)]
struct Passages<'a> {
    numbers: HashMap<&'a str, usize>,
    texts: Vec<Passage<'a>>,
}

#[derive(Clone, Copy)]
struct Passage<'a> {
    text: &'a str,
    is_chunk: bool,
    is_candidate: bool,
}

impl<'a> Passages<'a> {
    /// The passage of this text, new if it is.
    fn at(&mut self, text: &'a str) -> usize {
        let texts = &mut self.texts;
        *self.numbers.entry(text).or_insert_with(|| {
            texts.push(Passage { text, is_chunk: false, is_candidate: false });
            texts.len() - 1
        })
    }

    /// The passages in the order of a pool, and the number there of each: chunks alone, both, candidates alone, neither.
    fn ordered(&self) -> (Vec<Passage<'a>>, Vec<u64>) {
        let place = |passage: &Passage<'_>| match (passage.is_chunk, passage.is_candidate) {
            (true, false) => 0,
            (true, true) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        let mut order: Vec<usize> = (0..self.texts.len()).collect();
        order.sort_by_key(|&at| place(&self.texts[at]));
        let mut numbers = vec![0; order.len()];
        order.iter().enumerate().for_each(|(number, &at)| numbers[at] = number as u64);
        (order.into_iter().map(|at| self.texts[at]).collect(), numbers)
    }
}

/// Which rows are asked about, and all passages that they are held against; a pure function of its arguments.
///
/// Candidates are the positives of the training rows, but for texts of the test side. `test_is_made` says whether test rows have chunks too.
///
/// # Errors
/// Negatives are wanted, and a training row has some.
fn lists<'a, 'b: 'a>(
    cleaning: &CleaningSection,
    split: &'a Split,
    test_is_made: bool,
    chunk: impl Fn(&Pair) -> Option<&'b str>,
) -> Result<Lists> {
    let mines = cleaning.num_negatives > 0;
    let chunk = |pair: &Pair| -> Option<&'a str> { chunk(pair).filter(|_| cleaning.round_trip.is_some()) };
    let mut passages = Passages::default();
    let mut positives: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut num_rows: HashMap<&str, u64> = HashMap::new();
    if mines {
        check_negatives(&split.train)?;
        let test = if split.test_is_train { &[][..] } else { &split.test[..] };
        let test: HashSet<&str> = test.iter().flat_map(Pair::columns).collect();
        for pair in &split.train {
            let at = passages.at(&pair.positive);
            passages.texts[at].is_candidate = !test.contains(pair.positive.as_str());
            let known = positives.entry(&pair.anchor).or_default();
            if !known.contains(&at) {
                known.push(at);
            }
            *num_rows.entry(&pair.anchor).or_default() += 1;
        }
    }
    let test = if test_is_made { &split.test[..] } else { &[][..] };
    let sides = [(false, &split.train[..]), (true, test)];
    let mut rows: Vec<(Asked, &Pair, Option<usize>)> = Vec::new();
    for (is_test, side) in sides {
        for (row, pair) in side.iter().enumerate() {
            let own = chunk(pair).map(|text| passages.at(text));
            own.into_iter().for_each(|at| passages.texts[at].is_chunk = true);
            let asked = Asked { is_test, row, checks: own.is_some(), mines: mines && !is_test };
            if asked.checks || asked.mines {
                rows.push((asked, pair, own));
            }
        }
    }
    let (ordered, numbers) = passages.ordered();
    let question = |(asked, pair, own): &(Asked, &Pair, Option<usize>)| {
        let positives = positives.get(pair.anchor.as_str()).filter(|_| asked.mines);
        PoolQuestion {
            question: pair.anchor.clone(),
            chunk: own.map(|at| numbers[at]),
            positives: positives.into_iter().flatten().map(|&at| numbers[at]).collect(),
        }
    };
    let first = ordered.iter().position(|passage| passage.is_candidate).unwrap_or(0) as u64;
    let count = |is: fn(&&Passage<'_>) -> bool| ordered.iter().filter(is).count() as u64;
    Ok(Lists {
        rule: rule(cleaning, num_rows.values().copied().max().unwrap_or(0)),
        questions: rows.iter().map(question).collect(),
        asked: rows.iter().map(|row| row.0).collect(),
        chunks: 0..count(|passage| passage.is_chunk),
        candidates: first..first + count(|passage| passage.is_candidate),
        passages: ordered.iter().map(|passage| passage.text.to_owned()).collect(),
    })
}

/// The rule, with what depends on the rows filled in.
fn rule(cleaning: &CleaningSection, max_positives: u64) -> MiningRule {
    let CleaningSection { round_trip, num_negatives, range_min, range_max, relative_margin } = *cleaning;
    // as sentence-transformers does where there is a margin: room for what it takes out
    let range_max = range_max.unwrap_or(range_min + 10 * num_negatives + max_positives);
    MiningRule { round_trip, num_negatives, range_min, range_max, max_positives, relative_margin }
}

/// Rows that are to get hard negatives have none.
///
/// # Errors
/// A row has some.
pub(crate) fn check_negatives(rows: &[Pair]) -> Result<()> {
    let Some(row) = rows.iter().find(|pair| !pair.negatives.is_empty()) else { return Ok(()) };
    Err(Error::Data(format!(
        "the row {:?} of [data] pairs has {} negatives of its own, and cleaning.num_negatives asks for others to be mined; leave one of both out",
        row.id,
        row.negatives.len()
    )))
}

/// Puts texts and pool into the store.
async fn put(store: &Store, lists: &Lists, settings: Digest) -> Result<MiningRecord> {
    let (mut questions, mut passages) = (Vec::new(), Vec::new());
    for shard in lists.questions.chunks(SHARD_TEXTS) {
        questions.push(put_shard(store, "questions", questions.len(), encode_questions(shard)?, shard.len()).await?);
    }
    for shard in lists.passages.chunks(SHARD_TEXTS) {
        let texts: Vec<&str> = shard.iter().map(String::as_str).collect();
        passages.push(put_shard(store, "passages", passages.len(), encode_passages(&texts)?, shard.len()).await?);
    }
    let (question_shards, passage_shards) = (questions.len() as u64, passages.len() as u64);
    let (rule, chunks, candidates) = (lists.rule.clone(), lists.chunks.clone(), lists.candidates.clone());
    let pool = Pool { format: FORMAT, rule, questions, passages, chunks, candidates };
    let json = serde_json::to_vec(&pool).map_err(|e| Error::Internal(format!("cannot write a pool: {e}")))?;
    let pool = store.put(&layout::mining_pool(Digest::of(&json).as_str()), json.into()).await?;
    let (questions, passages) = (lists.questions.len() as u64, lists.passages.len() as u64);
    Ok(MiningRecord { settings, pool, questions, passages, question_shards, passage_shards })
}

async fn put_shard(store: &Store, kind: &str, index: usize, bytes: Bytes, count: usize) -> Result<PoolShard> {
    let key = layout::mining_texts(kind, index, Digest::of(&bytes).as_str());
    Ok(PoolShard { object: store.put(&key, bytes).await?, count: count as u64 })
}

#[cfg(test)]
mod tests;
