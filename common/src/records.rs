//! What lies in the store: rows, manifests, reports. Each carries a format number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::making::{DocumentReport, MadeReport, QuestionsReport};

/// A question with its passage, and passages that do not answer it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The row's id: its `id` column, else its number in the files.
    pub id: String,
    /// The question.
    pub anchor: String,
    /// The passage that answers it.
    pub positive: String,
    /// Passages that do not; every row of a data set has equally many.
    #[serde(default)]
    pub negatives: Vec<String>,
    /// The document that the row came from; a split keeps it together.
    #[serde(default)]
    pub group: Option<String>,
}

impl Pair {
    /// Anchor, positive, negatives: the columns in their order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        [self.anchor.as_str(), self.positive.as_str()].into_iter().chain(self.negatives.iter().map(String::as_str))
    }
}

/// An immutable object, with what proves it whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Its key below the store URL.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// A record, and the object that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// The record.
    pub record: T,
    /// Where it lies, and what proves it whole.
    pub object: ObjectRef,
}

/// A shard of a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRef {
    /// Where the rows lie (Parquet).
    pub object: ObjectRef,
    /// Number of the first row within the split.
    pub first_row: u64,
    /// How many rows it holds.
    pub num_rows: u64,
}

/// One side of the split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitManifest {
    /// Rows over all shards.
    pub num_rows: u64,
    /// Columns a row: 2 and one for each negative.
    pub num_columns: u32,
    /// The shards in order of rows.
    pub shards: Vec<ShardRef>,
    /// SHA-256 over all texts in order: what SAME-1 means by the data set's digest.
    pub digest: Digest,
}

/// The data set of a run; committed last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetManifest {
    /// Version of this record.
    pub format: u32,
    /// What is trained on.
    pub train: SplitManifest,
    /// What is measured on; the training rows again where `test_is_train`.
    pub test: SplitManifest,
    /// The spec said `test = "train"`: the metrics are of the training pairs.
    pub test_is_train: bool,
    /// What the import counted and left out.
    pub import: ImportReport,
    /// Where pairs were made from documents: what came of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<MadeReport>,
}

/// A row that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRow {
    /// The file.
    pub file: String,
    /// Its line (CSV, JSON Lines) or row (Parquet), from 1.
    pub line: u64,
    /// Why.
    pub reason: String,
}

/// What the import counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImportReport {
    /// Files read, with digests.
    pub files: Vec<ObjectRef>,
    /// Rows seen in the pair files and the test file.
    pub rows_read: u64,
    /// Rows whose question or answer is N/A, as a question generator marks a failure.
    pub rows_not_available: u64,
    /// Rows that could not be used, all of them counted.
    pub rows_bad: u64,
    /// The first of those, listed.
    pub bad_rows: Vec<BadRow>,
    /// Exact copies removed.
    pub exact_duplicates: u64,
    /// What train and test share.
    pub overlap: Overlap,
    /// How the split was made, in words.
    pub split: String,
}

/// What train and test share, counted over the training rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    /// Training rows whose question is a test question.
    pub questions: u64,
    /// Training rows with a text that is a test passage.
    pub texts: u64,
    /// Training rows that are near-duplicates of a test row.
    pub near_duplicates: u64,
    /// Training rows left out for one of these (`drop_leaks = true`).
    pub dropped: u64,
}

/// The base model's folder in the store; committed last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelManifest {
    /// Version of this record.
    pub format: u32,
    /// What the user named: path, URL or hub id.
    pub source: String,
    /// Files of the folder; keys end in the file's relative path.
    pub files: Vec<ModelFile>,
    /// SHA-256 over names and digests of the files.
    pub digest: Digest,
}

/// A file of a model folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// Its path within the folder.
    pub path: String,
    /// Where it lies.
    pub object: ObjectRef,
}

/// The tokens of a shard of rows, made by a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenShardRef {
    /// `train` or `test`.
    pub split: String,
    /// Which shard of the split.
    pub index: u32,
    /// Where the tokens lie.
    pub object: ObjectRef,
    /// Tokens over all rows and columns.
    pub num_tokens: u64,
}

/// All token shards of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokensManifest {
    /// Version of this record.
    pub format: u32,
    /// Shards by split and index.
    pub shards: Vec<TokenShardRef>,
}

/// The exported model folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportManifest {
    /// Version of this record.
    pub format: u32,
    /// Which update's weights.
    pub step: u64,
    /// Its files.
    pub files: Vec<ModelFile>,
}

/// Metric values by sentence-transformers' keys, such as `dim_128_cosine_ndcg@10`.
pub type Metrics = BTreeMap<String, f64>;

/// One evaluation of the weights after `step` updates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Updates applied.
    pub step: u64,
    /// Passes over the data, fractional.
    pub epoch: f64,
    /// The values.
    pub metrics: Metrics,
}

/// A span of steps by one set of workers that nothing disturbed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Updates already in the state that it began from.
    pub from_step: u64,
    /// The last update that the store knows it reached.
    pub to_step: u64,
    /// How many workers it had.
    pub workers: u32,
}

/// What a run came to; `report.json` at the store's root.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this record.
    pub format: u32,
    /// The run's name.
    pub name: String,
    /// The spec's identity.
    pub run_digest: Digest,
    /// Metrics of the base model.
    pub before: Metrics,
    /// Metrics of the exported model.
    pub after: Metrics,
    /// What `before` and `after` were measured on, in words.
    pub measured_on: String,
    /// Updates applied.
    pub steps: u64,
    /// Which update's weights were exported.
    pub exported_step: u64,
    /// SHA-256 of the exported weights (docs/reference/report.md).
    pub weights_digest: Digest,
    /// Wall seconds by stage.
    pub wall_s: BTreeMap<String, f64>,
    /// Trained pairs over the wall time of tokenise and train together.
    pub pairs_per_second: f64,
    /// Greatest sum of all processes' PSS, sampled.
    pub peak_memory_mb: f64,
    /// One entry in a run that nobody disturbed.
    pub attempts: Vec<Attempt>,
    /// What the import counted.
    pub import: ImportReport,
    /// Where pairs were made from documents: every document, once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<DocumentReport>,
    /// Where pairs were made from documents: the questions, and what they cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions: Option<QuestionsReport>,
    /// Every evaluation.
    pub evaluations: Vec<Evaluation>,
    /// Mean loss of the first and the last tenth of the steps.
    pub loss_first: f64,
    /// Mean loss of the last tenth.
    pub loss_last: f64,
    /// Training rows, and how many of them no step used.
    pub train_rows: u64,
    /// Test rows.
    pub test_rows: u64,
    /// Training rows left out of each epoch because no full batch could hold them.
    pub rows_left_out: u64,
    /// Warnings that the run gave, each once.
    pub warnings: Vec<String>,
}
