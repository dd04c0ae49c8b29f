//! Answers in the store: what was paid for once lies there under the digest of what was asked (LLM-1).

use std::sync::PoisonError;

use artel_common::layout;
use artel_common::making::no_answers;
use artel_common::store::{Created, Store};
use artel_proto::v1::FailureKind;
use artel_questions::{Failed, FailedKind, Judgement, Reply, Usage};
use serde::{Deserialize, Serialize};

use super::{Maker, left};
use crate::session::{TaskError, TaskResult};

/// Version of [`Answer`].
const FORMAT: u32 = 1;

/// What asking about a chunk, or about one of its pairs, came to, once and for all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Answer {
    format: u32,
    /// The pairs, and the answer that they were read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// Or what a pair was judged to be worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judgement: Option<Judgement>,
    /// Or why there is neither, though it was paid for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// It was taken from another run's store: that run paid for it.
    #[serde(default, skip_serializing_if = "is_false")]
    is_copy: bool,
}

/// What is not written.
fn is_false(value: &bool) -> bool {
    !*value
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
    fn new() -> Self {
        Self { format: FORMAT, reply: None, judgement: None, failure: None, is_copy: false }
    }

    pub(super) fn of(reply: Reply) -> Self {
        Self { reply: Some(reply), ..Self::new() }
    }

    pub(super) fn judged(judgement: Judgement) -> Self {
        Self { judgement: Some(judgement), ..Self::new() }
    }

    /// A failure that is kept: the model answered, and what it said is of no use. Others may be asked again.
    fn failed(failed: &Failed) -> Option<Self> {
        let is_paid = matches!(failed.kind, FailedKind::Malformed | FailedKind::Refused);
        let Usage { requests, tokens_in, tokens_out } = failed.spent;
        let failure = Failure {
            reason: format!("{}: {}", failed.kind.name(), failed.reason),
            raw: failed.raw.clone(),
            requests,
            tokens_in,
            tokens_out,
        };
        is_paid.then(|| Self { failure: Some(failure), ..Self::new() })
    }

    /// What it took; nothing where another run paid for it.
    pub(super) fn usage(&self) -> Usage {
        if self.is_copy {
            return Usage::default();
        }
        let of = |requests, tokens_in, tokens_out| Usage { requests, tokens_in, tokens_out };
        let reply = self.reply.as_ref().map(|reply| of(reply.attempts.into(), reply.tokens_in, reply.tokens_out));
        let judgement = self.judgement.as_ref();
        let judgement = judgement.map(|found| of(found.attempts.into(), found.tokens_in, found.tokens_out));
        let failure = self.failure.as_ref().map(|failure| of(failure.requests, failure.tokens_in, failure.tokens_out));
        reply.or(judgement).or(failure).unwrap_or_default()
    }

    fn is_of_use(&self) -> bool {
        self.reply.is_some() || self.judgement.is_some()
    }

    /// The answer in the store, if there is one that can be read; a damaged one is as none.
    async fn find(store: &Store, id: &str) -> artel_common::Result<Option<Self>> {
        let bytes = store.get_opt(&layout::answer(id)).await?;
        let answer = bytes.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        Ok(answer.filter(|answer| answer.format == FORMAT && (answer.is_of_use() || answer.failure.is_some())))
    }

    /// Puts it there, before it counts. Where another worker was first, its answer is the answer.
    async fn keep(self, store: &Store, id: &str) -> TaskResult<Self> {
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

/// What a question to the store or to a model came to.
pub(super) struct Got {
    /// The answer; or why there is none, which is not kept: another time may be better.
    pub answer: Result<Answer, Failed>,
    /// It lay in a store already.
    pub is_hit: bool,
    /// What it took was counted for an equal chunk already.
    pub is_counted: bool,
}

impl Got {
    /// What it took.
    pub(super) fn usage(&self) -> Usage {
        match &self.answer {
            Ok(_) if self.is_counted => Usage::default(),
            Ok(answer) => answer.usage(),
            Err(failed) => Usage { requests: failed.spent.requests, ..Usage::default() },
        }
    }
}

impl Maker {
    /// The answer under an id: the one in the run's store, else the one of another run, else that which `ask` gets. It lies in the run's store
    /// before it counts. What is equal is asked about one after the other, and so once.
    pub(super) async fn answer(
        &self,
        id: &str,
        elsewhere: Option<&Store>,
        ask: impl Future<Output = Result<Answer, Failed>> + Send,
    ) -> TaskResult<Got> {
        let turn = self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_owned()).or_default().clone();
        let _turn = turn.lock().await;
        // whether what it takes is counted here for the first time
        let counts = || {
            let hash = u64::from_str_radix(&id[..id.len().min(16)], 16).unwrap_or_default();
            self.counted.lock().unwrap_or_else(PoisonError::into_inner).insert(hash)
        };
        let hit = |answer| Got { answer: Ok(answer), is_hit: true, is_counted: !counts() };
        let paid = |answer| {
            counts();
            Got { answer: Ok(answer), is_hit: false, is_counted: false }
        };
        if let Some(answer) = Answer::find(&self.store, id).await? {
            return Ok(hit(answer));
        }
        if let Some(other) = elsewhere {
            let found = Answer::find(other, id).await.map_err(|e| no_answers(other.url(), &e))?;
            // what failed there is asked again here
            if let Some(answer) = found.filter(Answer::is_of_use) {
                return Ok(hit(Answer { is_copy: true, ..answer }.keep(&self.store, id).await?));
            }
        }
        let mut broken = self.broken.subscribe();
        let asked = tokio::select! {
            biased;
            // what cannot be kept is not asked for: where one answer was lost, the next would be too
            Ok(why) = broken.wait_for(Option::is_some) => {
                return Err(TaskError { kind: FailureKind::Store, message: why.clone().unwrap_or_default() });
            }
            asked = ask => asked,
        };
        let failed = match asked {
            Ok(answer) => return Ok(paid(self.kept(answer, id).await?)),
            Err(failed) => failed,
        };
        match failed.kind {
            FailedKind::Stopped if self.interrupt.is_leaving() => Err(left()),
            FailedKind::Stopped => Err(TaskError { kind: FailureKind::Budget, message: failed.reason }),
            FailedKind::Fatal => Err(TaskError { kind: FailureKind::Provider, message: failed.reason }),
            _ => match Answer::failed(&failed) {
                Some(answer) => Ok(paid(self.kept(answer, id).await?)),
                None => Ok(Got { answer: Err(failed), is_hit: false, is_counted: false }),
            },
        }
    }

    /// Keeps an answer; where the store refuses it, nothing more is asked.
    async fn kept(&self, answer: Answer, id: &str) -> TaskResult<Answer> {
        let kept = answer.keep(&self.store, id).await;
        if let Err(error) = &kept {
            self.broken.send_modify(|why| {
                why.get_or_insert_with(|| error.message.clone());
            });
        }
        kept
    }
}
