//! A run that is disturbed, beside one of the same spec that is not.

#![allow(dead_code, reason = "each test binary takes what it needs of it")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use artel_common::rng::Rng;
use artel_tests::s3::S3Server;
use artel_tests::{Process, Sandbox, children_of, is_alive};
use serde_json::Value;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_artel-under-test");
/// How long anything may take.
pub const LIMIT: Duration = Duration::from_secs(100);
/// From one checkpoint to the next.
pub const SAVE_STEPS: u64 = 4;
/// Every fail point of the protocol, with how often it is passed before the death.
pub const POINTS: [&str; 16] = [
    "journal::before_prepared",
    "journal::after_prepared",
    "journal::before_append:1",
    "journal::after_append:1",
    "journal::before_append:3",
    "journal::after_append:3",
    "journal::before_append:6",
    "journal::after_append:6",
    "journal::after_report",
    "checkpoint::before_parts:2",
    "checkpoint::between_parts:5",
    "checkpoint::after_parts:2",
    "checkpoint::before_manifest:2",
    "checkpoint::after_manifest:2",
    "train::after_step:7",
    "journal::before_append:10",
];

/// Where runs lie.
pub enum Where {
    Folder,
    Bucket(S3Server),
}

/// A spec, and what an undisturbed run of it gives.
pub struct Disturbed {
    pub sandbox: Sandbox,
    pub digest: String,
    place: Where,
}

impl Disturbed {
    /// A run of 3 epochs and some 36 steps; measured after each epoch, saved every [`SAVE_STEPS`] steps.
    pub fn new(place: Where) -> Self {
        Self::with_words(place, 0)
    }

    /// The same with a larger vocabulary, and so a larger state: each pair gets this many words of its own, and those of the next pair.
    pub fn with_words(place: Where, words: usize) -> Self {
        let sandbox = Sandbox::new(PROGRAM);
        let pairs = std::fs::read_to_string(sandbox.pairs(240)).expect("the pairs");
        let longer = pairs.lines().enumerate().map(|(row, line)| {
            let mut pair: Value = serde_json::from_str(line).expect("a pair");
            let own: Vec<String> = (row * words..(row + 2) * words).map(made_up).collect();
            pair["positive"] = format!("{} {}", pair["positive"].as_str().expect("a text"), own.join(" ")).trim().into();
            format!("{pair}\n")
        });
        sandbox.write("pairs.jsonl", &longer.collect::<String>());
        let train = format!("num_train_epochs = 3\nsave_strategy = \"steps\"\nsave_steps = {SAVE_STEPS}");
        sandbox.spec(&train, "count = 2\nthreads = 1");
        let mut disturbed = Self { sandbox, digest: String::new(), place };
        disturbed.finish_first();
        disturbed
    }

    fn finish_first(&mut self) {
        let (status, _, stderr) = self.start("undisturbed", 2, &[]).wait(LIMIT);
        assert_eq!(status.code(), Some(0), "{stderr}");
        let report = self.report("undisturbed");
        assert!(report["steps"].as_u64() >= Some(24), "{}", report["steps"]);
        assert_eq!(report["attempts"].as_array().map(Vec::len), Some(1));
        self.digest = report["weights_digest"].as_str().expect("a digest").to_owned();
    }

    /// The server of the bucket.
    pub fn server(&self) -> &S3Server {
        match &self.place {
            Where::Bucket(server) => server,
            Where::Folder => panic!("a folder has no server"),
        }
    }

    /// Every object that the run names must be whole.
    pub fn whole(&self, store: &str) {
        let (status, lines, stderr) = Process::start(&mut self.command(&["fsck", &self.url(store)], &[])).wait(LIMIT);
        assert_eq!(status.code(), Some(0), "{store}: {stderr}\n{lines:#?}");
    }

    fn url(&self, store: &str) -> String {
        match &self.place {
            Where::Folder => format!("file:./{store}"),
            Where::Bucket(server) => server.url(store),
        }
    }

    /// The folder in which a store's objects lie as files.
    pub fn folder(&self, store: &str) -> PathBuf {
        match &self.place {
            Where::Folder => self.sandbox.path(store),
            Where::Bucket(server) => server.folder().join(store),
        }
    }

    /// The report of a store.
    pub fn report(&self, store: &str) -> Value {
        let text = std::fs::read_to_string(self.folder(store).join("report.json")).expect("the run wrote its report");
        serde_json::from_str(&text).expect("the report is JSON")
    }

    fn command(&self, args: &[&str], more: &[(&str, &str)]) -> std::process::Command {
        let mut command = self.sandbox.artel(args);
        if let Where::Bucket(server) = &self.place {
            command.envs(server.environment());
        }
        command.envs(more.iter().copied());
        command
    }

    /// `artel run` on this store.
    pub fn start(&self, store: &str, workers: usize, more: &[(&str, &str)]) -> Process {
        let (url, workers) = (self.url(store), workers.to_string());
        Process::start(&mut self.command(&["run", "spec.toml", "--json", "--workers", &workers, "--store", &url], more))
    }

    /// A coordinator of one worker, started by hand on this store, and its URL.
    pub fn by_hand(&self, store: &str) -> (Process, String) {
        let url = self.url(store);
        let args = ["coordinator", "spec.toml", "--listen", "127.0.0.1:0", "--json", "--workers", "1", "--store", &url];
        let coordinator = Process::start(&mut self.command(&args, &[]));
        let line = coordinator.wait_for_line(LIMIT, |line| line.contains("listening"));
        let event: Value = serde_json::from_str(&line).expect("an event");
        (coordinator, event["url"].as_str().expect("a URL").to_owned())
    }

    /// A worker started by hand.
    pub fn worker(&self, coordinator: &str) -> Process {
        Process::start(&mut self.command(&["worker", "--coordinator", coordinator, "--threads", "1"], &[]))
    }

    /// One process dies at this point; the run goes on by itself to the same weights.
    pub fn die_at(&self, point: &str, store: &str) {
        let once = self.sandbox.path(&format!("{store}.died"));
        let once_text = once.display().to_string();
        let run = self.start(store, 2, &[("ARTEL_DIE_AT", point), ("ARTEL_DIE_ONCE", &once_text)]);
        let (status, lines, stderr) = run.wait(LIMIT);
        assert!(once.exists(), "{point} was never passed: {lines:#?}");
        assert_eq!(status.code(), Some(0), "{point}: {stderr}\n{lines:#?}");
        assert_eq!(self.report(store)["weights_digest"], self.digest.as_str(), "{point}");
        let evaluated: Vec<&String> = lines.iter().filter(|line| line.contains("\"event\":\"evaluation\"")).collect();
        // an evaluation that the journal has is not done again
        assert!(evaluated.len() <= 5, "{point}: {evaluated:#?}");
    }

    /// Kills at random moments, each time at another number of workers, then lets the run finish. Gives the seed.
    pub fn kill_at_random(&self, kills: usize) -> u64 {
        let seed = std::env::var("ARTEL_RECOVERY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
        });
        println!("ARTEL_RECOVERY_SEED={seed}");
        let mut rng = Rng::stream("kills", &[seed]);
        let mut told = 0;
        for kill in 0..kills {
            let workers = [1, 2, 4][kill % 3];
            let run = self.start("random", workers, &[]);
            std::thread::sleep(Duration::from_millis(150 + rng.below(3500)));
            let children = children_of(run.pid());
            let victim = match rng.below(4) {
                0 => children.iter().find(|(_, command)| command.contains(" worker ")).map(|child| child.0),
                1 => children.iter().find(|(_, command)| command.contains(" coordinator ")).map(|child| child.0),
                _ => None,
            };
            if let Some(victim) = victim {
                // the run replaces what was killed; then it is killed whole
                // SAFETY: kill(2) touches no memory of this process
                unsafe { libc::kill(victim as i32, libc::SIGKILL) };
                std::thread::sleep(Duration::from_millis(rng.below(2500)));
            }
            let children = children_of(run.pid());
            run.signal(libc::SIGKILL);
            let (_, lines, _) = run.wait(Duration::from_secs(10));
            told = few_lost(told, &lines);
            let begun = Instant::now();
            while children.iter().any(|(pid, _)| is_alive(*pid)) {
                assert!(begun.elapsed() < Duration::from_secs(5), "orphans: {children:?}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.finish("random", [1, 2, 4][kills % 3]);
        seed
    }

    /// Lets a run finish; its weights must be those of the undisturbed one.
    pub fn finish(&self, store: &str, workers: usize) {
        let (status, lines, stderr) = self.start(store, workers, &[]).wait(LIMIT);
        assert_eq!(status.code(), Some(0), "{store}: {stderr}\n{lines:#?}");
        assert_eq!(self.report(store)["weights_digest"], self.digest.as_str(), "{store}");
    }

    /// Tells a run to leave, in `stage`: it does so in under 20 s, unless it was at its end, and goes on to the same weights.
    pub fn leave(&self, store: &str, run: Process, signal: i32, stage: &str) {
        self.leave_in(store, run, signal, stage);
        self.finish(store, 1);
    }

    /// Tells a run to leave, in `stage`: it does so in under 20 s, unless it was at its end.
    pub fn leave_in(&self, store: &str, run: Process, signal: i32, stage: &str) {
        let begun = Instant::now();
        let children = children_of(run.pid());
        run.signal(signal);
        let (status, lines, stderr) = run.wait(Duration::from_secs(20));
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(20), "{store}: {took:?}");
        let over = status.code() == Some(0) && stage == "export";
        assert!(over || status.code() == Some(75), "{store}: {status}, {stderr}\n{lines:#?}");
        assert!(over || stderr.contains("run me again: "), "{store}: {stderr}");
        assert!(children.iter().all(|(pid, _)| !is_alive(*pid)), "{store}: orphans");
    }

    /// Makes a run leave before its end.
    pub fn leave_unfinished(&self, run: Process) {
        run.signal(libc::SIGTERM);
        let (status, _, stderr) = run.wait(Duration::from_secs(20));
        assert_eq!(status.code(), Some(75), "{stderr}");
    }
}

/// A word that no text has.
fn made_up(mut number: usize) -> String {
    let mut word = "zq".to_owned();
    for _ in 0..4 {
        word.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
    }
    word
}

/// The step that an event line tells, if it is a step's.
pub fn step_of(line: &str) -> Option<u64> {
    let event: Value = serde_json::from_str(line).ok()?;
    (event["event"] == "step").then(|| event["step"].as_u64()).flatten()
}

/// Follows a run's steps over its resumes: of those that were told, no resume may lose more than twice [`SAVE_STEPS`]. Gives the last one told.
fn few_lost(mut told: u64, lines: &[String]) -> u64 {
    for line in lines {
        if line.contains("\"event\":\"resumed\"") {
            let lost = steps_lost(told, std::slice::from_ref(line));
            assert!(lost <= 2 * SAVE_STEPS, "{lost} of {told} steps were lost: {line}");
            told -= lost;
        }
        told = step_of(line).unwrap_or(told);
    }
    told
}

/// Steps that were told before a kill and had to be made again after it.
pub fn steps_lost(told: u64, after: &[String]) -> u64 {
    let resumed = after.iter().find(|line| line.contains("\"event\":\"resumed\"")).expect("the run was resumed");
    let event: Value = serde_json::from_str(resumed).expect("an event");
    told - event["from_step"].as_u64().expect("a step").min(told)
}

/// The folder of the newest checkpoint of a store.
pub fn newest_checkpoint(store: &Path) -> PathBuf {
    let manifests = |path: &PathBuf| path.join("manifest.json").exists();
    let folders =
        std::fs::read_dir(store.join("checkpoints")).expect("there are checkpoints").flatten().map(|entry| entry.path());
    folders.filter(manifests).max().expect("one is whole")
}

/// A copy of a folder and all in it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("writable");
    for entry in std::fs::read_dir(from).expect("readable").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("writable");
        }
    }
}

/// What can happen to an object.
#[derive(Debug, Clone, Copy)]
pub enum Damage {
    Flipped,
    Cut,
    Emptied,
    Removed,
}

pub const DAMAGES: [Damage; 4] = [Damage::Flipped, Damage::Cut, Damage::Emptied, Damage::Removed];

impl Damage {
    pub fn inflict(self, path: &Path) {
        let mut bytes = std::fs::read(path).expect("the object is a file");
        let middle = bytes.len() / 2;
        match self {
            Self::Flipped => bytes[middle] ^= 1,
            Self::Cut => bytes.truncate(middle),
            Self::Emptied => bytes.clear(),
            Self::Removed => return std::fs::remove_file(path).expect("removable"),
        }
        std::fs::write(path, bytes).expect("writable");
    }
}
