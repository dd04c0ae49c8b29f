//! From documents to a trained model: every document accounted for (TASK-1), every answer paid for once (LLM-1), budgets kept, keys nowhere.

use std::time::{Duration, Instant};

use artel_tests::documents::{KEY, folder_has, good, openai, paid_once, run_within, sentence, write_documents, write_spec};
use artel_tests::llm::{LlmServer, Scripted};
use artel_tests::{Outcome, Process, Sandbox};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_artel-under-test");
const LIMIT: Duration = Duration::from_secs(150);

fn run(sandbox: &Sandbox) -> Outcome {
    run_within(sandbox, LIMIT)
}

/// As [`write_spec`], for a run in another store.
fn write_spec_in(sandbox: &Sandbox, store: &str, questions: &str, train: &str) {
    write_spec(sandbox, questions, train, "count = 2\nthreads = 1");
    let text = std::fs::read_to_string(sandbox.path("spec.toml")).expect("it was written");
    sandbox.write("spec.toml", &text.replace("file:./store", &format!("file:./{store}")));
}

/// The number of the chunk in a prompt.
fn chunk_of(prompt: &str) -> u64 {
    let at = prompt.rfind("Rule ").unwrap_or(0);
    prompt[at + 5..].split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) / 4
}

/// Whether a prompt asks for a judgement.
fn is_judgement(prompt: &str) -> bool {
    prompt.contains("Score: n")
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
    // a store without an answer of a language model has none to give, and a check tells all that is wrong
    let questions = "provider = \"openai\"\nmodel = \"m\"\nbase_url = \"http://127.0.0.1:9/v1\"\nanswers_from = \"store\"";
    write_spec_in(&sandbox, "other", questions, "");
    let text = std::fs::read_to_string(sandbox.path("spec.toml")).expect("it was written");
    sandbox.write("spec.toml", &text.replace("artel:toy", "./nomodel").replace("[data]\n", "[data]\npairs = \"nofile.jsonl\"\n"));
    let checked = sandbox.run(["check", "spec.toml"]);
    assert_ne!(checked.code, Some(0));
    for said in ["no answer of a language model lies in", "there is no folder", "nofile.jsonl"] {
        assert!(checked.stderr.contains(said), "{}", checked.stderr);
    }
}

/// Goal: the right pairs and the right dead letters from a server that does everything wrong, and never more requests than allowed. Method: a script by
/// chunk: 429s, 500s, cut connections, refusals, half answers; the report's counts against the script's.
#[test]
fn a_bad_server() {
    let sandbox = Sandbox::new(PROGRAM);
    write_documents(&sandbox, 6, 10);
    let server = LlmServer::start(Duration::from_millis(5), |prompt, asked| match (chunk_of(prompt) % 10, asked) {
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
    assert!(!folder_has(&sandbox.path("store"), KEY), "the key lies in the store");
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
    let pairs = sandbox.run(["pairs", "store"]).expect_done().stdout.join("\n");
    assert!(pairs.contains(" of 6 documents are read and ") && pairs.contains(" chunks asked about, in whole pieces"), "{pairs}");
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

/// Goal: a wrong key or model ends the run with code 13 and a message that shows no key. Method: 401 to everything.
#[test]
fn a_wrong_key() {
    let sandbox = Sandbox::new(PROGRAM);
    write_documents(&sandbox, 2, 4);
    let server = LlmServer::start(Duration::ZERO, |_, _| Scripted::Status(401, format!("no such key: {KEY}")));
    write_spec(&sandbox, &openai(&server, ""), "", "count = 1\nthreads = 1");
    let outcome = run(&sandbox);
    assert_eq!(outcome.code, Some(13), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("401") && !outcome.stderr.contains(KEY), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("check the key, the model ("), "{}", outcome.stderr);
    assert!(server.requests() < 12, "{}", server.requests());
}

/// Goal: paid once: workers and coordinator killed again and again while questions are asked; each prompt is answered once but for those in flight at a
/// kill, no chunk is missing, none is twice in the pairs. Method: 600 chunks, eight kills, the server's own counts, all pairs of the store.
#[test]
fn answers_are_paid_for_once() {
    paid_once(&Sandbox::new(PROGRAM), 600, 8, LIMIT);
}

/// Goal: equal chunks are asked about once, and what that took counts once. Method: a document in two copies, one worker; the server's count, the report's.
#[test]
fn equal_chunks_count_once() {
    let sandbox = Sandbox::new(PROGRAM);
    write_documents(&sandbox, 3, 10);
    std::fs::copy(sandbox.path("docs/000.txt"), sandbox.path("docs/copy.txt")).expect("a copy");
    let server = LlmServer::start(Duration::from_millis(5), |prompt, _| good(prompt));
    write_spec(&sandbox, &openai(&server, ""), "", "count = 1\nthreads = 1");
    let outcome = run(&sandbox);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let report = sandbox.report("store");
    let questions = &report["questions"];
    assert_eq!((server.requests(), questions["requests"].as_u64()), (30, Some(30)), "{questions}");
    // 100 tokens in an answer
    assert_eq!((questions["tokens_in"].as_u64(), questions["cache_hits"].as_u64()), (Some(3_000), Some(10)), "{questions}");
    assert_eq!((questions["pairs_made"].as_u64(), questions["pairs"].as_u64()), (Some(40), Some(30)), "{questions}");
}

/// Goal: a run that another one took over stops asking, and paying, at once, not when it has something to record. Method: a piece of chunks takes half a
/// minute; a second run begins on the store; the first one ends, and nobody but the second asks.
#[test]
fn who_was_fenced_asks_no_more() {
    let sandbox = Sandbox::new(PROGRAM);
    write_documents(&sandbox, 7, 10);
    let server = LlmServer::start(Duration::from_millis(500), |prompt, _| good(prompt));
    write_spec(&sandbox, &openai(&server, "max_in_flight = 1"), "", "count = 1\nthreads = 1");
    let start = || {
        let mut command = sandbox.artel(["run", "spec.toml", "--json"]);
        let process = Process::start(command.env("ARTEL_TEST_KEY", KEY));
        process.wait_for_line(LIMIT, |line| line.contains("stage_started") && line.contains("\"ask\""));
        process
    };
    let first = start();
    let second = start();
    let began = Instant::now();
    let (status, _, stderr) = first.wait(LIMIT);
    assert_eq!(status.code(), Some(11), "{stderr}");
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    let again: u64 = server.asked().values().map(|times| times - 1).sum();
    // two a second
    assert!(again <= 24, "{again} requests were made twice");
    second.signal(libc::SIGKILL);
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

/// Pairs that a rule took out, by a report.
fn taken_by(report: &Value, rule: &str) -> u64 {
    let filtered = report["questions"]["filtered"].as_array().expect("a list");
    filtered.iter().find(|by| by["rule"] == rule).map_or(0, |by| by["count"].as_u64().expect("a number"))
}

/// Goal: the judge's low pairs go, those that it does not judge stay and are counted, and every request and cent is in the ledger. Method: scores by
/// chunk in several spellings, prose, a refusal and a 429; a judge with another price; the report against the script, the key nowhere.
#[test]
fn pairs_are_judged() {
    let sandbox = Sandbox::new(PROGRAM);
    write_documents(&sandbox, 6, 10);
    let server = LlmServer::start(Duration::from_millis(5), |prompt, asked| {
        if !is_judgement(prompt) {
            return good(prompt);
        }
        match (chunk_of(prompt) % 10, asked) {
            (1, _) => Scripted::Say("Score: 2/5".into()),
            (2, _) => Scripted::Say("```json\n{\"score\": 3}\n```".into()),
            (3, _) => Scripted::Say("I would rather speak of something else".into()),
            (4, _) => Scripted::Status(400, format!("{{\"error\": {{\"message\": \"too long for {KEY}\"}}}}")),
            (5, 1) => Scripted::Status(429, "{}".into()),
            (5, _) => Scripted::Say("**Score:** 4".into()),
            _ => Scripted::Say("Score: 5".into()),
        }
    });
    let lines =
        "max_requests = 300\nmax_cost = 5.0\nprice_in = 1.0\nprice_out = 2.0\njudge_threshold = 4\njudge_model = \"gpt-4o\"";
    write_spec(&sandbox, &openai(&server, lines), "", "count = 2\nthreads = 1");
    let checked = sandbox.run(["check", "spec.toml"]).expect_done().stdout.join("\n");
    assert!(checked.contains("one request a chunk and one a pair, judged by gpt-4o (kept from 4 of 5)"), "{checked}");
    let outcome = run(&sandbox);
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stderr, outcome.stdout.join("\n"));
    let report = sandbox.report("store");
    let questions = &report["questions"];
    assert_eq!((questions["pairs_made"].as_u64(), questions["failed_chunks"].as_u64()), (Some(60), Some(0)));
    assert_eq!(taken_by(&report, "judge"), 12, "chunks 1 and 2 of each ten: {questions}");
    assert_eq!(questions["not_judged"], 12, "chunks 3 and 4 of each ten: {questions}");
    let warned = report["warnings"]
        .as_array()
        .is_some_and(|warnings| warnings.iter().any(|w| w.to_string().contains("could not be judged")));
    assert!(warned, "{}", report["warnings"]);
    assert_eq!(questions["judge_model"], "gpt-4o");
    assert_eq!(questions["pairs"], 48, "{questions}");
    // 60 questions, 60 judgements, and one more each for prose and 429
    assert_eq!((questions["requests"].as_u64(), server.requests()), (Some(132), 132), "the ledger is what the server saw");
    // 100 tokens in and 20 out an answer: 60 questions, 48 judgements, 6 times two that could not be read
    assert_eq!((questions["tokens_in"].as_u64(), questions["tokens_out"].as_u64()), (Some(12_000), Some(2_400)));
    let cost = questions["cost"].as_f64().expect("a number");
    assert!((cost - (60.0 * 140e-6 + 60.0 * 450e-6)).abs() < 1e-9, "{cost} dollars");
    assert!(!folder_has(&sandbox.path("store"), KEY), "the key lies in the store");
    assert!(!outcome.stderr.contains(KEY) && !outcome.stdout.join("").contains(KEY), "the key was said");
    let mut scores = [0; 6];
    for line in sandbox.run(["pairs", "store", "--json", "--limit", "0"]).expect_done().stdout {
        let pair: Value = serde_json::from_str(&line).expect("JSON");
        scores[pair["score"].as_u64().unwrap_or(0) as usize] += 1;
        let is_low = pair["score"].as_u64().is_some_and(|score| score < 4);
        assert_eq!(pair["taken_out"] == "judge", is_low, "{pair}");
    }
    let taken = sandbox.run(["pairs", "store", "--taken-out", "--limit", "0"]).expect_done().stdout.join("\n");
    assert_eq!(taken.matches("Taken out by the cleaning: judge").count(), 12, "{taken}");
    assert!(taken.contains("the cleaning took 12 pairs out: judge 12"), "{taken}");
    assert_eq!(scores, [12, 0, 6, 6, 6, 30], "by score, 0 is none");
    let shown = sandbox.run(["pairs", "store", "--limit", "0"]).expect_done().stdout.join("\n");
    assert_eq!(shown.matches("Score: 5 of 5").count(), 30);
}

/// Goal: a judge added to what was asked already costs its judgements alone, and with both there nothing is paid. Method: three runs, each with the
/// answers of the one before; what their servers saw.
#[test]
fn a_judge_is_added() {
    let sandbox = Sandbox::new(PROGRAM);
    write_documents(&sandbox, 4, 10);
    let script = |prompt: &str, _: u64| match is_judgement(prompt) {
        true => Scripted::Say(format!("Score: {}", if chunk_of(prompt).is_multiple_of(10) { 1 } else { 5 })),
        false => good(prompt),
    };
    let start = || LlmServer::start(Duration::from_millis(5), script);
    let [asked, judged, again] = [start(), start(), start()];
    write_spec_in(&sandbox, "asked", &openai(&asked, ""), "");
    assert_eq!(run(&sandbox).code, Some(0));
    assert_eq!(asked.requests(), 40);

    let lines = "judge_threshold = 3\nanswers_from = \"asked\"\nmax_requests = 40";
    write_spec_in(&sandbox, "judged", &openai(&judged, lines), "");
    let outcome = run(&sandbox);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let seen = judged.asked();
    assert!(seen.keys().all(|prompt| is_judgement(prompt)), "no question is asked again");
    assert_eq!((seen.len(), judged.requests()), (40, 40));
    let report = sandbox.report("judged");
    assert_eq!((report["questions"]["requests"].as_u64(), report["questions"]["cache_hits"].as_u64()), (Some(40), Some(40)));
    assert_eq!((taken_by(&report, "judge"), report["questions"]["not_judged"].as_u64()), (4, Some(0)));

    let lines = "judge_threshold = 3\nanswers_from = \"file:judged\"\nmax_cost = 1\nprice_in = 1\nprice_out = 1";
    write_spec_in(&sandbox, "again", &openai(&again, lines), "seed = 7");
    let outcome = run(&sandbox);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(again.requests(), 0, "nothing is paid for twice");
    let report = sandbox.report("again");
    let questions = &report["questions"];
    assert_eq!((questions["requests"].as_u64(), questions["cache_hits"].as_u64()), (Some(0), Some(80)), "{questions}");
    assert_eq!((questions["cost"].as_f64(), taken_by(&report, "judge")), (Some(0.0), 4), "{questions}");
}

/// Goal: chunks that failed for good are asked again alone, in a run with the answers of the first; a store that is none is told before anything is
/// asked. Method: a server that refuses some chunks, a second one that answers all; the prompts that it saw.
#[test]
fn failed_chunks_are_asked_again_alone() {
    let sandbox = Sandbox::new(PROGRAM);
    write_documents(&sandbox, 6, 10);
    let first = LlmServer::start(Duration::from_millis(5), |prompt, _| match chunk_of(prompt) % 10 {
        4 => Scripted::Say("I would rather speak of something else".into()),
        6 => Scripted::Status(400, "{\"error\": {\"message\": \"too long\"}}".into()),
        _ => good(prompt),
    });
    write_spec_in(&sandbox, "first", &openai(&first, ""), "");
    let outcome = run(&sandbox);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let report = sandbox.report("first");
    assert_eq!(report["questions"]["failed_chunks"], 12);
    let failures = report["questions"]["failures"].as_array().expect("a list");
    let reasons: Vec<&str> = failures.iter().map(|failure| failure["reason"].as_str().expect("a text")).collect();
    assert!(reasons.contains(&"malformed: no question in the reply"), "{reasons:?}");

    let second = LlmServer::start(Duration::from_millis(5), |prompt, _| good(prompt));
    write_spec_in(&sandbox, "second", &openai(&second, "answers_from = \"nowhere\""), "");
    let outcome = run(&sandbox);
    assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("questions.answers_from: no run lies in file:"), "{}", outcome.stderr);
    assert_eq!(second.requests(), 0);

    write_spec_in(&sandbox, "second", &openai(&second, "answers_from = \"first\""), "seed = 7");
    let outcome = run(&sandbox);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let mut chunks: Vec<u64> = second.asked().keys().map(|prompt| chunk_of(prompt)).collect();
    chunks.sort_unstable();
    let expected: Vec<u64> = (0..60).filter(|chunk| matches!(chunk % 10, 4 | 6)).collect();
    assert_eq!((chunks, second.requests()), (expected, 12), "the failed chunks, each once, and nothing else");
    let report = sandbox.report("second");
    let questions = &report["questions"];
    assert_eq!((questions["failed_chunks"].as_u64(), questions["pairs_made"].as_u64()), (Some(0), Some(60)), "{questions}");
    assert_eq!((questions["requests"].as_u64(), questions["cache_hits"].as_u64()), (Some(12), Some(48)), "{questions}");
}

/// Goal: what is wrong beside the documents is told before an answer is paid for, and an import does not touch the store of a run that makes its pairs.
/// Method: files of pairs and tests that are not there, the run's own store for answers, by `check` and by `run`; `import`; the server counts.
#[test]
fn what_is_wrong_is_told_before_it_costs() {
    let sandbox = Sandbox::new(PROGRAM);
    write_documents(&sandbox, 2, 4);
    let server = LlmServer::start(Duration::ZERO, |prompt, _| good(prompt));
    let wrong = [
        ("", "pairs = \"nofile.jsonl\"", "nofile.jsonl", true),
        ("", "test = \"notest.jsonl\"", "notest.jsonl", true),
        ("answers_from = \"file:./store\"", "", "answers_from", false),
    ];
    for (questions, data, said, is_checked) in wrong {
        write_spec(&sandbox, &openai(&server, questions), "", "count = 1\nthreads = 1");
        let text = std::fs::read_to_string(sandbox.path("spec.toml")).expect("it was written");
        let text = if data.starts_with("test") { text.replace("test_fraction = 0.2\n", "") } else { text };
        sandbox.write("spec.toml", &text.replace("[data]\n", &format!("[data]\n{data}\n")));
        if is_checked {
            let checked = sandbox.run(["check", "spec.toml"]);
            assert!(checked.code != Some(0) && checked.stderr.contains(said), "{}", checked.stderr);
        }
        let outcome = run(&sandbox);
        assert!(outcome.code != Some(0) && outcome.stderr.contains(said), "{}", outcome.stderr);
    }
    // what the model cannot do is known before the pairs are
    write_spec(&sandbox, &openai(&server, ""), "", "count = 1\nthreads = 1");
    let text = std::fs::read_to_string(sandbox.path("spec.toml")).expect("it was written");
    sandbox.write("spec.toml", &text.replace("max_seq_length = 64", "max_seq_length = 4000"));
    for outcome in [sandbox.run(["check", "spec.toml"]), run(&sandbox)] {
        assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("model.max_seq_length: 4000 is more than the 128 positions"), "{}", outcome.stderr);
    }
    assert_eq!(server.requests(), 0);
    write_spec(&sandbox, &openai(&server, ""), "", "count = 1\nthreads = 1");
    let imported = sandbox.run(["import", "spec.toml", "--store", "file:./untouched"]);
    assert!(imported.code == Some(2) && imported.stderr.contains("artel run"), "{}", imported.stderr);
    assert!(!sandbox.path("untouched").exists(), "the store was touched");
    let effective = sandbox.run(["check", "spec.toml"]).expect_done().stdout.join("\n");
    sandbox.write("effective.toml", &effective);
    sandbox.run(["check", "effective.toml"]).expect_done();
}
