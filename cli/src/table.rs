//! Tables of metrics, for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use artel_common::records::Metrics;

/// The metrics that a table shows, by the end of their keys.
pub const SHOWN: [&str; 5] = ["ndcg@10", "mrr@10", "map@100", "accuracy@1", "recall@10"];

/// Widths that metrics are given for, the greatest first.
pub fn dims(metrics: &Metrics) -> Vec<usize> {
    let dims: BTreeSet<usize> =
        metrics.keys().filter_map(|key| key.strip_prefix("dim_")?.split('_').next()?.parse().ok()).collect();
    dims.into_iter().rev().collect()
}

/// The value of a metric at a width.
pub fn value(metrics: &Metrics, dim: usize, name: &str) -> Option<f64> {
    metrics.get(&format!("dim_{dim}_cosine_{name}")).copied()
}

/// Before, after and the difference, for each width.
pub fn before_after(before: &Metrics, after: &Metrics) -> String {
    let mut table = header();
    for dim in dims(after) {
        let row = |metrics| SHOWN.map(|name| value(metrics, dim, name));
        let (old, new) = (row(before), row(after));
        let change: Vec<_> = old.iter().zip(&new).map(|(old, new)| Some((*new)? - (*old)?)).collect();
        push(&mut table, &dim.to_string(), "before", old.iter().map(|v| cell(*v)));
        push(&mut table, "", "after", new.iter().map(|v| cell(*v)));
        push(&mut table, "", "change", change.iter().map(|v| v.map_or("-".to_owned(), |v| format!("{v:+.4}"))));
    }
    table
}

/// One evaluation, a line for each width.
pub fn single(metrics: &Metrics) -> String {
    let mut table = header();
    for dim in dims(metrics) {
        push(&mut table, &dim.to_string(), "", SHOWN.iter().map(|name| cell(value(metrics, dim, name))));
    }
    table
}

fn header() -> String {
    let mut table = String::new();
    push(&mut table, "dim", "", SHOWN.iter().map(|name| (*name).to_owned()));
    table
}

fn cell(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.4}"))
}

fn push(table: &mut String, dim: &str, what: &str, cells: impl Iterator<Item = String>) {
    let mut line = format!("{dim:>5}  {what:<6}");
    for cell in cells {
        write!(line, "  {cell:>10}").expect("writing to a String cannot fail");
    }
    table.push_str(line.trim_end());
    table.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(values: &[(usize, &str, f64)]) -> Metrics {
        values.iter().map(|(dim, name, value)| (format!("dim_{dim}_cosine_{name}"), *value)).collect()
    }

    /// Goal: the closing table reads well. Method: two widths, one value missing, a gain and a loss.
    #[test]
    fn closing_table() {
        let before = metrics(&[(384, "ndcg@10", 0.7734), (384, "mrr@10", 0.5), (64, "ndcg@10", 0.7045)]);
        let after = metrics(&[(384, "ndcg@10", 0.84361), (384, "mrr@10", 0.4), (64, "ndcg@10", 0.8332)]);
        let expected = "  dim             ndcg@10      mrr@10     map@100  accuracy@1   recall@10
  384  before      0.7734      0.5000           -           -           -
       after       0.8436      0.4000           -           -           -
       change     +0.0702     -0.1000           -           -           -
   64  before      0.7045           -           -           -           -
       after       0.8332           -           -           -           -
       change     +0.1287           -           -           -           -
";
        assert_eq!(before_after(&before, &after), expected);
    }

    /// Goal: one evaluation has a line for each width, the greatest first. Method: widths of other digits.
    #[test]
    fn one_evaluation() {
        let table = single(&metrics(&[(64, "ndcg@10", 0.5), (128, "ndcg@10", 0.75), (1024, "recall@10", 1.0)]));
        let expected = "  dim             ndcg@10      mrr@10     map@100  accuracy@1   recall@10
 1024                   -           -           -           -      1.0000
  128              0.7500           -           -           -           -
   64              0.5000           -           -           -           -
";
        assert_eq!(table, expected);
    }
}
