//! The way from documents to pairs at length: run with `cargo test --release -p artel-tests --test documents_slow -- --ignored --nocapture`.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use artel_tests::Sandbox;
use artel_tests::documents::{good, openai, paid_once, run_within, write_documents, write_spec};
use artel_tests::llm::LlmServer;

const PROGRAM: &str = env!("CARGO_BIN_EXE_artel-under-test");
const LIMIT: Duration = Duration::from_secs(600);

/// Goal: paid once (LLM-1) at length. Method: 2,000 chunks, ten kills at random of workers and coordinator, the server's own counts.
#[test]
#[ignore = "slow: a minute and more"]
fn answers_are_paid_for_once_at_length() {
    assert_eq!(paid_once(&Sandbox::new(PROGRAM), 2_000, 10, LIMIT), 10, "kills");
}

/// Goal: a pace of 600 requests a minute over four workers is kept and used: 95 to 100%. Method: 1,500 chunks, the times of the server's requests after the
/// first burst.
#[test]
#[ignore = "slow: three minutes"]
fn six_hundred_a_minute_over_four_workers() {
    let sandbox = Sandbox::new(PROGRAM);
    write_documents(&sandbox, 75, 20);
    let server = LlmServer::start(Duration::from_millis(500), |prompt, _| good(prompt));
    write_spec(&sandbox, &openai(&server, "requests_per_minute = 600"), "max_steps = 1", "count = 4\nthreads = 1");
    let outcome = run_within(&sandbox, LIMIT);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let times: Vec<f64> = server.times().iter().map(|time| time.duration_since(server.times()[0]).as_secs_f64()).collect();
    assert_eq!(times.len(), 1_500);
    let minute = |from: f64| times.iter().filter(|time| **time >= from && **time < from + 60.0).count();
    let most = times.iter().map(|from| minute(*from)).max().unwrap_or(0);
    let inner: Vec<usize> = (0..8).map(|step| minute(10.0 + 10.0 * f64::from(step))).collect();
    eprintln!("requests of a minute: {inner:?}, at the most {most}; all in {:.1} s", times[times.len() - 1]);
    assert!(most <= 600, "{most} requests in a minute");
    assert!(inner.iter().all(|count| *count >= 570), "{inner:?}");
}

/// Goal: where answers take half a second and 64 may be in flight, at least 90% of 128 requests a second are made. Method: 6,000 chunks, one worker with 64
/// in flight; the server's times after the first five seconds.
#[test]
#[ignore = "slow: a minute"]
fn a_hundred_and_twenty_eight_a_second() {
    let sandbox = Sandbox::new(PROGRAM);
    write_documents(&sandbox, 300, 20);
    let server = LlmServer::start(Duration::from_millis(500), |prompt, _| good(prompt));
    write_spec(&sandbox, &openai(&server, "max_in_flight = 64"), "max_steps = 1", "count = 1\nthreads = 2");
    let outcome = run_within(&sandbox, LIMIT);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let times: Vec<f64> = server.times().iter().map(|time| time.duration_since(server.times()[0]).as_secs_f64()).collect();
    assert_eq!(times.len(), 6_000);
    let last = times[times.len() - 1];
    let all = times.len() as f64 / (last + 0.5);
    let inner = times.iter().filter(|time| **time >= 5.0 && **time < last - 2.0).count() as f64 / (last - 7.0);
    eprintln!(
        "{all:.1} requests a second over all, {inner:.1} between the first 5 s and the last 2 s; {} in flight",
        server.most_in_flight()
    );
    assert!(server.most_in_flight() <= 64);
    assert!(inner >= 0.9 * 128.0, "{inner:.1} a second");
}

/// Goal: a whole run over 200 chunks against llama.cpp's own server with a random model comes to its end, malformed answers and all: each chunk is accounted for
/// once, and the run either has a model or says which rules took everything. Method: the server in a process, text and JSON answers.
#[test]
#[ignore = "slow: needs a Python with xllamacpp and gguf in ARTEL_XLLAMACPP_PYTHON"]
fn a_real_server_with_a_random_model() {
    let Ok(python) = std::env::var("ARTEL_XLLAMACPP_PYTHON") else {
        eprintln!("skipped: set ARTEL_XLLAMACPP_PYTHON to a Python that has the packages xllamacpp and gguf");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../questions/tests/llama/server.py");
    let mut command = Command::new(python);
    command
        .arg(script)
        .arg(folder.path())
        .arg(port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut server = command.spawn().expect("the server starts");
    let mut lines = BufReader::new(server.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("ready")), "the server did not start");
    for json in [false, true] {
        let sandbox = Sandbox::new(PROGRAM);
        write_documents(&sandbox, 10, 20);
        let questions = format!(
            "provider = \"openai\"\nmodel = \"random\"\nbase_url = \"http://127.0.0.1:{port}/v1\"\njson = {json}\nmax_in_flight = 4\nmax_output_tokens = 64"
        );
        write_spec(&sandbox, &questions, "max_steps = 1", "count = 2\nthreads = 1");
        let outcome = run_within(&sandbox, LIMIT);
        eprintln!("json = {json}: code {:?} after {:.1} s; {}", outcome.code, outcome.took.as_secs_f64(), outcome.stderr.trim());
        let told = outcome.stderr.contains("the cleaning took all of them") || outcome.stderr.contains("no pair came of");
        assert!(outcome.code == Some(0) || (outcome.code == Some(3) && told), "{}", outcome.stderr);
        let rows = sandbox.run(["pairs", "store", "--json", "--limit", "0"]).expect_done().stdout;
        let rows: Vec<serde_json::Value> = rows.iter().map(|row| serde_json::from_str(row).expect("JSON")).collect();
        let chunks: HashSet<String> = rows.iter().map(|row| format!("{} {}", row["document"], row["chunk"])).collect();
        assert_eq!(chunks.len(), 200, "each chunk is accounted for");
        let failed = rows.iter().filter(|row| !row["failure"].is_null()).count();
        eprintln!("{} pairs, {failed} chunks failed, such as {}", rows.len() - failed, rows[0]);
    }
    server.kill().expect("it runs");
    server.wait().expect("it ends");
}
