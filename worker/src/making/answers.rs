//! Answers in the store: what was paid for once lies there under the digest of what was asked (LLM-1).

use artel_common::layout;
use artel_common::store::{Created, Store};
use artel_questions::{FailedKind, Reply, Usage};
use serde::{Deserialize, Serialize};

use crate::session::{TaskError, TaskResult};

/// Version of [`Answer`].
const FORMAT: u32 = 1;

/// What asking about a chunk came to, once and for all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Answer {
    format: u32,
    /// The pairs, and the answer that they were read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// Or why there are none, though it was paid for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// An answer that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub reason: String,
    /// The answer itself.
    pub raw: Option<String>,
    pub requests: u64,
    pub tokens_in: u64,
    pub tokens_out: u64,
}

impl Answer {
    pub(super) fn of(reply: Reply) -> Self {
        Self { format: FORMAT, reply: Some(reply), failure: None }
    }

    /// A failure that is kept: the model answered, and what it said is of no use. Others may be asked again.
    pub(super) fn failed(failed: &artel_questions::Failed) -> Option<Self> {
        let is_paid = matches!(failed.kind, FailedKind::Malformed | FailedKind::Refused);
        let Usage { requests, tokens_in, tokens_out } = failed.spent;
        let failure = Failure {
            reason: format!("{}: {}", failed.kind.name(), failed.reason),
            raw: failed.raw.clone(),
            requests,
            tokens_in,
            tokens_out,
        };
        is_paid.then_some(Self { format: FORMAT, reply: None, failure: Some(failure) })
    }

    /// What it took.
    pub(super) fn usage(&self) -> Usage {
        match (&self.reply, &self.failure) {
            (Some(reply), _) => {
                Usage { requests: reply.attempts.into(), tokens_in: reply.tokens_in, tokens_out: reply.tokens_out }
            }
            (None, Some(failure)) => {
                Usage { requests: failure.requests, tokens_in: failure.tokens_in, tokens_out: failure.tokens_out }
            }
            (None, None) => Usage::default(),
        }
    }

    /// The answer in the store, if there is one that can be read; a damaged one is as none.
    pub(super) async fn find(store: &Store, id: &str) -> TaskResult<Option<Self>> {
        let bytes = store.get_opt(&layout::answer(id)).await?;
        let answer = bytes.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        Ok(answer.filter(|answer| answer.format == FORMAT && (answer.reply.is_some() || answer.failure.is_some())))
    }

    /// Puts it there, before it counts. Where another worker was first, its answer is the answer.
    pub(super) async fn keep(self, store: &Store, id: &str) -> TaskResult<Self> {
        let key = layout::answer(id);
        let bytes = serde_json::to_vec(&self).map_err(|e| TaskError::internal(format!("cannot write an answer: {e}")))?;
        match store.create(&key, bytes.clone().into()).await? {
            Created::New => Ok(self),
            Created::Exists => match Self::find(store, id).await? {
                Some(first) => Ok(first),
                None => {
                    store.put(&key, bytes.into()).await?;
                    Ok(self)
                }
            },
        }
    }
}
