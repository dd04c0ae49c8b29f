use std::time::Duration;

use artel_common::digest::Digest;
use artel_common::event::{Event, Stage};
use artel_common::exit::Exit;
use artel_common::records::{DatasetManifest, ImportReport, ModelManifest, ObjectRef, ShardRef, SplitManifest};
use artel_common::schedule::Schedule;
use artel_common::spec::RunSpec;
use artel_proto::v1::complete_task_request::Result as Outcome;
use artel_proto::v1::task::Kind;
use artel_proto::v1::{self};

use super::{Core, Effect, Failure, Input, LEASE, NewWorker, Prepared};

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
    let dataset = DatasetManifest { format: 1, train: split(20, 3), test: split(4, 1), test_is_train: false, import };
    let model = ModelManifest { format: 1, source: "model".into(), files: Vec::new(), digest: Digest::of(b"model") };
    Prepared {
        dataset,
        model,
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
    }
}

/// A core and the workers that do whatever it tells them.
struct Run {
    core: Core,
    now: Duration,
    effects: Vec<Effect>,
    /// What each evaluation, in order, says of the best-model metric.
    scores: Vec<f64>,
    exported: Option<u64>,
    kept: Vec<u64>,
}

impl Run {
    fn new(scores: &[f64]) -> Self {
        let (spec, _) = RunSpec::parse(SPEC, "spec.toml").unwrap();
        let (core, effects) = (Core::new(spec, [7; 32]), Vec::new());
        Self { core, now: ms(0), effects, scores: scores.to_vec(), exported: None, kept: Vec::new() }
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
        self.tell(Input::Prepared(Box::new(prepared())));
    }

    fn perform(&mut self, kind: Kind) -> Outcome {
        match kind {
            Kind::Tokenise(shard) => {
                let object = Some((&object(&format!("{}{}", shard.split, shard.index))).into());
                Outcome::Tokenised(v1::Tokenised { object, num_tokens: 10, num_rows: 5 })
            }
            Kind::JoinWorld(join) => {
                assert_eq!((join.generation, join.members.len(), join.local_workers), (1, 2, 2));
                Outcome::Joined(v1::Joined { plan: "plan".into(), warnings: Vec::new() })
            }
            Kind::Evaluate(_) => {
                let score = self.scores[self.core.evaluations.len()];
                Outcome::Evaluated(v1::Evaluated { metrics: [("dim_16_cosine_ndcg@10".to_owned(), score)].into() })
            }
            Kind::Train(train) => {
                let losses = vec![1.0; (train.to_step - train.from_step) as usize];
                Outcome::Trained(v1::Trained { to_step: train.to_step, losses, params_digest: "same".into() })
            }
            Kind::KeepWeights(keep) => {
                if self.kept.last() != Some(&keep.step) {
                    self.kept.push(keep.step);
                }
                Outcome::Kept(v1::Kept {})
            }
            Kind::Export(export) => {
                self.exported = Some(export.step);
                Outcome::Exported(v1::Exported { files: Vec::new(), weights_digest: Digest::of(b"weights").to_string() })
            }
            Kind::Stop(_) => panic!("a stop is no work"),
        }
    }

    /// Lets the workers work until nobody has a task; commits succeed at once.
    fn work(&mut self) {
        let mut commits = 0;
        for _ in 0..200 {
            let wanted = self.effects.iter().filter(|e| matches!(e, Effect::CommitTokens(_) | Effect::CommitReport(..))).count();
            if wanted > commits {
                commits = wanted;
                self.tell(Input::Committed);
                continue;
            }
            let next =
                ["worker-1", "worker-2"].into_iter().find_map(|id| self.core.assignment(id).cloned().map(|task| (id, task)));
            let Some((id, task)) = next else { return };
            let result = self.perform(task.kind.unwrap());
            self.tell(Input::Done { worker: id.into(), task: task.task_id, result: result.clone() });
            // a repeated completion changes nothing
            self.tell(Input::Done { worker: id.into(), task: task.task_id, result });
        }
        panic!("the run does not end");
    }

    fn ended(&self) -> Option<(Exit, String)> {
        self.core.stop().cloned()
    }
}

/// Goal: a run goes through its stages in order, and the report says what happened. Method: two willing workers.
#[test]
fn a_run_from_beginning_to_end() {
    let mut run = Run::new(&[0.1, 0.4, 0.6, 0.5]);
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
    let report =
        run.effects.iter().find_map(|effect| if let Effect::CommitReport(report, _) = effect { Some(report) } else { None });
    let report = report.unwrap();
    assert_eq!((report.steps, report.exported_step, report.evaluations.len()), (5, 4, 4));
    assert_eq!(report.after["dim_16_cosine_ndcg@10"], 0.6);
    assert_eq!(report.attempts.len(), 1);
    // step 2 was the best so far, then step 4, which step 5 did not better
    assert_eq!((run.kept, run.exported), (vec![2, 4], Some(4)));
}

/// Goal: the last weights are exported without being kept where they are the best. Method: rising scores.
#[test]
fn the_last_is_the_best() {
    let mut run = Run::new(&[0.1, 0.2, 0.3, 0.4]);
    run.ready();
    run.work();
    assert_eq!((run.kept, run.exported), (vec![2, 4], Some(5)));
}

/// Goal: a silent worker ends the run with its name, within the lease. Method: one heartbeat stops.
#[test]
fn a_lost_worker_is_named() {
    let mut run = Run::new(&[0.1]);
    run.ready();
    let begun = run.now;
    while run.ended().is_none() {
        run.now += ms(200);
        run.tell(Input::Heartbeat { worker: "worker-1".into(), pss_bytes: 1 });
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
    let failure = Failure { exit: Exit::WorkerLost, message: "lost contact with rank 1".into() };
    run.tell(Input::TaskFailed { worker: "worker-1".into(), task, failure });
    assert!(run.ended().is_none());
    for _ in 0..40 {
        run.now += ms(200);
        run.tell(Input::Heartbeat { worker: "worker-1".into(), pss_bytes: 1 });
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
    let failure = Failure { exit: Exit::WorkerLost, message: "lost contact with rank 1".into() };
    run.tell(Input::TaskFailed { worker: "worker-1".into(), task, failure });
    for _ in 0..40 {
        run.now += ms(200);
        for worker in ["worker-1", "worker-2"] {
            run.tell(Input::Heartbeat { worker: worker.into(), pss_bytes: 1 });
        }
        run.tell(Input::Tick { own_bytes: 0 });
    }
    let (exit, message) = run.ended().unwrap();
    assert!(exit == Exit::WorkerLost && message.contains("lost contact with rank 1"), "{message}");
}

/// Goal: ranks that drift apart stop the run. Method: two digests for one step.
#[test]
fn drifting_ranks_stop_the_run() {
    let mut run = Run::new(&[0.1, 0.2, 0.3, 0.4]);
    run.ready();
    let mut training = false;
    for _ in 0..60 {
        if run.effects.iter().any(|e| matches!(e, Effect::CommitTokens(_))) && run.core.generation == 0 {
            run.tell(Input::Committed);
        }
        for id in ["worker-1", "worker-2"] {
            let Some(task) = run.core.assignment(id).cloned() else { continue };
            let mut result = run.perform(task.kind.unwrap());
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

/// Goal: the run does not wait for workers for ever (LIVE-1). Method: only one comes.
#[test]
fn missing_workers_end_the_run() {
    let mut run = Run::new(&[]);
    run.tell(Input::Registered(worker(1)));
    run.tell(Input::Prepared(Box::new(prepared())));
    for _ in 0..2_000 {
        run.now += ms(200);
        run.tell(Input::Heartbeat { worker: "worker-1".into(), pss_bytes: 1 });
        run.tell(Input::Tick { own_bytes: 0 });
    }
    let (exit, message) = run.ended().unwrap();
    assert!(exit == Exit::WorkerLost && message.contains("1 of 2 workers"), "{message}");
}
