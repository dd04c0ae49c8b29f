//! Every object key of a run, built here and nowhere else. Keys are relative to the run's store URL.

/// The run's identity and effective spec; put once.
pub const RUN: &str = "run.json";
/// What the base model consists of; put last of its import.
pub const MODEL_MANIFEST: &str = "base/manifest.json";
/// The data set's shards, counts and digests; put last of the import.
pub const DATASET_MANIFEST: &str = "dataset/manifest.json";
/// The report; put last of all.
pub const REPORT: &str = "report.json";
/// What the exported folder consists of.
pub const EXPORT_MANIFEST: &str = "export.json";
/// Object names put and deleted to learn whether the store can be written conditionally.
pub const PROBE: &str = "probe";

/// A file of the base model's folder; `path` is relative and has no `..`.
pub fn model_file(path: &str) -> String {
    format!("base/files/{path}")
}

/// A shard of rows: split is `train` or `test`.
pub fn dataset_shard(split: &str, index: usize, digest: &str) -> String {
    format!("dataset/{split}/{index:05}-{}.parquet", &digest[..16])
}

/// The tokens of a shard of rows.
pub fn token_shard(split: &str, index: usize, digest: &str) -> String {
    format!("tokens/{split}/{index:05}-{}.bin", &digest[..16])
}

/// All token shards; put when the last is done.
pub const TOKENS_MANIFEST: &str = "tokens/manifest.json";

/// The batch plan of an epoch.
pub fn plan(epoch: u32) -> String {
    format!("plan/epoch-{epoch:04}.bin")
}

/// Weights kept because they were the best so far.
pub fn weights(step: u64) -> String {
    format!("weights/step-{step:08}.bin")
}

/// An evaluation's metrics.
pub fn evaluation(step: u64) -> String {
    format!("eval/step-{step:08}.json")
}

/// A CSV of all evaluations of one dimension, under sentence-transformers' name.
pub fn evaluation_csv(dim: usize) -> String {
    format!("eval/Information-Retrieval_evaluation_dim_{dim}_results.csv")
}

/// The logged steps, one JSON object a line; put anew when a span of training ends.
pub const STEPS: &str = "metrics/steps.jsonl";

/// A file of the exported model folder.
pub fn export_file(path: &str) -> String {
    format!("model/{path}")
}
