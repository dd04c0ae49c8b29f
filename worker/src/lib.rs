//! The hands of Artel: read, ask, tokenise, train, evaluate, save.
//! It may know everything but the coordinator and the command line; it alone joins RPC, storage and device.
//! It must never decide who does what: the coordinator says so.

mod checkpoint;
mod client;
mod evaluations;
mod export;
mod join;
mod making;
mod numa;
mod saver;
mod session;
mod tokenise;
mod training;

pub use artel_common::exit::RunError;
use client::timed;
pub use client::{WorkerOptions, run};
pub use export::export_checkpoint;
pub use join::end_where_threads_live;
pub use making::check_questions;
