//! Exact ranking of documents for queries: cosine of the first columns of one encoding.
//!
//! Shapes: q queries, n documents, h width. Rows are cut to a Matryoshka width, normalised and laid into tiles of one
//! fixed shape, filled up with zeros: a score's bits hang on its two rows alone, so that equal texts tie and any
//! number of ranks and threads ranks alike.

use std::cmp::Ordering;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::loss::{Product, View, product};

/// Queries of a tile.
const TILE_QUERIES: usize = 64;
/// Documents of a tile.
const TILE_DOCUMENTS: usize = 512;

/// What is to be ranked.
#[derive(Debug, Clone, Copy)]
pub struct RankTask<'a> {
    /// Width h.
    pub hidden: usize,
    /// Vectors of the queries, [q, h].
    pub queries: &'a [f32],
    /// Vectors of the documents, [n, h].
    pub corpus: &'a [f32],
    /// Their ids: equal scores are ordered by id.
    pub corpus_ids: &'a [String],
    /// Documents to name for a query.
    pub top_k: usize,
}

/// A document and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Cosine of query and document.
    pub score: f32,
    /// The document's row.
    pub row: u32,
}

/// The best documents of one query, found so far.
struct Best<'a> {
    ids: &'a [String],
    top_k: usize,
    hits: Vec<Hit>,
    /// Scores below this are out.
    least: f32,
}

/// For each of these queries the rows of its best `top_k` documents by the first `dim` columns, best first:
/// score falling, then id rising as a string.
///
/// # Errors
/// A score is not finite, or the shapes do not agree.
pub fn rank(task: &RankTask<'_>, dim: usize, queries: Range<usize>) -> Result<Vec<Vec<u32>>> {
    let ranked = rank_scored(task, dim, queries)?;
    Ok(ranked.into_iter().map(|hits| hits.into_iter().map(|hit| hit.row).collect()).collect())
}

/// What [`rank`] gives, with the scores.
///
/// # Errors
/// As [`rank`].
pub fn rank_scored(task: &RankTask<'_>, dim: usize, queries: Range<usize>) -> Result<Vec<Vec<Hit>>> {
    check_shapes(task, dim, &queries)?;
    let hidden = task.hidden;
    let mut ranked = Vec::with_capacity(queries.len());
    let mut left = vec![0.0; TILE_QUERIES * dim];
    let mut right = vec![0.0; TILE_DOCUMENTS * dim];
    let mut scores = vec![0.0; TILE_QUERIES * TILE_DOCUMENTS];
    for first in queries.clone().step_by(TILE_QUERIES) {
        let block = first..queries.end.min(first + TILE_QUERIES);
        normalise(&task.queries[block.start * hidden..block.end * hidden], hidden, dim, &mut left);
        let mut best: Vec<Best<'_>> = block.clone().map(|_| Best::new(task)).collect();
        for (tile, documents) in task.corpus.chunks(TILE_DOCUMENTS * hidden).enumerate() {
            normalise(documents, hidden, dim, &mut right);
            score_tile(&left, &right, dim, &mut scores);
            for (query, (best, scores)) in best.iter_mut().zip(scores.chunks_exact(TILE_DOCUMENTS)).enumerate() {
                let from = tile * TILE_DOCUMENTS;
                best.offer(from, &scores[..documents.len() / hidden])
                    .map_err(|row| not_finite(task, block.start + query, row))?;
            }
        }
        ranked.extend(best.into_iter().map(Best::into_hits));
    }
    Ok(ranked)
}

/// For each of these queries the scores of the documents that are `wanted` of it, by row: bit by bit those that [`rank_scored`] ranks by.
///
/// # Errors
/// As [`rank`]; or there is no such row, or not one list a query.
pub fn scores_of(task: &RankTask<'_>, dim: usize, queries: Range<usize>, wanted: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
    check_shapes(task, dim, &queries)?;
    if wanted.len() != queries.len() || wanted.iter().flatten().any(|&row| row as usize >= task.corpus_ids.len()) {
        return Err(Error::Internal("scores are wanted of documents that there are not".into()));
    }
    let hidden = task.hidden;
    let mut found = Vec::with_capacity(queries.len());
    let mut left = vec![0.0; TILE_QUERIES * dim];
    let mut right = vec![0.0; TILE_DOCUMENTS * dim];
    let mut scores = vec![0.0; TILE_QUERIES * TILE_DOCUMENTS];
    for (block, lists) in wanted.chunks(TILE_QUERIES).enumerate() {
        let first = queries.start + block * TILE_QUERIES;
        normalise(&task.queries[first * hidden..(first + lists.len()) * hidden], hidden, dim, &mut left);
        let pairs: Vec<(usize, u32)> =
            lists.iter().enumerate().flat_map(|(query, rows)| rows.iter().map(move |&row| (query, row))).collect();
        let mut of_block = vec![Vec::new(); lists.len()];
        for part in pairs.chunks(TILE_DOCUMENTS) {
            let row = |row: u32| &task.corpus[row as usize * hidden..(row as usize + 1) * hidden];
            let documents: Vec<f32> = part.iter().flat_map(|(_, document)| row(*document)).copied().collect();
            normalise(&documents, hidden, dim, &mut right);
            score_tile(&left, &right, dim, &mut scores);
            for (column, (query, document)) in part.iter().enumerate() {
                let score = scores[query * TILE_DOCUMENTS + column];
                if !score.is_finite() {
                    return Err(not_finite(task, first + query, *document as usize));
                }
                of_block[*query].push(score);
            }
        }
        found.append(&mut of_block);
    }
    Ok(found)
}

/// Scores of a tile of queries with a tile of documents.
fn score_tile(left: &[f32], right: &[f32], dim: usize, scores: &mut [f32]) {
    let (a, b) = ((left, View::whole(TILE_QUERIES, dim)), (right, View::whole(TILE_DOCUMENTS, dim)));
    product(Product::ByTransposed, (scores, View::whole(TILE_QUERIES, TILE_DOCUMENTS)), a, b, false);
}

fn check_shapes(task: &RankTask<'_>, dim: usize, queries: &Range<usize>) -> Result<()> {
    let hidden = task.hidden;
    let fits = dim > 0
        && dim <= hidden
        && task.corpus.len() == task.corpus_ids.len() * hidden
        && queries.end * hidden <= task.queries.len();
    if fits {
        return Ok(());
    }
    Err(Error::Internal(format!(
        "cannot rank by {dim} of {hidden} columns: {} query values, {} document values, {} ids",
        task.queries.len(),
        task.corpus.len(),
        task.corpus_ids.len()
    )))
}

fn not_finite(task: &RankTask<'_>, query: usize, row: usize) -> Error {
    Error::NotFinite(format!(
        "the score of query {query} and document {:?} is not finite: the model's weights are damaged or the training diverged",
        task.corpus_ids[row]
    ))
}

/// Writes the rows' first `dim` columns, divided by their norm, and zeros for the rows that the tile lacks.
fn normalise(rows: &[f32], hidden: usize, dim: usize, tile: &mut [f32]) {
    let mut outs = tile.chunks_exact_mut(dim);
    for (row, out) in rows.chunks_exact(hidden).zip(&mut outs) {
        let row = &row[..dim];
        let mut lanes = [0.0f64; 8];
        for (i, &value) in row.iter().enumerate() {
            lanes[i % 8] += f64::from(value) * f64::from(value);
        }
        // torch.nn.functional.normalize: the norm is at least 1e-12; a NaN stays
        let norm = lanes.iter().sum::<f64>().sqrt();
        let inverse = (1.0 / if norm < 1e-12 { 1e-12 } else { norm }) as f32;
        out.iter_mut().zip(row).for_each(|(out, &value)| *out = value * inverse);
    }
    outs.for_each(|out| out.fill(0.0));
}

impl<'a> Best<'a> {
    fn new(task: &RankTask<'a>) -> Self {
        Self { ids: task.corpus_ids, top_k: task.top_k, hits: Vec::new(), least: f32::NEG_INFINITY }
    }

    /// Offers the documents from row `from` on; a row whose score is not finite is the error.
    fn offer(&mut self, from: usize, scores: &[f32]) -> std::result::Result<(), usize> {
        let sum: f32 = scores.iter().sum();
        if !sum.is_finite() {
            return Err(from + scores.iter().position(|score| !score.is_finite()).unwrap_or(0));
        }
        for (i, &score) in scores.iter().enumerate() {
            if score >= self.least {
                self.hits.push(Hit { score, row: (from + i) as u32 });
            }
        }
        if self.hits.len() > 4 * self.top_k {
            self.shrink();
        }
        Ok(())
    }

    fn shrink(&mut self) {
        let (ids, top_k) = (self.ids, self.top_k);
        if top_k == 0 {
            self.hits.clear();
        } else if self.hits.len() > top_k {
            self.hits.select_nth_unstable_by(top_k - 1, |a, b| order(ids, a, b));
            self.hits.truncate(top_k);
            self.least = self.hits[top_k - 1].score;
        }
    }

    fn into_hits(mut self) -> Vec<Hit> {
        self.shrink();
        let ids = self.ids;
        self.hits.sort_unstable_by(|a, b| order(ids, a, b));
        self.hits
    }
}

fn order(ids: &[String], a: &Hit, b: &Hit) -> Ordering {
    let by_score = b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal);
    by_score.then_with(|| ids[a.row as usize].cmp(&ids[b.row as usize]))
}

#[cfg(test)]
mod tests;
