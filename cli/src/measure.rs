//! Retrieval metrics of given vectors: exact ranking at each width, on all threads.

use artel_common::records::Metrics;
use artel_trainer::metrics::{QueryMetrics, mean, query_metrics};
use artel_trainer::rank::{RankTask, rank};

use crate::engine::Vectors;
use crate::failure::Failure;
use crate::pairs::RetrievalSet;

/// Documents that the deepest metric looks at.
const TOP_K: usize = 100;

/// The metrics at each width, under sentence-transformers' keys; the same for any number of threads.
///
/// # Errors
/// A score is not finite.
pub fn measure(set: &RetrievalSet, vectors: &Vectors, dims: &[usize], threads: usize) -> Result<Metrics, Failure> {
    let task = RankTask {
        hidden: vectors.dim,
        queries: &vectors.queries,
        corpus: &vectors.documents,
        corpus_ids: &set.document_ids,
        top_k: TOP_K,
    };
    let mut metrics = Metrics::new();
    for dim in dims {
        mean(&all_queries(set, &task, *dim, threads)?, *dim, &mut metrics);
    }
    Ok(metrics)
}

/// Each query's metrics at one width, in order: a thread has a run of queries.
fn all_queries(set: &RetrievalSet, task: &RankTask<'_>, dim: usize, threads: usize) -> Result<Vec<QueryMetrics>, Failure> {
    let count = set.queries.len();
    let some = |first: usize, end: usize| -> Result<Vec<QueryMetrics>, artel_trainer::Error> {
        let ranked = rank(task, dim, first..end)?;
        Ok(ranked.iter().zip(&set.relevant[first..end]).map(|(top, relevant)| query_metrics(top, &[*relevant as u32])).collect())
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let bounds = |part: usize| part * count / threads;
        let some = &some;
        let workers: Vec<_> = (0..threads).map(|part| scope.spawn(move || some(bounds(part), bounds(part + 1)))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a thread that ranks does not panic")).collect()
    });
    let mut queries = Vec::with_capacity(count);
    for part in parts {
        queries.extend(part?);
    }
    Ok(queries)
}
