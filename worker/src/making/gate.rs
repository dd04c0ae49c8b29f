//! The coordinator's leave for every request to the language model.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use artel_proto::v1;
use artel_questions::{Estimate, Gate, Permit, Stopped, Usage};

use super::{CALL_RETRY, CALL_TIMEOUT};
use crate::client::Client;
use crate::timed;

/// The longest wait between two questions: limits may be raised, a run may leave.
const MOST_WAIT: Duration = Duration::from_secs(2);

/// A gate that asks the coordinator.
pub(crate) struct CoordinatorGate {
    client: Client,
    worker_id: String,
    next_tag: AtomicU64,
    /// Requests that came to their end and are not told yet.
    spent: Mutex<Vec<v1::Spent>>,
    /// One asks at a time, the others stand in line: so many questions for one answer would be asked in vain.
    line: tokio::sync::Mutex<()>,
}

impl CoordinatorGate {
    pub(crate) fn new(client: Client, worker_id: String) -> Arc<Self> {
        let (next_tag, spent, line) = (AtomicU64::new(1), Mutex::default(), tokio::sync::Mutex::default());
        Arc::new(Self { client, worker_id, next_tag, spent, line })
    }

    fn push(&self, spent: v1::Spent) {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).push(spent);
    }

    async fn call(&self, tag: u64, estimate: Estimate) -> Result<v1::PermitResponse, tonic::Status> {
        let spent = std::mem::take(&mut *self.spent.lock().unwrap_or_else(PoisonError::into_inner));
        let mut untold = Untold { gate: self, spent };
        let request = v1::PermitRequest {
            worker_id: self.worker_id.clone(),
            tag,
            tokens_in: estimate.tokens_in,
            tokens_out_max: estimate.tokens_out_max,
            spent: untold.spent.clone(),
            is_judgement: estimate.is_judgement,
        };
        let answer = self.client.clone().permit(timed(request, CALL_TIMEOUT)).await?;
        untold.spent.clear();
        Ok(answer.into_inner())
    }

    /// Tells what was spent without asking for more.
    pub(crate) async fn flush(&self) {
        let _ = self.call(0, Estimate::default()).await;
    }
}

/// What was spent goes back where a call failed or was dropped: the coordinator takes it twice without harm.
struct Untold<'a> {
    gate: &'a CoordinatorGate,
    spent: Vec<v1::Spent>,
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        self.gate.spent.lock().unwrap_or_else(PoisonError::into_inner).append(&mut self.spent);
    }
}

/// A wish that may be dropped: what was granted to it meanwhile was not used.
struct Wish<'a> {
    gate: &'a CoordinatorGate,
    tag: u64,
    is_used: bool,
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        if !self.is_used {
            self.gate.push(v1::Spent { tag: self.tag, ..v1::Spent::default() });
        }
    }
}

#[tonic::async_trait]
impl Gate for CoordinatorGate {
    async fn permit(&self, estimate: Estimate) -> Result<Permit, Stopped> {
        let tag = self.next_tag.fetch_add(1, Ordering::Relaxed);
        let mut wish = Wish { gate: self, tag, is_used: false };
        let _turn = self.line.lock().await;
        loop {
            match self.call(tag, estimate).await {
                Ok(answer) if answer.granted => {
                    wish.is_used = true;
                    return Ok(Permit { estimate, tag });
                }
                Ok(v1::PermitResponse { stopped: Some(why), .. }) => return Err(Stopped(why)),
                Ok(answer) => tokio::time::sleep(Duration::from_millis(answer.wait_ms).min(MOST_WAIT)).await,
                Err(_) => tokio::time::sleep(CALL_RETRY).await,
            }
        }
    }

    fn settle(&self, permit: Permit, spent: Usage) {
        let Usage { requests, tokens_in, tokens_out } = spent;
        self.push(v1::Spent { tag: permit.tag, requests, tokens_in, tokens_out });
    }
}
