//! Who does what, when: data set, plan, a pure core, one event loop around it, the gRPC face.
//! It may know `artel-common`, `artel-proto` and the object store.
//! It must never import tensors.

pub mod core;
pub mod dataset;
mod event_loop;
mod face;
pub mod model_import;
mod prepare;
mod serve;

pub use artel_common::exit::RunError;
pub use prepare::{Preparation, prepare};
pub use serve::{CoordinatorOptions, serve};
