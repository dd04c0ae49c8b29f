//! The one loop that owns the core: it takes calls and commits, carries out effects, and wakes waiting workers.

use std::collections::HashMap;
use std::time::Duration;

use artel_common::clock;
use artel_common::event::Event;
use artel_common::exit::Exit;
use artel_common::records::{ExportManifest, ModelFile, Report};
use artel_common::store::{Created, Store};
use artel_common::{layout, memory};
use artel_proto::v1;
use tokio::sync::{mpsc, oneshot};

use crate::core::{Core, Effect, Failure, Input, NewWorker};

/// Calls that may wait for the loop at once.
const QUEUE: usize = 1024;
/// How often time is looked at.
const TICK: Duration = Duration::from_millis(200);
/// How long workers have to hear that the run is over.
const FAREWELL: Duration = Duration::from_millis(2_500);

/// What the faces ask of the loop.
enum Call {
    Register(NewWorker, oneshot::Sender<Result<String, String>>),
    Poll(String, oneshot::Sender<Result<Option<v1::Task>, String>>),
    Heartbeat(String, u64, oneshot::Sender<Result<Option<v1::Stop>, String>>),
    Tell(Input, Option<oneshot::Sender<()>>),
}

/// A cheap handle on the loop.
#[derive(Clone)]
pub(crate) struct Handle {
    calls: mpsc::Sender<Call>,
}

/// The run's coordinator is gone.
pub(crate) struct Gone;

impl Handle {
    async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(call(reply)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }

    /// A worker comes: its id, or why it is refused.
    pub(crate) async fn register(&self, worker: NewWorker) -> Result<Result<String, String>, Gone> {
        self.ask(|reply| Call::Register(worker, reply)).await
    }

    /// Waits for a worker's next task; the caller bounds the wait.
    pub(crate) async fn poll(&self, worker: String) -> Result<Result<Option<v1::Task>, String>, Gone> {
        self.ask(|reply| Call::Poll(worker, reply)).await
    }

    /// A worker lives; the answer is set once the run is over.
    pub(crate) async fn heartbeat(&self, worker: String, pss_bytes: u64) -> Result<Result<Option<v1::Stop>, String>, Gone> {
        self.ask(|reply| Call::Heartbeat(worker, pss_bytes, reply)).await
    }

    /// Tells the core something and waits until it knows.
    pub(crate) async fn tell(&self, input: Input) -> Result<(), Gone> {
        self.ask(|reply| Call::Tell(input, Some(reply))).await
    }

    /// Tells the core something that it may learn a little later; lost only where the run is over.
    pub(crate) fn tell_soon(&self, input: Input) {
        let _ = self.calls.try_send(Call::Tell(input, None));
    }
}

/// How a run ended.
pub(crate) struct Ending {
    pub exit: Exit,
    pub message: String,
    pub report: Option<Report>,
}

/// The loop itself.
pub(crate) struct EventLoop {
    core: Core,
    store: Store,
    events: mpsc::Sender<Event>,
    calls: mpsc::Receiver<Call>,
    handle: Handle,
    waiting: HashMap<String, oneshot::Sender<Result<Option<v1::Task>, String>>>,
    /// Workers that do not know yet that the run is over.
    untold: Vec<String>,
    known: Vec<String>,
    /// Whose memory counts as the coordinator's: itself, and `artel run` above it.
    own_processes: Vec<u32>,
    report: Option<Report>,
}

impl EventLoop {
    /// A loop around this core; the handle is for faces and preparation.
    pub(crate) fn new(core: Core, store: Store, events: mpsc::Sender<Event>, own_processes: Vec<u32>) -> (Self, Handle) {
        let (sender, calls) = mpsc::channel(QUEUE);
        let handle = Handle { calls: sender };
        let event_loop = Self {
            core,
            store,
            events,
            calls,
            handle: handle.clone(),
            waiting: HashMap::new(),
            untold: Vec::new(),
            known: Vec::new(),
            own_processes,
            report: None,
        };
        (event_loop, handle)
    }

    /// Runs until the run is over and every worker has heard of it, or had time to.
    pub(crate) async fn run(mut self) -> Ending {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut over_since: Option<Duration> = None;
        loop {
            tokio::select! {
                biased;
                call = self.calls.recv() => match call {
                    Some(call) => self.answer(call).await,
                    None => break,
                },
                _ = tick.tick() => {
                    let own_bytes = self.own_processes.iter().filter_map(|&pid| memory::pss_bytes(pid)).sum();
                    self.input(Input::Tick { own_bytes }).await;
                }
            }
            if self.core.stop().is_some() {
                let since = *over_since.get_or_insert_with(clock::now);
                if self.untold.is_empty() || clock::now() - since > FAREWELL {
                    break;
                }
            }
        }
        let (exit, message) = self.core.stop().cloned().unwrap_or((Exit::Internal, "the event loop ended early".into()));
        Ending { exit, message, report: self.report }
    }

    async fn answer(&mut self, call: Call) {
        match call {
            Call::Register(worker, reply) => {
                let admitted = self.core.admit(&worker);
                if let Ok(id) = &admitted {
                    if !self.known.contains(id) {
                        self.known.push(id.clone());
                    }
                    self.input(Input::Registered(worker)).await;
                }
                let _ = reply.send(admitted);
            }
            Call::Poll(worker, reply) => self.poll(worker, reply),
            Call::Heartbeat(worker, pss_bytes, reply) => {
                let known = self.core.knows(&worker);
                self.input(Input::Heartbeat { worker: worker.clone(), pss_bytes }).await;
                let stop =
                    self.core.stop().map(|(exit, reason)| v1::Stop { reason: reason.clone(), exit_code: exit.code().into() });
                if stop.is_some() {
                    self.untold.retain(|untold| *untold != worker);
                }
                let _ = reply.send(if known { Ok(stop) } else { Err(unknown(&worker)) });
            }
            Call::Tell(input, reply) => {
                self.input(input).await;
                if let Some(reply) = reply {
                    let _ = reply.send(());
                }
            }
        }
    }

    fn poll(&mut self, worker: String, reply: oneshot::Sender<Result<Option<v1::Task>, String>>) {
        if !self.core.knows(&worker) {
            let _ = reply.send(Err(unknown(&worker)));
        } else if let Some(task) = self.task_for(&worker) {
            let _ = reply.send(Ok(Some(task)));
        } else {
            self.waiting.insert(worker, reply);
        }
    }

    fn task_for(&mut self, worker: &str) -> Option<v1::Task> {
        if let Some((exit, reason)) = self.core.stop() {
            let stop = v1::Stop { reason: reason.clone(), exit_code: exit.code().into() };
            self.untold.retain(|untold| untold != worker);
            return Some(v1::Task { task_id: 0, kind: Some(v1::task::Kind::Stop(stop)) });
        }
        self.core.assignment(worker).cloned()
    }

    async fn input(&mut self, input: Input) {
        for effect in self.core.handle(input, clock::now()) {
            self.carry_out(effect).await;
        }
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Emit(event) => self.emit(event).await,
            Effect::Wake { worker } => {
                if let Some(reply) = self.waiting.remove(&worker)
                    && let Some(task) = self.task_for(&worker)
                {
                    let _ = reply.send(Ok(Some(task)));
                }
            }
            Effect::CommitTokens(manifest) => {
                self.commit(move |store| async move { store.put_json(layout::TOKENS_MANIFEST, &manifest).await.map(|_| ()) })
            }
            Effect::PutEvaluations(evaluations) => {
                let (store, handle) = (self.store.clone(), self.handle.clone());
                tokio::spawn(async move {
                    let Some(last) = evaluations.last() else { return };
                    if let Err(e) = store.put_json(&layout::evaluation(last.step), last).await {
                        handle.tell_soon(Input::Failed(Failure { exit: e.kind().into(), message: e.to_string() }));
                    }
                });
            }
            Effect::CommitReport(report, files) => self.commit_report(*report, files),
            Effect::Finish { .. } => self.say_goodbye(),
        }
    }

    /// Progress may be dropped where nobody reads; everything else waits for its reader.
    async fn emit(&self, event: Event) {
        if let Event::Progress { .. } = event {
            let _ = self.events.try_send(event);
        } else {
            let _ = self.events.send(event).await;
        }
    }

    fn commit<F: Future<Output = artel_common::Result<()>> + Send>(&self, put: impl FnOnce(Store) -> F + Send + 'static) {
        let (store, handle) = (self.store.clone(), self.handle.clone());
        tokio::spawn(async move {
            let input = match put(store).await {
                Ok(()) => Input::Committed,
                Err(e) => Input::Failed(Failure { exit: e.kind().into(), message: e.to_string() }),
            };
            let _ = handle.tell(input).await;
        });
    }

    fn commit_report(&mut self, report: Report, files: Vec<v1::ModelFile>) {
        self.report = Some(report.clone());
        self.commit(move |store| async move {
            let files: Result<Vec<ModelFile>, String> = files.into_iter().map(TryInto::try_into).collect();
            let files = files.map_err(artel_common::Error::Internal)?;
            let manifest = ExportManifest { format: 1, step: report.exported_step, files };
            store.put_json(layout::EXPORT_MANIFEST, &manifest).await?;
            match store.create_json(layout::REPORT, &report).await? {
                Created::New => Ok(()),
                Created::Exists => Err(artel_common::Error::Conflict(format!(
                    "{} in {} is there already: another run wrote to this store",
                    layout::REPORT,
                    store.url()
                ))),
            }
        });
    }

    /// Everybody who waits, and everybody who will ask, hears that the run is over.
    fn say_goodbye(&mut self) {
        self.untold = self.known.clone();
        for (worker, reply) in std::mem::take(&mut self.waiting) {
            if let Some(task) = self.task_for(&worker)
                && reply.send(Ok(Some(task))).is_err()
            {
                // the poll had run out: the worker asks again, or hears it with its next heartbeat
                self.untold.push(worker);
            }
        }
    }
}

fn unknown(worker: &str) -> String {
    format!("{worker} is not of this run: it was lost and given up, or belongs to another one")
}
