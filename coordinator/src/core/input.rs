//! What the core is told, and what it wants done.

use std::collections::BTreeMap;

use artel_common::checkpoint::{CheckpointManifest, CheckpointPart};
use artel_common::digest::Digest;
use artel_common::event::{Event, Stage};
use artel_common::exit::Exit;
use artel_common::journal::{CheckpointRecord, PreparedRecord, Record, RunState};
use artel_common::making::MakingState;
use artel_common::mining::MiningRecord;
use artel_common::records::{ExportManifest, ObjectRef, Report, TokensManifest};
use artel_proto::v1;

use super::Prepared;

/// Why a run or a task failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the process exits with.
    pub exit: Exit,
    /// What happened, to what, what to do.
    pub message: String,
}

/// A worker that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWorker {
    /// Drawn by the process.
    pub incarnation: u64,
    /// For messages.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Its machine.
    pub host: String,
    /// Its matrix-product path.
    pub kernel_path: String,
    /// Where other ranks reach it.
    pub collective_address: String,
    /// GPUs that its machine shows it.
    pub num_gpus: usize,
}

/// A rank's part of a checkpoint, whose objects lie in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankPart {
    /// The world that the rank is of.
    pub generation: u64,
    /// Updates in the state.
    pub step: u64,
    /// Its ranges.
    pub parts: Vec<CheckpointPart>,
    /// Losses and gradient norms, by rank 0.
    pub history: Option<ObjectRef>,
    /// Values of each vector.
    pub num_values: u64,
    /// How long the rank's training stood still for it, in milliseconds.
    pub stall_ms: u64,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// The preparation entered a stage.
    Stage(Stage),
    /// The preparation goes on.
    Progress {
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
        /// Which unit.
        unit: String,
    },
    /// The preparation found something that a person should know.
    Noticed(String),
    /// Data set, model and plan are there; and what the journal says of the run so far.
    Prepared(Box<Prepared>, Box<RunState>),
    /// The list of documents is there, and the pieces that it is read in (first and count); and what the journal says.
    Making {
        /// The pieces.
        cuts: Vec<(u64, u64)>,
        /// The journal's state.
        run: Box<RunState>,
    },
    /// What the base model is to be asked about the pairs lies in the store.
    Pooled(Box<MiningRecord>),
    /// Pairs were made into a data set: what the run goes on with, and what the journal is to say of it.
    Built(Box<Prepared>, Box<PreparedRecord>),
    /// The run in the store is done already.
    AlreadyDone,
    /// The preparation, or a commit, failed.
    Failed(Failure),
    /// A worker came; its id is `worker-N` in order of arrival.
    Registered(NewWorker),
    /// A worker lives.
    Heartbeat {
        /// Which.
        worker: String,
        /// Its memory.
        pss_bytes: u64,
        /// It was told to go.
        leaving: bool,
    },
    /// A worker did what it was told.
    Done {
        /// Which.
        worker: String,
        /// The task.
        task: u64,
        /// What came of it.
        result: v1::complete_task_request::Result,
    },
    /// A worker could not do it.
    TaskFailed {
        /// Which.
        worker: String,
        /// The task.
        task: u64,
        /// What kind of failure.
        kind: v1::FailureKind,
        /// Why.
        message: String,
    },
    /// A worker's task goes on.
    Reported {
        /// Which.
        worker: String,
        /// How.
        report: v1::report_request::Report,
    },
    /// A rank's part of a checkpoint lies in the store.
    Part {
        /// Whose.
        worker: String,
        /// What.
        part: RankPart,
    },
    /// A commit is done: the journal has this record.
    Recorded(Box<Record>),
    /// Time passed.
    Tick {
        /// Memory of the coordinator and its parent.
        own_bytes: u64,
    },
    /// The process was told to go: the run saves its state and leaves.
    Leave {
        /// Who said so.
        reason: String,
    },
}

/// Something to make durable: its objects, then the journal entry that names them. Commits are carried out one after another.
#[derive(Debug, Clone, PartialEq)]
pub enum Commit {
    /// The tokens' manifest.
    Tokens {
        /// It.
        manifest: TokensManifest,
        /// Wall seconds by stage so far.
        wall_s: BTreeMap<String, f64>,
    },
    /// A checkpoint's manifest.
    Checkpoint {
        /// It.
        manifest: CheckpointManifest,
        /// Greatest memory so far.
        peak_bytes: u64,
        /// Wall seconds by stage so far.
        wall_s: BTreeMap<String, f64>,
    },
    /// Checkpoints go out of the run, and then their objects out of the store.
    Prune(Vec<CheckpointRecord>),
    /// The exported folder's manifest.
    Export {
        /// It.
        manifest: ExportManifest,
        /// Of the weights.
        weights_digest: Digest,
    },
    /// The end.
    Done(Box<Report>),
    /// An entry that names no new object.
    Record(Record),
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Tell whoever watches.
    Emit(Event),
    /// A worker has a new assignment: wake it.
    Wake {
        /// Which.
        worker: String,
    },
    /// Put what the base model is to be asked about the pairs into the store, then say `Pooled`.
    Pool(Box<MakingState>),
    /// Make a data set of the pairs, then say `Built`.
    Build(Box<MakingState>),
    /// Make something durable, then say `Recorded`.
    Commit(Box<Commit>),
    /// End the run.
    Finish {
        /// What every process of it exits with.
        exit: Exit,
        /// Why.
        message: String,
    },
}
