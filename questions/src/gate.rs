//! The gate before every request: whoever owns the budget and the pace lets it through, and is told what it came to.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// What a request can come to at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// Tokens of the prompt; an upper bound: no tokenizer makes more than a token of a byte, and some for the frame around them.
    pub tokens_in: u64,
    /// Tokens that the answer may have.
    pub tokens_out_max: u64,
    /// Whether it judges a pair, maybe by another model with another price.
    #[serde(default)]
    pub is_judgement: bool,
}

impl Estimate {
    /// Tokens in both directions.
    pub fn tokens(self) -> u64 {
        self.tokens_in.saturating_add(self.tokens_out_max)
    }
}

/// What was spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// HTTP requests sent.
    pub requests: u64,
    /// Tokens of prompts, as the server counts them.
    pub tokens_in: u64,
    /// Tokens of answers, as the server counts them.
    pub tokens_out: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.tokens_in += other.tokens_in;
        self.tokens_out += other.tokens_out;
    }
}

/// Leave for one HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// What was reserved for it.
    pub estimate: Estimate,
    /// The gate's own number for it.
    pub tag: u64,
}

/// No more requests: the budget is spent, or the run ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Stopped(pub String);

/// Lets requests through, one by one. `permit` must stand being dropped while it waits: what was reserved for one who is gone is the gate's
/// to take back.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Waits until one request that comes to at most `estimate` may be sent.
    ///
    /// # Errors
    /// No request may be sent any more.
    async fn permit(&self, estimate: Estimate) -> Result<Permit, Stopped>;

    /// Gives a permit back with what was spent: nothing if it was not used, and the whole estimate if nobody can know (the
    /// connection broke or the time was up before the answer, which may be billed all the same).
    fn settle(&self, permit: Permit, spent: Usage);
}

/// A gate that is always open.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLimits;

#[async_trait]
impl Gate for NoLimits {
    async fn permit(&self, estimate: Estimate) -> Result<Permit, Stopped> {
        Ok(Permit { estimate, tag: 0 })
    }

    fn settle(&self, _permit: Permit, _spent: Usage) {}
}

/// A permit that is given back in any case: also when whoever asked goes away in the middle of a request.
pub(crate) struct Held<'a> {
    gate: &'a dyn Gate,
    permit: Option<Permit>,
    sent: bool,
}

impl<'a> Held<'a> {
    pub(crate) fn new(gate: &'a dyn Gate, permit: Permit) -> Self {
        Self { gate, permit: Some(permit), sent: false }
    }

    /// The request goes out now.
    pub(crate) fn sent(&mut self) {
        self.sent = true;
    }

    /// What a request came to of which nobody knows.
    pub(crate) fn unknown(&self) -> Usage {
        let estimate = self.permit.as_ref().map(|permit| permit.estimate).unwrap_or_default();
        Usage { requests: 1, tokens_in: estimate.tokens_in, tokens_out: estimate.tokens_out_max }
    }

    pub(crate) fn settle(mut self, spent: Usage) {
        if let Some(permit) = self.permit.take() {
            self.gate.settle(permit, spent);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let spent = if self.sent { self.unknown() } else { Usage::default() };
        if let Some(permit) = self.permit.take() {
            self.gate.settle(permit, spent);
        }
    }
}
