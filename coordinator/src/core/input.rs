//! What the core is told, and what it wants done.

use artel_common::digest::Digest;
use artel_common::event::{Event, Stage};
use artel_common::exit::Exit;
use artel_common::records::{DatasetManifest, Evaluation, ModelManifest, Report, TokensManifest};
use artel_common::schedule::Schedule;
use artel_proto::v1;

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
}

/// Data set, model and plan lie in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// The data set.
    pub dataset: DatasetManifest,
    /// The base model.
    pub model: ModelManifest,
    /// The updates.
    pub schedule: Schedule,
    /// Training rows that an epoch leaves out, the most of any epoch.
    pub rows_left_out: u64,
    /// The run's identity.
    pub run_digest: Digest,
    /// The metric that says which weights are the best, such as `dim_128_cosine_ndcg@10`.
    pub best_metric: String,
    /// Rows of the batches of each update, in order of updates.
    pub rows_per_step: Vec<u32>,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// The preparation entered a stage.
    Stage(Stage),
    /// The preparation found something that a person should know.
    Warning(String),
    /// The preparation goes on.
    Progress {
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
        /// Which unit.
        unit: String,
    },
    /// Data set, model and plan are there.
    Prepared(Box<Prepared>),
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
        /// Why.
        failure: Failure,
    },
    /// A worker's task goes on.
    Reported {
        /// Which.
        worker: String,
        /// How.
        report: v1::report_request::Report,
    },
    /// The last `Commit...` effect is done.
    Committed,
    /// Time passed.
    Tick {
        /// Memory of the coordinator and its parent.
        own_bytes: u64,
    },
    /// The process was told to stop.
    Stop {
        /// What it exits with.
        exit: Exit,
        /// Who said so.
        reason: String,
    },
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
    /// Put the tokens' manifest, then say `Committed`.
    CommitTokens(TokensManifest),
    /// Put an evaluation beside the others; nothing waits for it.
    PutEvaluations(Vec<Evaluation>),
    /// Put the export's manifest and the report, then say `Committed`.
    CommitReport(Box<Report>, Vec<v1::ModelFile>),
    /// End the run.
    Finish {
        /// What every process of it exits with.
        exit: Exit,
        /// Why.
        message: String,
    },
}
