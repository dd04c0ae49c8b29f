//! Who does what, when: data set, plan, a pure core, one event loop around it, the gRPC face.
//! It may know `artel-common`, `artel-proto` and the object store.
//! It must never import tensors.

pub mod dataset;
pub mod model_import;
