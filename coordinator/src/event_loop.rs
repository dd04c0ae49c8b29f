//! The one loop that owns the core: it takes calls and commits, carries out effects, and wakes waiting workers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use artel_common::clock;
use artel_common::event::Event;
use artel_common::exit::Exit;
use artel_common::journal::{Journal, RunState};
use artel_common::memory;
use artel_common::records::Report;
use artel_common::store::Store;
use artel_proto::v1;
use tokio::sync::{mpsc, oneshot};

use crate::build::build;
use crate::committer;
use crate::core::{Commit, Core, Effect, Failure, Input, NewWorker, Prepared, RankPart};
use crate::pool::{Pooled, pool};
use crate::prepare::Preparation;

/// Calls that may wait for the loop at once.
const QUEUE: usize = 1024;
/// Commits that may wait for the store: the ranks save one checkpoint at a time, so they are few.
const COMMITS: usize = 256;
/// How often time is looked at.
const TICK: Duration = Duration::from_millis(200);
/// How long workers have to hear that the run is over.
const FAREWELL: Duration = Duration::from_millis(2_500);

/// What the faces ask of the loop.
enum Call {
    Register(NewWorker, oneshot::Sender<Result<String, String>>),
    Poll(v1::NextTaskRequest, oneshot::Sender<Result<Option<v1::Task>, String>>),
    Heartbeat(v1::HeartbeatRequest, oneshot::Sender<Result<v1::HeartbeatResponse, String>>),
    SavedPart(String, RankPart, oneshot::Sender<Result<bool, String>>),
    Permit(v1::PermitRequest, oneshot::Sender<v1::PermitResponse>),
    /// Documents are to be read, in these pieces; this process owns the journal.
    Making(Vec<(u64, u64)>, Box<Journal>),
    /// The store is prepared, and this process owns its journal.
    Prepared(Box<Prepared>, Box<Journal>),
    /// The run was done before this process began.
    AlreadyDone(Box<Report>),
    Tell(Input, Option<oneshot::Sender<()>>),
}

/// The leased tasks that a waiting worker holds, and where its answer goes.
type Waiting = (Vec<u64>, oneshot::Sender<Result<Option<v1::Task>, String>>);

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
    pub(crate) async fn poll(&self, request: v1::NextTaskRequest) -> Result<Result<Option<v1::Task>, String>, Gone> {
        self.ask(|reply| Call::Poll(request, reply)).await
    }

    /// May a request be sent to the language model?
    pub(crate) async fn permit(&self, request: v1::PermitRequest) -> Result<v1::PermitResponse, Gone> {
        self.ask(|reply| Call::Permit(request, reply)).await
    }

    /// Documents are to be read, in these pieces: this process owns the journal.
    pub(crate) async fn making(&self, cuts: Vec<(u64, u64)>, journal: Box<Journal>) {
        let _ = self.calls.send(Call::Making(cuts, journal)).await;
    }

    /// A worker lives; the answer says whether the run leaves or is over.
    pub(crate) async fn heartbeat(&self, beat: v1::HeartbeatRequest) -> Result<Result<v1::HeartbeatResponse, String>, Gone> {
        self.ask(|reply| Call::Heartbeat(beat, reply)).await
    }

    /// A rank's part of a checkpoint lies in the store: whether the checkpoint is whole.
    pub(crate) async fn saved_part(&self, worker: String, part: RankPart) -> Result<Result<bool, String>, Gone> {
        self.ask(|reply| Call::SavedPart(worker, part, reply)).await
    }

    /// The run can go on: this process owns its journal.
    pub(crate) async fn prepared(&self, prepared: Box<Prepared>, journal: Box<Journal>) {
        let _ = self.calls.send(Call::Prepared(prepared, journal)).await;
    }

    /// The run was done before this process began.
    pub(crate) async fn already_done(&self, report: Box<Report>) {
        let _ = self.calls.send(Call::AlreadyDone(report)).await;
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
    /// What makes a data set of pairs, and under which term.
    preparation: Arc<Preparation>,
    term: u64,
    /// What is being held against the base model, until the data set is made of it.
    pooled: Arc<Mutex<Option<Pooled>>>,
    /// Workers that wait for a task, with the leased ones that they hold.
    waiting: HashMap<String, Waiting>,
    /// Workers that do not know yet that the run is over.
    untold: Vec<String>,
    known: Vec<String>,
    /// Where commits go, once the store is prepared.
    commits: Option<mpsc::Sender<Commit>>,
    /// Whose memory counts as the coordinator's: itself, and `artel run` above it.
    own_processes: Vec<u32>,
    report: Option<Report>,
}

impl EventLoop {
    /// A loop around this core; the handle is for faces and preparation.
    pub(crate) fn new(
        core: Core,
        store: Store,
        preparation: Arc<Preparation>,
        events: mpsc::Sender<Event>,
        own_processes: Vec<u32>,
    ) -> (Self, Handle) {
        let (sender, calls) = mpsc::channel(QUEUE);
        let handle = Handle { calls: sender };
        let event_loop = Self {
            core,
            store,
            events,
            calls,
            handle: handle.clone(),
            preparation,
            term: 0,
            pooled: Arc::default(),
            waiting: HashMap::new(),
            untold: Vec::new(),
            known: Vec::new(),
            commits: None,
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
                match &admitted {
                    Ok(id) => {
                        if !self.known.contains(id) {
                            self.known.push(id.clone());
                        }
                        self.input(Input::Registered(worker)).await;
                    }
                    // whoever has to write another spec reads this process's output
                    Err(refusal) => self.input(Input::Noticed(format!("a worker was refused: {refusal}"))).await,
                }
                let _ = reply.send(admitted);
            }
            Call::Poll(request, reply) => self.poll(request, reply),
            Call::Permit(request, reply) => {
                let (response, effects) = self.core.permit(&request, clock::now());
                for effect in effects {
                    self.carry_out(effect).await;
                }
                let _ = reply.send(response);
            }
            Call::Making(cuts, journal) => {
                let run = self.own(journal);
                self.input(Input::Making { cuts, run }).await;
            }
            Call::Heartbeat(beat, reply) => {
                let _ = reply.send(self.heartbeat(beat).await);
            }
            Call::SavedPart(worker, part, reply) => {
                let (generation, step) = (part.generation, part.step);
                let answer = match self.core.admit_part(&worker, generation) {
                    Ok(_) => {
                        self.input(Input::Part { worker, part }).await;
                        Ok(self.core.is_whole(generation, step))
                    }
                    Err(refusal) => Err(refusal),
                };
                let _ = reply.send(answer);
            }
            Call::Prepared(prepared, journal) => {
                let state = self.own(journal);
                self.input(Input::Prepared(prepared, state)).await;
            }
            Call::AlreadyDone(report) => {
                self.report = Some(*report);
                self.input(Input::AlreadyDone).await;
            }
            Call::Tell(input, reply) => {
                self.input(input).await;
                if let Some(reply) = reply {
                    let _ = reply.send(());
                }
            }
        }
    }

    /// The journal is this process's: commits go there from now on.
    fn own(&mut self, journal: Box<Journal>) -> Box<RunState> {
        let (sender, queue) = mpsc::channel(COMMITS);
        self.commits = Some(sender);
        self.term = journal.term();
        let state = Box::new(journal.state().clone());
        tokio::spawn(committer::run(*journal, self.store.clone(), queue, self.handle.clone()));
        state
    }

    async fn heartbeat(&mut self, beat: v1::HeartbeatRequest) -> Result<v1::HeartbeatResponse, String> {
        let v1::HeartbeatRequest { worker_id, pss_bytes, leaving } = beat;
        let known = self.core.knows(&worker_id);
        self.input(Input::Heartbeat { worker: worker_id.clone(), pss_bytes, leaving }).await;
        let stop = self.core.stop().map(|(exit, reason)| v1::Stop { reason: reason.clone(), exit_code: exit.code().into() });
        if stop.is_some() {
            self.untold.retain(|untold| *untold != worker_id);
        }
        let leave = self.core.is_leaving();
        if known { Ok(v1::HeartbeatResponse { stop, leave }) } else { Err(unknown(&worker_id)) }
    }

    fn poll(&mut self, request: v1::NextTaskRequest, reply: oneshot::Sender<Result<Option<v1::Task>, String>>) {
        let v1::NextTaskRequest { worker_id: worker, holding } = request;
        if !self.core.knows(&worker) {
            let _ = reply.send(Err(unknown(&worker)));
        } else if let Some(task) = self.task_for(&worker, &holding) {
            let _ = reply.send(Ok(Some(task)));
        } else {
            self.waiting.insert(worker, (holding, reply));
        }
    }

    fn task_for(&mut self, worker: &str, holding: &[u64]) -> Option<v1::Task> {
        if let Some((exit, reason)) = self.core.stop() {
            let stop = v1::Stop { reason: reason.clone(), exit_code: exit.code().into() };
            self.untold.retain(|untold| untold != worker);
            return Some(v1::Task { task_id: 0, kind: Some(v1::task::Kind::Stop(stop)) });
        }
        self.core.assignment(worker).cloned().or_else(|| self.core.offer(worker, holding))
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
                let Some((holding, reply)) = self.waiting.remove(&worker) else { return };
                match self.task_for(&worker, &holding) {
                    // a poll that has run out asks again
                    Some(task) => drop(reply.send(Ok(Some(task)))),
                    None => drop(self.waiting.insert(worker, (holding, reply))),
                }
            }
            Effect::Commit(commit) => {
                if let Commit::Done(report) = &*commit {
                    self.report = Some((**report).clone());
                }
                let Some(commits) = &self.commits else { return };
                // the committer ends only with the run, or after a failure that it has told
                if let Err(mpsc::error::TrySendError::Full(_)) = commits.try_send(*commit) {
                    let message = format!("{COMMITS} commits wait for the store: it is too slow for this run; save less often");
                    self.handle.tell_soon(Input::Failed(Failure { exit: Exit::Store, message }));
                }
            }
            Effect::Pool(state) => {
                let (preparation, handle, kept) = (self.preparation.clone(), self.handle.clone(), self.pooled.clone());
                tokio::spawn(async move {
                    let input = match pool(&preparation, &state).await {
                        Ok((pooled, record)) => {
                            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(pooled);
                            Input::Pooled(Box::new(record))
                        }
                        Err(e) => failed(&e),
                    };
                    let _ = handle.tell(input).await;
                });
            }
            Effect::Build(state) => {
                let (preparation, handle, term) = (self.preparation.clone(), self.handle.clone(), self.term);
                let pooled = self.pooled.lock().unwrap_or_else(PoisonError::into_inner).take();
                tokio::spawn(async move {
                    let tell = |input| handle.tell_soon(input);
                    let input = match build(&preparation, &state, pooled, term, &tell).await {
                        Ok((prepared, record)) => Input::Built(Box::new(prepared), Box::new(record)),
                        Err(e) => failed(&e),
                    };
                    let _ = handle.tell(input).await;
                });
            }
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

    /// Everybody who waits, and everybody who will ask, hears that the run is over.
    fn say_goodbye(&mut self) {
        self.untold = self.known.clone();
        for (worker, (holding, reply)) in std::mem::take(&mut self.waiting) {
            if let Some(task) = self.task_for(&worker, &holding)
                && reply.send(Ok(Some(task))).is_err()
            {
                // the poll had run out: the worker asks again, or hears it with its next heartbeat
                self.untold.push(worker);
            }
        }
    }
}

fn failed(error: &artel_common::Error) -> Input {
    Input::Failed(Failure { exit: error.kind().into(), message: error.to_string() })
}

fn unknown(worker: &str) -> String {
    format!("{worker} is not of this run: it was lost and given up, or belongs to another one")
}
