//! The way from documents to pairs at length: run with `cargo test --release -p artel-tests --test documents_slow -- --ignored --nocapture`.

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
    paid_once(&Sandbox::new(PROGRAM), 2_000, 10, LIMIT);
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
