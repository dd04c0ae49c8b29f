//! The coordinator, the worker and the encoder as this program calls them.

mod embedder;

pub use artel_common::exit::RunError;
pub use artel_coordinator::{CoordinatorOptions, serve};
pub use artel_worker::{WorkerOptions, run};
pub use embedder::{Embedder, Vectors};
