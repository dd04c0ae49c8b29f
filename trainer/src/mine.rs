//! Which passages are hard negatives of a question, and at which rank it finds its own chunk, by sentence-transformers' counting.
//!
//! Shapes: q questions, n passages, h width. Exact: every candidate is scored, by the ranking that evaluations use.

use std::ops::Range;

use artel_common::mining::{FoundRow, MiningRule, Pool, PoolQuestion};

use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::parallel::map_ordered;
use crate::rank::{Hit, RankTask, rank_scored, scores_of};

/// Questions that one thread searches for at a time; the ranking's own tile.
const QUESTION_BLOCK: usize = 64;

/// What is searched.
pub struct MineTask<'a> {
    /// Width h.
    pub hidden: usize,
    /// Vectors of the questions, [q, h].
    pub questions: &'a [f32],
    /// The questions.
    pub rows: &'a [PoolQuestion],
    /// Vectors of the passages, [n, h].
    pub passages: &'a [f32],
    /// Their ids, rising with their numbers: equal scores are ordered by number.
    pub ids: &'a [String],
    /// What is wanted, and which passages are chunks and candidates.
    pub pool: &'a Pool,
}

/// Ids that rise with the passages' numbers.
pub fn passage_ids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:010}")).collect()
}

/// For each question the rank of its chunk and its negatives.
///
/// Candidates are the nearest `range_max + max_positives`; the question's own positives are out, and so is what scores above its least
/// positive less `relative_margin` of that; of the rest `range_min` are passed over and `num_negatives` taken.
///
/// # Errors
/// A score is not finite, the shapes do not agree, or the work was interrupted.
pub fn mine(task: &MineTask<'_>, threads: usize, interrupt: &Interrupt) -> Result<Vec<FoundRow>> {
    check(task)?;
    let blocks = task.rows.len().div_ceil(QUESTION_BLOCK);
    let found = map_ordered(blocks, threads, |block| {
        interrupt.check_leave()?;
        let first = block * QUESTION_BLOCK;
        let range = first..task.rows.len().min(first + QUESTION_BLOCK);
        let ranks = ranks(task, range.clone())?;
        let negatives = negatives(task, range)?;
        Ok(ranks.into_iter().zip(negatives).map(|(rank, taken)| row(rank, &taken)).collect::<Vec<_>>())
    })?;
    Ok(found.into_iter().flatten().collect())
}

fn check(task: &MineTask<'_>) -> Result<()> {
    let count = task.ids.len() as u64;
    let pool = task.pool;
    let named = task.rows.iter().flat_map(|row| row.chunk.iter().chain(&row.positives));
    let fits = task.passages.len() == task.ids.len() * task.hidden
        && task.questions.len() == task.rows.len() * task.hidden
        && pool.chunks.start <= pool.chunks.end
        && pool.candidates.start <= pool.candidates.end
        && pool.chunks.end.max(pool.candidates.end) <= count
        && named.max().is_none_or(|most| *most < count);
    if fits { Ok(()) } else { Err(Error::Internal("the vectors are not those of the pool's texts".into())) }
}

fn row(rank: u64, taken: &[(u64, f32)]) -> FoundRow {
    let (negatives, scores) = taken.iter().copied().unzip();
    FoundRow { rank, negatives, scores }
}

/// The ranking of some passages: the nearest `top_k` of them, by number of passage.
fn nearest(task: &MineTask<'_>, among: &Range<u64>, top_k: usize, questions: Range<usize>) -> Result<Vec<Vec<Hit>>> {
    let among = among.start as usize..among.end as usize;
    let (hidden, from) = (task.hidden, among.start as u32);
    let rank_task = RankTask {
        hidden,
        queries: task.questions,
        corpus: &task.passages[among.start * hidden..among.end * hidden],
        corpus_ids: &task.ids[among],
        top_k,
    };
    let ranked = rank_scored(&rank_task, hidden, questions)?;
    Ok(ranked.into_iter().map(|hits| hits.into_iter().map(|hit| Hit { row: hit.row + from, ..hit }).collect()).collect())
}

/// The rank of each question's chunk among all chunks; 0 beyond the rule's.
fn ranks(task: &MineTask<'_>, questions: Range<usize>) -> Result<Vec<u64>> {
    let Some(most) = task.pool.rule.round_trip else { return Ok(vec![0; questions.len()]) };
    let found = nearest(task, &task.pool.chunks, most as usize, questions.clone())?;
    let rank = |(row, hits): (&PoolQuestion, Vec<Hit>)| {
        let at = row.chunk.and_then(|chunk| hits.iter().position(|hit| u64::from(hit.row) == chunk));
        at.map_or(0, |at| at as u64 + 1)
    };
    Ok(task.rows[questions].iter().zip(found).map(rank).collect())
}

/// The negatives of each question with their scores, the nearest first.
fn negatives(task: &MineTask<'_>, questions: Range<usize>) -> Result<Vec<Vec<(u64, f32)>>> {
    let rule = &task.pool.rule;
    let rows = &task.rows[questions.clone()];
    if rule.num_negatives == 0 || rows.iter().all(|row| row.positives.is_empty()) {
        return Ok(vec![Vec::new(); rows.len()]);
    }
    let all = RankTask { hidden: task.hidden, queries: task.questions, corpus: task.passages, corpus_ids: task.ids, top_k: 0 };
    let wanted: Vec<Vec<u32>> = rows.iter().map(|row| row.positives.iter().map(|&positive| positive as u32).collect()).collect();
    let positives = scores_of(&all, task.hidden, questions.clone(), &wanted)?;
    let top_k = (rule.range_max + rule.max_positives) as usize;
    let candidates = nearest(task, &task.pool.candidates, top_k, questions)?;
    Ok(rows.iter().zip(positives).zip(candidates).map(|((row, scores), hits)| take(rule, row, &scores, &hits)).collect())
}

/// The rule itself: what is left of a question's candidates.
fn take(rule: &MiningRule, row: &PoolQuestion, positive_scores: &[f32], candidates: &[Hit]) -> Vec<(u64, f32)> {
    let Some(least) = positive_scores.iter().copied().reduce(f32::min) else { return Vec::new() };
    let most = least - least.abs() * rule.relative_margin as f32;
    let is_out = |hit: &&Hit| row.positives.contains(&u64::from(hit.row)) || hit.score > most;
    let left = candidates.iter().filter(|hit| !is_out(hit));
    let taken = left.skip(rule.range_min as usize).take(rule.num_negatives as usize);
    taken.map(|hit| (u64::from(hit.row), hit.score)).collect()
}

#[cfg(test)]
mod tests;
