//! The asker against llama.cpp's own HTTP server with a random model: whatever it answers, a run over many chunks ends.
//!
//! Needs a Python with the PyPI packages xllamacpp and gguf, named by ARTEL_XLLAMACPP_PYTHON; without it the test says that it is skipped.

// helpers of tests may panic as tests do
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use artel_questions::{Asker, NoLimits, Patience, Provider, QuestionSettings};

/// The server; it ends when its standard input closes, and is killed in any case.
struct Llama {
    child: Child,
    base: String,
    _folder: tempfile::TempDir,
}

impl Llama {
    fn start(python: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llama/server.py");
        let folder = tempfile::tempdir().unwrap();
        // free now; nothing else on a test machine takes it in the next moment
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(python);
        command.arg(script).arg(folder.path()).arg(port.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.starts_with("ready")), "the server did not start");
        Self { child, base: format!("http://127.0.0.1:{port}/v1"), _folder: folder }
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn run(llama: &Llama, settings: QuestionSettings, chunks: usize) -> (BTreeMap<&'static str, usize>, bool) {
    let base_url = Some(llama.base.clone());
    let settings = QuestionSettings { provider: Provider::OpenAi, model: "random".into(), base_url, ..settings };
    let patience = Patience { max_in_flight: 4, max_attempts: 4, timeout_seconds: 60.0, ..Patience::default() };
    let asker = Arc::new(Asker::new(settings, patience, None, Arc::new(NoLimits)).unwrap());
    let begun = Instant::now();
    let ask = |i: usize| {
        let asker = asker.clone();
        tokio::spawn(async move { asker.ask(&format!("Sentence number {i} says that {i} follows {}.", i.max(1) - 1)).await })
    };
    let tasks: Vec<_> = (0..chunks).map(ask).collect();
    let mut counts = BTreeMap::new();
    let mut example = BTreeMap::new();
    for task in tasks {
        let (name, text) = match task.await.unwrap() {
            Ok(reply) => ("answered", format!("{:?}", reply.pairs[0])),
            Err(failed) => (failed.kind.name(), failed.reason),
        };
        *counts.entry(name).or_insert(0) += 1;
        example.entry(name).or_insert(text);
    }
    println!("{chunks} chunks in {:.1?}: {counts:?}, {}; for example {example:?}", begun.elapsed(), asker.state());
    (counts, asker.state().json)
}

/// Goal: a run over 200 chunks ends, malformed answers and all. Method: with a schema that holds the noise to JSON every chunk has pairs, with
/// one that gets cut short some have; with a schema without a pattern, and with text, none needs to have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_server_with_a_random_model() {
    let Ok(python) = std::env::var("ARTEL_XLLAMACPP_PYTHON") else {
        eprintln!("skipped: set ARTEL_XLLAMACPP_PYTHON to a Python that has the packages xllamacpp and gguf");
        return;
    };
    let llama = Llama::start(&python);
    let held = QuestionSettings { json_pattern: Some("^[a-z ]{20,60}$".into()), ..QuestionSettings::default() };
    let (counts, json) = run(&llama, QuestionSettings { max_output_tokens: 400, ..held.clone() }, 200).await;
    assert!(counts.get("answered").is_some_and(|n| *n >= 180), "{counts:?}");
    assert!(json);
    for (settings, chunks) in [
        (QuestionSettings { max_output_tokens: 120, ..held }, 60),
        (QuestionSettings { max_output_tokens: 120, ..QuestionSettings::default() }, 30),
        (QuestionSettings { max_output_tokens: 120, json: false, ..QuestionSettings::default() }, 30),
    ] {
        let (counts, _) = run(&llama, settings, chunks).await;
        assert_eq!(counts.values().sum::<usize>(), chunks);
        assert!(!counts.contains_key("fatal") && !counts.contains_key("stopped"), "{counts:?}");
    }
}
