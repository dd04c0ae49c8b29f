//! The gRPC contract between coordinator and workers, and its conversions.
//! It may know `artel-common` and tonic.
//! It must never hold decisions.
