//! How many requests a second the asker keeps up. A test file of its own, so that nothing else runs beside it.

// helpers of tests may panic as tests do
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use artel_questions::{Asker, NoLimits, Patience, Provider, QuestionSettings};
use common::{Action, Server, chat, secret};

const CHUNKS: usize = 32 + 16 * 64;

/// Goal: with answers after 500 ms and 64 in flight, at least 90% of 128 requests a second, the start included. Method: 1,056 chunks in
/// real time over real sockets: a round of 32 and sixteen of 64.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throughput() {
    let server = Server::start(|_| Action::Late(500, Box::new(chat("Question: What is X?\nAnswer: It is Y.")))).await;
    let base_url = Some(format!("{}/v1", server.base));
    let settings = QuestionSettings { provider: Provider::OpenAi, model: "m".into(), base_url, ..QuestionSettings::default() };
    let patience = Patience { max_in_flight: 64, ..Patience::default() };
    let asker = Arc::new(Asker::new(settings, patience, Some(secret()), Arc::new(NoLimits)).unwrap());
    let begun = Instant::now();
    let ask = |i: usize| {
        let asker = asker.clone();
        tokio::spawn(async move { asker.ask(&format!("chunk {i}")).await })
    };
    let tasks: Vec<_> = (0..CHUNKS).map(ask).collect();
    let mut answered = 0;
    for task in tasks {
        answered += usize::from(task.await.unwrap().is_ok());
    }
    let seconds = begun.elapsed().as_secs_f64();
    let rate = CHUNKS as f64 / seconds;
    println!("{rate:.1} requests a second, {seconds:.2} s, at most {} at once", server.most.load(Ordering::SeqCst));
    assert_eq!(answered, CHUNKS);
    assert!(server.most.load(Ordering::SeqCst) <= 64);
    assert!(rate >= 0.9 * 128.0, "{rate} requests a second");
    assert!(begun.elapsed() < Duration::from_secs(30));
}
