//! What the tests of Artel share: a sandbox of real processes.
//! It may know every crate.
//! Nothing may depend on it.

pub mod documents;
pub mod llm;
mod process;
pub mod s3;
mod sandbox;

pub use process::{Process, children_of, is_alive, kill};
pub use sandbox::{Outcome, Sandbox};

use std::path::PathBuf;

/// The folder of golden values and real data, if this machine has it; says so where it has not.
pub fn shared() -> Option<PathBuf> {
    named("ARTEL_SHARED", "golden values and real data")
}

/// The folder of MiniLM-L6's real weights, if this machine has it; says so where it has not.
pub fn minilm() -> Option<PathBuf> {
    named("ARTEL_MINILM", "MiniLM-L6's weights")
}

fn named(variable: &str, what: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from).filter(|folder| folder.is_dir());
    if folder.is_none() {
        eprintln!("skipped: {variable} names no folder with {what}");
    }
    folder
}
