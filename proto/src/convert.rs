//! Conversions between messages and records, and between errors and gRPC status.

use artel_common::checkpoint::{CheckpointPart, StateVector};
use artel_common::digest::Digest;
use artel_common::exit::Exit;
use artel_common::making::Ledger;
use artel_common::records;

use crate::v1;

impl From<&records::ObjectRef> for v1::ObjectRef {
    fn from(object: &records::ObjectRef) -> Self {
        Self { key: object.key.clone(), bytes: object.bytes, sha256: object.sha256.to_string() }
    }
}

impl TryFrom<v1::ObjectRef> for records::ObjectRef {
    type Error = String;

    fn try_from(object: v1::ObjectRef) -> Result<Self, String> {
        let sha256 =
            Digest::parse(&object.sha256).ok_or_else(|| format!("{}: not a SHA-256: {:?}", object.key, object.sha256))?;
        Ok(Self { key: object.key, bytes: object.bytes, sha256 })
    }
}

impl From<&records::ModelFile> for v1::ModelFile {
    fn from(file: &records::ModelFile) -> Self {
        Self { path: file.path.clone(), object: Some((&file.object).into()) }
    }
}

impl TryFrom<v1::ModelFile> for records::ModelFile {
    type Error = String;

    fn try_from(file: v1::ModelFile) -> Result<Self, String> {
        Ok(Self { path: file.path, object: object(file.object)? })
    }
}

impl From<&CheckpointPart> for v1::CheckpointPart {
    fn from(part: &CheckpointPart) -> Self {
        Self { vector: part.vector.name().to_owned(), start: part.start, len: part.len, object: Some((&part.object).into()) }
    }
}

impl TryFrom<v1::CheckpointPart> for CheckpointPart {
    type Error = String;

    fn try_from(part: v1::CheckpointPart) -> Result<Self, String> {
        let vector = StateVector::ALL.into_iter().find(|vector| vector.name() == part.vector);
        let vector = vector.ok_or_else(|| format!("{:?} is no vector of a checkpoint", part.vector))?;
        Ok(Self { vector, start: part.start, len: part.len, object: object(part.object)? })
    }
}

impl From<&Ledger> for v1::Ledger {
    fn from(ledger: &Ledger) -> Self {
        let Ledger { requests, cache_hits, tokens_in, tokens_out, cost_micros, chunks, failed_chunks, pairs } = ledger.clone();
        Self { requests, cache_hits, tokens_in, tokens_out, cost_micros, chunks, failed_chunks, pairs }
    }
}

impl From<v1::Ledger> for Ledger {
    fn from(ledger: v1::Ledger) -> Self {
        let v1::Ledger { requests, cache_hits, tokens_in, tokens_out, cost_micros, chunks, failed_chunks, pairs } = ledger;
        Self { requests, cache_hits, tokens_in, tokens_out, cost_micros, chunks, failed_chunks, pairs }
    }
}

/// An object that a message must have.
///
/// # Errors
/// It is missing, or not one.
pub fn object(message: Option<v1::ObjectRef>) -> Result<records::ObjectRef, String> {
    message.ok_or("an object is missing")?.try_into()
}

/// The exit code of a run that ends because a task failed so.
pub fn failure_exit(kind: v1::FailureKind) -> Exit {
    match kind {
        v1::FailureKind::Unspecified | v1::FailureKind::Internal => Exit::Internal,
        v1::FailureKind::Data => Exit::Data,
        v1::FailureKind::Model => Exit::Model,
        v1::FailureKind::Store | v1::FailureKind::Checkpoint => Exit::Store,
        v1::FailureKind::Left => Exit::Preempted,
        v1::FailureKind::Collective => Exit::WorkerLost,
        v1::FailureKind::NotFinite => Exit::NotFinite,
        v1::FailureKind::Provider => Exit::Provider,
        v1::FailureKind::Budget => Exit::Budget,
    }
}

/// A call that does not fit the run: unknown worker, wrong version, a task that is not the caller's.
pub fn refused(message: impl Into<String>) -> tonic::Status {
    tonic::Status::failed_precondition(message.into())
}

/// A call that is malformed.
pub fn malformed(message: impl Into<String>) -> tonic::Status {
    tonic::Status::invalid_argument(message.into())
}
