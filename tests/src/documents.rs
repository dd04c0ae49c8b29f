//! Documents, specs and questions that the tests of the way from documents to pairs share.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use artel_common::rng::Rng;
use serde_json::Value;

use crate::llm::{LlmServer, Scripted};
use crate::{Outcome, Process, Sandbox, children_of, is_alive, kill};

/// What no output, journal or report may have in it.
pub const KEY: &str = "sk-very-secret-0123456789";

/// Words that are drawn again the same for the same number.
pub fn sentence(number: u64) -> String {
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
pub fn write_documents(sandbox: &Sandbox, documents: u64, paragraphs: u64) {
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
pub fn write_spec(sandbox: &Sandbox, questions: &str, train: &str, workers: &str) {
    sandbox.write(
        "spec.toml",
        &format!(
            "[run]\nstore = \"file:./store\"\n[documents]\nsources = [\"docs\"]\n[chunks]\nchunk_size = 400\n[questions]\n{questions}\n\
             [data]\ntest_fraction = 0.2\n[model]\nbase = \"artel:toy\"\nmax_seq_length = 64\n\
             [train]\nglobal_batch_size = 16\nnum_train_epochs = 1\nlearning_rate = 1e-3\nmatryoshka_dims = [128, 32]\n{train}\n[workers]\n{workers}\n"
        ),
    );
}

/// `[questions]` for the scripted server.
pub fn openai(server: &LlmServer, more: &str) -> String {
    format!(
        "provider = \"openai\"\nmodel = \"scripted\"\nbase_url = \"{}\"\napi_key_env = \"ARTEL_TEST_KEY\"\njson = false\n{more}",
        server.url()
    )
}

/// Runs the spec, with the key in the environment.
pub fn run_within(sandbox: &Sandbox, limit: Duration) -> Outcome {
    let begun = Instant::now();
    let mut command = sandbox.artel(["run", "spec.toml", "--json"]);
    let (status, stdout, stderr) = Process::start(command.env("ARTEL_TEST_KEY", KEY)).wait(limit);
    Outcome { code: status.code(), stdout, stderr, took: begun.elapsed() }
}

/// A question and an answer that the chunk in the prompt supports.
pub fn good(prompt: &str) -> Scripted {
    let at = prompt.rfind("Rule ").unwrap_or(0);
    let sentence = prompt[at..].split('.').next().unwrap_or_default();
    let number = sentence.split(' ').nth(1).unwrap_or("0");
    Scripted::Say(format!(
        "Question: What does rule {number} say about the {}?\nAnswer: {sentence}.",
        sentence.rsplit(' ').next().unwrap_or("")
    ))
}

/// Whether a file of the folder, or its name, has the text in it.
pub fn folder_has(folder: &Path, text: &str) -> bool {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name().to_string_lossy().contains(text)
                || std::fs::read(entry.path()).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
            {
                return true;
            }
        }
    }
    false
}

/// Kills a worker or the coordinator of `artel run` at random times until the chunks are asked about; how often it was done.
fn kill_at_random(run: &Process, server: &LlmServer, chunks: u64, times: u64, rng: &mut Rng) -> u64 {
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

/// A run of so many chunks whose workers and coordinator are killed so often at random: each prompt is answered once but for those in flight at a kill,
/// no chunk is missing, none is twice in the pairs. Gives how many kills there were.
pub fn paid_once(sandbox: &Sandbox, chunks: u64, most_kills: u64, limit: Duration) -> u64 {
    write_documents(sandbox, chunks / 20, 20);
    let in_flight = 8;
    let server = LlmServer::start(Duration::from_millis(150), |prompt, _| good(prompt));
    write_spec(sandbox, &openai(&server, &format!("max_in_flight = {in_flight}")), "", "count = 2\nthreads = 1");
    let (mut kills, mut commands) = (0, 0);
    let mut rng = Rng::stream("kills", &[]);
    loop {
        commands += 1;
        let mut command = sandbox.artel(["run", "spec.toml", "--json"]);
        let process = Process::start(command.env("ARTEL_TEST_KEY", KEY));
        process.wait_for_line(limit, |line| {
            line.contains("stage_started") && (line.contains("\"read\"") || line.contains("\"ask\""))
        });
        kills += kill_at_random(&process, &server, chunks, most_kills - kills, &mut rng);
        let (status, lines, stderr) = process.wait(limit);
        if status.success() {
            break;
        }
        // restarts are bounded: the same command goes on
        assert!(commands <= most_kills, "{stderr}\n{lines:#?}");
    }
    let paid: u64 = server.answered().values().sum();
    eprintln!("{chunks} chunks, {kills} kills, {commands} commands: {paid} answers, so {} paid for again", paid - chunks);
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
    kills
}
