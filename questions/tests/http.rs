//! The asker over real sockets against a server that misbehaves in every way.

// helpers of tests may panic as tests do
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};

use artel_questions::{Asker, Failed, FailedKind, NoLimits, Patience, Provider, QuestionSettings, Reply};
use common::{Action, Counting, KEY, Server, answer, chat, secret};
use serde_json::json;

fn settings(server: &Server) -> QuestionSettings {
    let base_url = Some(format!("{}/v1", server.base));
    QuestionSettings { provider: Provider::OpenAi, model: "m".into(), base_url, json: false, ..QuestionSettings::default() }
}

fn asker(server: &Server, patience: Patience) -> Arc<Asker> {
    Arc::new(Asker::new(settings(server), patience, Some(secret()), Arc::new(NoLimits)).unwrap())
}

async fn ask_all(asker: &Arc<Asker>, chunks: Vec<String>) -> Vec<Result<Reply, Failed>> {
    let ask = |chunk: String| {
        let asker = asker.clone();
        tokio::spawn(async move { asker.ask(&chunk).await })
    };
    let tasks: Vec<_> = chunks.into_iter().map(ask).collect();
    let mut out = Vec::new();
    for task in tasks {
        out.push(task.await.unwrap());
    }
    out
}

/// Everything that is logged on this thread, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Logs everything, the HTTP libraries' finest words included, until the guard goes.
    fn start(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || log.clone());
        tracing::subscriber::set_default(subscriber.finish())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// Goal: both dialects speak over HTTP: path, key, agent, pairs, tokens. Method: a server that answers both; all that is logged.
#[tokio::test]
async fn both_dialects() {
    let server = Server::start(|request| {
        if request.path.contains("generateContent") {
            let parts = json!([{"text": r#"{"question": "What is X?", "answer": "It is Y."}"#}]);
            let usage = json!({"promptTokenCount": 5, "candidatesTokenCount": 6});
            return answer(
                200,
                json!({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}], "usageMetadata": usage}),
            );
        }
        chat("**Question:** What is X?\n**Answer:** It is Y.")
    })
    .await;
    let log = Log::default();
    let guard = log.start();
    for (provider, base, path, header, value) in [
        (Provider::OpenAi, "/v1", "/v1/chat/completions", "authorization", format!("Bearer {KEY}")),
        (Provider::Gemini, "", "/v1beta/models/m:generateContent", "x-goog-api-key", KEY.to_owned()),
    ] {
        let base_url = Some(format!("{}{base}", server.base));
        let settings = QuestionSettings { provider, model: "m".into(), base_url, ..QuestionSettings::default() };
        let asker = Asker::new(settings, Patience::default(), Some(secret()), Arc::new(NoLimits)).unwrap();
        let reply = asker.ask("X is Y.").await.unwrap();
        assert_eq!((reply.pairs[0].question.as_str(), reply.pairs[0].answer.as_str()), ("What is X?", "It is Y."));
        let request = server.seen.lock().unwrap().last().cloned().unwrap();
        assert_eq!((request.path.as_str(), request.headers.get(header)), (path, Some(&value)));
        assert_eq!(request.headers["user-agent"], concat!("artel/", env!("CARGO_PKG_VERSION")));
        assert!(request.prompt().contains("\nX is Y.\n") && !request.body.to_string().contains(KEY));
    }
    drop(guard);
    assert!(log.text().contains("chat/completions") || log.text().contains("hyper"), "nothing was logged");
    assert!(!log.text().contains(&KEY[3..15]), "the key is in the log");
}

/// What the hostile server does with the chunk of this number, by how often it was asked before.
fn misbehave(chunk: usize, before: usize) -> Action {
    let good = || chat(&format!("Question: What is number {chunk}?\nAnswer: It is {chunk}."));
    let busy = Action::Answer(429, vec![("retry-after", "1".into())], format!("slow down, {KEY}"));
    match (chunk % 10, before) {
        (0, 0) => busy,
        (1, 0) => answer(500, "oops"),
        (2, 0) => Action::Reset,
        (3, 0) => Action::Hang,
        (4, 0) => Action::BreakOff,
        (5, _) => chat(r#"{"pairs": [{"question": "What is number"#),
        (6, _) => answer(
            200,
            json!({"choices": [{"message": {"content": null, "refusal": format!("no, {KEY}")}, "finish_reason": "stop"}]}),
        ),
        (7, _) => answer(400, json!({"error": {"message": format!("too long for {KEY}")}})),
        (8, 0) => Action::Late(300, Box::new(answer(503, ""))),
        (9, 0) => answer(200, "<html>gateway</html>"),
        _ => good(),
    }
}

/// Goal: among all faults every chunk gets its own pairs or its own reason, the gate sees every request, and the key shows nowhere.
/// Method: 100 chunks of ten kinds over real sockets, with all that is logged.
#[tokio::test]
async fn every_fault_at_once() {
    let times: Mutex<[usize; 100]> = Mutex::new([0; 100]);
    let server = Server::start(move |request| {
        let number = request.prompt().split("This is number ").nth(1).unwrap().split('.').next().unwrap().parse().unwrap();
        let mut times = times.lock().unwrap();
        times[number] += 1;
        misbehave(number, times[number] - 1)
    })
    .await;
    let log = Log::default();
    let guard = log.start();
    let patience = Patience { timeout_seconds: 1.5, ..Patience::default() };
    let gate = Counting::new(1000);
    let asker = Arc::new(Asker::new(settings(&server), patience, Some(secret()), gate.clone()).unwrap());
    let replies = ask_all(&asker, (0..100).map(|i| format!("This is number {i}.")).collect()).await;
    drop(guard);
    for (i, reply) in replies.iter().enumerate() {
        let kind = reply.as_ref().err().map(|failed| failed.kind);
        let wanted = match i % 10 {
            5 => Some(FailedKind::Malformed),
            6 => Some(FailedKind::Refused),
            7 => Some(FailedKind::Permanent),
            _ => None,
        };
        assert_eq!(kind, wanted, "chunk {i}: {reply:?}");
        if let Ok(reply) = reply {
            assert_eq!(reply.pairs[0].answer, format!("It is {i}."));
        }
    }
    assert_eq!(server.requests() as u64, gate.spent.lock().unwrap().requests);
    assert!(server.requests() >= 170, "{}", server.requests());
    let shown = format!("{replies:?} {} {}", asker.state(), log.text());
    assert!(!shown.contains(&KEY[3..15]), "the key shows");
    assert!(log.text().contains("the server is busy"), "nothing was logged");
}

/// Goal: the gate's end is the end, to the request. Method: 60 chunks, a gate of 25, failures among them.
#[tokio::test]
async fn never_more_than_the_gate_allows() {
    let server = Server::start(|request| if request.number % 4 == 0 { answer(500, "") } else { chat("Q: a?\nA: b.") }).await;
    let gate = Counting::new(25);
    let asker = Arc::new(Asker::new(settings(&server), Patience::default(), Some(secret()), gate).unwrap());
    let replies = ask_all(&asker, (0..60).map(|i| format!("{i}")).collect()).await;
    assert_eq!(server.requests(), 25);
    let stopped = replies.iter().filter(|r| r.as_ref().is_err_and(|f| f.kind == FailedKind::Stopped)).count();
    assert_eq!(stopped + replies.iter().filter(|r| r.is_ok()).count(), 60);
}

/// Goal: a redirect takes the key nowhere, an endless answer is cut, nobody listening is said. Method: one server of each.
#[tokio::test]
async fn odd_servers() {
    let thief = Server::start(|_| chat("Q: a?\nA: b.")).await;
    let place = format!("{}/v1/chat/completions", thief.base);
    let server = Server::start(move |_| Action::Answer(307, vec![("location", place.clone())], String::new())).await;
    let failed = asker(&server, Patience::default()).ask("a").await.unwrap_err();
    assert_eq!(failed.kind, FailedKind::Fatal);
    assert!(failed.reason.contains("HTTP 307") && failed.reason.contains("redirects to http://"), "{failed}");
    assert_eq!(thief.requests(), 0);

    let once = Patience { max_attempts: 1, ..Patience::default() };
    let large = Server::start(|_| chat(&"x".repeat(5 << 20))).await;
    let failed = asker(&large, once.clone()).ask("a").await.unwrap_err();
    assert!(failed.reason.contains("more than 4194304 bytes"), "{failed}");

    let nobody = QuestionSettings { base_url: Some("http://127.0.0.1:1/v1".into()), ..settings(&large) };
    let gate = Counting::new(9);
    let failed = Asker::new(nobody, once, None, gate.clone()).unwrap().ask("a").await.unwrap_err();
    assert_eq!(failed.kind, FailedKind::Unavailable);
    assert!(failed.reason.contains("refused") && failed.reason.contains("127.0.0.1:1"), "{failed}");
    assert_eq!(gate.spent.lock().unwrap().requests, 0, "nothing was sent");

    // over https too, where the system has certificates to trust
    let settings = QuestionSettings { base_url: Some("https://127.0.0.1:1/v1".into()), ..settings(&large) };
    match Asker::new(settings, Patience { max_attempts: 1, ..Patience::default() }, None, gate) {
        Ok(asker) => assert_eq!(asker.ask("a").await.unwrap_err().kind, FailedKind::Unavailable),
        Err(problem) => assert!(problem.to_string().contains("CA certificates"), "{problem}"),
    }
}
