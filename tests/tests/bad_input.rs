//! Bad input gets one clear error, a documented exit code, and leaves nothing half-done.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as they do")]

use std::path::Path;

use artel_tests::{Outcome, Process, Sandbox};

const PROGRAM: &str = env!("CARGO_BIN_EXE_artel-under-test");

/// Runs the spec as it stands; the error must say all of `says`, once, and no report or model may be there.
fn refused(sandbox: &Sandbox, code: i32, says: &[&str]) -> Outcome {
    let store = format!("store-{}", says.join("-").chars().filter(char::is_ascii_alphanumeric).collect::<String>());
    let outcome = sandbox.run(["run", "spec.toml", "--store", &format!("file:./{store}")]);
    assert_eq!(outcome.code, Some(code), "{says:?}: {}", outcome.stderr);
    let lower = outcome.stderr.to_lowercase();
    for word in says {
        assert!(lower.contains(&word.to_lowercase()), "{word:?} is not in: {}", outcome.stderr);
    }
    assert!(!lower.contains("panicked"), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.lines().filter(|line| line.starts_with("error")).count(), 1, "{}", outcome.stderr);
    for left in ["report.json", "model", "export.json"] {
        assert!(!sandbox.path(&store).join(left).exists(), "{says:?} left {left}");
    }
    outcome
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new(PROGRAM);
    sandbox.pairs(120);
    sandbox.spec("", "count = 1");
    sandbox
}

fn replace(sandbox: &Sandbox, from: &str, to: &str) {
    let path = sandbox.path("spec.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from:?} is not in the spec");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Goal: unusable data. Method: one file of each kind; exit code 3.
#[test]
fn data() {
    let sandbox = sandbox();
    std::fs::remove_file(sandbox.path("pairs.jsonl")).unwrap();
    refused(&sandbox, 3, &["pairs.jsonl"]);
    sandbox.write("pairs.jsonl", "");
    refused(&sandbox, 3, &["pairs.jsonl", "empty"]);
    sandbox.write("pairs.jsonl", "{\"anchor\": \"one\", \"positive\": \"row\", \"doc\": \"a\"}\n");
    refused(&sandbox, 3, &["row"]);
    sandbox.pairs(120);
    replace(&sandbox, "group = \"doc\"", "anchor = \"anchr\", group = \"doc\"");
    refused(&sandbox, 3, &["anchr", "anchor"]);
}

/// Goal: rows that cannot be used are listed with file, line and reason, and the rest is trained on.
/// Method: an empty answer, a broken line and an N/A answer among good rows.
#[test]
fn bad_rows_are_listed() {
    let sandbox = sandbox();
    let good = std::fs::read_to_string(sandbox.path("pairs.jsonl")).unwrap();
    let bad =
        "{\"anchor\": \"empty answer\", \"positive\": \"\"}\nnot json\n{\"anchor\": \"unanswered\", \"positive\": \"N/A\"}\n";
    sandbox.write("pairs.jsonl", &format!("{bad}{good}"));
    sandbox.run(["run", "spec.toml"]).expect_done();
    let import = sandbox.report("store")["import"].clone();
    assert_eq!((import["rows_bad"].as_u64(), import["rows_not_available"].as_u64()), (Some(2), Some(1)), "{import}");
    let lines: Vec<u64> = import["bad_rows"].as_array().unwrap().iter().map(|row| row["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [1, 2]);
}

/// Goal: a CSV whose quotes are broken is reported with its line. Method: a quote that is never closed.
#[test]
fn broken_quotes() {
    let sandbox = sandbox();
    sandbox.write("pairs.csv", "Question,Answer\nq1,a1\nq2,\"never closed\nq3,a3\n");
    replace(&sandbox, "pairs.jsonl", "pairs.csv");
    replace(&sandbox, "columns = { group = \"doc\" }\n", "");
    let outcome = sandbox.run(["run", "spec.toml", "--store", "file:./quotes"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("pairs.csv") && outcome.stderr.contains('3'), "{}", outcome.stderr);
}

/// Goal: batches that the data cannot fill. Method: more rows a batch than there are; exit code 2.
#[test]
fn batch_larger_than_the_data() {
    let sandbox = sandbox();
    replace(&sandbox, "global_batch_size = 16", "global_batch_size = 1000");
    refused(&sandbox, 2, &["global_batch_size", "1000"]);
}

/// Goal: unusable specs. Method: each gets its line and what to write; exit code 2.
#[test]
fn specs() {
    let sandbox = sandbox();
    replace(&sandbox, "learning_rate", "learning_rat");
    refused(&sandbox, 2, &["spec.toml:", "learning_rat", "learning_rate"]);
    sandbox.spec("per_device_train_batch_size = 4\n", "count = 1");
    refused(&sandbox, 2, &["per_device_train_batch_size", "global_batch_size"]);
    sandbox.spec("learning_rate_typo = 1\n", "cuont = 1");
    refused(&sandbox, 2, &["cuont", "count", "learning_rate_typo"]);
    let missing = sandbox.run(["run", "nowhere.toml"]);
    assert_eq!(missing.code, Some(2), "{}", missing.stderr);
    assert!(missing.stderr.contains("nowhere.toml"), "{}", missing.stderr);
}

/// Goal: dimensions beyond the model's width. Method: the toy has 128; exit code 2.
#[test]
fn dims_larger_than_the_model() {
    let sandbox = sandbox();
    replace(&sandbox, "[128, 32]", "[256, 32]");
    refused(&sandbox, 2, &["256", "128"]);
}

/// The toy as a folder of its own, exported by a run.
fn model(sandbox: &Sandbox) -> std::path::PathBuf {
    sandbox.run(["run", "spec.toml", "--store", "file:./made"]).expect_done();
    sandbox.run(["export", "made", "--to", "base"]).expect_done();
    replace(sandbox, "artel:toy", "base");
    sandbox.path("base")
}

fn flip_to_nan(weights: &Path) {
    let mut bytes = std::fs::read(weights).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(weights, bytes).unwrap();
}

/// Goal: unusable models. Method: no tokenizer, NaN in the weights, pickle only, no folder; exit code 4.
#[test]
fn models() {
    let sandbox = sandbox();
    let base = model(&sandbox);
    let (weights, kept) = (base.join("model.safetensors"), sandbox.path("kept.safetensors"));
    std::fs::copy(&weights, &kept).unwrap();
    flip_to_nan(&weights);
    refused(&sandbox, 4, &["nan"]);
    std::fs::rename(&weights, base.join("pytorch_model.bin")).unwrap();
    refused(&sandbox, 4, &["safetensors", "pickle"]);
    std::fs::copy(&kept, &weights).unwrap();
    for file in ["tokenizer.json", "vocab.txt"] {
        std::fs::remove_file(base.join(file)).unwrap();
    }
    refused(&sandbox, 4, &["tokenizer"]);
    replace(&sandbox, "base = \"base\"", "base = \"./no/such/folder\"");
    refused(&sandbox, 4, &["no/such/folder"]);
}

/// Goal: a store that cannot be written, or that holds another run. Method: a file in its place; the store of a finished run, for another seed.
#[test]
fn stores() {
    let sandbox = sandbox();
    sandbox.write("occupied", "a file");
    let outcome = sandbox.run(["run", "spec.toml", "--store", "file:./occupied/store"]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("occupied"), "{}", outcome.stderr);
    sandbox.run(["run", "spec.toml"]).expect_done();
    replace(&sandbox, "[workers]", "seed = 7\n[workers]");
    let other = sandbox.run(["run", "spec.toml"]);
    assert_eq!(other.code, Some(6), "{}", other.stderr);
    assert!(other.stderr.contains("a finished run") && other.stderr.contains("train.seed was 42 and is 7"), "{}", other.stderr);
}

/// Goal: a GPU that is wanted and not there is one exit code everywhere, 4, and a spec that leaves the device open takes the CPU, aloud. Method: run and worker
/// where no GPU is shown; check and run with nothing said.
#[test]
fn no_gpu() {
    let sandbox = sandbox();
    sandbox.spec("", "device = \"cuda\"");
    refused(&sandbox, 4, &["GPU"]);
    let worker = sandbox.run(["worker", "--coordinator", "http://127.0.0.1:9", "--devices", "all"]);
    assert!(worker.code == Some(4) && worker.stderr.contains("shows no GPU"), "{}", worker.stderr);
    sandbox.spec("", "device = \"gpu\"");
    refused(&sandbox, 2, &["workers.device", "\"auto\""]);
    sandbox.spec("", "device = \"auto\"\ncount = 2\nthreads = 1");
    let checked = sandbox.run(["check", "spec.toml"]).expect_done().stdout.join("\n");
    assert!(checked.contains("device = \"cpu\"") && checked.contains("# device     CPU, 2 workers"), "{checked}");
    let run = sandbox.run(["run", "spec.toml"]).expect_done();
    assert!(run.stderr.starts_with("device: CPU, 2 workers"), "{}", run.stderr);
}

/// Goal: a run that began on a GPU does not go on on the CPU unasked, and the refusal says that the machine makes the difference. Method: a data set that is
/// imported for GPUs, and a spec that leaves the device open.
#[test]
fn a_run_of_gpus() {
    let sandbox = sandbox();
    sandbox.spec("", "device = \"cuda\"");
    sandbox.run(["import", "spec.toml"]).expect_done();
    sandbox.spec("", "");
    let other = sandbox.run(["run", "spec.toml"]);
    assert_eq!(other.code, Some(6), "{}", other.stderr);
    for piece in ["train.precision was \"bf16\" and is \"f32\"", "it began on a GPU", "artel doctor --gpu"] {
        assert!(other.stderr.contains(piece), "{piece}: {}", other.stderr);
    }
}

/// Goal: a coordinator of GPUs that is not told how many says that it waits for one. Method: its first events.
#[test]
fn gpus_are_counted() {
    let sandbox = sandbox();
    sandbox.spec("", "device = \"cuda\"");
    let arguments = ["coordinator", "spec.toml", "--listen", "127.0.0.1:0", "--json"];
    let coordinator = Process::start(&mut sandbox.artel(arguments));
    let warning = coordinator.wait_for_line(std::time::Duration::from_secs(60), |line| line.contains("\"warning\""));
    assert!(warning.contains("one worker is waited for"), "{warning}");
}
