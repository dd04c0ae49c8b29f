//! The stages of a run: what is done next, and by whom.

use std::time::Duration;

use artel_common::digest::Digest;
use artel_common::event::{Event, Stage};
use artel_common::exit::Exit;
use artel_common::journal::{Exported, PreparedRecord, Record, RunState};
use artel_common::making::QuestionsReport;
use artel_common::records::{Evaluation, ExportManifest, Metrics, ModelFile, TokenShardRef, TokensManifest};
use artel_common::spec::Strategy;
use artel_proto::v1::complete_task_request::Result as Outcome;
use artel_proto::v1::task::Kind;
use artel_proto::v1::{self, report_request::Report};

use super::{Commit, Core, Effect, Failure, Phase, Prepared, WorldTask};

impl Core {
    /// The data set was made of the pairs: the run goes on with it once that is recorded.
    pub(super) fn built(&mut self, prepared: Prepared, mut record: PreparedRecord, now: Duration, effects: &mut Vec<Effect>) {
        for (stage, seconds) in self.wall_s(now) {
            record.wall_s.entry(stage).or_insert(seconds);
        }
        self.prepared = Some(prepared);
        self.phase = Phase::RecordingPrepared;
        Self::commit(Commit::Record(Record::Prepared(Box::new(record))), effects);
    }

    /// Data, model and plans are there: where the run stands follows from the journal.
    pub(super) fn prepared(&mut self, prepared: Prepared, run: RunState, now: Duration, effects: &mut Vec<Effect>) {
        let dataset = &prepared.dataset.record;
        let cleaned = dataset.made.as_ref().map(|made| cleaned(&made.questions)).unwrap_or_default();
        let note = format!("{} training and {} test rows{cleaned}", dataset.train.num_rows, dataset.test.num_rows);
        self.leave_stage(now, note, effects);
        let train = &self.spec.train;
        self.points = prepared.schedule.evaluations(train.eval_strategy, train.eval_steps);
        self.saves = match train.save_strategy {
            Strategy::No => Vec::new(),
            // the end of the training is always among them
            strategy => prepared.schedule.evaluations(strategy, train.save_steps),
        };
        self.wall.clone_from(&run.wall_s);
        self.peak_bytes = run.checkpoints.last().map_or(0, |last| last.peak_bytes);
        self.generation = run.generation;
        for warning in run.prepared.iter().flat_map(|record| record.warnings.clone()) {
            self.warn(warning, effects);
        }
        for (step, reason) in &run.damaged {
            self.warnings.push(passed_over(*step, reason));
        }
        self.run = run;
        if self.run.term > 1 || !self.run.attempts.is_empty() {
            self.tell_resumption(self.run.last_checkpoint().map_or(0, |last| last.step), effects);
        }
        self.prepared = Some(prepared);
        self.phase = Phase::Gathering;
        self.gathering_since = Some(now);
        self.gather(now, effects);
    }

    /// Says, once, that the run goes on from where an earlier one left it.
    pub(super) fn tell_resumption(&mut self, from_step: u64, effects: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.is_resumption_told, true) {
            effects.push(Effect::Emit(Event::Resumed { from_step, attempt: self.run.attempts.len() as u32 + 1 }));
        }
    }

    /// Goes on once the data and all workers are there: to tokenise, or to what the journal lacks.
    pub(super) fn gather(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Gathering || self.workers.len() < self.spec.workers.count {
            return;
        }
        if self.run.tokens.is_some() {
            return self.join_world(effects);
        }
        let (Some(prepared), Some(manifest)) = (&self.prepared, self.manifest()) else { return };
        let inputs = prepared.inputs(None);
        let shards = |split: &str, count: usize| {
            let (split, inputs) = (split.to_owned(), inputs.clone());
            (0..count as u32).map(move |index| v1::Tokenise { split: split.clone(), index, inputs: Some(inputs.clone()) })
        };
        let test = if manifest.test_is_train { 0 } else { manifest.test.shards.len() };
        let queue: Vec<_> = shards("train", manifest.train.shards.len()).chain(shards("test", test)).collect();
        self.queue = queue.into();
        self.phase = Phase::Tokenising;
        self.enter(Stage::Tokenise, now, effects);
        let ids: Vec<String> = self.workers.iter().map(|worker| worker.id.clone()).collect();
        for worker in ids {
            self.next_shard(&worker, effects);
        }
    }

    fn next_shard(&mut self, worker: &str, effects: &mut Vec<Effect>) {
        if let Some(shard) = self.queue.pop_front() {
            let task = self.assign(worker, Kind::Tokenise(shard.clone()), effects);
            self.running.insert(task, shard);
        }
    }

    /// A worker did what it was told.
    pub(super) fn done(&mut self, worker: &str, task: u64, outcome: Outcome, now: Duration, effects: &mut Vec<Effect>) {
        if self.piece_done(worker, task, &outcome, now, effects) || !self.take_back(worker, task) {
            return;
        }
        match outcome {
            Outcome::Tokenised(tokenised) => self.tokenised(worker, task, tokenised, now, effects),
            other => self.world_done(worker, Some(other), now, effects),
        }
    }

    fn tokenised(&mut self, worker: &str, task: u64, tokenised: v1::Tokenised, now: Duration, effects: &mut Vec<Effect>) {
        let Some(shard) = self.running.remove(&task) else { return };
        let object = match tokenised.object.map(TryInto::try_into) {
            Some(Ok(object)) => object,
            other => {
                let message = format!("{worker} gave no usable token shard ({other:?}); run the same version everywhere");
                return self.fail(Failure { exit: Exit::Internal, message }, effects);
            }
        };
        self.tokens.push(TokenShardRef { split: shard.split, index: shard.index, object, num_tokens: tokenised.num_tokens });
        self.rows_done += tokenised.num_rows;
        let total = self.manifest().map_or(0, |m| m.train.num_rows + if m.test_is_train { 0 } else { m.test.num_rows });
        self.progress(self.rows_done, total, "rows".into(), effects);
        self.next_shard(worker, effects);
        if self.queue.is_empty() && self.running.is_empty() {
            self.phase = Phase::CommittingTokens;
            self.tokens.sort_by(|a, b| (&b.split, a.index).cmp(&(&a.split, b.index)));
            let manifest = TokensManifest { format: 1, shards: self.tokens.clone() };
            Self::commit(Commit::Tokens { manifest, wall_s: self.wall_s(now) }, effects);
        }
    }

    pub(super) fn tokens_committed(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let tokens: u64 = self.tokens.iter().map(|shard| shard.num_tokens).sum();
        self.leave_stage(now, format!("{tokens} tokens"), effects);
        self.join_world(effects);
    }

    /// Records a new generation of the world; nothing is told to join it before that.
    pub(super) fn join_world(&mut self, effects: &mut Vec<Effect>) {
        self.phase = Phase::Opening;
        self.step = self.run.last_checkpoint().map_or(0, |last| last.step);
        let workers = self.workers.len() as u32;
        let record = Record::World { generation: self.run.generation + 1, workers, from_step: self.step };
        Self::commit(Commit::Record(record), effects);
    }

    /// Forms the world of all workers, ranks in order of arrival, from the last checkpoint.
    pub(super) fn open_world(&mut self, effects: &mut Vec<Effect>) {
        let Some(prepared) = &self.prepared else { return };
        self.generation = self.run.generation;
        self.phase = Phase::Joining;
        self.world = self.workers.iter().map(|worker| worker.id.clone()).collect();
        let hosts: Vec<String> = self.workers.iter().map(|worker| worker.facts.host.clone()).collect();
        let join = v1::JoinWorld {
            generation: self.generation,
            rank: 0,
            members: self.workers.iter().map(|worker| worker.facts.collective_address.clone()).collect(),
            token: self.token.to_vec(),
            local_workers: 0,
            inputs: Some(prepared.inputs(self.run.tokens.as_ref())),
            checkpoint: self.run.last_checkpoint().map(|last| (&last.manifest).into()),
            evaluations_json: serde_json::to_string(&self.run.evaluations).unwrap_or_default(),
            run_digest: prepared.run_digest.to_string(),
        };
        self.world_task(effects, |rank| {
            let local_workers = hosts.iter().filter(|host| **host == hosts[rank]).count() as u32;
            Kind::JoinWorld(v1::JoinWorld { rank: rank as u32, local_workers, ..join.clone() })
        });
    }

    /// Gives every rank the same kind of task.
    pub(super) fn world_task(&mut self, effects: &mut Vec<Effect>, kind: impl Fn(usize) -> Kind) {
        let world = self.world.clone();
        for (rank, worker) in world.iter().enumerate() {
            self.assign(worker, kind(rank), effects);
        }
        let waiting = world.into_iter().collect();
        self.world_task = Some(WorldTask { waiting, rank0: None, digests: Default::default(), damaged: None, gave_up: false });
    }

    /// A rank is done with the world's task, or (without an outcome) has given it up.
    pub(super) fn world_done(&mut self, worker: &str, outcome: Option<Outcome>, now: Duration, effects: &mut Vec<Effect>) {
        let rank0 = self.world.first().is_some_and(|first| first == worker);
        if let Some(Outcome::Joined(joined)) = &outcome
            && rank0
        {
            joined.warnings.iter().for_each(|warning| self.warn(warning.clone(), effects));
        }
        let Some(task) = &mut self.world_task else { return };
        task.waiting.remove(worker);
        if let Some(Outcome::Trained(trained)) = &outcome {
            task.digests.insert(format!("{} {}", trained.to_step, trained.params_digest));
        }
        task.gave_up |= outcome.is_none();
        if rank0 {
            task.rank0 = outcome;
        }
        if !task.waiting.is_empty() {
            return;
        }
        let Some(WorldTask { rank0, digests, damaged, gave_up, .. }) = self.world_task.take() else { return };
        if let Some(reason) = damaged {
            return self.pass_over(reason, effects);
        }
        if gave_up && self.phase == Phase::Saving {
            // the store is too slow for the present state: the checkpoint before it is what there is
            return self.left(effects);
        }
        if gave_up {
            return self.leave_or_save(effects);
        }
        if digests.len() > 1 {
            let message =
                format!("the ranks' parameters differ after step {}: this is a defect or a broken machine; run again", self.step);
            return self.fail(Failure { exit: Exit::Internal, message }, effects);
        }
        if let Some(outcome) = rank0 {
            self.world_next(outcome, now, effects);
        }
    }

    /// Every rank is done: rank 0's outcome decides what follows.
    fn world_next(&mut self, outcome: Outcome, now: Duration, effects: &mut Vec<Effect>) {
        match (self.phase, outcome) {
            (Phase::Joining, Outcome::Joined(joined)) => {
                let workers = self.world.len() as u32;
                effects.push(Effect::Emit(Event::World { generation: self.generation, workers, plan: joined.plan }));
                self.losses = joined.losses;
                self.go_on(now, effects);
            }
            (Phase::EvaluatingBase | Phase::Evaluating, Outcome::Evaluated(evaluated)) => {
                self.measured(evaluated.metrics.into_iter().collect(), now, effects);
            }
            (Phase::Training, Outcome::Trained(trained)) => {
                self.step = trained.to_step;
                self.losses.extend_from_slice(&trained.losses);
                self.go_on(now, effects);
            }
            (Phase::Saving, Outcome::Saved(_)) => self.go_on(now, effects),
            (Phase::Exporting, Outcome::Exported(exported)) => self.exported(exported, effects),
            (phase, outcome) => {
                let message = format!("a worker answered {outcome:?} in phase {phase:?}; run the same version everywhere");
                self.fail(Failure { exit: Exit::Internal, message }, effects);
            }
        }
    }

    /// What comes next at this step: to measure, to save the best, to train on, or to export.
    pub(super) fn go_on(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.is_leaving() {
            return self.leave_or_save(effects);
        }
        let step = self.step;
        let total = self.schedule().map_or(0, |schedule| schedule.total());
        if self.run.evaluation_at(step).is_none() && (step == 0 || self.points.contains(&step)) {
            let (phase, stage) = match step {
                0 => (Phase::EvaluatingBase, Stage::EvaluateBase),
                _ => (Phase::Evaluating, Stage::Evaluate),
            };
            self.phase = phase;
            self.enter(stage, now, effects);
            return self.world_task(effects, |_| Kind::Evaluate(v1::Evaluate { step }));
        }
        let is_best = self.spec.train.load_best_model_at_end && self.best().is_some_and(|best| best.step == step);
        if is_best && step < total && !self.is_saved() && !self.saving.contains_key(&step) {
            return self.save(effects);
        }
        if let Some(to_step) = self.points.iter().copied().find(|&point| point > step) {
            self.phase = Phase::Training;
            self.enter(Stage::Train, now, effects);
            let save_at: Vec<u64> = self.saves.iter().copied().filter(|save| (step + 1..=to_step).contains(save)).collect();
            return self.world_task(effects, |_| Kind::Train(v1::Train { from_step: step, to_step, save_at: save_at.clone() }));
        }
        self.export(now, effects);
    }

    fn measured(&mut self, metrics: Metrics, now: Duration, effects: &mut Vec<Effect>) {
        let epoch = self.schedule().map_or(0.0, |schedule| schedule.epoch_at(self.step));
        let evaluation = Evaluation { step: self.step, epoch, metrics };
        let Evaluation { step, epoch, metrics } = evaluation.clone();
        effects.push(Effect::Emit(Event::Evaluation { step, epoch, metrics }));
        self.phase = Phase::Recording;
        Self::commit(Commit::Record(Record::Evaluated { evaluation, wall_s: self.wall_s(now) }), effects);
    }

    fn export(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        self.phase = Phase::Exporting;
        self.enter(Stage::Export, now, effects);
        let step = self.best().map_or(self.step, |best| best.step);
        let checkpoint = self.run.checkpoint_at(step).map(|known| (&known.manifest).into());
        let report = self.report(None, now);
        match serde_json::to_string(&report) {
            Ok(report_json) => self.world_task(effects, |_| {
                Kind::Export(v1::Export { step, report_json: report_json.clone(), checkpoint: checkpoint.clone() })
            }),
            Err(e) => self.fail(Failure { exit: Exit::Internal, message: format!("cannot write the report: {e}") }, effects),
        }
    }

    fn exported(&mut self, exported: v1::Exported, effects: &mut Vec<Effect>) {
        self.phase = Phase::Reporting;
        let files: Result<Vec<ModelFile>, String> = exported.files.into_iter().map(TryInto::try_into).collect();
        let (Ok(files), Some(weights_digest)) = (files, Digest::parse(&exported.weights_digest)) else {
            let message = "the exporting worker gave no usable files or digest; run the same version everywhere".to_owned();
            return self.fail(Failure { exit: Exit::Internal, message }, effects);
        };
        let step = self.best().map_or(self.step, |best| best.step);
        Self::commit(Commit::Export { manifest: ExportManifest { format: 1, step, files }, weights_digest }, effects);
    }

    pub(super) fn report_run(&mut self, exported: &Exported, now: Duration, effects: &mut Vec<Effect>) {
        self.enter(Stage::Report, now, effects);
        let report = self.report(Some(exported.weights_digest.clone()), now);
        Self::commit(Commit::Done(Box::new(report)), effects);
    }

    /// The checkpoint that the world was to begin from, or whose weights were to be exported, is damaged: it is said, recorded, and the one before,
    /// or the next best, is taken.
    fn pass_over(&mut self, reason: String, effects: &mut Vec<Effect>) {
        let read = match self.phase {
            Phase::Exporting => self.best().and_then(|best| self.run.checkpoint_at(best.step)),
            _ => self.run.last_checkpoint(),
        };
        let Some((generation, step)) = read.map(|read| (read.generation, read.step)) else {
            return self.fail(Failure { exit: Exit::Store, message: reason }, effects);
        };
        self.warn(passed_over(step, &reason), effects);
        Self::commit(Commit::Record(Record::Damaged { generation, step, reason }), effects);
    }

    /// A worker's task goes on.
    pub(super) fn reported(&mut self, worker: &str, report: Report, effects: &mut Vec<Effect>) {
        if self.world.first().is_none_or(|first| first != worker) {
            return;
        }
        let Some(schedule) = self.schedule() else { return };
        match report {
            Report::Step(step) => effects.push(Effect::Emit(Event::Step {
                step: step.step,
                total: schedule.total(),
                loss: step.loss,
                grad_norm: step.grad_norm,
                learning_rate: step.learning_rate,
                epoch: schedule.epoch_at(step.step),
                pairs_per_second: step.pairs_per_second,
            })),
            Report::Progress(progress) => self.progress(progress.done, progress.total, progress.unit, effects),
            Report::Warning(warning) => self.warn(warning.message, effects),
        }
    }
}

/// What the cleaning took out, as a note goes on with it.
fn cleaned(questions: &QuestionsReport) -> String {
    let total: u64 = questions.filtered.iter().map(|by| by.count).sum();
    let rules: Vec<String> = questions.filtered.iter().map(|by| format!("{} {}", by.rule, by.count)).collect();
    let rules = if rules.is_empty() { String::new() } else { format!(" ({})", rules.join(", ")) };
    format!("; of {} pairs that were made the cleaning took {total} out{rules}", questions.pairs_made)
}

fn passed_over(step: u64, reason: &str) -> String {
    format!("the checkpoint of step {step} is damaged and passed over: {reason}")
}
