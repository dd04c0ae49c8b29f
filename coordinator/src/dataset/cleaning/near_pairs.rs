//! Pairs that say nearly what an earlier pair says: answers alike, questions alike, and nothing that says they are about two things.
//!
//! Texts are compared as sets of words by weight (see `weights`), so that two questions made from one template are as
//! different as the rare words that they do not share. What says that two pairs are about two things is in `marks` and `sources`. Who may be alike is found from the answers (see `minhash`), then all is compared.
//! Pairs are taken in their order and compared with those that stay: whatever is taken out has one that stays in its place.

use std::collections::HashMap;

use super::super::words::{Words, mix};
use super::marks::marks_key;
use super::minhash::{Buckets, buckets};
use super::parts::by_parts;
use super::sources::Sources;
use super::weights::{Weights, word_set};

/// Pairs that a bucket files in one list; later ones are filed by a rare word of their question too.
const MAX_LISTED: u32 = 64;
/// Entries that are looked at for one pair. Only where thousands of answers and their questions' rare words are alike are there more.
const MAX_STEPS: u32 = 4096;
/// No entry follows.
const END: u32 = u32::MAX;

/// A question, its answer, and the chunk that they are from.
pub(super) type PairTexts<'a> = [&'a str; 3];

/// How alike texts must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Likeness {
    pub(super) question: f32,
    pub(super) answer: f32,
}

/// What was found.
pub(super) struct NearDuplicates {
    /// For each pair the earlier one that stays in its place, if it is a near-duplicate.
    pub(super) originals: Vec<Option<u32>>,
    /// Pairs that were not compared with all that they might be like: there were too many.
    pub(super) num_cut_short: u64,
}

/// Finds the near-duplicates among pairs.
pub(super) fn near_duplicates(pairs: &[PairTexts<'_>], least: Likeness) -> NearDuplicates {
    let weights = Weights::new(pairs.len(), |index| pairs[index][1]);
    let Buckets { members, num_buckets } = buckets(pairs.len(), &weights, |index| pairs[index][1]);
    let mut join = Join {
        questions: Questions::new(pairs),
        sources: Sources::new(pairs, weights),
        least,
        lists: Lists { heads: vec![(END, 0); num_buckets], entries: Vec::new(), by_word: HashMap::new() },
        seen: vec![END; pairs.len()],
        num_cut_short: 0,
    };
    let mut originals = vec![None; pairs.len()];
    for memberships in members.chunk_by(|a, b| a.0 == b.0) {
        let pair = memberships[0].0;
        originals[pair as usize] = join.original_of(pair, memberships);
        if originals[pair as usize].is_none() {
            join.file(pair, memberships);
        }
    }
    NearDuplicates { originals, num_cut_short: join.num_cut_short }
}

/// The questions' sets of words.
struct Questions {
    words: Vec<u32>,
    starts: Vec<usize>,
    /// A hash of the numbers and negations of each question.
    marks: Vec<u64>,
    weights: Weights,
}

impl Questions {
    fn new(pairs: &[PairTexts<'_>]) -> Self {
        let parts = by_parts(pairs.len(), |range| {
            let (mut words, mut set) = (Words::default(), Vec::new());
            let (mut all, mut lengths, mut marks) = (Vec::new(), Vec::new(), Vec::new());
            for [question, ..] in &pairs[range] {
                word_set(question, &mut words, &mut set);
                all.extend_from_slice(&set);
                lengths.push(set.len());
                marks.push(marks_key(question));
            }
            (all, lengths, marks)
        });
        let weights = Weights::new(pairs.len(), |index| pairs[index][0]);
        let mut questions = Self { words: Vec::new(), starts: vec![0], marks: Vec::new(), weights };
        for (all, lengths, marks) in parts {
            questions.words.extend(all);
            questions.marks.extend(marks);
            let mut end = questions.starts.last().copied().unwrap_or(0);
            for length in lengths {
                end += length;
                questions.starts.push(end);
            }
        }
        questions
    }

    fn words(&self, pair: u32) -> &[u32] {
        &self.words[self.starts[pair as usize]..self.starts[pair as usize + 1]]
    }

    fn alike(&self, a: u32, b: u32, least: f32) -> bool {
        self.marks[a as usize] == self.marks[b as usize] && self.weights.likeness(self.words(a), self.words(b)) >= least
    }

    /// The heaviest words of a question, so many that two questions with none in common cannot be alike: what is left
    /// weighs less than the share that a partner must have of it (prefix filtering, see `near`).
    fn heavy_words(&self, pair: u32, least: f32) -> Vec<u32> {
        let mut words: Vec<(f32, u32)> = self.words(pair).iter().map(|&word| (self.weights.of(word), word)).collect();
        words.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut left: f32 = words.iter().map(|(weight, _)| weight).sum();
        // A little more than needed, for rounding.
        let enough = left * least * 0.999;
        let heavy = words.into_iter().take_while(|(weight, _)| {
            let is_needed = left >= enough;
            left -= weight;
            is_needed
        });
        heavy.map(|(_, word)| word).collect()
    }
}

/// The pairs that stay, by bucket: linked lists, latest first.
struct Lists {
    /// By bucket: the last entry of its list, and how many there are.
    heads: Vec<(u32, u32)>,
    /// Pair, and the entry before.
    entries: Vec<(u32, u32)>,
    /// Last entries for a bucket that is full and a heavy word.
    by_word: HashMap<u64, u32>,
}

struct Join<'a> {
    questions: Questions,
    sources: Sources<'a>,
    least: Likeness,
    lists: Lists,
    /// By pair: the pair that it was last compared with.
    seen: Vec<u32>,
    num_cut_short: u64,
}

fn word_key(bucket: u32, word: u32) -> u64 {
    mix(10, u64::from(bucket) << 32 | u64::from(word))
}

impl Join<'_> {
    /// The pair that stays in the place of this one.
    fn original_of(&mut self, pair: u32, memberships: &[(u32, u32)]) -> Option<u32> {
        let mut num_left = MAX_STEPS;
        let mut heavy = None;
        for &(_, bucket) in memberships {
            let (head, length) = self.lists.heads[bucket as usize];
            if let Some(original) = self.find_in(head, pair, &mut num_left) {
                return Some(original);
            }
            if length >= MAX_LISTED {
                for &word in heavy.get_or_insert_with(|| self.questions.heavy_words(pair, self.least.question)).iter() {
                    let head = self.lists.by_word.get(&word_key(bucket, word)).copied().unwrap_or(END);
                    if let Some(original) = self.find_in(head, pair, &mut num_left) {
                        return Some(original);
                    }
                }
            }
        }
        self.num_cut_short += u64::from(num_left == 0);
        None
    }

    fn alike(&mut self, a: u32, b: u32) -> bool {
        self.questions.alike(a, b, self.least.question)
            && self.sources.answers_alike(a, b, self.least.answer)
            && !self.sources.about_two_things([a, b], [self.questions.words(a), self.questions.words(b)])
    }

    /// The first pair of a list that this one is like.
    fn find_in(&mut self, head: u32, pair: u32, num_left: &mut u32) -> Option<u32> {
        let mut at = head;
        while at != END && *num_left > 0 {
            let (other, before) = self.lists.entries[at as usize];
            at = before;
            *num_left -= 1;
            if std::mem::replace(&mut self.seen[other as usize], pair) == pair {
                continue;
            }
            if self.alike(pair, other) {
                return Some(other);
            }
        }
        None
    }

    /// Enters a pair that stays.
    fn file(&mut self, pair: u32, memberships: &[(u32, u32)]) {
        let Self { questions, least, lists: Lists { heads, entries, by_word }, .. } = self;
        let mut enter = |head: &mut u32| {
            entries.push((pair, std::mem::replace(head, entries.len() as u32)));
        };
        let mut heavy = None;
        for &(_, bucket) in memberships {
            let (head, length) = &mut heads[bucket as usize];
            if *length < MAX_LISTED {
                enter(head);
                *length += 1;
                continue;
            }
            for &word in heavy.get_or_insert_with(|| questions.heavy_words(pair, least.question)).iter() {
                enter(by_word.entry(word_key(bucket, word)).or_insert(END));
            }
        }
    }
}

#[cfg(test)]
mod tests;
