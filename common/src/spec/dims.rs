//! Widths and metric names, once the model's own width is known.

use crate::error::{Error, Result};

use super::RunSpec;

/// What is measured at each width, as sentence-transformers spells it, without the `dim_N_` in front.
pub const METRIC_NAMES: [&str; 15] = [
    "cosine_accuracy@1",
    "cosine_accuracy@3",
    "cosine_accuracy@5",
    "cosine_accuracy@10",
    "cosine_precision@1",
    "cosine_precision@3",
    "cosine_precision@5",
    "cosine_precision@10",
    "cosine_recall@1",
    "cosine_recall@3",
    "cosine_recall@5",
    "cosine_recall@10",
    "cosine_ndcg@10",
    "cosine_mrr@10",
    "cosine_map@100",
];

/// A Matryoshka width and its weight in the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Width {
    /// The first so many coordinates.
    pub dim: usize,
    /// Its factor in the sum.
    pub weight: f64,
}

impl RunSpec {
    /// The widths that the loss sums over, widest first; the full width alone where none is said.
    pub fn train_dims(&self, hidden: usize) -> Vec<Width> {
        if self.train.matryoshka_dims.is_empty() {
            return vec![Width { dim: hidden, weight: 1.0 }];
        }
        let both = self.train.matryoshka_dims.iter().zip(&self.train.matryoshka_weights);
        both.map(|(dim, weight)| Width { dim: *dim, weight: *weight }).collect()
    }

    /// The widths to measure, widest first.
    pub fn eval_dims(&self, hidden: usize) -> Vec<usize> {
        if self.evaluate.dims.is_empty() {
            return self.train_dims(hidden).into_iter().map(|width| width.dim).collect();
        }
        self.evaluate.dims.clone()
    }

    /// The whole key of the metric that says which model is best, such as `dim_128_cosine_ndcg@10`.
    pub fn best_metric(&self, hidden: usize) -> String {
        let written = &self.evaluate.metric_for_best_model;
        if written.starts_with("dim_") {
            return written.clone();
        }
        metric_name(self.eval_dims(hidden).first().copied(), written)
    }

    /// Checks the length of texts against the model's positions.
    ///
    /// # Errors
    /// [`Error::Spec`] says how long they may be.
    pub fn check_length(&self, positions: usize) -> Result<()> {
        match self.model.max_seq_length {
            Some(length) if length > positions => Err(Error::Spec(format!(
                "model.max_seq_length: {length} is more than the {positions} positions of {}; take {positions} or less",
                self.model.base
            ))),
            _ => Ok(()),
        }
    }

    /// Checks every width against the model's.
    ///
    /// # Errors
    /// [`Error::Spec`] names each width that the model does not have, and the key that asks for it.
    pub fn check_dims(&self, hidden: usize) -> Result<()> {
        let mut problems = Vec::new();
        for (key, dims) in [("train.matryoshka_dims", &self.train.matryoshka_dims), ("evaluate.dims", &self.evaluate.dims)] {
            for dim in dims.iter().filter(|dim| **dim > hidden) {
                problems
                    .push(format!("{key}: {dim} is more than the {hidden} that {} has; take {hidden} or less", self.model.base));
            }
        }
        if let Ok((Some(dim), name)) = parse_metric(&self.evaluate.metric_for_best_model)
            && problems.is_empty()
            && !self.eval_dims(hidden).contains(&dim)
        {
            let measured = self.eval_dims(hidden);
            problems.push(format!(
                "evaluate.metric_for_best_model: dim_{dim}_{name} is of width {dim}, which is not measured; take one of {measured:?}"
            ));
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Spec(problems.join("\n"))) }
    }
}

/// `dim_128_cosine_ndcg@10`, or `cosine_ndcg@10` where the width is not known yet.
pub fn metric_name(dim: Option<usize>, name: &str) -> String {
    dim.map_or_else(|| name.to_owned(), |dim| format!("dim_{dim}_{name}"))
}

/// The width and the bare name of a metric, `eval_` in front or not; else advice.
pub fn parse_metric(written: &str) -> Result<(Option<usize>, &'static str), String> {
    let bare = written.trim();
    let bare = bare.strip_prefix("eval_").unwrap_or(bare);
    let (dim, name) = match bare.strip_prefix("dim_").and_then(|rest| rest.split_once('_')) {
        Some((digits, name)) => match digits.parse::<usize>() {
            Ok(dim) if dim > 0 => (Some(dim), name),
            _ => return Err(format!("{digits:?} is no width; write dim_128_cosine_ndcg@10")),
        },
        None => (None, bare),
    };
    if let Some(known) = METRIC_NAMES.into_iter().find(|known| *known == name) {
        return Ok((dim, known));
    }
    let near = METRIC_NAMES.into_iter().min_by_key(|known| strsim::levenshtein(known, name));
    let near = metric_name(dim.or(Some(128)), near.unwrap_or("cosine_ndcg@10"));
    Err(format!(
        "there is no such metric; did you mean {near} (others: accuracy, precision, recall @1 @3 @5 @10, mrr@10, map@100)"
    ))
}
