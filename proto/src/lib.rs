//! The gRPC contract between coordinator and workers, and its conversions.
//! It may know `artel-common` and tonic.
//! It must never hold decisions.

pub mod convert;

/// Version of the contract: coordinator and workers must agree on it.
pub const PROTOCOL: u32 = 5;

/// Longest message either side accepts, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// `artel.v1`, generated.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("artel.v1");
}
