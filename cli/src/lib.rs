//! The one binary, `artel`: every subcommand, progress and tables.
//! It may know every crate but the tests.
//! It must never hold maths or decisions of a run.

mod ahead;
mod blocks;
mod commands;
mod doctor;
mod embed;
mod failure;
mod npy;
mod output;
mod pairs;
mod rate;
mod signals;
mod supervise;
mod table;
mod text;
mod toy;
mod view;

use std::process::ExitCode;

use artel_common::exit::Exit;
use clap::Parser as _;

pub use failure::Failure;

/// Runs the command line and ends the process with a documented exit code.
pub fn main() -> ExitCode {
    let command = match commands::Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(refusal) => return refuse(&refusal),
    };
    log_to_stderr();
    let exit = match commands::dispatch(command) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            if let Some(message) = &failure.message {
                output::talk(&format!("error: {message}"));
            }
            failure.exit
        }
    };
    artel_worker::end_where_threads_live(exit.code());
    ExitCode::from(exit.code())
}

/// The full command line's shape, for the snapshot of its flags.
#[doc(hidden)]
pub fn command_line() -> clap::Command {
    <commands::Cli as clap::CommandFactory>::command()
}

/// Prints clap's help (stdout) or refusal (stderr); neither may panic when the reader is gone.
fn refuse(refusal: &clap::Error) -> ExitCode {
    let exit = if refusal.use_stderr() { Exit::Usage } else { Exit::Done };
    if refusal.print().is_err() {
        tracing::debug!("nobody reads the help text");
    }
    ExitCode::from(exit.code())
}

/// Logs go to stderr; `ARTEL_LOG` filters them (`info`, `artel_worker=debug`, ...), warnings where it is not set.
fn log_to_stderr() {
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("ARTEL_LOG").unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    if subscriber.try_init().is_err() {
        output::talk("warning: the log is set up already");
    }
}
