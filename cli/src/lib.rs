//! The one binary, `artel`: every subcommand, progress and tables.
//! It may know every crate but the tests.
//! It must never hold maths or decisions of a run.

/// Runs the command line and ends the process with a documented exit code.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
