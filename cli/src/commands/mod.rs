//! The subcommands, one a file. A flag says where; what a run is stands in its spec.

mod check;
mod coordinator;
mod device;
mod doctor;
mod encode;
mod evaluate;
mod export;
mod fsck;
mod import;
mod made;
mod parse;
mod plan;
mod run;
mod spec;
mod status;
mod worker;

use std::num::NonZero;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// Turns documents, or question-answer pairs, into an embedding model tuned for them.
#[derive(Parser)]
#[command(name = "artel", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    Run(run::Args),
    Check(check::Args),
    Status(status::Args),
    Evaluate(evaluate::Args),
    Encode(encode::Args),
    Export(export::Args),
    Fsck(fsck::Args),
    Import(import::Args),
    Documents(made::DocumentsArgs),
    Chunks(made::ChunksArgs),
    Pairs(made::PairsArgs),
    Doctor(doctor::Args),
    Plan(plan::Args),
    Coordinator(coordinator::Args),
    Worker(worker::Args),
    #[command(hide = true)]
    Parse(parse::Args),
}

/// Does it.
///
/// # Errors
/// What went wrong, and the exit code that says so.
pub fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Status(args) => status::run(args),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Encode(args) => encode::run(args),
        Command::Export(args) => export::run(args),
        Command::Fsck(args) => fsck::run(args),
        Command::Import(args) => import::run(args),
        Command::Documents(args) => made::documents(args),
        Command::Chunks(args) => made::chunks(args),
        Command::Pairs(args) => made::pairs(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Coordinator(args) => coordinator::run(args),
        Command::Worker(args) => worker::run(args),
        Command::Parse(args) => parse::run(args),
    }
}

/// The cores of this machine that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// A runtime on this thread alone: for supervision and for short talks with a store.
fn small_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| no_runtime(&e))
}

/// A runtime on several threads: for a coordinator or a worker.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|e| no_runtime(&e))
}

fn no_runtime(error: &std::io::Error) -> Failure {
    Failure::internal(format!("cannot start threads: {error}"))
}
