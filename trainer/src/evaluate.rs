//! Evaluation (EVAL-1): queries against documents, one encoding for all dimensions, shared over ranks.

use std::collections::HashMap;
use std::ops::Range;

use artel_common::records::{Metrics, Pair};

use crate::collective::Collective;
use crate::encode::{Encoding, TokenTexts};
use crate::error::{Error, Result};
use crate::metrics::{QueryMetrics, mean, query_metrics};
use crate::parallel::map_ordered;
use crate::rank::{RankTask, rank};

/// How many documents the deepest metric (map@100) looks at.
const TOP_K: usize = 100;
/// Queries ranked by one thread at a time; a multiple of the ranking's own tile.
const QUERY_BLOCK: usize = 64;

/// Queries, documents, and which documents answer which query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EvalTexts {
    /// The questions that have an answer, in order of rows.
    pub queries: Vec<String>,
    /// The documents: each text once.
    pub corpus: Vec<String>,
    /// Their ids, unique.
    pub corpus_ids: Vec<String>,
    /// Which pair (or, beyond the pairs, which further document) each came from.
    pub corpus_rows: Vec<usize>,
    /// For each query the rows of `corpus` that answer it.
    pub relevant: Vec<Vec<u32>>,
}

impl EvalTexts {
    /// Each row is a query. Rows with equal positives are one document, with the id of the first, relevant to all
    /// their questions. `further` documents (id, text) answer nothing, and count only where their text is new.
    ///
    /// # Errors
    /// Two documents have one id.
    pub fn from_pairs(pairs: &[Pair], further: &[(String, String)]) -> Result<Self> {
        let mut texts = Self::default();
        let mut by_text: HashMap<&str, u32> = HashMap::new();
        for (row, pair) in pairs.iter().enumerate() {
            let next = texts.corpus.len() as u32;
            let document = *by_text.entry(&pair.positive).or_insert(next);
            if document == next {
                texts.add(&pair.id, &pair.positive, row);
            }
            texts.queries.push(pair.anchor.clone());
            texts.relevant.push(vec![document]);
        }
        for (row, (id, text)) in further.iter().enumerate() {
            let next = texts.corpus.len() as u32;
            if *by_text.entry(text).or_insert(next) == next {
                texts.add(id, text, pairs.len() + row);
            }
        }
        let mut by_id: HashMap<&str, &str> = HashMap::new();
        for (id, text) in texts.corpus_ids.iter().zip(&texts.corpus) {
            if by_id.insert(id, text).is_some() {
                return Err(Error::input(format!("two documents have the id {id:?}; give each row an id of its own")));
            }
        }
        Ok(texts)
    }

    fn add(&mut self, id: &str, text: &str, row: usize) {
        self.corpus.push(text.to_owned());
        self.corpus_ids.push(id.to_owned());
        self.corpus_rows.push(row);
    }
}

/// Vectors to rank.
pub struct Vectors<'a> {
    /// Width.
    pub hidden: usize,
    /// Of the queries, [q, h].
    pub queries: &'a [f32],
    /// Of the documents, [n, h].
    pub corpus: &'a [f32],
}

/// Metrics of these vectors at each width, the same on every rank: keys such as `dim_128_cosine_ndcg@10`.
///
/// # Errors
/// A rank was lost, a score is not finite, or a width exceeds the vectors'.
pub fn measure(
    texts: &EvalTexts,
    vectors: &Vectors<'_>,
    dims: &[usize],
    collective: &dyn Collective,
    threads: usize,
) -> Result<Metrics> {
    let task = RankTask {
        hidden: vectors.hidden,
        queries: vectors.queries,
        corpus: vectors.corpus,
        corpus_ids: &texts.corpus_ids,
        top_k: TOP_K,
    };
    let blocks = texts.queries.len().div_ceil(QUERY_BLOCK);
    let mine: Vec<usize> = (collective.rank()..blocks).step_by(collective.world_size()).collect();
    let mut metrics = Metrics::new();
    for &dim in dims {
        if dim > vectors.hidden || dim == 0 {
            return Err(Error::input(format!(
                "dimension {dim} does not fit vectors of width {}; choose 1 to {}",
                vectors.hidden, vectors.hidden
            )));
        }
        let parts = map_ordered(mine.len(), threads, |index| {
            let queries = block(mine[index], texts.queries.len());
            let ranked = rank(&task, dim, queries.clone())?;
            Ok(queries.zip(ranked).map(|(query, top)| query_metrics(&top, &texts.relevant[query])).collect::<Vec<_>>())
        })?;
        let all = gather_blocks(&parts, collective, texts.queries.len())?;
        mean(&all, dim, &mut metrics);
    }
    Ok(metrics)
}

fn block(index: usize, num_queries: usize) -> Range<usize> {
    index * QUERY_BLOCK..((index + 1) * QUERY_BLOCK).min(num_queries)
}

/// Every rank's queries, back in the order of queries.
fn gather_blocks(mine: &[Vec<QueryMetrics>], collective: &dyn Collective, num_queries: usize) -> Result<Vec<QueryMetrics>> {
    let bytes: Vec<u8> = mine.iter().flatten().flat_map(|metrics| metrics.to_bytes()).collect();
    let parts = collective.all_gather(&bytes)?;
    let mut per_rank = Vec::with_capacity(parts.len());
    for part in &parts {
        per_rank.push(QueryMetrics::from_bytes(part)?.into_iter());
    }
    let mut all = Vec::with_capacity(num_queries);
    for index in 0..num_queries.div_ceil(QUERY_BLOCK) {
        let from = &mut per_rank[index % parts.len()];
        all.extend(from.by_ref().take(block(index, num_queries).len()));
    }
    if all.len() != num_queries {
        return Err(Error::Collective(format!("gathered {} ranked queries, expected {num_queries}", all.len())));
    }
    Ok(all)
}

/// Encodes queries and documents and measures them at each width.
///
/// # Errors
/// As [`Encoding::encode`] and [`measure`].
pub fn evaluate(
    encoding: &Encoding<'_>,
    texts: &EvalTexts,
    queries: &TokenTexts,
    corpus: &TokenTexts,
    dims: &[usize],
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Metrics> {
    let query_vectors = encoding.encode(queries, progress)?;
    let offset = queries.texts.len().div_ceil(encoding.collective.world_size());
    let corpus_vectors = encoding.encode(corpus, &|done| progress(offset + done))?;
    let vectors = Vectors { hidden: encoding.encoder.config().hidden_size, queries: &query_vectors, corpus: &corpus_vectors };
    measure(texts, &vectors, dims, encoding.collective, encoding.threads)
}
