//! A folder of its own for a test, with small data and a spec in it, and the program to run there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Process;

/// A run of the program that came to its end.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Its stdout.
    pub stdout: Vec<String>,
    /// Its stderr.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// stdout's lines as JSON; panics where one is not.
    pub fn events(&self) -> Vec<Value> {
        self.stdout
            .iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?} is not JSON: {e}")))
            .collect()
    }

    /// The run must have succeeded.
    pub fn expect_done(self) -> Self {
        assert_eq!(self.code, Some(0), "stderr: {}\nstdout: {:#?}", self.stderr, self.stdout);
        self
    }
}

/// A folder of its own, removed at the end.
pub struct Sandbox {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Sandbox {
    /// An empty folder for this program.
    pub fn new(program: &str) -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), program: program.into() }
    }

    /// A path within.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a folder can be made");
        std::fs::write(&path, text).expect("a file can be written");
        path
    }

    /// Writes the first `count` pairs of the example as `pairs.jsonl`.
    pub fn pairs(&self, count: usize) -> PathBuf {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/handbook.jsonl");
        let text = std::fs::read_to_string(example).expect("the example is there");
        let lines: Vec<&str> = text.lines().take(count).collect();
        self.write("pairs.jsonl", &(lines.join("\n") + "\n"))
    }

    /// Writes `spec.toml`: a small run of the toy over `pairs.jsonl`, with further lines for `[train]` and `[workers]`.
    pub fn spec(&self, train: &str, workers: &str) -> PathBuf {
        let usual = ["num_train_epochs = 1", "eval_strategy = \"epoch\"", "learning_rate = 1e-3"];
        let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let said: Vec<String> = train.lines().map(key).collect();
        let usual: Vec<&str> = usual.into_iter().filter(|line| !said.contains(&key(line))).collect();
        let usual = usual.join("\n");
        let text = format!(
            r#"[run]
name = "test"
store = "file:./store"
[data]
pairs = ["pairs.jsonl"]
columns = {{ group = "doc" }}
test_fraction = 0.2
[model]
base = "artel:toy"
max_seq_length = 48
[train]
global_batch_size = 16
{usual}
matryoshka_dims = [128, 32]
logging_steps = 1
micro_batch_tokens = 256
{train}
[workers]
{workers}
"#
        );
        self.write("spec.toml", &text)
    }

    /// The program, to be run in the folder; on the CPU, whatever the machine has.
    pub fn artel<I: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(self.folder.path()).env("CUDA_VISIBLE_DEVICES", "");
        command
    }

    /// Runs it to its end; panics after two minutes.
    pub fn run<I: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Outcome {
        let begun = Instant::now();
        let (status, stdout, stderr) = Process::start(&mut self.artel(args)).wait(Duration::from_secs(120));
        Outcome { code: status.code(), stdout, stderr, took: begun.elapsed() }
    }

    /// The digest of the weights that a store's report tells.
    pub fn digest(&self, store: &str) -> String {
        self.report(store)["weights_digest"].as_str().expect("a digest").to_owned()
    }

    /// The report of a store.
    pub fn report(&self, store: &str) -> Value {
        let text = std::fs::read_to_string(self.path(store).join("report.json")).expect("the run wrote its report");
        serde_json::from_str(&text).expect("the report is JSON")
    }
}
