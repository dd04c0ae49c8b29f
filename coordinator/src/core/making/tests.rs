//! Leases: every piece is done once, whoever is lost on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use artel_common::digest::Digest;
use artel_common::exit::Exit;
use artel_common::journal::RunState;
use artel_common::making::{Ledger, MakingState};
use artel_common::mining::{MiningRecord, SHARD_TEXTS, TextKind};
use artel_common::records::ObjectRef;
use artel_common::rng::Rng;
use artel_common::spec::RunSpec;
use artel_proto::v1::complete_task_request::Result as Outcome;
use artel_proto::v1::{self, task::Kind};

use super::super::{Commit, Core, Effect, Input, NewWorker};
use super::PIECE_CHUNKS;

const SPEC: &str = "[documents]\nsources = \"docs\"\n[questions]\nprovider = \"openai\"\nmodel = \"m\"\nbase_url = \"http://h/v1\"\nmax_in_flight = 4\n\
    [model]\nbase = \"b\"\n[workers]\ncount = 8\n";
const MINING: &str = "[cleaning]\nround_trip = 20\n";
/// Texts that are embedded: some shards of each, the last not full.
const PASSAGES: u64 = 700;
const QUESTIONS: u64 = 300;
const DOCUMENTS: u64 = 20;
const CHUNKS: u64 = 100;

fn object(key: &str) -> ObjectRef {
    ObjectRef { key: key.into(), bytes: 1, sha256: Digest::of(key.as_bytes()) }
}

fn state() -> RunState {
    let making = MakingState {
        sources: object("sources"),
        settings: Digest::of(b"settings"),
        documents: DOCUMENTS,
        model: None,
        read: Vec::new(),
        asked: Vec::new(),
        reserved: (0, 0),
        mining: None,
    };
    RunState { making: Some(making), ..RunState::default() }
}

/// What a pool with these settings is known by.
fn mining_record(settings: &str) -> MiningRecord {
    MiningRecord {
        settings: Digest::of(settings.as_bytes()),
        pool: object(settings),
        questions: QUESTIONS,
        passages: PASSAGES,
        question_shards: QUESTIONS.div_ceil(SHARD_TEXTS as u64),
        passage_shards: PASSAGES.div_ceil(SHARD_TEXTS as u64),
    }
}

/// A core, the journal behind it, and time.
struct Drill {
    core: Core,
    /// What is put into the store where the base model is asked.
    pool: MiningRecord,
    /// Pools that were asked for and are not there yet.
    pooling: u64,
    state: RunState,
    now: Duration,
    built: bool,
    failed: Option<Exit>,
    next_worker: u64,
}

impl Drill {
    fn new(state: RunState) -> Self {
        Self::with(SPEC, state, mining_record(""))
    }

    /// One that holds the pairs against the base model too.
    fn mining(state: RunState, settings: &str) -> Self {
        Self::with(&format!("{SPEC}{MINING}"), state, mining_record(settings))
    }

    fn with(spec: &str, state: RunState, pool: MiningRecord) -> Self {
        let (spec, _) = RunSpec::parse(spec, "spec.toml").unwrap();
        let core = Core::new(spec, [1; 32]);
        let mut drill = Self { core, pool, pooling: 0, state, now: Duration::ZERO, built: false, failed: None, next_worker: 0 };
        let cuts = (0..DOCUMENTS / 4).map(|piece| (piece * 4, 4)).collect();
        let run = Box::new(drill.state.clone());
        drill.tell(Input::Making { cuts, run });
        drill
    }

    fn tell(&mut self, input: Input) {
        self.now += Duration::from_millis(1);
        let effects = self.core.handle(input, self.now);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Commit(commit) => {
                    let Commit::Record(record) = *commit else { panic!("only records are committed here") };
                    self.state.record(&record);
                    self.tell(Input::Recorded(Box::new(record)));
                }
                Effect::Build(_) => self.built = true,
                Effect::Pool(_) => self.pooling += 1,
                Effect::Finish { exit, .. } => self.failed = Some(exit),
                Effect::Emit(_) | Effect::Wake { .. } => {}
            }
        }
    }

    /// The pool that was asked for is in the store.
    fn pooled(&mut self) {
        self.pooling -= 1;
        let pool = Box::new(self.pool.clone());
        self.tell(Input::Pooled(pool));
    }

    fn join(&mut self) -> String {
        self.next_worker += 1;
        let incarnation = self.next_worker;
        let (name, host, kernel_path) = (String::new(), "h".to_owned(), "avx2".to_owned());
        let collective_address = "127.0.0.1:1".into();
        let worker = NewWorker { incarnation, name, pid: 1, host, kernel_path, collective_address, num_gpus: 0 };
        let id = self.core.admit(&worker).unwrap();
        self.tell(Input::Registered(worker));
        id
    }

    fn finish(&mut self, worker: &str, task: &v1::Task) {
        let key = format!("{:?}", task.kind);
        let reference = || Some((&object(&key)).into());
        let result = match task.kind.as_ref().unwrap() {
            Kind::Read(read) => Outcome::Read(v1::ReadDone {
                failed: 0,
                pages: read.count,
                num_chunks: CHUNKS,
                reports: reference(),
                elements: reference(),
                chunks: reference(),
            }),
            Kind::Ask(ask) => {
                let ledger = Ledger { chunks: ask.count, pairs: ask.count, ..Ledger::default() };
                Outcome::Ask(v1::AskDone { pairs: reference(), ledger: Some((&ledger).into()) })
            }
            Kind::Embed(_) => Outcome::Embed(v1::EmbedDone { vectors: reference() }),
            Kind::Search(search) => {
                let shards = PASSAGES.div_ceil(SHARD_TEXTS as u64) as usize;
                assert!(search.passages.len() == shards && search.questions.is_some(), "all vectors are there before a search");
                Outcome::Search(v1::SearchDone { found: reference() })
            }
            other => panic!("{other:?} is no piece"),
        };
        self.tell(Input::Done { worker: worker.into(), task: task.task_id, result: result.clone() });
        // a repeated call changes nothing
        self.tell(Input::Done { worker: worker.into(), task: task.task_id, result });
    }

    /// Every document read once, every chunk asked about once.
    fn is_whole(&self) {
        let making = self.state.making.as_ref().unwrap();
        let firsts: BTreeSet<u64> = making.read.iter().map(|read| read.first).collect();
        assert_eq!((making.read.len() as u64, firsts.len() as u64), (DOCUMENTS / 4, DOCUMENTS / 4));
        let pieces: BTreeSet<(u64, u64)> = making.asked.iter().map(|asked| (asked.shard, asked.from)).collect();
        assert_eq!(pieces.len(), making.asked.len());
        assert_eq!(making.asked.iter().map(|asked| asked.count).sum::<u64>(), CHUNKS * DOCUMENTS / 4);
        const { assert!(CHUNKS > PIECE_CHUNKS, "a shard is more than a piece") };
    }

    /// Every text embedded once, every question searched for once, of this pool.
    fn is_mined(&self) {
        let mining = self.state.making.as_ref().unwrap().mining.as_ref().unwrap();
        assert_eq!(mining.record, self.pool);
        let embedded: BTreeSet<(TextKind, u64)> = mining.embedded.iter().map(|done| (done.kind, done.index)).collect();
        assert_eq!(embedded.len(), mining.embedded.len());
        let texts = |kind| mining.embedded.iter().filter(|done| done.kind == kind).map(|done| done.count).sum::<u64>();
        assert_eq!((texts(TextKind::Passage), texts(TextKind::Question)), (PASSAGES, QUESTIONS));
        let searched: BTreeSet<u64> = mining.searched.iter().map(|done| done.index).collect();
        assert_eq!(searched.len(), mining.searched.len());
        assert_eq!(mining.searched.iter().map(|done| done.count).sum::<u64>(), QUESTIONS);
    }
}

/// Goal: an offer that was lost on its way is made again, and nobody gets more than he may hold. Method: the same question twice, then with what is held.
#[test]
fn offers_are_repeated() {
    let mut drill = Drill::new(state());
    let worker = drill.join();
    let first = drill.core.offer(&worker, &[]).unwrap();
    assert_eq!(drill.core.offer(&worker, &[]), Some(first.clone()));
    assert_eq!(drill.core.offer(&worker, &[first.task_id]), None, "one piece of reading at a time");
    drill.finish(&worker, &first);
    let mut held = Vec::new();
    while let Some(task) = drill.core.offer(&worker, &held) {
        held.push(task.task_id);
    }
    assert_eq!(held.len(), 3, "two pieces of asking and one of reading");
    assert_eq!(drill.core.offer("worker-9", &[]), None);
}

/// A random history of workers that come, work, are silent and are lost, and of coordinators that are replaced, to its end.
fn history(seed: u64, begin: impl Fn(RunState) -> Drill, from: RunState) -> Drill {
    let mut rng = Rng::stream("leases", &[seed]);
    let mut drill = begin(from);
    let mut workers: Vec<(String, Vec<v1::Task>)> = Vec::new();
    for _ in 0..4_000 {
        if drill.built {
            break;
        }
        match rng.below(40) {
            0 if workers.len() < 4 => workers.push((drill.join(), Vec::new())),
            1 if !workers.is_empty() => {
                // silent for longer than its lease while the others live
                let (lost, _) = workers.remove(rng.below(workers.len() as u64) as usize);
                drill.now += Duration::from_secs(6);
                for (worker, _) in &workers {
                    let (worker, leaving) = (worker.clone(), false);
                    drill.tell(Input::Heartbeat { worker, pss_bytes: 1, leaving });
                }
                drill.tell(Input::Tick { own_bytes: 1 });
                assert!(!drill.core.knows(&lost));
            }
            2 => {
                drill = begin(drill.state.clone());
                workers.clear();
            }
            3..=20 if !workers.is_empty() => {
                let index = rng.below(workers.len() as u64) as usize;
                let (worker, held) = &mut workers[index];
                let ids: Vec<u64> = held.iter().map(|task| task.task_id).collect();
                if let Some(task) = drill.core.offer(worker, &ids).filter(|_| rng.below(4) > 0) {
                    assert!(!ids.contains(&task.task_id));
                    held.push(task);
                }
            }
            21 | 22 if drill.pooling > 0 => drill.pooled(),
            _ if !workers.is_empty() => {
                let index = rng.below(workers.len() as u64) as usize;
                let (worker, held) = &mut workers[index];
                if !held.is_empty() {
                    let task = held.remove(rng.below(held.len() as u64) as usize);
                    drill.finish(worker, &task);
                }
            }
            _ => {}
        }
        assert_eq!(drill.failed, None);
    }
    assert!(drill.built, "seed {seed} came to no end");
    drill
}

/// Goal: whatever workers and coordinators are lost, each piece is recorded once and the data set is built once all are. Method: 200 random histories.
#[test]
fn every_piece_is_done_once() {
    for seed in 0..200 {
        let drill = history(seed, Drill::new, state());
        drill.is_whole();
        assert_eq!(drill.state.making.as_ref().unwrap().mining, None);
    }
}

/// Goal: likewise where the base model is asked about the pairs: nothing is embedded or searched twice, and nothing is searched before all is embedded.
/// Method: 200 random histories; then each again from its end with other settings, which does all of that anew, and nothing of what came before.
#[test]
fn every_piece_of_mining_is_done_once() {
    for seed in 0..200 {
        let drill = history(seed, |state| Drill::mining(state, "first"), state());
        drill.is_whole();
        drill.is_mined();
        let (before, mut again) = (drill.state.making.clone().unwrap(), Drill::mining(drill.state.clone(), "first"));
        again.pooled();
        assert!(again.built && again.state == drill.state, "what the journal has is not done again");
        let changed = history(seed + 1_000, |state| Drill::mining(state, "second"), drill.state);
        changed.is_mined();
        let after = changed.state.making.unwrap();
        assert_eq!((after.read, after.asked), (before.read, before.asked));
    }
}

/// Goal: while the pool is made the run can leave, and a worker that is lost ends nothing; a pool that comes late changes nothing. Method: both.
#[test]
fn the_pool_is_waited_for() {
    let done = history(1, Drill::new, state()).state;
    let mut drill = Drill::mining(done.clone(), "first");
    let worker = drill.join();
    assert_eq!((drill.pooling, drill.core.offer(&worker, &[])), (1, None));
    drill.now += Duration::from_secs(6);
    drill.tell(Input::Tick { own_bytes: 1 });
    assert!(!drill.core.knows(&worker) && drill.failed.is_none());
    let worker = drill.join();
    drill.pooled();
    let first = drill.core.offer(&worker, &[]).unwrap();
    assert!(matches!(first.kind, Some(Kind::Embed(_))));
    assert_eq!(drill.core.offer(&worker, &[first.task_id]), None, "one piece of mining at a time");
    let mut drill = Drill::mining(done, "first");
    drill.tell(Input::Leave { reason: "told to".into() });
    assert_eq!(drill.failed, Some(Exit::Preempted));
    drill.pooled();
    assert_eq!(drill.state.making.unwrap().mining, None);
}

/// Goal: a budget that is spent gives nothing more out, lets what is under way end, and ends the run with its code. Method: one of two pieces fails so.
#[test]
fn a_spent_budget_ends_the_run() {
    let mut drill = Drill::new(state());
    let (one, two) = (drill.join(), drill.join());
    let first = drill.core.offer(&one, &[]).unwrap();
    let second = drill.core.offer(&two, &[]).unwrap();
    let message = "max_requests is reached".to_owned();
    drill.tell(Input::TaskFailed { worker: one.clone(), task: first.task_id, kind: v1::FailureKind::Budget, message });
    assert_eq!(drill.failed, None, "the other is not done");
    assert_eq!(drill.core.offer(&one, &[]), None);
    drill.finish(&two, &second);
    assert_eq!(drill.failed, Some(Exit::Budget));
    assert_eq!(drill.state.making.as_ref().unwrap().read.len(), 1);
}
