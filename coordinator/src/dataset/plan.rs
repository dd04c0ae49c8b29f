//! The batch plan of an epoch: which rows share a batch, so that no text meets itself (SAME-1, DUP-1).
//!
//! What sentence-transformers' `NoDuplicatesBatchSampler` does on one device, for the global batch: shuffle the rows by (seed,
//! epoch); walk the list and take each row none of whose texts, over all columns, is in the batch yet; leave the others in
//! their places for a later batch. Where that runs out of rows before the batch is full, the batch is short: `drop_last` leaves
//! its rows out, and goes on with the rest. Unlike theirs no row ever comes twice in an epoch, a batch that has no negatives
//! (one row of two columns) is left out, since its loss is zero, and the number of batches is known before the first.
//!
//! Theirs walks over all waiting rows for each batch: rows times batches where half the rows share a question. Here a row that
//! has to wait is parked with one of the texts it waits for: of a text only its first waiting row can come next, and none while
//! the text is in the batch. So a batch costs its own rows and the few that move from one text to another.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use artel_common::plan::EpochPlan;
use artel_common::records::Pair;
use artel_common::rng::Rng;
use artel_common::{Error, Result};

/// Plans an epoch over the training rows; a pure function of its arguments.
///
/// # Errors
/// The batch is larger than the data, or no batch can be filled.
pub fn plan_epoch(train: &[Pair], seed: u64, epoch: u32, global_batch_size: usize, drop_last: bool) -> Result<EpochPlan> {
    plan_rows(&TextIds::new(train), seed, epoch, global_batch_size, drop_last)
}

/// The texts of each row as numbers: equal texts have equal numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextIds {
    ids: Vec<u32>,
    num_columns: usize,
    num_texts: usize,
}

impl TextIds {
    /// Numbers the texts of all columns.
    pub fn new(pairs: &[Pair]) -> Self {
        let num_columns = pairs.first().map_or(2, |pair| pair.columns().count());
        let mut known: HashMap<&str, u32> = HashMap::with_capacity(pairs.len() * num_columns);
        let mut ids = Vec::with_capacity(pairs.len() * num_columns);
        for text in pairs.iter().flat_map(Pair::columns) {
            let next = known.len() as u32;
            ids.push(*known.entry(text).or_insert(next));
        }
        let num_texts = known.len();
        Self { ids, num_columns, num_texts }
    }

    /// Takes rows of `num_columns` numbers below `num_texts` each.
    ///
    /// # Panics
    /// The numbers make no whole rows, or are too large.
    pub fn from_numbers(ids: Vec<u32>, num_columns: usize, num_texts: usize) -> Self {
        assert!(num_columns > 0 && ids.len().is_multiple_of(num_columns), "whole rows");
        assert!(ids.iter().all(|&id| (id as usize) < num_texts), "numbers below num_texts");
        Self { ids, num_columns, num_texts }
    }

    /// How many rows there are.
    pub fn num_rows(&self) -> usize {
        self.ids.len() / self.num_columns
    }

    /// The texts of a row.
    pub fn row(&self, row: u32) -> &[u32] {
        &self.ids[row as usize * self.num_columns..][..self.num_columns]
    }
}

/// [`plan_epoch`] over rows whose texts are numbered already: numbering them once serves every epoch.
///
/// # Errors
/// As [`plan_epoch`].
pub fn plan_rows(texts: &TextIds, seed: u64, epoch: u32, global_batch_size: usize, drop_last: bool) -> Result<EpochPlan> {
    let num_rows = texts.num_rows();
    if global_batch_size == 0 || num_rows < global_batch_size {
        return Err(Error::Spec(format!(
            "train.global_batch_size is {global_batch_size} but there are {num_rows} training rows; set it to at most {num_rows}"
        )));
    }
    let mut order: Vec<u32> = (0..num_rows as u32).collect();
    Rng::stream("batch plan", &[seed, u64::from(epoch)]).shuffle(&mut order);
    let min_rows = match (drop_last, texts.num_columns) {
        (true, _) => global_batch_size,
        (false, 2) => 2,
        (false, _) => 1,
    };
    let mut queue = Queue::new(texts, order);
    let mut plan = EpochPlan { epoch, order: Vec::with_capacity(num_rows), batch_starts: vec![0], left_out: 0 };
    loop {
        let start = plan.order.len();
        queue.next_batch(global_batch_size, &mut plan.order);
        let length = plan.order.len() - start;
        if length == 0 {
            break;
        }
        if length < min_rows {
            plan.order.truncate(start);
        } else {
            plan.batch_starts.push(plan.order.len() as u32);
        }
    }
    plan.left_out = (num_rows - plan.order.len()) as u32;
    if plan.num_batches() == 0 {
        return Err(Error::Data(format!(
            "no batch of {global_batch_size} rows without a repeated text can be made of the {num_rows} training rows; set \
             train.global_batch_size lower{}",
            if drop_last { " or train.drop_last = false" } else { "" }
        )));
    }
    Ok(plan)
}

/// A place in the shuffled list.
type Place = u32;
/// Parked rows of a text, first place first.
type Parked = BinaryHeap<Reverse<Place>>;

/// Rows still to be given out, in the shuffled order.
struct Queue<'a> {
    texts: &'a TextIds,
    order: Vec<u32>,
    /// Rows from here on were never looked at.
    fresh: usize,
    /// Waiting rows, each with one text that a batch had when it was passed over.
    parked: HashMap<u32, Parked>,
    /// Each text with parked rows stands here with the first of them; entries overtaken by events are skipped.
    heads: BinaryHeap<Reverse<(Place, u32)>>,
    /// The batch that each text was last in, from 1.
    last_batch: Vec<u32>,
    batch: u32,
}

impl<'a> Queue<'a> {
    fn new(texts: &'a TextIds, order: Vec<u32>) -> Self {
        let last_batch = vec![0; texts.num_texts];
        Self { texts, order, fresh: 0, parked: HashMap::new(), heads: BinaryHeap::new(), last_batch, batch: 0 }
    }

    /// Appends the next batch's rows; none when no row is left.
    fn next_batch(&mut self, max_rows: usize, rows: &mut Vec<u32>) {
        self.batch += 1;
        let full = rows.len() + max_rows;
        // Texts of this batch whose first parked row must be entered again when it is over.
        let mut touched = Vec::new();
        while rows.len() < full {
            let Some(place) = self.next_place(&mut touched) else { break };
            let row = self.order[place as usize];
            match self.texts.row(row).iter().find(|&&text| self.last_batch[text as usize] == self.batch) {
                Some(&blocking) => {
                    self.parked.entry(blocking).or_default().push(Reverse(place));
                    touched.push(blocking);
                }
                None if self.repeats_itself(row) => {}
                None => {
                    rows.push(row);
                    for &text in self.texts.row(row) {
                        self.last_batch[text as usize] = self.batch;
                    }
                }
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for text in touched {
            self.enter_head(text);
        }
    }

    /// A row with the same text twice fits in no batch.
    fn repeats_itself(&self, row: u32) -> bool {
        let texts = self.texts.row(row);
        (1..texts.len()).any(|later| texts[..later].contains(&texts[later]))
    }

    /// The first row that is not known to have a text of this batch: the waiting ones come before the fresh ones.
    fn next_place(&mut self, touched: &mut Vec<u32>) -> Option<Place> {
        while let Some(Reverse((place, text))) = self.heads.pop() {
            let Some(parked) = self.parked.get_mut(&text) else { continue };
            if parked.peek() != Some(&Reverse(place)) {
                continue;
            }
            if self.last_batch[text as usize] == self.batch {
                touched.push(text);
                continue;
            }
            parked.pop();
            if parked.is_empty() {
                self.parked.remove(&text);
            }
            // The row takes its text into the batch, or moves on to another text; either way the next one stands first now.
            self.enter_head(text);
            return Some(place);
        }
        let place = self.fresh;
        self.fresh += 1;
        (place < self.order.len()).then_some(place as Place)
    }

    fn enter_head(&mut self, text: u32) {
        if let Some(&Reverse(place)) = self.parked.get(&text).and_then(BinaryHeap::peek) {
            self.heads.push(Reverse((place, text)));
        }
    }
}

#[cfg(test)]
mod tests;
