//! The coordinator's decisions as one pure function: `(state, input, now) -> effects`. No await, no clock, no
//! randomness, no store inside; the same core runs in tests and in production.

mod gate;
mod input;
mod leaving;
mod making;
mod outcome;
mod prepared;
mod saves;
mod stages;
mod workers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use artel_common::event::{Event, Stage};
use artel_common::exit::Exit;
use artel_common::journal::{Record, RunState};
use artel_common::records::{DatasetManifest, TokenShardRef};
use artel_common::schedule::Schedule;
use artel_common::spec::RunSpec;
use artel_proto::v1;

pub use input::{Commit, Effect, Failure, Input, NewWorker, RankPart};
pub use prepared::Prepared;

use leaving::Leaving;
use making::Making;
use saves::Saving;

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
    /// Why the checkpoint that it was to begin from cannot be used.
    damaged: Option<String>,
    /// Ranks that gave it up because the run is leaving.
    gave_up: bool,
}

/// What the run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Preparing,
    /// Documents become pairs.
    Making,
    /// What was prepared is being recorded.
    RecordingPrepared,
    Gathering,
    Tokenising,
    CommittingTokens,
    /// A world's generation is being recorded.
    Opening,
    Joining,
    EvaluatingBase,
    Training,
    Evaluating,
    /// An evaluation is being recorded.
    Recording,
    Saving,
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
    wall: BTreeMap<String, f64>,
    workers: Vec<Worker>,
    /// Workers that ever came.
    num_admitted: u64,
    making: Option<Making>,
    next_task: u64,
    prepared: Option<Prepared>,
    /// What the journal says.
    run: RunState,
    gathering_since: Option<Duration>,
    queue: VecDeque<v1::Tokenise>,
    running: BTreeMap<u64, v1::Tokenise>,
    tokens: Vec<TokenShardRef>,
    rows_done: u64,
    generation: u64,
    world: Vec<String>,
    world_task: Option<WorldTask>,
    /// After which updates the weights are measured, and after which the state is saved.
    points: Vec<u64>,
    saves: Vec<u64>,
    saving: BTreeMap<u64, Saving>,
    step: u64,
    losses: Vec<f64>,
    peak_bytes: u64,
    /// It was told that the run goes on from where an earlier one left it.
    is_resumption_told: bool,
    own_bytes: u64,
    warnings: Vec<String>,
    blamed: Option<(Duration, Failure)>,
    leaving: Option<Leaving>,
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
            num_admitted: 0,
            making: None,
            next_task: 1,
            prepared: None,
            run: RunState::default(),
            gathering_since: None,
            queue: VecDeque::new(),
            running: BTreeMap::new(),
            tokens: Vec::new(),
            rows_done: 0,
            generation: 0,
            world: Vec::new(),
            world_task: None,
            points: Vec::new(),
            saves: Vec::new(),
            saving: BTreeMap::new(),
            step: 0,
            losses: Vec::new(),
            peak_bytes: 0,
            is_resumption_told: false,
            own_bytes: 0,
            warnings: Vec::new(),
            blamed: None,
            leaving: None,
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
            Input::Progress { done, total, unit } => self.progress(done, total, unit, &mut effects),
            Input::Noticed(what) => self.warn(what, &mut effects),
            Input::Prepared(prepared, run) => self.prepared(*prepared, *run, now, &mut effects),
            Input::Making { cuts, run } => self.begin_making(&cuts, *run, now, &mut effects),
            Input::Pooled(record) => self.pooled(*record, now, &mut effects),
            Input::Built(prepared, record) => self.built(*prepared, *record, now, &mut effects),
            Input::AlreadyDone => {
                effects.push(Effect::Emit(Event::AlreadyDone {}));
                self.finish(Exit::Done, "the run in this store is done already".into(), &mut effects);
            }
            Input::Failed(failure) => self.fail(failure, &mut effects),
            Input::Registered(worker) => self.register(worker, now, &mut effects),
            Input::Heartbeat { worker, pss_bytes, leaving } => self.heartbeat(&worker, pss_bytes, leaving, now, &mut effects),
            Input::Done { worker, task, result } => self.done(&worker, task, result, now, &mut effects),
            Input::TaskFailed { worker, task, kind, message } => {
                self.task_failed(&worker, task, kind, message, now, &mut effects);
            }
            Input::Reported { worker, report } => self.reported(&worker, report, &mut effects),
            Input::Part { worker, part } => self.part(&worker, part, now, &mut effects),
            Input::Recorded(record) => self.recorded(&record, now, &mut effects),
            Input::Tick { own_bytes } => self.tick(own_bytes, now, &mut effects),
            Input::Leave { reason } => self.leave(reason, now, &mut effects),
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

    /// The journal has a record: what it adds up to, and what follows.
    fn recorded(&mut self, record: &Record, now: Duration, effects: &mut Vec<Effect>) {
        self.run.record(record);
        match record {
            Record::Tokens { .. } => self.tokens_committed(now, effects),
            Record::World { .. } => self.open_world(effects),
            Record::Evaluated { .. } if self.phase == Phase::Recording => self.go_on(now, effects),
            Record::Checkpoint(checkpoint) => self.checkpoint_committed(checkpoint, now, effects),
            Record::Damaged { .. } if self.phase == Phase::Exporting => self.go_on(now, effects),
            Record::Damaged { .. } => self.join_world(effects),
            Record::Exported(exported) => self.report_run(exported, now, effects),
            Record::Done { .. } => {
                self.leave_stage(now, String::new(), effects);
                self.finish(Exit::Done, "the run is done".into(), effects);
            }
            Record::Read(_) | Record::Asked(_) | Record::Reserved { .. } => self.piece_recorded(record, now, effects),
            Record::Mining(_) | Record::Embedded(_) | Record::Searched(_) => self.piece_recorded(record, now, effects),
            Record::Prepared(_) => {
                if let Some(prepared) = self.prepared.take() {
                    self.prepared(prepared, self.run.clone(), now, effects);
                }
            }
            Record::Evaluated { .. } | Record::Began(_) | Record::Sources { .. } | Record::Pruned { .. } => {}
        }
    }

    /// Leaves the present stage and enters another; its wall time is counted.
    fn enter(&mut self, stage: Stage, now: Duration, effects: &mut Vec<Effect>) {
        self.leave_stage(now, String::new(), effects);
        self.stage = Some((stage, now));
        effects.push(Effect::Emit(Event::StageStarted { stage }));
    }

    fn leave_stage(&mut self, now: Duration, note: String, effects: &mut Vec<Effect>) {
        let Some((stage, since)) = self.stage.take() else { return };
        let wall_s = now.saturating_sub(since).as_secs_f64();
        *self.wall.entry(stage.name().to_owned()).or_default() += wall_s;
        effects.push(Effect::Emit(Event::StageFinished { stage, wall_s, note }));
    }

    /// Wall seconds by stage, the present one so far included.
    fn wall_s(&self, now: Duration) -> BTreeMap<String, f64> {
        let mut wall = self.wall.clone();
        if let Some((stage, since)) = self.stage {
            *wall.entry(stage.name().to_owned()).or_default() += now.saturating_sub(since).as_secs_f64();
        }
        wall
    }

    fn warn(&mut self, message: String, effects: &mut Vec<Effect>) {
        if !self.warnings.contains(&message) {
            self.warnings.push(message.clone());
            effects.push(Effect::Emit(Event::Warning { message }));
        }
    }

    fn progress(&self, done: u64, total: u64, unit: String, effects: &mut Vec<Effect>) {
        self.progress_with(done, total, unit, String::new(), effects);
    }

    fn progress_with(&self, done: u64, total: u64, unit: String, detail: String, effects: &mut Vec<Effect>) {
        if let Some((stage, _)) = self.stage {
            effects.push(Effect::Emit(Event::Progress { stage, done, total, unit, detail }));
        }
    }

    fn stage_name(&self) -> &'static str {
        self.stage.map_or("start", |(stage, _)| stage.name())
    }

    fn commit(commit: Commit, effects: &mut Vec<Effect>) {
        effects.push(Effect::Commit(Box::new(commit)));
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
        self.prepared.as_ref().map(|prepared| &prepared.dataset.record)
    }

    fn schedule(&self) -> Option<&Schedule> {
        self.prepared.as_ref().map(|prepared| &prepared.schedule)
    }
}

#[cfg(test)]
mod tests;
