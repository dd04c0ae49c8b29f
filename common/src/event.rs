//! What a run says while it goes on: with `--json` one of these a line on stdout, else rendered for people.

use serde::{Deserialize, Serialize};

use crate::records::Metrics;

/// The stages of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Pairs and the base model go into the store.
    Import,
    /// Workers read documents and cut them into chunks.
    Read,
    /// Workers have questions written about the chunks.
    Ask,
    /// Workers embed questions and passages by the base model, drop pairs and find hard negatives.
    Mine,
    /// Train and test are parted, batches planned.
    Split,
    /// Workers turn texts into tokens.
    Tokenise,
    /// The base model is measured.
    EvaluateBase,
    /// Steps.
    Train,
    /// The tuned model is measured.
    Evaluate,
    /// The model folder is written.
    Export,
    /// The report is written.
    Report,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::Import,
        Self::Read,
        Self::Ask,
        Self::Mine,
        Self::Split,
        Self::Tokenise,
        Self::EvaluateBase,
        Self::Train,
        Self::Evaluate,
        Self::Export,
        Self::Report,
    ];

    /// Its name in events, reports and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Read => "read",
            Self::Ask => "ask",
            Self::Mine => "mine",
            Self::Split => "split",
            Self::Tokenise => "tokenise",
            Self::EvaluateBase => "evaluate_base",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
            Self::Export => "export",
            Self::Report => "report",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The coordinator can be reached.
    Listening {
        /// `http://ADDR`.
        url: String,
    },
    /// A worker came.
    WorkerJoined {
        /// Its id.
        worker: String,
        /// How many are there now.
        present: u32,
        /// How many the run waits for.
        wanted: u32,
    },
    /// A world was formed.
    World {
        /// Its fencing number.
        generation: u64,
        /// Its ranks.
        workers: u32,
        /// One pass or two, matrix-product path, threads: how rank 0 will work.
        plan: String,
    },
    /// A stage began.
    StageStarted {
        /// Which.
        stage: Stage,
    },
    /// A stage goes on.
    Progress {
        /// Which.
        stage: Stage,
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
        /// Unit: rows, texts, steps, bytes.
        unit: String,
        /// What else was counted, in words: pages and chunks, requests and dollars.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// A stage ended.
    StageFinished {
        /// Which.
        stage: Stage,
        /// Wall seconds it took.
        wall_s: f64,
        /// What came of it, in a line.
        note: String,
    },
    /// An update was applied (every `logging_steps`).
    Step {
        /// Updates applied so far.
        step: u64,
        /// Updates in all.
        total: u64,
        /// Loss of the batch.
        loss: f64,
        /// Norm of the gradient before the clip.
        grad_norm: f64,
        /// Learning rate of this update.
        learning_rate: f64,
        /// Passes over the data.
        epoch: f64,
        /// Pairs per second of this update.
        pairs_per_second: f64,
    },
    /// The weights were measured.
    Evaluation {
        /// Updates applied.
        step: u64,
        /// Passes over the data.
        epoch: f64,
        /// The values.
        metrics: Metrics,
    },
    /// The run goes on from what its store holds.
    Resumed {
        /// Updates in the state that it goes on from.
        from_step: u64,
        /// Which attempt this is, from 1.
        attempt: u32,
    },
    /// The run in the store was done before this command began.
    AlreadyDone {},
    /// A checkpoint is whole.
    Checkpoint {
        /// Updates in it.
        step: u64,
        /// Its size.
        bytes: u64,
        /// Wall seconds from the first part that came in to the journal entry.
        wall_s: f64,
        /// Seconds for which training stood still for it, on the rank where that was longest.
        stall_s: f64,
    },
    /// A process of the run was lost, and all of them are started again.
    Restarting {
        /// How often by now.
        restart: u32,
        /// Why.
        message: String,
    },
    /// The run was told to leave: it saves its state and ends.
    Leaving {
        /// By whom.
        reason: String,
    },
    /// Something that a person should know; each once.
    Warning {
        /// What.
        message: String,
    },
    /// The run is done.
    Done {
        /// Where the report lies.
        report: String,
        /// Where the model folder lies.
        model: String,
    },
    /// The run failed.
    Failed {
        /// What happened, to what, what to do.
        message: String,
        /// The process's exit code.
        exit_code: u8,
    },
}
