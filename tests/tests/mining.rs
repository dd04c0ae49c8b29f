//! Pairs from documents held against the base model: the round-trip check, hard negatives, and workers lost meanwhile. ARTEL_MINILM names the model.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use artel_common::records::{DatasetManifest, Pair, SplitManifest};
use artel_common::shard::decode_shard;
use artel_tests::{Outcome, Process, Sandbox, children_of, kill, minilm};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_artel-under-test");
const LIMIT: Duration = Duration::from_secs(300);

/// Passages of the example as documents of their own, and a spec over them for each store.
fn sandbox(model: &std::path::Path) -> Sandbox {
    let sandbox = Sandbox::new(PROGRAM);
    let pairs = std::fs::read_to_string(sandbox.pairs(400)).expect("the pairs");
    let mut documents: BTreeMap<String, String> = BTreeMap::new();
    for line in pairs.lines() {
        let pair: Value = serde_json::from_str(line).expect("a pair");
        let text = |key: &str| pair[key].as_str().expect("a text").to_owned();
        *documents.entry(text("doc")).or_default() += &format!("{}\n\n", text("positive"));
    }
    for (number, text) in documents.values().enumerate() {
        sandbox.write(&format!("docs/{number:03}.txt"), text);
    }
    sandbox.write(
        "spec.toml",
        &format!(
            "[run]\nstore = \"file:./store\"\n[documents]\nsources = [\"docs\"]\n[chunks]\nchunk_size = 240\n\
             [questions]\nprovider = \"offline\"\n[cleaning]\nround_trip = 2\nnum_negatives = 2\n[data]\npositive = \"chunk\"\ntest_fraction = 0.2\n\
             [model]\nbase = \"{}\"\nmax_seq_length = 48\n\
             [train]\nglobal_batch_size = 8\nmax_steps = 2\nlearning_rate = 1e-5\nsave_strategy = \"no\"\neval_strategy = \"no\"\n\
             [workers]\ncount = 2\nthreads = 1\n",
            model.display()
        ),
    );
    sandbox
}

fn run(sandbox: &Sandbox, store: &str) -> Process {
    Process::start(&mut sandbox.artel(["run", "spec.toml", "--json", "--store", &format!("file:./{store}")]))
}

fn expect_done(process: Process) -> Outcome {
    let (status, stdout, stderr) = process.wait(LIMIT);
    Outcome { code: status.code(), stdout, stderr, took: Duration::ZERO }.expect_done()
}

/// The newest manifest of a store's data set.
fn dataset(sandbox: &Sandbox, store: &str) -> DatasetManifest {
    let folder = std::fs::read_dir(sandbox.path(store).join("dataset")).expect("a data set").flatten();
    let manifests = folder.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|ending| ending == "json"));
    let bytes = std::fs::read(manifests.max().expect("a manifest")).expect("readable");
    serde_json::from_slice(&bytes).expect("a manifest")
}

fn rows(sandbox: &Sandbox, store: &str, split: &SplitManifest) -> Vec<Pair> {
    let bytes = |key: &str| std::fs::read(sandbox.path(store).join(key)).expect("a shard");
    split.shards.iter().flat_map(|shard| decode_shard(bytes(&shard.object.key).into()).expect("whole")).collect()
}

/// The count of a rule in a report.
fn count(report: &Value, rule: &str) -> u64 {
    let filtered = report["questions"]["filtered"].as_array().expect("a list");
    filtered.iter().find(|by| by["rule"] == rule).map_or(0, |by| by["count"].as_u64().expect("a number"))
}

/// Goal: from documents to a model with checked pairs and hard negatives; no negative is a test text or the row's own positive; all counts agree; a worker
/// that is killed meanwhile changes no row. Method: MiniLM over passages of the example, offline questions, both keys; then again in another store, where a
/// worker dies while texts are embedded; rows and digests of both.
#[test]
fn negatives_from_documents() {
    let Some(model) = minilm() else { return };
    let sandbox = sandbox(&model);
    let outcome = expect_done(run(&sandbox, "store"));
    assert!(outcome.stdout.iter().any(|line| line.contains("\"stage_started\"") && line.contains("\"mine\"")));
    let report = sandbox.report("store");
    let (first, whole) = (dataset(&sandbox, "store"), sandbox.run(["fsck", "store"]).expect_done().stdout.join("\n"));
    assert!(whole.contains("0 unnamed"), "{whole}");
    let (train, test) = (rows(&sandbox, "store", &first.train), rows(&sandbox, "store", &first.test));
    assert!(train.len() >= 40 && test.len() >= 5, "{} training and {} test rows: {report}", train.len(), test.len());
    let test_texts: HashSet<&str> = test.iter().flat_map(Pair::columns).collect();
    let mut positives: HashMap<&str, HashSet<&str>> = HashMap::new();
    for row in &train {
        positives.entry(&row.anchor).or_default().insert(&row.positive);
    }
    for row in &train {
        assert_eq!(row.negatives.len(), 2, "{row:?}");
        let unlike = |text: &String| {
            !test_texts.contains(&text[..]) && !positives[&row.anchor[..]].contains(&text[..]) && *text != row.anchor
        };
        assert!(row.negatives.iter().all(unlike) && row.negatives[0] != row.negatives[1], "{row:?}");
    }
    assert!(test.iter().all(|row| row.negatives.is_empty()));
    assert_eq!((first.train.num_columns, first.test.num_columns), (4, 2));
    let questions = &report["questions"];
    let pairs = questions["pairs"].as_u64().expect("a number");
    let by_document = report["documents"].as_array().expect("a list").iter().map(|document| document["pairs"].as_u64());
    assert_eq!((pairs, Some(pairs)), ((train.len() + test.len()) as u64, by_document.sum::<Option<u64>>()));
    let taken: u64 =
        questions["filtered"].as_array().expect("a list").iter().map(|by| by["count"].as_u64().expect("a number")).sum();
    assert_eq!(questions["pairs_made"].as_u64(), Some(pairs + taken));
    assert!(count(&report, "round_trip") > 0, "a rank of 2 is more than every question has: {questions}");
    sandbox.write(
        "csv.toml",
        "[run]\nstore = \"file:./csv\"\n[data]\npairs = \"store/generated_qa_pairs.csv\"\n[model]\nbase = \"artel:toy\"\n",
    );
    let imported = sandbox.run(["import", "csv.toml"]).expect_done().stdout.join("\n");
    assert!(imported.contains(&format!("{} rows of 1 files", pairs + count(&report, "few_negatives"))), "{imported}");
    assert_eq!(questions["negatives"]["per_row"], 2);
    let score = questions["negatives"]["mean_score"].as_f64().expect("a number");
    assert!((0.05..0.9).contains(&score), "{score}");
    assert!(
        report["before"]["dim_384_cosine_ndcg@10"].as_f64() > Some(0.1) && report["after"]["dim_384_cosine_ndcg@10"].is_number()
    );
    assert_eq!(report["steps"], 2);

    let process = run(&sandbox, "again");
    process.wait_for_line(LIMIT, |line| line.contains("\"stage_started\"") && line.contains("\"mine\""));
    std::thread::sleep(Duration::from_millis(700));
    let worker = children_of(process.pid()).into_iter().find(|(_, command)| command.contains(" worker ")).expect("a worker");
    kill(worker.0, libc::SIGKILL);
    assert!(!process.lines().iter().any(|line| line.contains("\"split\"")), "the kill came too late");
    expect_done(process);
    let again = dataset(&sandbox, "again");
    assert_eq!((&again.train.digest, &again.test.digest), (&first.train.digest, &first.test.digest));
    assert_eq!(sandbox.digest("again"), sandbox.digest("store"));
}
