use std::time::Duration;

use artel_common::checkpoint::{CheckpointPart, StateVector};
use artel_common::digest::Digest;
use artel_common::event::{Event, Stage};
use artel_common::exit::Exit;
use artel_common::journal::{CheckpointRecord, Exported, Record, RunState};
use artel_common::records::{
    Attempt, DatasetManifest, ImportReport, ModelManifest, ObjectRef, Report, ShardRef, SplitManifest, Stored,
};
use artel_common::schedule::Schedule;
use artel_common::spec::RunSpec;
use artel_proto::v1::complete_task_request::Result as Outcome;
use artel_proto::v1::task::Kind;
use artel_proto::v1::{self};

use super::{Commit, Core, Effect, Input, LEASE, NewWorker, Prepared, RankPart};

const SPEC: &str = r#"
[run]
name = "core"
store = "file:store"
[data]
pairs = ["pairs.jsonl"]
[model]
base = "model"
[train]
global_batch_size = 4
matryoshka_dims = [32, 16]
eval_strategy = "steps"
eval_steps = 2
[evaluate]
metric_for_best_model = "eval_dim_16_cosine_ndcg@10"
[workers]
count = 2
"#;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn object(key: &str) -> ObjectRef {
    ObjectRef { key: key.into(), bytes: 1, sha256: Digest::of(key.as_bytes()) }
}

fn split(rows: u64, shards: usize) -> SplitManifest {
    let shards = (0..shards).map(|_| ShardRef { object: object("shard"), first_row: 0, num_rows: rows }).collect();
    SplitManifest { num_rows: rows, num_columns: 2, shards, digest: Digest::of(b"rows") }
}

fn prepared() -> Prepared {
    let import = ImportReport::default();
    let dataset = DatasetManifest { format: 1, train: split(20, 3), test: split(4, 1), test_is_train: false, import, made: None };
    let model = ModelManifest { format: 1, source: "model".into(), files: Vec::new(), digest: Digest::of(b"model") };
    Prepared {
        dataset: Stored { record: dataset, object: object("dataset") },
        model: Stored { record: model, object: object("model") },
        plans: vec![object("plan")],
        schedule: Schedule::new(vec![5], 1, None),
        rows_left_out: 0,
        run_digest: Digest::of(b"run"),
        best_metric: "dim_16_cosine_ndcg@10".into(),
        rows_per_step: vec![4; 5],
    }
}

fn worker(n: u64) -> NewWorker {
    NewWorker {
        incarnation: n,
        name: String::new(),
        pid: n as u32,
        host: "host".into(),
        kernel_path: "avx2".into(),
        collective_address: format!("127.0.0.1:{}", 1000 + n),
        num_gpus: 0,
    }
}

/// A core, the workers that do whatever it tells them, and a store in which every commit succeeds.
struct Run {
    core: Core,
    now: Duration,
    effects: Vec<Effect>,
    /// What each evaluation, by its step, says of the best-model metric.
    scores: Vec<f64>,
    exported: Option<(u64, bool)>,
    trained: Vec<(u64, u64)>,
    /// Commits carried out so far.
    committed: usize,
    /// What the store holds, as its journal tells it.
    state: RunState,
    /// Checkpoints that ranks find damaged.
    damaged: Vec<u64>,
    /// Ranks end a training task after this step, as if they were told to leave.
    leave_at: Option<u64>,
}

impl Run {
    fn new(scores: &[f64]) -> Self {
        Self::with("", scores)
    }

    /// A run with further lines for `[train]`; one score for each step, 0 to 5.
    fn with(train: &str, scores: &[f64]) -> Self {
        let text = SPEC.replace("[evaluate]", &format!("{train}\n[evaluate]"));
        let (spec, _) = RunSpec::parse(&text, "spec.toml").unwrap();
        Self {
            core: Core::new(spec, [7; 32]),
            now: ms(0),
            effects: Vec::new(),
            scores: scores.to_vec(),
            exported: None,
            trained: Vec::new(),
            committed: 0,
            state: RunState::default(),
            damaged: Vec::new(),
            leave_at: None,
        }
    }

    /// Another coordinator on the same store, after the first is gone.
    fn again(&self, train: &str) -> Self {
        let mut next = Self::with(train, &self.scores);
        next.state = self.state.clone();
        next.state.term += 1;
        next
    }

    fn tell(&mut self, input: Input) {
        self.now += ms(1);
        let effects = self.core.handle(input, self.now);
        self.effects.extend(effects);
    }

    fn ready(&mut self) {
        self.tell(Input::Registered(worker(1)));
        self.tell(Input::Registered(worker(2)));
        self.tell(Input::Stage(Stage::Import));
        self.tell(Input::Prepared(Box::new(prepared()), Box::new(self.state.clone())));
    }

    fn save(&mut self, generation: u64, step: u64) {
        for (worker, rank) in [("worker-1", 0), ("worker-2", 1)] {
            let part = |vector: StateVector| CheckpointPart {
                vector,
                start: rank * 3,
                len: 3,
                object: ObjectRef { bytes: 12, ..object(&format!("{step} {} {rank}", vector.name())) },
            };
            let parts = StateVector::ALL.map(part).to_vec();
            let history = (rank == 0).then(|| object("history"));
            let part = RankPart { generation, step, parts, history, num_values: 6, stall_ms: 1 };
            self.tell(Input::Part { worker: worker.into(), part: part.clone() });
            // a repeated call changes nothing
            self.tell(Input::Part { worker: worker.into(), part });
        }
    }

    fn perform(&mut self, id: &str, kind: Kind) -> Result<Outcome, (v1::FailureKind, String)> {
        Ok(match kind {
            Kind::Tokenise(shard) => {
                let object = Some((&object(&format!("{}{}", shard.split, shard.index))).into());
                Outcome::Tokenised(v1::Tokenised { object, num_tokens: 10, num_rows: 5 })
            }
            Kind::JoinWorld(join) => {
                assert_eq!((join.generation, join.members.len(), join.local_workers), (self.core.generation, 2, 2));
                let from = self.state.last_checkpoint().map(|last| last.step);
                assert_eq!(from.is_some(), join.checkpoint.is_some());
                if let Some(step) = from.filter(|step| self.damaged.contains(step)) {
                    return Err((v1::FailureKind::Checkpoint, format!("a part of {step} is flipped")));
                }
                let losses = vec![1.0; from.unwrap_or(0) as usize];
                Outcome::Joined(v1::Joined { plan: "plan".into(), warnings: Vec::new(), losses })
            }
            Kind::Evaluate(evaluate) => {
                let score = self.scores[evaluate.step as usize];
                Outcome::Evaluated(v1::Evaluated { metrics: [("dim_16_cosine_ndcg@10".to_owned(), score)].into() })
            }
            Kind::Train(train) => {
                let to_step =
                    self.leave_at.filter(|step| (train.from_step..train.to_step).contains(step)).unwrap_or(train.to_step);
                if id == "worker-2" {
                    self.trained.push((train.from_step, to_step));
                    let saves = train.save_at.iter().filter(|save| **save <= to_step);
                    saves.for_each(|save| self.save(self.core.generation, *save));
                }
                let losses = vec![1.0; (to_step - train.from_step) as usize];
                Outcome::Trained(v1::Trained { to_step, losses, params_digest: "same".into() })
            }
            Kind::Save(save) => {
                self.save(self.core.generation, save.step);
                Outcome::Saved(v1::Saved {})
            }
            Kind::Export(export) if self.damaged.contains(&export.step) => {
                return Err((v1::FailureKind::Checkpoint, format!("a part of {} is flipped", export.step)));
            }
            Kind::Export(export) => {
                self.exported = Some((export.step, export.checkpoint.is_some()));
                Outcome::Exported(v1::Exported { files: Vec::new(), weights_digest: Digest::of(b"weights").to_string() })
            }
            Kind::Stop(_) | Kind::Read(_) | Kind::Ask(_) | Kind::Embed(_) | Kind::Search(_) => panic!("no work of a rank"),
        })
    }

    /// Carries out the next commit, if there is one.
    fn commit(&mut self) -> bool {
        let commits =
            self.effects.iter().filter_map(|effect| if let Effect::Commit(commit) = effect { Some(commit) } else { None });
        let Some(commit) = commits.skip(self.committed).map(|commit| (**commit).clone()).next() else { return false };
        self.committed += 1;
        let record = match commit {
            Commit::Record(record) => record,
            Commit::Tokens { wall_s, .. } => Record::Tokens { manifest: object("tokens"), wall_s },
            Commit::Checkpoint { manifest, peak_bytes, wall_s } => {
                let (step, generation, bytes) = (manifest.step, manifest.generation, manifest.bytes());
                let manifest = object(&format!("manifest {step}"));
                Record::Checkpoint(CheckpointRecord { step, generation, manifest, bytes, peak_bytes, wall_s })
            }
            Commit::Prune(gone) => Record::Pruned { checkpoints: gone.iter().map(|gone| (gone.generation, gone.step)).collect() },
            Commit::Export { manifest, weights_digest } => {
                Record::Exported(Exported { manifest: object("export"), step: manifest.step, weights_digest })
            }
            Commit::Done(report) => Record::Done { report },
        };
        self.state.record(&record);
        self.tell(Input::Recorded(Box::new(record)));
        true
    }

    /// Lets the workers work until nobody has a task, or a step was trained up to `until`.
    fn work_until(&mut self, until: u64) {
        for _ in 0..400 {
            if self.commit() {
                continue;
            }
            if self.trained.last().is_some_and(|(_, to)| *to >= until) {
                return;
            }
            let next =
                ["worker-1", "worker-2"].into_iter().find_map(|id| self.core.assignment(id).cloned().map(|task| (id, task)));
            let Some((id, task)) = next else { return };
            match self.perform(id, task.kind.unwrap()) {
                Ok(result) => {
                    self.tell(Input::Done { worker: id.into(), task: task.task_id, result: result.clone() });
                    // a repeated completion changes nothing
                    self.tell(Input::Done { worker: id.into(), task: task.task_id, result });
                }
                Err((kind, message)) => self.tell(Input::TaskFailed { worker: id.into(), task: task.task_id, kind, message }),
            }
        }
        panic!("the run does not end");
    }

    fn work(&mut self) {
        self.work_until(u64::MAX);
    }

    fn ended(&self) -> Option<(Exit, String)> {
        self.core.stop().cloned()
    }

    fn report(&self) -> Report {
        self.state.done.as_deref().cloned().expect("the run is done")
    }

    fn saved(&self) -> Vec<u64> {
        self.state.checkpoints.iter().map(|known| known.step).collect()
    }
}

/// Scores by step: the best at 4, the last one lower.
const SCORES: [f64; 6] = [0.1, 0.0, 0.4, 0.0, 0.6, 0.5];

/// Goal: a run goes through its stages in order, and the report says what happened. Method: two willing workers.
#[test]
fn a_run_from_beginning_to_end() {
    let mut run = Run::new(&SCORES);
    run.ready();
    run.work();
    assert_eq!(run.ended().unwrap().0, Exit::Done);
    let stages: Vec<Stage> = run
        .effects
        .iter()
        .filter_map(|effect| if let Effect::Emit(Event::StageStarted { stage }) = effect { Some(*stage) } else { None })
        .collect();
    use Stage::*;
    assert_eq!(stages, [Import, Tokenise, EvaluateBase, Train, Evaluate, Train, Evaluate, Train, Evaluate, Export, Report]);
    let report = run.report();
    assert_eq!((report.steps, report.exported_step, report.evaluations.len()), (5, 4, 4));
    assert_eq!(report.after["dim_16_cosine_ndcg@10"], 0.6);
    assert_eq!(report.attempts, [Attempt { from_step: 0, to_step: 5, workers: 2 }]);
    // step 2 was the best so far, then step 4, which step 5, the end of the epoch, did not better
    assert_eq!((run.saved(), run.exported), (vec![2, 4, 5], Some((4, true))));
}

/// Goal: the last weights are exported from memory where they are the best. Method: rising scores.
#[test]
fn the_last_is_the_best() {
    let mut run = Run::with("save_strategy = \"no\"", &[0.1, 0.0, 0.2, 0.0, 0.3, 0.4]);
    run.ready();
    run.work();
    assert_eq!((run.saved(), run.exported), (vec![2, 4], Some((5, false))));
}

const EVERY_STEP: &str = "save_strategy = \"steps\"\nsave_steps = 1";

/// Goal: a run whose coordinator died anywhere goes on from the journal: nothing that it has is done again, attempts tell of it, and
/// what is exported is the same. Method: another coordinator after each number of commits.
#[test]
fn a_run_goes_on_from_any_commit() {
    let mut whole = Run::with(EVERY_STEP, &SCORES);
    whole.ready();
    whole.work();
    for commits in 0..whole.committed {
        let mut first = Run::with(EVERY_STEP, &SCORES);
        first.ready();
        for _ in 0..400 {
            if first.committed >= commits {
                break;
            }
            if !first.commit() {
                let next = ["worker-1", "worker-2"].into_iter().find_map(|id| Some((id, first.core.assignment(id).cloned()?)));
                let Some((id, task)) = next else { break };
                let result = first.perform(id, task.kind.unwrap()).unwrap();
                first.tell(Input::Done { worker: id.into(), task: task.task_id, result });
            }
        }
        let before = first.state.clone();
        let mut second = first.again(EVERY_STEP);
        second.ready();
        second.work();
        assert_eq!(second.ended().unwrap().0, Exit::Done, "after {commits} commits");
        let report = second.report();
        assert_eq!((report.steps, report.exported_step, report.after.clone()), (5, 4, whole.report().after), "{commits}");
        let from = before.last_checkpoint().map_or(0, |last| last.step);
        assert_eq!(second.trained.first().map_or(5, |(first, _)| *first), from, "after {commits} commits");
        let again = second.effects.iter().filter(|effect| matches!(effect, Effect::Emit(Event::Evaluation { .. }))).count();
        assert_eq!(again, 4 - before.evaluations.len(), "after {commits} commits");
        let attempts = report.attempts;
        assert!(attempts.windows(2).all(|pair| pair[0].to_step >= pair[1].from_step), "{attempts:?}");
        assert_eq!(attempts.last().unwrap().from_step, from);
    }
}

/// Goal: a damaged checkpoint is named and passed over for the one before, down to the base model. Method: the last one, then all.
#[test]
fn damaged_checkpoints_are_passed_over() {
    for damaged in [vec![3], vec![1, 2, 3]] {
        let mut first = Run::with(EVERY_STEP, &SCORES);
        first.ready();
        first.work_until(4);
        first.state.checkpoints.retain(|known| known.step <= 3);
        let mut second = first.again(EVERY_STEP);
        second.damaged = damaged.clone();
        second.ready();
        second.work();
        assert_eq!(second.ended().unwrap().0, Exit::Done);
        let report = second.report();
        let expected = if damaged.len() == 1 { 2 } else { 0 };
        assert_eq!(second.trained[0].0, expected);
        let said: Vec<_> = report.warnings.iter().filter(|warning| warning.contains("is flipped")).collect();
        assert_eq!(said.len(), damaged.len(), "{said:?}");
        let generations: Vec<u64> = second.state.checkpoints.iter().map(|known| known.generation).collect();
        assert!(generations.windows(2).all(|pair| pair[0] <= pair[1]) && generations.last() > Some(&1));
    }
}

/// Goal: where the best weights are damaged the next best are exported, and it is said. Method: step 4 is the best, step 5 the next.
#[test]
fn damaged_best_weights() {
    let mut run = Run::new(&SCORES);
    run.damaged = vec![4];
    run.ready();
    run.work();
    assert_eq!((run.ended().unwrap().0, run.exported.map(|(step, _)| step)), (Exit::Done, Some(5)));
    let report = run.report();
    assert_eq!((report.exported_step, report.after["dim_16_cosine_ndcg@10"]), (5, 0.5));
    assert!(report.warnings.iter().any(|warning| warning.contains("step 4 is damaged")), "{:?}", report.warnings);
}

/// Goal: of many checkpoints the newest stay, and the best. Method: a limit of 1; step 2 is the best until step 4.
#[test]
fn old_checkpoints_go() {
    let mut run = Run::with(&format!("{EVERY_STEP}\nsave_total_limit = 1"), &[0.1, 0.0, 0.6, 0.0, 0.3, 0.5]);
    run.ready();
    run.work();
    assert_eq!((run.saved(), run.exported), (vec![2, 5], Some((2, true))));
}

/// Goal: a run that is told to leave saves its state and says so, and goes on from there. Method: in mid-training, at step 3 with no
/// checkpoint of it; in an evaluation; before anything was done.
#[test]
fn leaving() {
    let mut run = Run::with("save_strategy = \"no\"", &SCORES);
    run.ready();
    run.leave_at = Some(3);
    run.work_until(3);
    run.tell(Input::Heartbeat { worker: "worker-2".into(), pss_bytes: 0, leaving: true });
    assert!(run.core.is_leaving() && run.ended().is_none());
    run.work();
    let (exit, message) = run.ended().unwrap();
    assert_eq!(exit, Exit::Preempted);
    assert!(message.contains("worker-2 was told to leave") && message.contains("step 3 of 5 is saved"), "{message}");
    let mut next = run.again("save_strategy = \"no\"");
    next.ready();
    next.work();
    assert_eq!((next.trained[0], next.ended().unwrap().0), ((3, 4), Exit::Done));

    let mut early = Run::new(&SCORES);
    early.tell(Input::Leave { reason: "told".into() });
    assert_eq!(early.ended().unwrap().0, Exit::Preempted);

    let mut evaluating = Run::with("save_strategy = \"no\"", &SCORES);
    evaluating.ready();
    evaluating.work_until(2);
    // worker 1 gives its part of the training, then both are told to evaluate
    for id in ["worker-1", "worker-2"] {
        while let Some(task) = evaluating.core.assignment(id).cloned().filter(|task| matches!(task.kind, Some(Kind::Train(_)))) {
            let result = evaluating.perform(id, task.kind.unwrap()).unwrap();
            evaluating.tell(Input::Done { worker: id.into(), task: task.task_id, result });
        }
    }
    evaluating.tell(Input::Leave { reason: "told".into() });
    for id in ["worker-1", "worker-2"] {
        let task = evaluating.core.assignment(id).cloned().unwrap();
        assert!(matches!(task.kind, Some(Kind::Evaluate(_))));
        let (kind, message) = (v1::FailureKind::Left, "given up".to_owned());
        evaluating.tell(Input::TaskFailed { worker: id.into(), task: task.task_id, kind, message });
    }
    evaluating.work();
    assert_eq!((evaluating.ended().unwrap().0, evaluating.saved()), (Exit::Preempted, vec![2]));
}

/// Goal: a run that leaves under a store too slow for its state ends with the checkpoint before, and begins no other. Method: both ranks give up
/// the last save.
#[test]
fn leaving_with_the_checkpoint_before() {
    let mut run = Run::with("save_strategy = \"steps\"\nsave_steps = 2", &SCORES);
    run.ready();
    run.leave_at = Some(3);
    run.work_until(3);
    run.tell(Input::Leave { reason: "told".into() });
    let mut given_up = 0;
    while run.ended().is_none() {
        let id = ["worker-1", "worker-2"]
            .into_iter()
            .find(|id| run.core.assignment(id).is_some())
            .expect("the run goes on to its end");
        let task = run.core.assignment(id).cloned().expect("just seen");
        if matches!(task.kind, Some(Kind::Save(_))) {
            given_up += 1;
            assert!(given_up <= 2, "another save is begun");
            let (kind, message) = (v1::FailureKind::Left, "too slow".to_owned());
            run.tell(Input::TaskFailed { worker: id.into(), task: task.task_id, kind, message });
        } else {
            let result = run.perform(id, task.kind.expect("a kind")).expect("done");
            run.tell(Input::Done { worker: id.into(), task: task.task_id, result });
        }
    }
    let (exit, message) = run.ended().expect("just seen");
    assert_eq!((exit, given_up), (Exit::Preempted, 2), "each rank was asked once");
    assert!(message.contains("step 2 of 5 is saved, later steps will be redone"), "{message}");
}

/// Goal: a run that leaves ends in time whatever the store does (LIVE-1). Method: nobody answers.
#[test]
fn leaving_has_a_deadline() {
    let mut run = Run::new(&SCORES);
    run.ready();
    run.work_until(2);
    run.tell(Input::Leave { reason: "told".into() });
    let begun = run.now;
    while run.ended().is_none() {
        run.now += ms(200);
        for worker in ["worker-1", "worker-2"] {
            run.tell(Input::Heartbeat { worker: worker.into(), pss_bytes: 1, leaving: false });
        }
        run.tell(Input::Tick { own_bytes: 0 });
        assert!(run.now - begun < Duration::from_secs(18), "it does not end");
    }
    assert_eq!(run.ended().unwrap().0, Exit::Preempted);
}

/// Goal: only the ranks of the present world can make a checkpoint (FENCE-1). Method: a part of another generation, of nobody.
#[test]
fn strange_parts_are_refused() {
    let mut run = Run::new(&SCORES);
    run.ready();
    run.work_until(2);
    let generation = run.core.generation;
    assert!(run.core.admit_part("worker-1", generation).is_ok());
    assert!(run.core.admit_part("worker-1", generation + 1).is_err() && run.core.admit_part("worker-9", generation).is_err());
    run.save(generation + 1, 9);
    assert!(!run.core.is_whole(generation + 1, 9) && run.core.saving.is_empty());
}

/// Goal: a silent worker ends the run with its name, within the lease. Method: one heartbeat stops.
#[test]
fn a_lost_worker_is_named() {
    let mut run = Run::new(&[0.1]);
    run.ready();
    let begun = run.now;
    while run.ended().is_none() {
        run.now += ms(200);
        run.tell(Input::Heartbeat { worker: "worker-1".into(), pss_bytes: 1, leaving: false });
        run.tell(Input::Tick { own_bytes: 0 });
        assert!(run.now - begun < LEASE + ms(500), "the loss was not noticed");
    }
    let (exit, message) = run.ended().unwrap();
    assert_eq!(exit, Exit::WorkerLost);
    assert!(message.contains("worker-2") && message.contains("tokenise"), "{message}");
}

/// Goal: of a broken exchange the silent rank is blamed, not the one that noticed. Method: worker 1 reports, 2 is silent.
#[test]
fn the_silent_rank_is_blamed() {
    let mut run = Run::new(&[0.1]);
    run.ready();
    let task = run.core.assignment("worker-1").unwrap().task_id;
    let (kind, message) = (v1::FailureKind::Collective, "lost contact with rank 1".into());
    run.tell(Input::TaskFailed { worker: "worker-1".into(), task, kind, message });
    assert!(run.ended().is_none());
    for _ in 0..40 {
        run.now += ms(200);
        run.tell(Input::Heartbeat { worker: "worker-1".into(), pss_bytes: 1, leaving: false });
        run.tell(Input::Tick { own_bytes: 0 });
    }
    assert!(run.ended().unwrap().1.contains("worker-2"));
}

/// Goal: an exchange that broke with nobody lost still ends the run (LIVE-1). Method: both ranks live on.
#[test]
fn a_broken_exchange_ends_the_run() {
    let mut run = Run::new(&[0.1]);
    run.ready();
    let task = run.core.assignment("worker-1").unwrap().task_id;
    let (kind, message) = (v1::FailureKind::Collective, "lost contact with rank 1".into());
    run.tell(Input::TaskFailed { worker: "worker-1".into(), task, kind, message });
    for _ in 0..40 {
        run.now += ms(200);
        for worker in ["worker-1", "worker-2"] {
            run.tell(Input::Heartbeat { worker: worker.into(), pss_bytes: 1, leaving: false });
        }
        run.tell(Input::Tick { own_bytes: 0 });
    }
    let (exit, message) = run.ended().unwrap();
    assert!(exit == Exit::WorkerLost && message.contains("lost contact with rank 1"), "{message}");
}

/// Goal: ranks that drift apart stop the run. Method: two digests for one step.
#[test]
fn drifting_ranks_stop_the_run() {
    let mut run = Run::new(&SCORES);
    run.ready();
    let mut training = false;
    for _ in 0..60 {
        while run.commit() {}
        for id in ["worker-1", "worker-2"] {
            let Some(task) = run.core.assignment(id).cloned() else { continue };
            let mut result = run.perform(id, task.kind.unwrap()).unwrap();
            if let Outcome::Trained(trained) = &mut result {
                trained.params_digest = id.into();
                training = true;
            }
            run.tell(Input::Done { worker: id.into(), task: task.task_id, result });
        }
    }
    assert!(training && run.ended().unwrap().1.contains("differ"));
}

/// Goal: who does not fit is refused with the reason. Method: one too many, another kernel path, the same twice.
#[test]
fn admission() {
    let mut run = Run::new(&[]);
    run.tell(Input::Registered(worker(1)));
    assert_eq!(run.core.admit(&worker(1)).unwrap(), "worker-1", "a repeated registration is the first");
    let other_path = NewWorker { kernel_path: "avx512".into(), ..worker(2) };
    assert!(run.core.admit(&other_path).unwrap_err().contains("avx512"));
    run.tell(Input::Registered(worker(2)));
    assert!(run.core.admit(&worker(3)).unwrap_err().contains("all its 2 workers"));
}

/// Goal: GPUs do not lie idle because the coordinator's machine has none, unless that is what the spec says. Method: a worker with GPUs, in a run whose device
/// was left open, and in one on the CPU.
#[test]
fn idle_gpus_are_refused() {
    let with_gpus = NewWorker { num_gpus: 8, ..worker(1) };
    let (open, _) = RunSpec::parse(SPEC, "spec.toml").unwrap();
    assert!(open.workers.device_found);
    let mut said = open.clone();
    said.workers.device_found = false;
    let refusal = Core::new(open.clone(), [7; 32]).admit(&with_gpus).unwrap_err();
    assert!(refusal.contains("host shows 8 GPUs") && refusal.contains("write device = \"cuda\""), "{refusal}");
    assert_eq!(Core::new(open, [7; 32]).admit(&worker(1)).unwrap(), "worker-1");
    assert_eq!(Core::new(said, [7; 32]).admit(&with_gpus).unwrap(), "worker-1");
}

/// Goal: the run does not wait for workers for ever (LIVE-1). Method: only one comes.
#[test]
fn missing_workers_end_the_run() {
    let mut run = Run::new(&[]);
    run.tell(Input::Registered(worker(1)));
    run.tell(Input::Prepared(Box::new(prepared()), Box::default()));
    for _ in 0..2_000 {
        run.now += ms(200);
        run.tell(Input::Heartbeat { worker: "worker-1".into(), pss_bytes: 1, leaving: false });
        run.tell(Input::Tick { own_bytes: 0 });
    }
    let (exit, message) = run.ended().unwrap();
    assert!(exit == Exit::WorkerLost && message.contains("1 of 2 workers"), "{message}");
}
