//! Documents to chunks, chunks to pairs: pieces of work that a worker leases, several at once, beside whatever else it does.

mod answers;
mod ask;
mod gate;
mod mine;
mod read;
mod tokens;

pub use ask::check_questions;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use artel_common::spec::RunSpec;
use artel_common::store::Store;
use artel_proto::v1::complete_task_request::Result as Outcome;
use artel_proto::v1::{self, FailureKind, task::Kind};
use artel_trainer::interrupt::Interrupt;

use crate::client::Client;
use crate::session::{Compute, TaskError, TaskResult};
use crate::timed;

/// Time a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often one that failed is tried; heartbeats decide when the coordinator is lost.
const CALL_RETRY: Duration = Duration::from_millis(200);
/// How often a piece of work looks whether it is to be given up.
const LOOK: Duration = Duration::from_millis(100);

/// What pieces of work need.
pub(crate) struct Maker {
    client: Client,
    worker_id: String,
    spec: RunSpec,
    store: Store,
    interrupt: Arc<Interrupt>,
    /// Documents that are read at once, and threads that embed and search.
    threads: usize,
    compute: Compute,
    sources: tokio::sync::OnceCell<artel_common::making::SourceList>,
    tokens: tokio::sync::OnceCell<tokens::Tokens>,
    asker: tokio::sync::OnceCell<ask::Writer>,
    /// The base model, while texts are embedded, and the vectors of all passages, while they are searched.
    embedder: tokio::sync::Mutex<Option<Arc<artel_trainer::embed::PairEmbedder>>>,
    passages: tokio::sync::Mutex<Option<Arc<mine::Passages>>>,
    /// What is being asked, by request.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Requests, by the beginning of their ids, whose cost this worker counted: that of an answer which equal chunks share counts once.
    counted: Mutex<HashSet<u64>>,
    /// Why an answer could not be kept, once one could not.
    broken: tokio::sync::watch::Sender<Option<String>>,
    /// Pieces whose end the coordinator does not know yet.
    holding: Mutex<BTreeSet<u64>>,
}

impl Maker {
    pub(crate) fn new(
        client: Client,
        worker_id: String,
        spec: RunSpec,
        store: Store,
        interrupt: Arc<Interrupt>,
        (threads, compute): (usize, Compute),
    ) -> Arc<Self> {
        Arc::new(Self {
            client,
            worker_id,
            spec,
            store,
            interrupt,
            threads,
            compute,
            embedder: Default::default(),
            passages: Default::default(),
            sources: Default::default(),
            tokens: Default::default(),
            asker: Default::default(),
            turns: Default::default(),
            counted: Default::default(),
            broken: Default::default(),
            holding: Default::default(),
        })
    }

    /// The pieces that this worker is at.
    pub(crate) fn holding(&self) -> Vec<u64> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Takes a piece on, if the task is one: it is done in the background, and its end told. False where it is none.
    pub(crate) fn take(self: &Arc<Self>, task: &v1::Task) -> bool {
        let Some(kind @ (Kind::Read(_) | Kind::Ask(_) | Kind::Embed(_) | Kind::Search(_))) = &task.kind else { return false };
        let new = self.holding.lock().unwrap_or_else(PoisonError::into_inner).insert(task.task_id);
        if new {
            let (maker, kind, task_id) = (self.clone(), kind.clone(), task.task_id);
            tokio::spawn(async move {
                let worker = maker.clone();
                let done = tokio::spawn(async move { worker.perform(kind).await }).await;
                let result = done.unwrap_or_else(|e| match e.try_into_panic() {
                    Ok(panic) => Err(TaskError::panicked(&*panic)),
                    Err(_) => Err(TaskError::internal("a piece of work was given up with its runtime")),
                });
                maker.tell(task_id, result).await;
            });
        }
        true
    }

    async fn perform(&self, kind: Kind) -> TaskResult<Outcome> {
        match kind {
            Kind::Read(task) => self.read(&task).await.map(Outcome::Read),
            Kind::Ask(task) => self.ask(&task).await.map(Outcome::Ask),
            Kind::Embed(task) => self.embed(&task).await.map(Outcome::Embed),
            Kind::Search(task) => self.search(&task).await.map(Outcome::Search),
            _ => Err(TaskError::internal("no piece of work")),
        }
    }

    /// No more pieces come: memory, and a GPU's, is for other work.
    pub(crate) async fn forget(&self) {
        *self.embedder.lock().await = None;
        *self.passages.lock().await = None;
    }

    /// Tells the coordinator how a piece ended, until it knows.
    async fn tell(&self, task_id: u64, result: TaskResult<Outcome>) {
        let mut client = self.client.clone();
        loop {
            let worker_id = self.worker_id.clone();
            let told = match &result {
                Ok(outcome) => {
                    let request = v1::CompleteTaskRequest { worker_id, task_id, result: Some(outcome.clone()) };
                    client.complete_task(timed(request, CALL_TIMEOUT)).await.map(|_| ())
                }
                Err(error) => {
                    let (kind, message) = (error.kind.into(), error.message.clone());
                    let request = v1::FailTaskRequest { worker_id, task_id, kind, message };
                    client.fail_task(timed(request, CALL_TIMEOUT)).await.map(|_| ())
                }
            };
            match told {
                Ok(()) => break,
                Err(status) if status.code() == tonic::Code::InvalidArgument => break,
                Err(_) => tokio::time::sleep(CALL_RETRY).await,
            }
        }
        self.holding.lock().unwrap_or_else(PoisonError::into_inner).remove(&task_id);
    }

    /// Ends when what is under way is to be given up.
    async fn given_up(&self) {
        while self.interrupt.check().is_ok() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The run is leaving.
fn left() -> TaskError {
    TaskError { kind: FailureKind::Left, message: "the run is leaving".into() }
}
