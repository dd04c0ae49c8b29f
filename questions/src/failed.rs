//! Why a chunk has no pairs.

use serde::{Deserialize, Serialize};

use crate::gate::Usage;

/// What a caller does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailedKind {
    /// The gate let no more through: the budget is spent or the run ends. The chunk was not at fault and stays to be done.
    Stopped,
    /// No request will ever be answered (key, model, address, or an outage without end): the whole stage stops. The chunk stays to be done.
    Fatal,
    /// The server will never answer this request. A dead letter.
    Permanent,
    /// The model or a filter would not answer. A dead letter.
    Refused,
    /// Every answer was paid for and none could be read. A dead letter.
    Malformed,
    /// Busy or broken each time. A dead letter that is worth trying again later.
    Unavailable,
}

impl FailedKind {
    /// Its name in records and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Fatal => "fatal",
            Self::Permanent => "permanent",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Unavailable => "unavailable",
        }
    }

    /// Whether the chunk goes on the list of failed ones; else it is still to be done.
    pub fn is_dead_letter(self) -> bool {
        !matches!(self, Self::Stopped | Self::Fatal)
    }
}

/// A chunk without pairs: why, and what it cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct Failed {
    /// What to do about it.
    pub kind: FailedKind,
    /// What happened, for a person; holds no key.
    pub reason: String,
    /// Requests that were sent for it.
    pub attempts: u32,
    /// What they came to.
    pub spent: Usage,
    /// The last answer, if there was one that could not be used; holds no key.
    pub raw: Option<String>,
}
