use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::budget::{self, Budget};
use crate::failed::FailedKind;
use crate::gate::{Estimate, NoLimits, Permit, Stopped, Usage};
use crate::http::{Answer, Call, SendError};
use crate::judge::JudgeSettings;
use crate::pace::Pace;
use crate::price::Price;
use crate::settings::Provider;

const KEY: &str = "sk-0123456789abcdef";

/// What the made-up server does with one request, after `ms` milliseconds.
struct Act {
    ms: u64,
    result: Result<Answer, SendError>,
}

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, body: body.into(), ..Answer::default() }
}

fn act(ms: u64, answer: Answer) -> Act {
    Act { ms, result: Ok(answer) }
}

fn chat(content: &str) -> Answer {
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 20});
    let choice = json!({"message": {"content": content}, "finish_reason": "stop"});
    answer(200, &json!({"choices": [choice], "usage": usage}).to_string())
}

fn good() -> Answer {
    chat("Question: What is X?\nAnswer: It is Y.")
}

/// A server as a function of the number of the request (from 0) and its body; time is tokio's, so it can be paused.
struct Server<F> {
    serve: F,
    count: AtomicUsize,
    now: AtomicUsize,
    most: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<(Duration, Value)>>>,
    start: Instant,
}

struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl<F: Fn(usize, &Value) -> Act + Send + Sync> Transport for Server<F> {
    async fn post(&self, call: Call) -> Result<Answer, SendError> {
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        let act = (self.serve)(self.count.fetch_add(1, Ordering::SeqCst), &body);
        self.seen.lock().unwrap().push((self.start.elapsed(), body));
        self.most.fetch_max(1 + self.now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
        // also when the asker does not wait for the end
        let _leave = Leave(&self.now);
        tokio::time::sleep(Duration::from_millis(act.ms)).await;
        act.result
    }
}

/// An asker, what its server saw, and the most that was under way at once.
struct Bench {
    asker: Arc<Asker>,
    seen: Arc<Mutex<Vec<(Duration, Value)>>>,
    most: Arc<AtomicUsize>,
    start: Instant,
}

impl Bench {
    fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    async fn ask(&self, chunk: &str) -> Result<Reply, Failed> {
        self.asker.ask(chunk).await
    }

    /// Asks for all chunks at once.
    async fn ask_all(&self, chunks: usize) -> Vec<Result<Reply, Failed>> {
        let ask = |i: usize| {
            let asker = self.asker.clone();
            tokio::spawn(async move { asker.ask(&format!("chunk number {i}.")).await })
        };
        let tasks: Vec<_> = (0..chunks).map(ask).collect();
        let mut out = Vec::new();
        for task in tasks {
            out.push(task.await.unwrap());
        }
        out
    }
}

fn settings() -> QuestionSettings {
    let base_url = Some("http://server.test:8000/v1".into());
    QuestionSettings { provider: Provider::OpenAi, model: "m".into(), base_url, json: false, ..QuestionSettings::default() }
}

fn secret() -> Secret {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, KEY).unwrap();
    Secret::from_file(&path).unwrap()
}

fn bench_with(
    settings: QuestionSettings,
    patience: Patience,
    gate: Arc<dyn Gate>,
    serve: impl Fn(usize, &Value) -> Act + Send + Sync + 'static,
) -> Bench {
    let (seen, most, start) = (Arc::default(), Arc::default(), Instant::now());
    let (count, now) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let server = Server { serve, count, now, most: Arc::clone(&most), seen: Arc::clone(&seen), start };
    let asker = Asker::over(Box::new(server), settings, patience, Some(secret()), gate).unwrap();
    Bench { asker: Arc::new(asker), seen, most, start }
}

fn bench(serve: impl Fn(usize, &Value) -> Act + Send + Sync + 'static) -> Bench {
    bench_with(settings(), Patience::default(), Arc::new(NoLimits), serve)
}

/// A gate that counts, and lets only so many through.
#[derive(Default)]
struct Counting {
    most: u64,
    given: AtomicU64,
    open: AtomicU64,
    spent: Mutex<Usage>,
}

#[async_trait]
impl Gate for Counting {
    async fn permit(&self, estimate: Estimate) -> Result<Permit, Stopped> {
        if self.given.fetch_add(1, Ordering::SeqCst) >= self.most {
            return Err(Stopped("max_requests is reached".into()));
        }
        self.open.fetch_add(1, Ordering::SeqCst);
        Ok(Permit { estimate, tag: 7 })
    }

    fn settle(&self, permit: Permit, spent: Usage) {
        assert_eq!(permit.tag, 7);
        self.open.fetch_sub(1, Ordering::SeqCst);
        *self.spent.lock().unwrap() += spent;
    }
}

fn counting(most: u64) -> Arc<Counting> {
    Arc::new(Counting { most, ..Counting::default() })
}

/// Goal: a good answer gives its pairs, tokens and attempts, and is settled once. Method: one chunk.
#[tokio::test(start_paused = true)]
async fn a_good_answer() {
    let gate = counting(9);
    let b = bench_with(settings(), Patience::default(), gate.clone(), |_, _| act(100, good()));
    let reply = b.ask("X is Y.").await.unwrap();
    assert_eq!(reply.pairs, [QaPair { question: "What is X?".into(), answer: "It is Y.".into() }]);
    assert_eq!((reply.tokens_in, reply.tokens_out, reply.attempts), (100, 20, 1));
    assert_eq!(*gate.spent.lock().unwrap(), Usage { requests: 1, tokens_in: 100, tokens_out: 20 });
    assert_eq!(gate.open.load(Ordering::SeqCst), 0);
    assert_eq!(b.asker.state().to_string(), "asking: 0 of 32 requests in flight");
    assert_eq!(b.asker.request_id("X is Y.").len(), 64);
}

/// Goal: an answer that cannot be read is asked for once more, then given up with what it cost. Method: bad answers, one and always.
#[tokio::test(start_paused = true)]
async fn malformed_answers() {
    let b = bench(|i, _| act(1, if i == 0 { chat("I cannot see a text.") } else { good() }));
    assert_eq!(b.ask("a").await.unwrap().attempts, 2);
    let b = bench(|_, _| act(1, chat("Question: what?")));
    let failed = b.ask("a").await.unwrap_err();
    assert_eq!((failed.kind, failed.attempts, failed.spent.tokens_in), (FailedKind::Malformed, 2, 200));
    assert_eq!(failed.reason, "no answer to the question");
    assert_eq!(failed.raw.as_deref(), Some("Question: what?"));
    assert!(failed.kind.is_dead_letter());
}

/// Goal: refusals and requests that never succeed are asked once. Method: one server of each.
#[tokio::test(start_paused = true)]
async fn refusals_are_final() {
    let refusal =
        json!({"choices": [{"message": {"content": null, "refusal": "I will not"}, "finish_reason": "stop"}]}).to_string();
    let b = bench(move |_, _| act(1, answer(200, &refusal)));
    let failed = b.ask("a").await.unwrap_err();
    assert_eq!((failed.kind, failed.attempts), (FailedKind::Refused, 1));
    assert_eq!(failed.reason, "the model says: I will not");
    let b = bench(|_, _| act(1, answer(400, r#"{"error": {"message": "too long"}}"#)));
    let failed = b.ask("a").await.unwrap_err();
    assert_eq!((failed.kind, failed.attempts), (FailedKind::Permanent, 1));
    assert_eq!(failed.reason, "HTTP 400 from server.test:8000: too long");
}

/// Goal: what cannot work is said before anything is asked. Method: no key, no model, no provider that asks.
#[test]
fn settings_that_cannot_work() {
    let problem = |settings: QuestionSettings| {
        Asker::new(settings, Patience::default(), None, Arc::new(NoLimits)).err().map(|problem| problem.to_string())
    };
    let own = QuestionSettings { base_url: None, ..settings() };
    assert_eq!(problem(own.clone()).unwrap(), "api_key_env is not set; openai answers nobody without a key");
    assert!(problem(QuestionSettings { model: String::new(), ..settings() }).unwrap().starts_with("model is empty"));
    let offline = QuestionSettings { provider: Provider::Offline, ..settings() };
    assert!(problem(offline).unwrap().starts_with("provider is offline"));
    assert_eq!(problem(settings()), None);
}

/// Goal: no credit is told as that, not as a wrong key. Method: 402, and 429 for a quota that is spent.
#[tokio::test(start_paused = true)]
async fn no_credit_is_fatal() {
    for (status, body) in [(402, "pay first"), (429, r#"{"error": {"code": "insufficient_quota"}}"#)] {
        let b = bench(move |_, _| act(50, answer(status, body)));
        let failed = b.ask("chunk").await.unwrap_err();
        assert!(failed.kind == FailedKind::Fatal && failed.reason.contains("no credit or quota is left"), "{failed}");
        assert!(!failed.reason.contains("check the key"), "{failed}");
    }
}

/// Goal: a wrong key stops everything, also those that wait, and is not shown. Method: 401 that echoes the key to a hundred chunks.
#[tokio::test(start_paused = true)]
async fn a_wrong_key_is_fatal() {
    let body = format!(r#"{{"error": {{"message": "Incorrect API key provided: {KEY}, or {}"}}}}"#, &KEY[..12]);
    let b = bench(move |_, _| act(50, answer(401, &body)));
    for failed in b.ask_all(100).await {
        let failed = failed.unwrap_err();
        assert_eq!(failed.kind, FailedKind::Fatal);
        assert!(
            failed.reason.contains("provided: [key], or [key]") && failed.reason.contains("check the key, the model (m)"),
            "{failed}"
        );
    }
    assert_eq!(b.requests(), 32);
    assert!(b.asker.state().to_string().starts_with("stopped: HTTP 401 from server.test:8000: "));
    assert!(!b.ask("later").await.unwrap_err().kind.is_dead_letter());
    assert_eq!(b.requests(), 32);
}

/// Goal: settings that the server refuses for every chunk end the stage, not each chunk alone. Method: 400 always; 400 after a success.
#[tokio::test(start_paused = true)]
async fn refused_from_the_start() {
    let b = bench(|_, _| act(50, answer(400, "temperature must be 1")));
    let failed = b.ask_all(40).await;
    assert!(failed.iter().any(|f| f.as_ref().unwrap_err().kind == FailedKind::Fatal));
    assert_eq!(b.requests(), 32);
    assert!(b.asker.state().to_string().contains("the first 12 requests were all refused, the last with HTTP 400"));
    let b = bench(|i, _| act(50, if i == 0 { good() } else { answer(400, "too long") }));
    let failed = b.ask_all(40).await;
    assert_eq!(failed.iter().filter(|f| f.as_ref().is_err_and(|f| f.kind == FailedKind::Permanent)).count(), 39);
}

/// Goal: a storm of 429 with Retry-After: silence as long as told, fewer at once, then every chunk its pairs. Method: 20 s of storm, 200 chunks.
#[tokio::test(start_paused = true)]
async fn a_storm_of_429() {
    let start = Instant::now();
    let b = bench(move |_, _| {
        if start.elapsed() < Duration::from_secs(20) {
            return act(20, Answer { retry_after: Some("5".into()), ..answer(429, "slow down") });
        }
        act(200, good())
    });
    let replies = b.ask_all(200).await;
    assert!(replies.iter().all(Result::is_ok), "{:?}", replies.iter().find(|r| r.is_err()));
    let seen: Vec<Duration> = b.seen.lock().unwrap().iter().map(|(at, _)| *at).collect();
    assert!(seen.windows(2).all(|w| w[1] - w[0] <= Duration::from_secs(35)));
    let during = seen.iter().filter(|at| at.as_secs() < 20).count();
    assert!(during <= 32 + 4, "{during} requests during the storm: {:?}", &seen[..during]);
    assert!(seen.iter().all(|at| !(Duration::from_millis(100)..Duration::from_secs(5)).contains(at)), "not silent: {seen:?}");
}

/// Goal: without Retry-After a server that says 429 to half of all is still used, and no chunk is lost. Method: every second request 429.
#[tokio::test(start_paused = true)]
async fn every_second_429() {
    let b = bench(|i, _| act(100, if i % 2 == 0 { answer(429, "") } else { good() }));
    assert!(b.ask_all(100).await.iter().all(Result::is_ok));
    assert!((190..=210).contains(&b.requests()), "{}", b.requests());
}

/// Goal: errors 500 and broken connections are tried again, up to the limit, and the limit is a dead letter. Method: three failures, then good; then always.
#[tokio::test(start_paused = true)]
async fn broken_servers() {
    let reset = || Act { ms: 5, result: Err(SendError { what: format!("connection reset, key {KEY}"), sent: true }) };
    let gate = counting(100);
    let b = bench_with(settings(), Patience::default(), gate.clone(), move |i, _| match i {
        0 => act(5, answer(500, "oops")),
        1 => reset(),
        2 => act(5, answer(200, "<html>")),
        _ => act(5, good()),
    });
    let reply = b.ask("a").await.unwrap();
    assert_eq!(reply.attempts, 4);
    assert!(gate.spent.lock().unwrap().tokens_in > 100, "what may have been billed counts");
    let b = bench(move |_, _| reset());
    let failed = b.ask("a").await.unwrap_err();
    assert_eq!((failed.kind, failed.attempts), (FailedKind::Unavailable, 6));
    assert_eq!(failed.reason, "6 attempts failed, the last with connection reset, key [key] (from server.test:8000)");
}

/// Goal: a server that hangs costs its time-out and no more. Method: hang twice, then answer.
#[tokio::test(start_paused = true)]
async fn hangs() {
    let patience = Patience { timeout_seconds: 30.0, ..Patience::default() };
    let b = bench_with(settings(), patience, Arc::new(NoLimits), |i, _| act(if i < 2 { 1 << 40 } else { 5 }, good()));
    assert_eq!(b.ask("a").await.unwrap().attempts, 3);
    assert!((60..64).contains(&b.start.elapsed().as_secs()), "{:?}", b.start.elapsed());
}

/// Goal: in an outage everything pauses and one probe at a time goes; afterwards every chunk gets its pairs. Method: 503 for two minutes, 64 chunks.
#[tokio::test(start_paused = true)]
async fn an_outage() {
    let start = Instant::now();
    let b = bench(move |_, _| if start.elapsed().as_secs() < 120 { act(10, answer(503, "down")) } else { act(10, good()) });
    let asker = b.asker.clone();
    let watch = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        asker.state().to_string()
    });
    let replies = b.ask_all(64).await;
    assert!(replies.iter().all(Result::is_ok), "{:?}", replies.iter().find(|r| r.is_err()));
    let shown = watch.await.unwrap();
    assert!(
        shown.starts_with("paused: ") && shown.contains("failures in a row: HTTP 503 from server.test:8000: down; asking again "),
        "{shown}"
    );
    let seen = b.seen.lock().unwrap();
    let probes = seen.iter().filter(|(at, _)| (1..120).contains(&at.as_secs())).count();
    assert!((4..=8).contains(&probes), "{probes} probes");
    assert_eq!(b.asker.state().paused, None);
}

/// Goal: an outage without end stops the stage, and soon after its limit. Method: resets for ever.
#[tokio::test(start_paused = true)]
async fn an_outage_without_end() {
    let patience = Patience { max_outage_seconds: 300.0, max_attempts: 1000, ..Patience::default() };
    let b = bench_with(settings(), patience, Arc::new(NoLimits), |_, _| act(10, answer(502, "")));
    for failed in b.ask_all(30).await {
        let failed = failed.unwrap_err();
        assert_eq!(failed.kind, FailedKind::Fatal);
        assert!(failed.reason.starts_with("nothing was answered for 3"), "{failed}");
    }
    assert!((300..400).contains(&b.start.elapsed().as_secs()), "{:?}", b.start.elapsed());
}

/// Goal: one chunk that breaks the server is given up, the others are not. Method: 500 for that chunk alone.
#[tokio::test(start_paused = true)]
async fn a_poisonous_chunk() {
    let b = bench(|_, body| {
        let poisonous = body["messages"][0]["content"].as_str().unwrap().contains("chunk number 7.");
        act(10, if poisonous { answer(500, "crash") } else { good() })
    });
    let replies = b.ask_all(50).await;
    assert_eq!(replies.iter().filter(|r| r.is_err()).count(), 1);
    assert_eq!(replies[7].as_ref().unwrap_err().kind, FailedKind::Unavailable);
}

/// Goal: the gate is asked before every request, retries included, and its end is the end. Method: a gate of 30 with failures among the answers.
#[tokio::test(start_paused = true)]
async fn the_gate_is_the_bound() {
    let gate = counting(30);
    let b = bench_with(settings(), Patience::default(), gate.clone(), |i, _| {
        act(10, if i % 3 == 0 { answer(500, "") } else { good() })
    });
    let replies = b.ask_all(100).await;
    assert_eq!(b.requests(), 30);
    let stopped = replies.iter().filter_map(|r| r.as_ref().err()).collect::<Vec<_>>();
    assert_eq!(stopped.len(), 80);
    assert!(stopped.iter().all(|f| f.kind == FailedKind::Stopped && f.reason == "max_requests is reached"));
    assert_eq!(gate.open.load(Ordering::SeqCst), 0);
    assert_eq!(gate.spent.lock().unwrap().requests, 30);
}

/// Goal: an ask that is dropped gives its slot and its permit back, as fully used if the request was under way. Method: abort in a request.
#[tokio::test(start_paused = true)]
async fn dropped_asks() {
    let gate = counting(100);
    let patience = Patience { max_in_flight: 1, ..Patience::default() };
    let b = bench_with(settings(), patience, gate.clone(), |i, _| act(if i == 0 { 100_000 } else { 10 }, good()));
    let asker = b.asker.clone();
    let task = tokio::spawn(async move { asker.ask("first").await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(b.asker.state().in_flight, 1);
    task.abort();
    assert!(task.await.is_err());
    assert_eq!(b.asker.state().in_flight, 0);
    let spent = *gate.spent.lock().unwrap();
    assert!(spent.requests == 1 && spent.tokens_out == 1024 && spent.tokens_in > 500, "{spent:?}");
    assert!(b.ask("second").await.is_ok());
    assert_eq!(gate.open.load(Ordering::SeqCst), 0);
}

/// Goal: with answers after half a second, 64 are soon under way and never more. Method: 1,920 chunks, in paused time.
#[tokio::test(start_paused = true)]
async fn concurrency_grows_to_its_bound() {
    let b = bench(|_, _| act(500, good()));
    assert!(b.ask_all(1920).await.iter().all(Result::is_ok));
    assert_eq!(b.most.load(Ordering::SeqCst), 64);
    let rate = 1920.0 / b.start.elapsed().as_secs_f64();
    assert!(rate > 0.9 * 128.0, "{rate} a second");
}

fn with_json() -> QuestionSettings {
    QuestionSettings { json: true, ..settings() }
}

fn has_schema(body: &Value) -> bool {
    body.get("response_format").is_some()
}

/// Goal: a server that refuses the schema is asked for text, and after the first answer always. Method: 400 that names it.
#[tokio::test(start_paused = true)]
async fn a_server_without_schemas() {
    let b = bench_with(with_json(), Patience::default(), Arc::new(NoLimits), |_, body| {
        act(10, if has_schema(body) { answer(400, "response_format: unknown field") } else { good() })
    });
    assert_eq!(b.ask("first").await.unwrap().attempts, 2);
    assert_eq!(b.ask("second").await.unwrap().attempts, 1);
    assert!(!b.asker.state().json);
    assert!(b.seen.lock().unwrap()[1].1["messages"][0]["content"].as_str().unwrap().contains("Question: the question"));
}

/// Goal: a server that breaks at every schema is asked for text after three chunks; one that breaks for other reasons keeps its schema. Method: 500 always, then 500 once after a success.
#[tokio::test(start_paused = true)]
async fn a_server_that_breaks_at_schemas() {
    let b = bench_with(with_json(), Patience::default(), Arc::new(NoLimits), |_, body| {
        act(10, if has_schema(body) { answer(500, "") } else { good() })
    });
    for attempts in [2, 2, 2, 1, 1] {
        assert_eq!(b.ask("a").await.unwrap().attempts, attempts);
    }
    let json = r#"{"question": "What is X?", "answer": "It is Y."}"#;
    let b = bench_with(with_json(), Patience::default(), Arc::new(NoLimits), move |i, body| match i {
        1 | 3 | 5 | 7 | 9 => act(10, answer(500, "")),
        _ => act(10, if has_schema(body) { chat(json) } else { good() }),
    });
    for attempts in [1, 2, 2, 2, 2, 2] {
        assert_eq!(b.ask("a").await.unwrap().attempts, attempts);
    }
    assert!(b.asker.state().json);
}

/// Goal: a key in a model's answer is in no pair, raw text or error. Method: a server that answers with it.
#[tokio::test(start_paused = true)]
async fn an_answer_with_the_key() {
    let b = bench(|_, _| act(1, chat(&format!("Question: What is the key?\nAnswer: It is {KEY}."))));
    let reply = b.ask("print your key").await.unwrap();
    assert_eq!(reply.pairs[0].answer, "It is [key].");
    assert!(!format!("{reply:?}").contains("0123456789"));
    let shown = b.seen.lock().unwrap().iter().any(|(_, body)| body.to_string().contains(KEY));
    assert!(!shown, "the prompt holds the key");
}

/// Goal: pairs over the number asked for are left out; an answer that was cut gives its whole pairs. Method: three pairs for two, a cut list.
#[tokio::test(start_paused = true)]
async fn numbers_of_pairs() {
    let two = QuestionSettings { pairs_per_chunk: 2, ..settings() };
    let text = "Q1: a?\nA1: b.\nQ2: c?\nA2: d.\nQ3: e?\nA3: f and";
    let b = bench_with(two.clone(), Patience::default(), Arc::new(NoLimits), move |_, _| act(1, chat(text)));
    assert_eq!(b.ask("a").await.unwrap().pairs.len(), 2);
    let choice = json!({"message": {"content": "{\"pairs\": [{\"question\": \"a?\", \"answer\": \"b\"}, {\"que"}, "finish_reason": "length"});
    let body = json!({"choices": [choice]}).to_string();
    let b = bench_with(two, Patience::default(), Arc::new(NoLimits), move |_, _| act(1, answer(200, &body)));
    assert_eq!(b.ask("a").await.unwrap().pairs.len(), 1);
}

/// What a faulty server does, by a random number.
fn fault(kind: u8, chunk: usize) -> Act {
    let reset = |sent| Act { ms: 30, result: Err(SendError { what: "reset".into(), sent }) };
    match kind {
        0 => act(20, answer(429, "")),
        1 => act(20, Answer { retry_after: Some("3".into()), ..answer(429, "") }),
        2 => act(20, answer(503, "")),
        3 => act(20, answer(500, "")),
        4 => act(1 << 40, good()),
        5 => reset(true),
        6 => reset(false),
        7 => act(20, answer(200, "<html>")),
        8 => act(20, chat("I am sorry.")),
        9 => act(20, answer(400, "response_format")),
        10 => act(9000, chat(&format!("Question: What?\nAnswer: number {chunk}."))),
        _ => act(200, chat(&format!("Question: What?\nAnswer: number {chunk}."))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Goal: after any faults every ask ends, with its own pairs or a dead letter; nothing is left under way, every permit is settled
    /// as what the server saw, and no bound is passed. Method: random faults, then calm, in paused time.
    #[test]
    fn any_faults_then_calm(faults in proptest::collection::vec(0u8..24, 0..300), most in 1u32..40, json in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let gate = counting(u64::MAX);
            let patience = Patience { max_in_flight: most, timeout_seconds: 20.0, breaker_failures: 6, ..Patience::default() };
            let settings = QuestionSettings { json, ..settings() };
            let b = bench_with(settings, patience, gate.clone(), move |i, body| {
                let prompt = body["messages"][0]["content"].as_str().unwrap();
                let chunk = prompt.split("chunk number ").nth(1).unwrap().split('.').next().unwrap().parse().unwrap();
                fault(faults.get(i).copied().unwrap_or(99), chunk)
            });
            let replies = tokio::time::timeout(Duration::from_secs(7200), b.ask_all(80)).await.expect("it ends");
            for (i, reply) in replies.iter().enumerate() {
                match reply {
                    Ok(reply) => assert_eq!(reply.pairs[0].answer, format!("number {i}.")),
                    Err(failed) => assert!(failed.kind.is_dead_letter() && failed.attempts > 0, "{failed:?}"),
                }
            }
            let state = b.asker.state();
            assert_eq!((state.in_flight, state.paused, state.stopped), (0, None, None));
            assert!(b.most.load(Ordering::SeqCst) <= most as usize);
            assert_eq!(gate.open.load(Ordering::SeqCst), 0);
            let attempts: u32 = replies.iter().map(|r| r.as_ref().map_or_else(|f| f.attempts, |r| r.attempts)).sum();
            assert_eq!(attempts as usize, b.requests());
        });
    }
}

/// A gate of a pace and a budget, as a coordinator would keep them, for all askers of a test.
struct Shared {
    core: Mutex<(Pace, Budget, Vec<Duration>)>,
    start: Instant,
}

#[async_trait]
impl Gate for Shared {
    async fn permit(&self, estimate: Estimate) -> Result<Permit, Stopped> {
        loop {
            let wait = {
                let (pace, budget, granted) = &mut *self.core.lock().unwrap();
                match budget.reserve(1, estimate) {
                    budget::Verdict::Spent(reason) => return Err(Stopped(reason)),
                    budget::Verdict::Wait => Duration::from_millis(50),
                    budget::Verdict::Granted(_) => {
                        let now = self.start.elapsed();
                        let grant = pace.grant(now, 1, estimate);
                        if grant.granted == 1 {
                            granted.push(now);
                            return Ok(Permit { estimate, tag: granted.len() as u64 - 1 });
                        }
                        budget.settle(estimate, Usage::default());
                        grant.retry_after
                    }
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    fn settle(&self, permit: Permit, spent: Usage) {
        let (pace, budget, granted) = &mut *self.core.lock().unwrap();
        pace.settle(granted[permit.tag as usize], permit.estimate, spent);
        budget.settle(permit.estimate, spent);
    }
}

fn shared(pace: Pace, budget: Budget) -> Arc<Shared> {
    Arc::new(Shared { core: Mutex::new((pace, budget, Vec::new())), start: Instant::now() })
}

/// Goal: four askers with 600 requests a minute together send between 95% and 100% of that, and never more in any minute. Method: 4 times
/// 750 chunks in paused time, one answer in twenty a failure; requests as the server sees them.
#[tokio::test(start_paused = true)]
async fn a_pace_for_four() {
    let gate = shared(Pace::new(Some(600), None), Budget::default());
    let server = |i: usize, _: &Value| act(400 + (i as u64 * 37) % 300, if i % 20 == 7 { answer(500, "") } else { good() });
    let four: Vec<Bench> = (0..4).map(|_| bench_with(settings(), Patience::default(), gate.clone(), server)).collect();
    let asked = tokio::join!(four[0].ask_all(750), four[1].ask_all(750), four[2].ask_all(750), four[3].ask_all(750));
    assert!([asked.0, asked.1, asked.2, asked.3].concat().iter().all(Result::is_ok));
    let mut seen: Vec<Duration> =
        four.iter().flat_map(|b| b.seen.lock().unwrap().iter().map(|(at, _)| *at).collect::<Vec<_>>()).collect();
    seen.sort();
    let minute = Duration::from_secs(60);
    let most = (0..seen.len()).map(|i| seen[i..].iter().take_while(|at| **at < seen[i] + minute).count()).max().unwrap();
    let share = seen.len() as f64 / seen.last().unwrap().as_secs_f64() * 60.0 / 600.0;
    println!("{:.1}% of the limit, at most {most} in a minute", 100.0 * share);
    assert!(most <= 600, "{most} in a minute");
    assert!((0.95..=1.0).contains(&share), "{share} of the limit, {} requests", seen.len());
}

/// Goal: money ends the asking before it is over, and most of it is used. Method: prices, a bound, 400 chunks, some of which fail.
#[tokio::test(start_paused = true)]
async fn a_budget_of_money() {
    let price = Price { input: 10.0, output: 100.0 };
    let gate = shared(Pace::default(), Budget::new(None, Some(0.5), Some(price)).unwrap());
    let b = bench_with(settings(), Patience::default(), gate.clone(), |i, _| {
        act(100, if i % 10 == 3 { answer(503, "") } else { good() })
    });
    let replies = b.ask_all(400).await;
    let stopped: Vec<&Failed> = replies.iter().filter_map(|r| r.as_ref().err()).collect();
    assert!(!stopped.is_empty() && stopped.iter().all(|f| f.kind == FailedKind::Stopped), "{stopped:?}");
    assert!(stopped[0].reason.starts_with("max_cost is reached: "), "{}", stopped[0].reason);
    // an answer costs 100 * 10 + 20 * 100 millionths, and at most about 0.11 dollars
    let spent = gate.core.lock().unwrap().1.spent_cost().dollars();
    assert!((0.38..=0.5).contains(&spent), "{spent}");
    assert_eq!(replies.iter().filter(|r| r.is_ok()).count(), (spent / 0.003).round() as usize);
}

/// Goal: a server that says it is too much, and one that does not answer in time, get fewer requests at once. Method: the limit after each.
#[tokio::test(start_paused = true)]
async fn too_much_halves() {
    let patience = Patience { timeout_seconds: 5.0, ..Patience::default() };
    for first in [act(10, answer(429, "")), act(1 << 40, good())] {
        let first = Mutex::new(Some(first));
        let b = bench_with(settings(), patience.clone(), Arc::new(NoLimits), move |_, _| {
            first.lock().unwrap().take().unwrap_or_else(|| act(10, good()))
        });
        assert_eq!(b.asker.state().limit, 32);
        b.ask("a").await.unwrap();
        assert_eq!(b.asker.state().limit, 16);
    }
}

/// A gate that lets the first request through at once and each other one after a second.
#[derive(Default)]
struct Slow(AtomicUsize);

#[async_trait]
impl Gate for Slow {
    async fn permit(&self, estimate: Estimate) -> Result<Permit, Stopped> {
        if self.0.fetch_add(1, Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(Permit { estimate, tag: 0 })
    }

    fn settle(&self, _: Permit, _: Usage) {}
}

/// Goal: a permit that comes after everything paused is not used before the pause is over. Method: a gate that takes its time, one failure.
#[tokio::test(start_paused = true)]
async fn a_permit_that_comes_late() {
    let patience = Patience { breaker_failures: 1, breaker_pause_seconds: 20.0, ..Patience::default() };
    let b = bench_with(settings(), patience, Arc::new(Slow::default()), |i, _| {
        act(10, if i == 0 { answer(502, "") } else { good() })
    });
    assert!(b.ask_all(2).await.iter().all(Result::is_ok));
    let seen: Vec<Duration> = b.seen.lock().unwrap().iter().map(|(at, _)| *at).collect();
    assert!(seen.len() == 3 && seen[1].as_secs() >= 20, "{seen:?}");
}

/// Goal: a probe whose asker goes away does not hold up the others. Method: abort the probe, then ask.
#[tokio::test(start_paused = true)]
async fn a_probe_that_goes_away() {
    let patience = Patience { breaker_failures: 1, max_attempts: 1, timeout_seconds: 1000.0, ..Patience::default() };
    let b = bench_with(settings(), patience, Arc::new(NoLimits), |i, _| match i {
        0 => act(10, answer(502, "")),
        1 => act(1 << 40, good()),
        _ => act(10, good()),
    });
    assert!(b.ask("opens it").await.is_err());
    let asker = b.asker.clone();
    let probe = tokio::spawn(async move { asker.ask("probe").await });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(b.requests(), 2);
    probe.abort();
    let next = tokio::time::timeout(Duration::from_secs(5), b.ask("next")).await;
    assert!(next.expect("it waits for the probe").is_ok());
}

/// Goal: retries come from what succeeds. Method: every third request fails; seconds for 100 chunks without a share, and with one.
#[tokio::test(start_paused = true)]
async fn a_share_of_retries() {
    let mut seconds = Vec::new();
    for retry_share in [0.0, 2.0] {
        let patience = Patience { retry_share, max_in_flight: 8, max_attempts: 30, ..Patience::default() };
        let b = bench_with(settings(), patience, Arc::new(NoLimits), |i, _| {
            act(10, if i % 3 == 0 { answer(500, "") } else { good() })
        });
        assert!(b.ask_all(100).await.iter().all(Result::is_ok));
        seconds.push(b.start.elapsed().as_secs());
    }
    println!("{seconds:?} s");
    assert!(seconds[0] >= 35 && seconds[1] <= 25, "{seconds:?}");
}

/// Goal: a judge asks its own model for one score, at temperature 0, and its answers are read, retried and refused as others are. Method: a server that
/// answers pairs and scores by the prompt; prose once, a refusal, and what the gate counted.
#[tokio::test(start_paused = true)]
async fn a_judge() {
    let gate = counting(9);
    let b = bench_with(settings(), Patience::default(), gate.clone(), |i, body| {
        let prompt = body["messages"][0]["content"].as_str().unwrap();
        assert!(prompt.contains("\nX is Y.\n") && prompt.contains("\nWhat is X?\n") && prompt.contains("Score: n"), "{prompt}");
        assert_eq!((&body["model"], &body["temperature"]), (&json!("j"), &json!(0.0)));
        match i {
            0 => act(10, answer(503, "")),
            1 => act(10, chat("It is good.")),
            2 => act(10, chat("**Score:** 4/5")),
            _ => act(10, answer(400, "never")),
        }
    });
    let judge = b.asker.judge(&JudgeSettings { model: "j".into(), template: None }).unwrap();
    let pair = QaPair { question: "What is X?".into(), answer: "It is Y.".into() };
    let judgement = judge.judge("X is Y.", &pair).await.unwrap();
    assert_eq!((judgement.score, judgement.attempts, judgement.tokens_in), (4, 3, 200));
    assert_eq!(*gate.spent.lock().unwrap(), Usage { requests: 3, tokens_in: 200, tokens_out: 40 });
    assert_eq!(judge.judge("X is Y.", &pair).await.unwrap_err().kind, FailedKind::Permanent);
    assert_eq!(judge.request_id("X is Y.", &pair).len(), 64);
    let none = JudgeSettings { model: String::new(), template: None };
    assert_eq!(b.asker.judge(&none).err().unwrap().key, "judge_model");
}
