//! The coordinator's decisions as one pure function: `(state, input, now) -> effects`. No await, no clock, no
//! randomness, no store inside; the same core runs in tests and in production.

mod input;
mod outcome;
mod stages;
mod workers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use artel_common::event::{Event, Stage};
use artel_common::exit::Exit;
use artel_common::records::{DatasetManifest, Evaluation, Metrics, TokenShardRef};
use artel_common::schedule::Schedule;
use artel_common::spec::RunSpec;
use artel_proto::v1;

pub use input::{Effect, Failure, Input, NewWorker, Prepared};

/// How often a worker says that it lives.
pub const HEARTBEAT: Duration = Duration::from_millis(500);
/// How long it may be silent before it counts as lost.
pub const LEASE: Duration = Duration::from_secs(5);
/// How long the run waits for its workers once the data is ready.
pub const WORKERS_DEADLINE: Duration = Duration::from_secs(120);
/// How long the cause of a broken exchange is looked for before the exchange itself is blamed.
const BLAME_DELAY: Duration = Duration::from_secs(6);

/// A worker as the coordinator knows it.
#[derive(Debug)]
struct Worker {
    id: String,
    facts: NewWorker,
    last_seen: Duration,
    pss_bytes: u64,
    /// What it is told to do next.
    assigned: Option<v1::Task>,
}

/// A task that every rank does together.
#[derive(Debug)]
struct WorldTask {
    waiting: BTreeSet<String>,
    rank0: Option<v1::complete_task_request::Result>,
    digests: BTreeSet<String>,
}

/// What the run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Preparing,
    Gathering,
    Tokenising,
    CommittingTokens,
    Joining,
    EvaluatingBase,
    Training,
    Evaluating,
    Keeping,
    Exporting,
    Reporting,
    Over,
}

/// All that the coordinator must know to decide.
#[derive(Debug)]
pub struct Core {
    spec: RunSpec,
    token: [u8; 32],
    phase: Phase,
    stage: Option<(Stage, Duration)>,
    wall: BTreeMap<&'static str, Duration>,
    workers: Vec<Worker>,
    next_task: u64,
    prepared: Option<Prepared>,
    gathering_since: Option<Duration>,
    queue: VecDeque<v1::Tokenise>,
    running: BTreeMap<u64, v1::Tokenise>,
    tokens: Vec<TokenShardRef>,
    rows_done: u64,
    generation: u64,
    world: Vec<String>,
    world_task: Option<WorldTask>,
    schedule: Option<Schedule>,
    points: VecDeque<u64>,
    step: u64,
    before: Option<Metrics>,
    evaluations: Vec<Evaluation>,
    best: Option<Evaluation>,
    kept: Option<u64>,
    losses: Vec<f64>,
    trained_pairs: u64,
    peak_bytes: u64,
    own_bytes: u64,
    warnings: Vec<String>,
    blamed: Option<(Duration, Failure)>,
    stop: Option<(Exit, String)>,
}

impl Core {
    /// A run at its beginning. `token` is drawn at random by the caller: it proves one rank to another.
    pub fn new(spec: RunSpec, token: [u8; 32]) -> Self {
        Self {
            spec,
            token,
            phase: Phase::Preparing,
            stage: None,
            wall: BTreeMap::new(),
            workers: Vec::new(),
            next_task: 1,
            prepared: None,
            gathering_since: None,
            queue: VecDeque::new(),
            running: BTreeMap::new(),
            tokens: Vec::new(),
            rows_done: 0,
            generation: 0,
            world: Vec::new(),
            world_task: None,
            schedule: None,
            points: VecDeque::new(),
            step: 0,
            before: None,
            evaluations: Vec::new(),
            best: None,
            kept: None,
            losses: Vec::new(),
            trained_pairs: 0,
            peak_bytes: 0,
            own_bytes: 0,
            warnings: Vec::new(),
            blamed: None,
            stop: None,
        }
    }

    /// Decides. The effects are to be carried out in order.
    pub fn handle(&mut self, input: Input, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.phase == Phase::Over {
            return effects;
        }
        match input {
            Input::Stage(stage) => self.enter(stage, now, &mut effects),
            Input::Warning(message) => self.warn(message, &mut effects),
            Input::Progress { done, total, unit } => self.progress(done, total, unit, &mut effects),
            Input::Prepared(prepared) => self.prepared(*prepared, now, &mut effects),
            Input::Failed(failure) => self.fail(failure, &mut effects),
            Input::Registered(worker) => self.register(worker, now, &mut effects),
            Input::Heartbeat { worker, pss_bytes } => self.heartbeat(&worker, pss_bytes, now),
            Input::Done { worker, task, result } => self.done(&worker, task, result, now, &mut effects),
            Input::TaskFailed { worker, task, failure } => self.task_failed(&worker, task, failure, now, &mut effects),
            Input::Reported { worker, report } => self.reported(&worker, report, &mut effects),
            Input::Committed => self.committed(now, &mut effects),
            Input::Tick { own_bytes } => self.tick(own_bytes, now, &mut effects),
            Input::Stop { exit, reason } => self.finish(exit, reason, &mut effects),
        }
        effects
    }

    /// What a worker is to do next, if anything; asked again it gives the same.
    pub fn assignment(&self, worker: &str) -> Option<&v1::Task> {
        self.worker(worker)?.assigned.as_ref()
    }

    /// Why the run ended, once it has.
    pub fn stop(&self) -> Option<&(Exit, String)> {
        self.stop.as_ref()
    }

    /// How a worker is known.
    pub fn knows(&self, worker: &str) -> bool {
        self.worker(worker).is_some()
    }

    fn worker(&self, id: &str) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.id == id)
    }

    /// Leaves the present stage and enters another; its wall time is counted.
    fn enter(&mut self, stage: Stage, now: Duration, effects: &mut Vec<Effect>) {
        self.leave(now, String::new(), effects);
        self.stage = Some((stage, now));
        effects.push(Effect::Emit(Event::StageStarted { stage }));
    }

    fn leave(&mut self, now: Duration, note: String, effects: &mut Vec<Effect>) {
        let Some((stage, since)) = self.stage.take() else { return };
        let wall = now.saturating_sub(since);
        *self.wall.entry(stage.name()).or_default() += wall;
        effects.push(Effect::Emit(Event::StageFinished { stage, wall_s: wall.as_secs_f64(), note }));
    }

    fn warn(&mut self, message: String, effects: &mut Vec<Effect>) {
        if !self.warnings.contains(&message) {
            self.warnings.push(message.clone());
            effects.push(Effect::Emit(Event::Warning { message }));
        }
    }

    fn progress(&self, done: u64, total: u64, unit: String, effects: &mut Vec<Effect>) {
        if let Some((stage, _)) = self.stage {
            effects.push(Effect::Emit(Event::Progress { stage, done, total, unit }));
        }
    }

    fn stage_name(&self) -> &'static str {
        self.stage.map_or("start", |(stage, _)| stage.name())
    }

    fn finish(&mut self, exit: Exit, message: String, effects: &mut Vec<Effect>) {
        self.phase = Phase::Over;
        self.stop = Some((exit, message.clone()));
        effects.push(Effect::Finish { exit, message });
    }

    fn fail(&mut self, failure: Failure, effects: &mut Vec<Effect>) {
        self.finish(failure.exit, failure.message, effects);
    }

    fn manifest(&self) -> Option<&DatasetManifest> {
        self.prepared.as_ref().map(|prepared| &prepared.dataset)
    }
}

#[cfg(test)]
mod tests;
