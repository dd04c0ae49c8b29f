//! `artel doctor`: its keys, its exit codes, and that it leaves nothing behind.

mod common;

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use common::{artel, error, scratch, toy_model};

fn doctor(folder: &Path, args: &[&str]) -> Output {
    artel(folder, &[&["doctor"], args].concat())
}

/// The one JSON object of a doctor that ends with this code.
fn findings(output: &Output, code: i32) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.matches("error: ").count(), usize::from(code != 0), "{stderr}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// Every key of an object, nested ones as `outer.inner`.
fn keys(value: &Value) -> Vec<String> {
    let Some(object) = value.as_object() else { return Vec::new() };
    let nested = |(key, value): (&String, &Value)| {
        let inner = keys(value);
        match inner.is_empty() {
            true => vec![key.clone()],
            false => inner.iter().map(|inner| format!("{key}.{inner}")).collect(),
        }
    };
    object.iter().flat_map(nested).collect()
}

/// Every JSON key in the reference's section of `artel doctor`: what stands in backticks at the beginning of a table's row.
fn documented_keys() -> Vec<String> {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/commands.md");
    let text = std::fs::read_to_string(reference).expect("the reference is there");
    let section = text.split("\n## doctor\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a section");
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned)).collect()
}

/// Goal: a store and a model that are good are told so, with the documented keys and no others, and nothing is left behind.
/// Method: a folder store that is not there yet and a toy model; the keys against the reference.
#[test]
fn a_good_store_and_model() {
    let folder = scratch();
    toy_model(folder.path());
    let url = format!("file://{}/new/store", folder.path().display());
    let found = findings(&doctor(folder.path(), &["--json", "--store", &url, "--model", "model"]), 0);
    let features = |key: &String| key.starts_with("cpu.features");
    let mut keys: Vec<String> = keys(&found).into_iter().filter(|key| !features(key)).collect();
    keys.sort();
    let mut documented: Vec<String> = documented_keys().into_iter().filter(|key| key != "cpu.features").collect();
    documented.sort();
    assert_eq!(keys, documented);
    assert!(found["cpu"]["one_thread_gflops"].as_f64().is_some_and(|speed| speed > 0.01), "{found}");
    assert!(found["memory"]["bandwidth_gb_per_s"].as_f64().is_some_and(|speed| speed > 0.01), "{found}");
    assert!(found["model"]["encode_tokens_per_s"].as_f64().is_some_and(|speed| speed > 1.0), "{found}");
    assert_eq!((found["store"]["usable"].as_bool(), found["model"]["hidden_size"].as_u64()), (Some(true), Some(128)));
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("readable").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["model"]);
}

/// Goal: what cannot be used is told with what to do, under its kind's exit code, and the rest is told all the same. Method: a store
/// below a file, one of no known kind, a folder that holds no model, and the table for people.
#[test]
fn bad_stores_and_models() {
    let folder = scratch();
    std::fs::write(folder.path().join("file"), "").expect("a scratch file");
    let problem = |found: &Value, words: &str| {
        let problems = found["problems"].as_array().expect("problems");
        assert!(problems.iter().any(|problem| problem.as_str().is_some_and(|text| text.contains(words))), "{words}: {found}");
    };
    let below = findings(&doctor(folder.path(), &["--json", "--store", "file/store", "--model", "nothing"]), 5);
    problem(&below, "name another store");
    problem(&below, "nothing");
    assert_eq!((below["store"]["usable"].as_bool(), below["model"].get("hidden_size")), (Some(false), None));
    let strange = findings(&doctor(folder.path(), &["--json", "--store", "ftp://host/store"]), 5);
    problem(&strange, "s3://BUCKET/PREFIX");
    assert!(strange["model"].is_null() && strange["cpu"]["cores"].as_u64() >= Some(1));
    let table = doctor(folder.path(), &["--model", "nothing"]);
    let text = String::from_utf8_lossy(&table.stdout);
    assert_eq!(table.status.code(), Some(4), "{text}");
    assert!(text.contains("\nmodel     nothing is not usable\n") && text.contains("\nproblem: "), "{text}");
    assert!(!text.contains("\nstore "), "{text}");
    assert!(error(&doctor(folder.path(), &["--stroe", "file"]), 2).contains("--store"));
}
