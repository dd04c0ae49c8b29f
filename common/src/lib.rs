//! What an Artel run is: spec, records, manifests, keys, object store, clock, digests, errors, events.
//! It may know serde, object_store and tokio.
//! It must never import gRPC or tensors.

pub mod checkpoint;
pub mod clock;
pub mod digest;
pub mod error;
pub mod event;
pub mod exit;
pub mod journal;
pub mod layout;
pub mod making;
pub mod memory;
pub mod mining;
pub mod model_files;
pub mod plan;
pub mod records;
pub mod rng;
pub mod schedule;
pub mod shard;
pub mod spec;
pub mod store;
mod tables;

pub use error::{Error, ErrorKind, Result};
