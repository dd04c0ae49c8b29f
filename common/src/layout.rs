//! Every object key of a run, built here and nowhere else. Keys are relative to the run's store URL.
//!
//! An object that a journal entry names, itself or through a manifest, is never written again: its key carries its digest, or the term or
//! generation of its writer, so that a process that was fenced cannot touch what its successor wrote.

/// Whether a key has the shape of an object that a process may leave behind without a name: of those alone a clean-up may delete. The exported
/// folder and what is for people is not among them, and no file of anybody else's.
pub fn may_be_left_behind(key: &str) -> bool {
    let parts: Vec<&str> = key.split('/').collect();
    let number = |text: &str, digits: usize| text.len() >= digits && text.bytes().all(|b| b.is_ascii_digit());
    let shard = |name: &str, ending: &str| {
        name.strip_suffix(ending)
            .and_then(|name| name.split_once('-'))
            .is_some_and(|(index, digest)| number(index, 5) && digest.len() == 16)
    };
    let manifest = |name: &str| {
        name.strip_prefix("manifest-").and_then(|name| name.strip_suffix(".json")).is_some_and(|term| number(term, 4))
    };
    let checkpoint = |folder: &str| {
        folder
            .strip_prefix("step-")
            .and_then(|rest| rest.split_once("-g"))
            .is_some_and(|(step, generation)| number(step, 8) && number(generation, 4))
    };
    match parts[..] {
        ["journal", "snapshots", name] => name.ends_with(".json"),
        ["base", term, "manifest.json"] | ["base", term, "files", ..] => number(term, 4),
        ["dataset" | "tokens" | "export", name] => manifest(name),
        ["dataset", "train" | "test", name] => shard(name, ".parquet"),
        ["tokens", "train" | "test", name] => shard(name, ".bin"),
        ["documents", name] => {
            name.strip_prefix("sources-").and_then(|name| name.strip_suffix(".json")).is_some_and(|d| d.len() == 16)
        }
        ["documents", "files", name] => name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()),
        ["documents", "reports", name] => shard(name, ".json"),
        ["elements" | "chunks", name] => shard(name, ".parquet"),
        ["pairs", name] => name.split_once('-').is_some_and(|(shard_of, rest)| number(shard_of, 5) && shard(rest, ".parquet")),
        ["mining", name] => name.strip_prefix("pool-").and_then(|name| name.strip_suffix(".json")).is_some_and(|d| d.len() == 16),
        ["mining", "questions" | "passages", name] => shard(name, ".parquet"),
        ["mining", "question-vectors" | "passage-vectors", name] => shard(name, ".bin"),
        ["mining", "found", name] => shard(name, ".json"),
        ["plan", term, name] => number(term, 4) && name.starts_with("epoch-"),
        ["checkpoints", folder, _] => checkpoint(folder),
        ["probe", _] => true,
        _ => false,
    }
}

/// The report; put last of all.
pub const REPORT: &str = "report.json";
/// Object names put and deleted to learn whether the store can be written conditionally.
pub const PROBE: &str = "probe";
/// A hint to the newest snapshot of the journal; it may be old.
pub const JOURNAL_HEAD: &str = "journal/head.json";

/// An entry of the journal.
pub fn journal_entry(sequence: u64) -> String {
    format!("journal/{sequence:08}.json")
}

/// What the journal's entries up to this one add up to.
pub fn journal_snapshot(sequence: u64, term: u64) -> String {
    format!("journal/snapshots/{sequence:08}-{term:04}.json")
}

/// What the base model consists of; put last of its import.
pub fn model_manifest(term: u64) -> String {
    format!("base/{term:04}/manifest.json")
}

/// A file of the base model's folder; `path` is relative and has no `..`.
pub fn model_file(term: u64, path: &str) -> String {
    format!("base/{term:04}/files/{path}")
}

/// All documents of the run, in order.
pub fn source_list(digest: &str) -> String {
    format!("documents/sources-{}.json", &digest[..16])
}

/// A local document, put into the store for workers on other machines; by its digest.
pub fn source_file(digest: &str) -> String {
    format!("documents/files/{digest}")
}

/// What became of the documents of a reading task, which begins with document `first`.
pub fn document_reports(first: u64, digest: &str) -> String {
    format!("documents/reports/{first:05}-{}.json", &digest[..16])
}

/// The elements of those documents.
pub fn element_shard(first: u64, digest: &str) -> String {
    format!("elements/{first:05}-{}.parquet", &digest[..16])
}

/// Their chunks.
pub fn chunk_shard(first: u64, digest: &str) -> String {
    format!("chunks/{first:05}-{}.parquet", &digest[..16])
}

/// Where answers of language models lie.
pub const ANSWERS: &str = "answers/";

/// An answer of a language model, by the digest of what was asked (LLM-1). It outlives the settings that it was asked under.
pub fn answer(request_id: &str) -> String {
    format!("{ANSWERS}{}/{request_id}.json", &request_id[..2])
}

/// Pairs made from chunks `from`, ... of the shard that begins with document `first`.
pub fn pair_shard(first: u64, from: u64, digest: &str) -> String {
    format!("pairs/{first:05}-{from:05}-{}.parquet", &digest[..16])
}

/// What the base model is asked about the pairs.
pub fn mining_pool(digest: &str) -> String {
    format!("mining/pool-{}.json", &digest[..16])
}

/// A shard of the pool's texts; `kind` is `questions` or `passages`.
pub fn mining_texts(kind: &str, index: usize, digest: &str) -> String {
    format!("mining/{kind}/{index:05}-{}.parquet", &digest[..16])
}

/// The vectors of such a shard; `kind` is `question` or `passage`.
pub fn mining_vectors(kind: &str, index: u64, digest: &str) -> String {
    format!("mining/{kind}-vectors/{index:05}-{}.bin", &digest[..16])
}

/// What was found for the questions of a shard.
pub fn mining_found(index: u64, digest: &str) -> String {
    format!("mining/found/{index:05}-{}.json", &digest[..16])
}

/// The pairs as the data set has them, with their chunks; for people and their tools, put when the data set is.
pub const PAIRS_CSV: &str = "generated_qa_pairs.csv";

/// Which of the pairs that were made the cleaning took out, by rule; put beside [`PAIRS_CSV`].
pub const PAIRS_TAKEN_OUT: &str = "pairs_taken_out.json";

/// The data set's shards, counts and digests; put last of the import.
pub fn dataset_manifest(term: u64) -> String {
    format!("dataset/manifest-{term:04}.json")
}

/// A shard of rows: split is `train` or `test`.
pub fn dataset_shard(split: &str, index: usize, digest: &str) -> String {
    format!("dataset/{split}/{index:05}-{}.parquet", &digest[..16])
}

/// The batch plan of an epoch.
pub fn plan(term: u64, epoch: u32) -> String {
    format!("plan/{term:04}/epoch-{epoch:04}.bin")
}

/// The tokens of a shard of rows.
pub fn token_shard(split: &str, index: usize, digest: &str) -> String {
    format!("tokens/{split}/{index:05}-{}.bin", &digest[..16])
}

/// All token shards; put when the last is done.
pub fn tokens_manifest(term: u64) -> String {
    format!("tokens/manifest-{term:04}.json")
}

fn checkpoint(generation: u64, step: u64) -> String {
    format!("checkpoints/step-{step:08}-g{generation:04}")
}

/// A checkpoint's manifest; put when all its parts are there.
pub fn checkpoint_manifest(generation: u64, step: u64) -> String {
    format!("{}/manifest.json", checkpoint(generation, step))
}

/// A range of one of a checkpoint's vectors, by its first value.
pub fn checkpoint_part(generation: u64, step: u64, vector: &str, start: u64) -> String {
    format!("{}/{vector}-{start:012}.bin", checkpoint(generation, step))
}

/// Losses and gradient norms up to a checkpoint.
pub fn checkpoint_history(generation: u64, step: u64) -> String {
    format!("{}/history.bin", checkpoint(generation, step))
}

/// A CSV of all evaluations of one dimension, under sentence-transformers' name; for people, put anew with each evaluation.
pub fn evaluation_csv(dim: usize) -> String {
    format!("eval/Information-Retrieval_evaluation_dim_{dim}_results.csv")
}

/// The logged steps, one JSON object a line; for people, put anew when a span of training ends.
pub const STEPS: &str = "metrics/steps.jsonl";

/// The folder of the exported model, as people look for it.
pub const EXPORT: &str = "model";

/// A file of the exported model folder.
pub fn export_file(path: &str) -> String {
    format!("{EXPORT}/{path}")
}

/// What the exported folder consists of.
pub fn export_manifest(term: u64) -> String {
    format!("export/manifest-{term:04}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a clean-up knows what may be left behind, and nobody else's files. Method: every key of this file, and some of other people's.
    #[test]
    fn shapes() {
        let digest = "0123456789abcdef0123456789abcdef";
        let ours = [
            journal_snapshot(64, 1),
            model_manifest(1),
            model_file(12, "1_Pooling/config.json"),
            dataset_manifest(3),
            dataset_shard("train", 0, digest),
            plan(1, 2),
            token_shard("test", 7, digest),
            tokens_manifest(1),
            checkpoint_manifest(1, 2),
            checkpoint_part(1, 2, "params", 3),
            checkpoint_history(1, 2),
            export_manifest(1),
            source_list(digest),
            source_file(&format!("{digest}{digest}")),
            document_reports(1, digest),
            element_shard(1, digest),
            chunk_shard(123456, digest),
            pair_shard(1, 2, digest),
            mining_pool(digest),
            mining_texts("questions", 0, digest),
            mining_texts("passages", 1, digest),
            mining_vectors("question", 2, digest),
            mining_vectors("passage", 3, digest),
            mining_found(4, digest),
            format!("{PROBE}/x"),
        ];
        assert!(ours.iter().all(|key| may_be_left_behind(key)), "{ours:?}");
        let others = [
            journal_entry(1),
            JOURNAL_HEAD.into(),
            REPORT.into(),
            STEPS.into(),
            evaluation_csv(8),
            export_file("config.json"),
            "handbook.jsonl".into(),
            answer(digest),
            PAIRS_CSV.into(),
            PAIRS_TAKEN_OUT.into(),
            "documents/handbook.pdf".into(),
            "pairs/mine.parquet".into(),
            "mining/notes.json".into(),
            "mining/found/mine.json".into(),
            "dataset/train.csv".into(),
            "dataset/train/00000-rows.parquet".into(),
            "base/manifest.json".into(),
            "checkpoints/mine.bin".into(),
            "checkpoints/step-1/manifest.json".into(),
            "base/notes/files/x".into(),
        ];
        assert!(!others.iter().any(|key| may_be_left_behind(key)), "{others:?}");
    }
}
