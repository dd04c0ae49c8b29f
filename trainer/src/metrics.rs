//! The metrics of sentence-transformers' `InformationRetrievalEvaluator`, per query and as means.
//!
//! accuracy: any hit in k; precision: hits / k; recall: hits / relevant; mrr: 1 / rank of the first hit in 10; ndcg: binary
//! gain 1 / log2(rank + 1) over the ideal of min(relevant, k) hits; map: sum of precision at hits / min(k, relevant).

use std::collections::HashSet;
use std::fmt::Write;

use artel_common::records::Metrics;

use crate::error::{Error, Result};

/// Depths of accuracy, precision and recall.
const DEPTHS: [usize; 4] = [1, 3, 5, 10];
/// Depth of mrr and ndcg.
const SHALLOW: usize = 10;
/// Depth of map.
const DEEP: usize = 100;
/// Values of a query: three kinds at four depths, mrr, ndcg, map.
const NUM_VALUES: usize = 3 * DEPTHS.len() + 3;
/// Bytes of a query's values.
const NUM_BYTES: usize = NUM_VALUES * 8;

/// One query's metrics, in the order of the evaluator's CSV columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryMetrics([f64; NUM_VALUES]);

impl QueryMetrics {
    /// As bytes, to be handed to other ranks.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// What [`QueryMetrics::to_bytes`] of some queries, one behind the other, stand for.
    ///
    /// # Errors
    /// The bytes are not whole queries.
    pub fn from_bytes(bytes: &[u8]) -> Result<Vec<Self>> {
        let (queries, rest) = bytes.as_chunks::<NUM_BYTES>();
        if !rest.is_empty() {
            return Err(Error::Collective(format!(
                "{} bytes of metrics are not a multiple of {NUM_BYTES}: the ranks run different programs",
                bytes.len()
            )));
        }
        let value = |query: &[u8; NUM_BYTES], i: usize| f64::from_le_bytes(query.as_chunks::<8>().0[i]);
        Ok(queries.iter().map(|query| Self(std::array::from_fn(|i| value(query, i)))).collect())
    }
}

/// Metrics of one query: `top` are the corpus rows found, best first; `relevant` the rows that answer it.
pub fn query_metrics(top: &[u32], relevant: &[u32]) -> QueryMetrics {
    let relevant: HashSet<u32> = relevant.iter().copied().collect();
    if relevant.is_empty() {
        return QueryMetrics([0.0; NUM_VALUES]);
    }
    let hits: Vec<bool> = top.iter().take(DEEP).map(|row| relevant.contains(row)).collect();
    let count = |depth: usize| hits.iter().take(depth).filter(|&&hit| hit).count() as f64;
    let mut values = Vec::with_capacity(NUM_VALUES);
    values.extend(DEPTHS.map(|depth| f64::from(count(depth) > 0.0)));
    values.extend(DEPTHS.iter().flat_map(|&depth| [count(depth) / depth as f64, count(depth) / relevant.len() as f64]));
    values.push(hits.iter().take(SHALLOW).position(|&hit| hit).map_or(0.0, |rank| 1.0 / (rank + 1) as f64));
    let gain = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
    let found: f64 = hits.iter().take(SHALLOW).enumerate().filter(|(_, hit)| **hit).map(|(rank, _)| gain(rank)).sum();
    let ideal: f64 = (0..relevant.len().min(SHALLOW)).map(gain).sum();
    values.push(found / ideal);
    let mut precisions = 0.0;
    for (rank, _) in hits.iter().enumerate().filter(|(_, hit)| **hit) {
        precisions += count(rank + 1) / (rank + 1) as f64;
    }
    values.push(precisions / DEEP.min(relevant.len()) as f64);
    QueryMetrics(std::array::from_fn(|i| values[i]))
}

/// Adds the means over `queries` at a width, under keys such as `dim_128_cosine_ndcg@10`.
pub fn mean(queries: &[QueryMetrics], dim: usize, metrics: &mut Metrics) {
    let count = queries.len().max(1) as f64;
    for (i, key) in keys(dim).into_iter().enumerate() {
        metrics.insert(key, queries.iter().map(|query| query.0[i]).sum::<f64>() / count);
    }
}

/// A width's keys, in the order of the CSV columns.
fn keys(dim: usize) -> Vec<String> {
    columns().map(|(name, depth)| format!("dim_{dim}_cosine_{}@{depth}", name.to_lowercase())).collect()
}

fn columns() -> impl Iterator<Item = (&'static str, usize)> {
    let accuracy = DEPTHS.into_iter().map(|depth| ("Accuracy", depth));
    let pairs = DEPTHS.into_iter().flat_map(|depth| [("Precision", depth), ("Recall", depth)]);
    accuracy.chain(pairs).chain([("MRR", SHALLOW), ("NDCG", SHALLOW), ("MAP", DEEP)])
}

/// The name of a width's CSV file, as sentence-transformers calls it.
pub fn csv_name(dim: usize) -> String {
    format!("Information-Retrieval_evaluation_dim_{dim}_results.csv")
}

/// The CSV file's first line, without its end.
pub fn csv_header() -> String {
    let mut header = "epoch,steps".to_owned();
    for (name, depth) in columns() {
        let _ = write!(header, ",cosine-{name}@{depth}");
    }
    header
}

/// A line of the CSV file, without its end; a metric that is missing leaves its cell empty.
pub fn csv_row(epoch: f64, step: u64, dim: usize, metrics: &Metrics) -> String {
    let mut row = format!("{epoch:?},{step}");
    for key in keys(dim) {
        row.push(',');
        if let Some(value) = metrics.get(&key) {
            let _ = write!(row, "{value:?}");
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the metrics' definitions. Method: a query worked out by hand.
    #[test]
    fn by_hand() {
        // found at ranks 2 and 4 of 5; a third is not found
        let query = query_metrics(&[9, 1, 8, 2, 7], &[1, 2, 3]);
        let mut metrics = Metrics::new();
        mean(&[query], 64, &mut metrics);
        let at = |key: &str| metrics[&format!("dim_64_cosine_{key}")];
        assert_eq!((at("accuracy@1"), at("accuracy@3"), at("precision@3"), at("recall@3")), (0.0, 1.0, 1.0 / 3.0, 1.0 / 3.0));
        assert_eq!((at("precision@10"), at("recall@10"), at("mrr@10")), (0.2, 2.0 / 3.0, 0.5));
        assert_eq!(at("map@100"), (0.5 + 0.5) / 3.0);
        let gain = |rank: f64| 1.0 / (rank + 1.0).log2();
        assert!((at("ndcg@10") - (gain(2.0) + gain(4.0)) / (gain(1.0) + gain(2.0) + gain(3.0))).abs() < 1e-15);
        assert_eq!(metrics.len(), NUM_VALUES);
        let bytes = [query.to_bytes(), query.to_bytes()].concat();
        assert_eq!(QueryMetrics::from_bytes(&bytes).unwrap(), [query, query]);
        assert!(QueryMetrics::from_bytes(&bytes[1..]).is_err());
    }

    /// Goal: the CSV is the one other tools read. Method: look at it.
    #[test]
    fn csv() {
        let expected = "epoch,steps,cosine-Accuracy@1,cosine-Accuracy@3,cosine-Accuracy@5,cosine-Accuracy@10,cosine-Precision@1,cosine-Recall@1,\
            cosine-Precision@3,cosine-Recall@3,cosine-Precision@5,cosine-Recall@5,cosine-Precision@10,cosine-Recall@10,cosine-MRR@10,cosine-NDCG@10,cosine-MAP@100";
        assert_eq!(csv_header(), expected);
        let mut metrics = Metrics::new();
        mean(&[query_metrics(&[0], &[0])], 8, &mut metrics);
        assert_eq!(
            csv_row(1.0, 7, 8, &metrics),
            "1.0,7,1.0,1.0,1.0,1.0,1.0,1.0,0.3333333333333333,1.0,0.2,1.0,0.1,1.0,1.0,1.0,1.0"
        );
        assert!(csv_row(-1.0, 7, 9, &metrics).ends_with("7,,,,,,,,,,,,,,,"));
    }
}
