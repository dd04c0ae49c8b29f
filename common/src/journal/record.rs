//! What a coordinator must not forget.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::making::{AskedRecord, ReadRecord};
use crate::mining::{EmbeddedRecord, MiningRecord, SearchedRecord};
use crate::records::{Evaluation, ObjectRef, Report};
use crate::spec::RunSpec;

/// A numbered entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Version of this record.
    pub format: u32,
    /// Its number, from 1.
    pub sequence: u64,
    /// The writer's term.
    pub term: u64,
    /// The process that wrote it.
    pub writer: String,
    /// What it says.
    pub record: Record,
}

/// Something that happened to the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A coordinator took over.
    Began(Began),
    /// The list of documents and the base model are in the store: pairs are to be made of them. A later one begins afresh.
    Sources {
        /// The list.
        list: ObjectRef,
        /// What it was made for.
        settings: Digest,
        /// Documents in it.
        documents: u64,
        /// The base model's manifest; missing where the model is made of the pairs.
        model: Option<ObjectRef>,
        /// Wall seconds by stage so far.
        wall_s: BTreeMap<String, f64>,
    },
    /// Documents were read.
    Read(ReadRecord),
    /// Chunks were asked about.
    Asked(AskedRecord),
    /// The base model is to be asked about the pairs: the texts are in the store. A later one begins that afresh.
    Mining(MiningRecord),
    /// Texts were embedded.
    Embedded(EmbeddedRecord),
    /// Questions were searched for.
    Searched(SearchedRecord),
    /// So much may be spent before the next of these: what a coordinator that dies may have spent at the most.
    Reserved {
        /// Requests.
        requests: u64,
        /// Millionths of a dollar.
        cost_micros: u64,
    },
    /// Data set, base model and plans are in the store: from here on the run has an identity.
    Prepared(Box<PreparedRecord>),
    /// The tokens are in the store.
    Tokens {
        /// Their manifest.
        manifest: ObjectRef,
        /// Wall seconds by stage so far.
        wall_s: BTreeMap<String, f64>,
    },
    /// A world is being formed: an attempt begins.
    World {
        /// Its fencing number.
        generation: u64,
        /// Its ranks.
        workers: u32,
        /// Updates in the state that it begins from.
        from_step: u64,
    },
    /// The weights were measured.
    Evaluated {
        /// What came of it; step 0 is the base model.
        evaluation: Evaluation,
        /// Wall seconds by stage so far.
        wall_s: BTreeMap<String, f64>,
    },
    /// A checkpoint is whole.
    Checkpoint(CheckpointRecord),
    /// A checkpoint turned out to be damaged and is passed over.
    Damaged {
        /// Its generation.
        generation: u64,
        /// Its step.
        step: u64,
        /// What was found.
        reason: String,
    },
    /// Checkpoints are no longer of the run; their objects may be deleted from now on.
    Pruned {
        /// Generation and step of each.
        checkpoints: Vec<(u64, u64)>,
    },
    /// The model folder is in the store.
    Exported(Exported),
    /// The run is done.
    Done {
        /// What `report.json` says.
        report: Box<Report>,
    },
}

/// A coordinator that took over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Began {
    /// The run's name.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Seconds since 1970, for people.
    pub unix_s: u64,
}

/// A local file that went into the run, to see cheaply that it is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataStamp {
    /// Its path, relative to the spec's folder where the spec has it so.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last changed, nanoseconds since 1970.
    pub modified_ns: u64,
}

/// What the import came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreparedRecord {
    /// The effective spec.
    pub spec: RunSpec,
    /// The run's identity.
    pub run_digest: Digest,
    /// The model's width.
    pub hidden_size: u64,
    /// Updates in all.
    pub total_steps: u64,
    /// The data set's manifest.
    pub dataset: ObjectRef,
    /// The base model's manifest.
    pub model: ObjectRef,
    /// The batch plan of each epoch.
    pub plans: Vec<ObjectRef>,
    /// Local files of data and model.
    pub stamps: Vec<DataStamp>,
    /// Warnings of the import.
    pub warnings: Vec<String>,
    /// Wall seconds by stage.
    pub wall_s: BTreeMap<String, f64>,
}

/// A checkpoint that is whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// Updates applied.
    pub step: u64,
    /// The world that wrote it.
    pub generation: u64,
    /// Its manifest.
    pub manifest: ObjectRef,
    /// Bytes of its parts.
    pub bytes: u64,
    /// Greatest sum of all processes' memory so far.
    pub peak_bytes: u64,
    /// Wall seconds by stage so far.
    pub wall_s: BTreeMap<String, f64>,
}

/// A model folder in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Its manifest.
    pub manifest: ObjectRef,
    /// Which update's weights.
    pub step: u64,
    /// SHA-256 of the weights.
    pub weights_digest: Digest,
}
