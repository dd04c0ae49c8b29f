//! Who does what, when: data set, plan, a pure core, one event loop around it, the gRPC face.
//! It may know `artel-common`, `artel-proto`, the pace and budget of `artel-questions`, and the object store.
//! It must never import tensors.

mod build;
mod committer;
pub mod core;
pub mod dataset;
pub mod documents;
mod event_loop;
mod face;
pub mod model_import;
mod pool;
mod prepare;
mod resume;
mod serve;
mod sift;

pub use artel_common::exit::RunError;
pub use prepare::{MakeModel, Preparation, Ready, check_files, prepare};
pub use serve::{CoordinatorOptions, serve};
