//! Reads one document in a process of its own; a worker calls it, nobody types it.

use std::io;
use std::process::ExitCode;

use artel_documents::isolate::child_main;

use crate::failure::Failure;

/// Read the document on stdin, as a worker asks.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// None that is not told on stdout in the worker's form; a failure beyond that is the exit code.
pub fn run(_: Args) -> Result<(), Failure> {
    // nothing else may happen in this process: its limits are the document's
    let code = child_main(io::stdin().lock(), io::stdout().lock());
    if code == ExitCode::SUCCESS { Ok(()) } else { std::process::exit(1) }
}
