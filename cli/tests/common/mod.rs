//! What the tests of single commands share.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs `artel` in a folder to its end.
pub fn artel(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_artel"));
    command.args(args).current_dir(folder).stdin(Stdio::null()).output().expect("the program starts")
}

/// A folder that goes with the test.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The one error of a refusal.
pub fn error(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
    assert!(output.stdout.is_empty(), "a refusal writes no data");
    stderr
}

/// Writes a small model that knows some words to `model` in this folder.
pub fn toy_model(folder: &Path) {
    let texts = ["the portable workstation is broken", "a request for leave", "one two three"].map(str::to_owned);
    artel_trainer::model::toy::make(&texts, 7, &folder.join("model")).expect("a toy model");
}
