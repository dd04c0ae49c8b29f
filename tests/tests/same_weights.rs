//! SAME-1 to SAME-3: the weights do not depend on who computes them, nor on how much memory they have.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as they do")]

use artel_tests::Sandbox;

const PROGRAM: &str = env!("CARGO_BIN_EXE_artel-under-test");

/// Runs the same training with these workers and gives its digest.
fn digest(sandbox: &Sandbox, name: &str, workers: usize, threads: usize, memory_limit: &str, train: &str) -> String {
    sandbox.spec(train, &format!("threads = {threads}\n{memory_limit}"));
    let (store, workers) = (format!("file:./{name}"), workers.to_string());
    sandbox.run(["run", "spec.toml", "--json", "--workers", &workers, "--store", &store]).expect_done();
    let report = sandbox.report(name);
    assert!(report["steps"].as_u64().unwrap() >= 3, "{report}");
    report["weights_digest"].as_str().unwrap().to_owned()
}

/// Goal: one digest for 1, 2 and 4 workers, 1 and 2 threads, one pass and GradCache, dropout on.
/// Method: the same small run under each; memory too small for any activation forces the second pass.
#[test]
fn one_digest_for_all() {
    let sandbox = Sandbox::new(PROGRAM);
    sandbox.pairs(120);
    let first = digest(&sandbox, "one", 1, 1, "", "");
    for (name, workers, threads, memory) in [
        ("two", 2, 1, ""),
        ("three", 3, 1, ""),
        ("four", 4, 1, ""),
        ("threads", 1, 2, ""),
        ("two-by-two", 2, 2, ""),
        ("two-passes", 1, 1, "memory_limit = \"1MB\""),
        ("two-passes-by-two", 2, 2, "memory_limit = \"1MB\""),
    ] {
        assert_eq!(digest(&sandbox, name, workers, threads, memory, ""), first, "{name}");
    }
}

/// Goal: the same with gradient accumulation, and another seed gives other weights. Method: as above.
#[test]
fn accumulation_too() {
    let sandbox = Sandbox::new(PROGRAM);
    sandbox.pairs(120);
    let accumulate = "gradient_accumulation_steps = 2\n";
    let first = digest(&sandbox, "one", 1, 2, "", accumulate);
    assert_eq!(digest(&sandbox, "two", 2, 1, "", accumulate), first);
    let other_seed = format!("{accumulate}seed = 7\n");
    assert_ne!(digest(&sandbox, "seed", 1, 2, "", &other_seed), first);
}
