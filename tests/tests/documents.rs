//! From documents to a trained model: every document accounted for (TASK-1), every answer paid for once (LLM-1), budgets kept, keys nowhere.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use artel_common::rng::Rng;
use artel_tests::llm::{LlmServer, Scripted};
use artel_tests::{Outcome, Process, Sandbox, children_of, is_alive, kill};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_artel-under-test");
const LIMIT: Duration = Duration::from_secs(150);
/// What no output, journal or report may have in it.
const KEY: &str = "sk-very-secret-0123456789";

/// Words that are drawn again the same for the same number.
fn sentence(number: u64) -> String {
    const WORDS: [&str; 40] = [
        "harbour", "ferry", "lamp", "keeper", "signal", "winter", "repairs", "engine", "captain", "rope", "cargo", "deck",
        "storm", "light", "anchor", "pilot", "coast", "channel", "tide", "bell", "crew", "ladder", "boiler", "compass",
        "mooring", "buoy", "ticket", "gangway", "freight", "shed", "crane", "fog", "horn", "chart", "rudder", "hull", "cabin",
        "wharf", "island", "bridge",
    ];
    let mut rng = Rng::stream("documents of a test", &[number]);
    let words: Vec<&str> = (0..12).map(|_| WORDS[rng.below(40) as usize]).collect();
    // all of one length, so that a paragraph of four is a chunk
    let text = format!("Rule {number} says that the {}", words.join(" "));
    format!("{:x<94}.", &text[..text.len().min(94)].trim_end())
}

/// Text documents of so many paragraphs each; a paragraph is a chunk of the spec below.
fn write_documents(sandbox: &Sandbox, documents: u64, paragraphs: u64) {
    std::fs::create_dir_all(sandbox.path("docs")).expect("a folder");
    for document in 0..documents {
        let paragraph = |number: u64| {
            let first = (document * paragraphs + number) * 4;
            format!("{}\n\n", [0, 1, 2, 3].map(|at| sentence(first + at)).join(" "))
        };
        sandbox.write(&format!("docs/{document:03}.txt"), &(0..paragraphs).map(paragraph).collect::<String>());
    }
}

/// A spec over `docs`, with these lines for `[questions]`, `[train]` and `[workers]`.
fn write_spec(sandbox: &Sandbox, questions: &str, train: &str, workers: &str) {
    sandbox.write(
        "spec.toml",
        &format!(
            "[run]\nstore = \"file:./store\"\n[documents]\nsources = [\"docs\"]\n[chunks]\nchunk_size = 400\n[questions]\n{questions}\n\
             [data]\ntest_fraction = 0.2\n[model]\nbase = \"artel:toy\"\nmax_seq_length = 64\n\
             [train]\nglobal_batch_size = 16\nnum_train_epochs = 1\nlearning_rate = 1e-3\nmatryoshka_dims = [128, 32]\n{train}\n[workers]\n{workers}\n"
        ),
    );
}

fn openai(server: &LlmServer, more: &str) -> String {
    format!(
        "provider = \"openai\"\nmodel = \"scripted\"\nbase_url = \"{}\"\napi_key_env = \"ARTEL_TEST_KEY\"\njson = false\n{more}",
        server.url()
    )
}

fn run(sandbox: &Sandbox) -> Outcome {
    let begun = Instant::now();
    let mut command = sandbox.artel(["run", "spec.toml", "--json"]);
    let (status, stdout, stderr) = Process::start(command.env("ARTEL_TEST_KEY", KEY)).wait(LIMIT);
    Outcome { code: status.code(), stdout, stderr, took: begun.elapsed() }
}

/// A question and an answer that the chunk in the prompt supports.
fn good(prompt: &str) -> Scripted {
    let at = prompt.rfind("Rule ").unwrap_or(0);
    let sentence = prompt[at..].split('.').next().unwrap_or_default();
    let number = sentence.split(' ').nth(1).unwrap_or("0");
    Scripted::Say(format!(
        "Question: What does rule {number} say about the {}?\nAnswer: {sentence}.",
        sentence.rsplit(' ').next().unwrap_or("")
    ))
}

/// Every file of the store, to look for what must not be there.
fn store_has(sandbox: &Sandbox, text: &str) -> bool {
    let mut folders = vec![sandbox.path("store")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the store").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if std::fs::read(entry.path()).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
            {
                return true;
            }
        }
    }
    false
}

/// Goal: one command from documents of several kinds to a measured model, with no LLM; every document is in the report once, failed ones with their
/// reason. Method: text, Markdown, HTML and damaged files; the report, the pairs' CSV, `artel documents`, and the CSV as a data set of its own.
#[test]
fn documents_to_model_offline() {
    let sandbox = Sandbox::new(PROGRAM);
    write_documents(&sandbox, 12, 6);
    sandbox.write("docs/guide.md", &format!("# A guide\n\n{} {}\n\n- {}\n", sentence(9001), sentence(9002), sentence(9003)));
    sandbox.write("docs/page.html", &format!("<h1>Page</h1><p>{} {} {}</p>", sentence(9011), sentence(9012), sentence(9013)));
    sandbox.write("docs/broken.pdf", "%PDF-1.4 and nothing more");
    sandbox.write("docs/empty.txt", "");
    sandbox.write("docs/picture.xyz", "?");
    write_spec(&sandbox, "provider = \"offline\"\npairs_per_chunk = 2", "", "count = 2\nthreads = 1");
    let outcome = run(&sandbox).expect_done();
    let report = sandbox.report("store");
    let documents = report["documents"].as_array().expect("a list").clone();
    let reason = |name: &str| {
        let found: Vec<&Value> = documents.iter().filter(|document| document["source"] == format!("docs/{name}")).collect();
        assert_eq!(found.len(), 1, "{name} is in the report once");
        found[0]["reason"].as_str().expect("a text").to_owned()
    };
    assert_eq!(documents.len(), 17);
    assert_eq!(
        (reason("broken.pdf"), reason("empty.txt"), reason("picture.xyz")),
        ("broken".into(), "empty".into(), "unsupported".into())
    );
    assert_eq!((reason("guide.md").as_str(), reason("page.html").as_str(), reason("000.txt").as_str()), ("", "", ""));
    let pairs = report["questions"]["pairs"].as_u64().expect("a number");
    assert!(pairs >= 100, "{pairs} pairs");
    assert_eq!(pairs, documents.iter().map(|document| document["pairs"].as_u64().expect("a number")).sum::<u64>());
    assert!(outcome.stdout.iter().any(|line| line.contains("\"stage\":\"ask\"")));
    let shown = sandbox.run(["documents", "store"]).expect_done().stdout.join("\n");
    assert!(shown.contains("17 of 17 documents read, 3 of them failed"), "{shown}");
    let fsck = sandbox.run(["fsck", "store"]).expect_done().stdout.join("\n");
    assert!(fsck.contains("0 unnamed"), "{fsck}");
    // the CSV is a data set that Artel reads back
    sandbox.write(
        "again.toml",
        "[run]\nstore = \"file:./again\"\n[data]\npairs = \"store/generated_qa_pairs.csv\"\ntest_fraction = 0.2\n[model]\nbase = \"artel:toy\"\n",
    );
    let again = sandbox.run(["import", "again.toml"]).expect_done().stdout.join("\n");
    assert!(again.contains(&format!("{pairs} rows of 1 files")), "{again}");
}

/// Goal: the right pairs and the right dead letters from a server that does everything wrong, and never more requests than allowed. Method: a script by
/// chunk: 429s, 500s, cut connections, refusals, half answers; the report's counts against the script's.
#[test]
fn a_bad_server() {
    let sandbox = Sandbox::new(PROGRAM);
    write_documents(&sandbox, 6, 10);
    let number = |prompt: &str| {
        let at = prompt.rfind("Rule ").unwrap_or(0);
        prompt[at + 5..].split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) / 4
    };
    let server = LlmServer::start(Duration::from_millis(5), move |prompt, asked| match (number(prompt) % 10, asked) {
        (1, 1) => Scripted::Status(429, "{}".into()),
        (2, 1) => Scripted::Status(500, format!("the key {KEY} broke it")),
        (3, 1) => Scripted::Cut,
        (4, _) => Scripted::Say("I would rather speak of something else".into()),
        (5, 1) => Scripted::Say("Question: What is".into()),
        (6, _) => Scripted::Status(400, format!("{{\"error\": {{\"message\": \"too long for {KEY}\"}}}}")),
        _ => good(prompt),
    });
    write_spec(&sandbox, &openai(&server, "max_requests = 200"), "", "count = 2\nthreads = 1");
    let outcome = run(&sandbox);
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stderr, outcome.stdout.join("\n"));
    let report = sandbox.report("store");
    let questions = &report["questions"];
    assert_eq!(questions["failed_chunks"], 12, "chunks 4 and 6 of each ten fail: {questions}");
    assert_eq!(questions["pairs_made"], 48);
    assert_eq!(questions["requests"].as_u64(), Some(server.requests()), "the ledger is what the server saw");
    assert!(server.requests() <= 200);
    assert_eq!(server.keys(), [format!("Bearer {KEY}")]);
    assert!(!store_has(&sandbox, KEY), "the key lies in the store");
    assert!(!outcome.stderr.contains(KEY) && !outcome.stdout.join("").contains(KEY), "the key was said");
    let failures = questions["failures"].as_array().expect("a list");
    let of = |kind: &str| failures.iter().filter(|failure| failure["reason"].as_str().expect("a text").starts_with(kind)).count();
    assert_eq!((of("malformed"), of("permanent")), (6, 6), "{failures:?}");
}

/// Goal: a budget stops the run, and with a higher one the same command goes on and pays for nothing twice. Method: 60 chunks and 30 requests, then enough.
#[test]
fn a_budget_stops_cleanly() {
    let sandbox = Sandbox::new(PROGRAM);
    write_documents(&sandbox, 6, 10);
    let server = LlmServer::start(Duration::from_millis(5), |prompt, _| good(prompt));
    write_spec(&sandbox, &openai(&server, "max_requests = 30"), "", "count = 2\nthreads = 1");
    let checked = sandbox.run(["check", "spec.toml"]).expect_done().stdout.join("\n");
    assert!(checked.contains("# documents  6, ") && checked.contains("at most 30 requests"), "{checked}");
    let outcome = run(&sandbox);
    assert_eq!(outcome.code, Some(12), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("max_requests is reached"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("raise the limit"), "{}", outcome.stderr);
    assert_eq!(server.requests(), 30);
    let status = sandbox.run(["status", "store"]).expect_done().stdout.join("\n");
    assert!(status.contains("ask about chunks: ") || status.contains("read documents: "), "{status}");
    write_spec(&sandbox, &openai(&server, "max_requests = 200"), "", "count = 2\nthreads = 1");
    let outcome = run(&sandbox);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(server.requests(), 60);
    assert!(server.answered().values().all(|&times| times == 1));
    assert!(
        sandbox.report("store")["questions"]["cache_hits"].as_u64() >= Some(10),
        "a piece that was cut short is not asked about again"
    );
}

/// Goal: a wrong key or model ends the run with code 13 and a message that names neither. Method: 401 to everything.
#[test]
fn a_wrong_key() {
    let sandbox = Sandbox::new(PROGRAM);
    write_documents(&sandbox, 2, 4);
    let server = LlmServer::start(Duration::ZERO, |_, _| Scripted::Status(401, format!("no such key: {KEY}")));
    write_spec(&sandbox, &openai(&server, ""), "", "count = 1\nthreads = 1");
    let outcome = run(&sandbox);
    assert_eq!(outcome.code, Some(13), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("401") && !outcome.stderr.contains(KEY), "{}", outcome.stderr);
    assert!(server.requests() < 12, "{}", server.requests());
}

/// Kills a worker or the coordinator of `artel run` at random times until the chunks are asked about; how often it was done.
fn kill_at_random(run: &Process, server: &LlmServer, chunks: u64, times: u64) -> u64 {
    let mut rng = Rng::stream("kills", &[]);
    let mut kills = 0;
    while kills < times {
        std::thread::sleep(Duration::from_millis(300 + rng.below(900)));
        if server.answered().len() as u64 >= chunks || !is_alive(run.pid()) {
            break;
        }
        let children = children_of(run.pid());
        if children.is_empty() {
            continue;
        }
        kill(children[rng.below(children.len() as u64) as usize].0, libc::SIGKILL);
        kills += 1;
    }
    kills
}

/// Goal: paid once: workers and coordinator killed again and again while questions are asked; each prompt is answered once but for those in flight at a
/// kill, no chunk is missing, none is twice in the pairs. Method: 600 chunks, eight kills, the server's own counts, all pairs of the store.
#[test]
fn answers_are_paid_for_once() {
    let sandbox = Sandbox::new(PROGRAM);
    write_documents(&sandbox, 30, 20);
    let (chunks, in_flight) = (600, 8);
    let server = LlmServer::start(Duration::from_millis(150), |prompt, _| good(prompt));
    write_spec(&sandbox, &openai(&server, &format!("max_in_flight = {in_flight}")), "", "count = 2\nthreads = 1");
    let mut command = sandbox.artel(["run", "spec.toml", "--json"]);
    let process = Process::start(command.env("ARTEL_TEST_KEY", KEY));
    process.wait_for_line(LIMIT, |line| line.contains("stage_started") && line.contains("\"read\""));
    let mut kills = kill_at_random(&process, &server, chunks, 8);
    let (status, lines, stderr) = process.wait(LIMIT);
    if status.code() != Some(0) {
        // restarts are bounded: the same command goes on
        kills += 1;
        let outcome = run(&sandbox);
        assert_eq!(outcome.code, Some(0), "{stderr}\n{}\n{lines:#?}", outcome.stderr);
    }
    assert!(kills >= 3, "only {kills} kills came in time");
    let answered = server.answered();
    let again: u64 = answered.values().map(|times| times - 1).sum();
    assert_eq!(answered.len() as u64, chunks, "each chunk was answered");
    assert!(again <= kills * 2 * in_flight, "{again} answers were paid for again in {kills} kills");
    let mut seen = HashSet::new();
    for line in sandbox.run(["pairs", "store", "--json", "--limit", "0"]).expect_done().stdout {
        let pair: Value = serde_json::from_str(&line).expect("JSON");
        assert!(pair["failure"].is_null(), "{pair}");
        assert!(seen.insert(format!("{} {}", pair["document"], pair["chunk"])), "twice: {pair}");
    }
    assert_eq!(seen.len() as u64, chunks, "no chunk is missing");
}

/// Goal: the pace of the whole run is kept over its workers, and used. Method: 240 requests a minute over three workers, 60 chunks: the requests of any
/// 5 seconds, and the time that they all take.
#[test]
fn the_pace_is_shared() {
    let sandbox = Sandbox::new(PROGRAM);
    write_documents(&sandbox, 6, 10);
    let server = LlmServer::start(Duration::from_millis(100), |prompt, _| good(prompt));
    write_spec(&sandbox, &openai(&server, "requests_per_minute = 240"), "", "count = 3\nthreads = 1");
    let outcome = run(&sandbox);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let times = server.times();
    assert_eq!(times.len(), 60);
    let took = times[59].duration_since(times[0]).as_secs_f64();
    // 4 a second, and a burst of some seconds' worth at the beginning
    assert!((9.0..25.0).contains(&took), "60 requests in {took:.1} s at 4 a second");
    let most = times
        .iter()
        .map(|from| times.iter().filter(|time| **time >= *from && time.duration_since(*from).as_secs_f64() < 5.0).count())
        .max();
    assert!(most <= Some(36), "{most:?} requests in 5 s");
}
