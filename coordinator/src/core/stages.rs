//! The stages of a run: what is done next, and by whom.

use std::time::Duration;

use artel_common::event::{Event, Stage};
use artel_common::exit::Exit;
use artel_common::records::{Evaluation, TokenShardRef, TokensManifest};
use artel_proto::v1::complete_task_request::Result as Outcome;
use artel_proto::v1::task::Kind;
use artel_proto::v1::{self, report_request::Report};

use super::{Core, Effect, Failure, Phase, Prepared, WorldTask};

impl Core {
    pub(super) fn prepared(&mut self, prepared: Prepared, now: Duration, effects: &mut Vec<Effect>) {
        let note = format!("{} training and {} test rows", prepared.dataset.train.num_rows, prepared.dataset.test.num_rows);
        self.leave(now, note, effects);
        let train = &self.spec.train;
        self.points = prepared.schedule.evaluations(train.eval_strategy, train.eval_steps).into();
        self.schedule = Some(prepared.schedule.clone());
        self.prepared = Some(prepared);
        self.phase = Phase::Gathering;
        self.gathering_since = Some(now);
        self.gather(now, effects);
    }

    /// Goes on to tokenise once the data and all workers are there.
    pub(super) fn gather(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Gathering || self.workers.len() < self.spec.workers.count {
            return;
        }
        let Some(manifest) = self.manifest() else { return };
        let shards = |split: &str, count: usize| {
            let split = split.to_owned();
            (0..count as u32).map(move |index| v1::Tokenise { split: split.clone(), index })
        };
        let test = if manifest.test_is_train { 0 } else { manifest.test.shards.len() };
        let queue: Vec<_> = shards("train", manifest.train.shards.len()).chain(shards("test", test)).collect();
        self.queue = queue.into();
        self.phase = Phase::Tokenising;
        self.enter(Stage::Tokenise, now, effects);
        for worker in self.ids() {
            self.next_shard(&worker, effects);
        }
    }

    fn ids(&self) -> Vec<String> {
        self.workers.iter().map(|worker| worker.id.clone()).collect()
    }

    fn next_shard(&mut self, worker: &str, effects: &mut Vec<Effect>) {
        if let Some(shard) = self.queue.pop_front() {
            let task = self.assign(worker, Kind::Tokenise(shard.clone()), effects);
            self.running.insert(task, shard);
        }
    }

    /// A worker did what it was told.
    pub(super) fn done(&mut self, worker: &str, task: u64, outcome: Outcome, now: Duration, effects: &mut Vec<Effect>) {
        if !self.take_back(worker, task) {
            return;
        }
        match outcome {
            Outcome::Tokenised(tokenised) => self.tokenised(worker, task, tokenised, effects),
            other => self.world_done(worker, other, now, effects),
        }
    }

    fn tokenised(&mut self, worker: &str, task: u64, tokenised: v1::Tokenised, effects: &mut Vec<Effect>) {
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
            effects.push(Effect::CommitTokens(TokensManifest { format: 1, shards: self.tokens.clone() }));
        }
    }

    /// A commit is done.
    pub(super) fn committed(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::CommittingTokens => {
                let tokens: u64 = self.tokens.iter().map(|shard| shard.num_tokens).sum();
                self.leave(now, format!("{tokens} tokens"), effects);
                self.join_world(effects);
            }
            Phase::Reporting => {
                self.leave(now, String::new(), effects);
                self.finish(Exit::Done, "the run is done".into(), effects);
            }
            _ => {}
        }
    }

    /// Forms a world of all workers, ranks in order of arrival.
    fn join_world(&mut self, effects: &mut Vec<Effect>) {
        self.generation += 1;
        self.world = self.ids();
        self.phase = Phase::Joining;
        let members: Vec<String> = self.workers.iter().map(|worker| worker.facts.collective_address.clone()).collect();
        let hosts: Vec<String> = self.workers.iter().map(|worker| worker.facts.host.clone()).collect();
        let (generation, token) = (self.generation, self.token.to_vec());
        self.world_task(effects, |rank| {
            let local_workers = hosts.iter().filter(|host| **host == hosts[rank]).count() as u32;
            let members = members.clone();
            Kind::JoinWorld(v1::JoinWorld { generation, rank: rank as u32, members, token: token.clone(), local_workers })
        });
    }

    /// Gives every rank the same kind of task.
    pub(super) fn world_task(&mut self, effects: &mut Vec<Effect>, kind: impl Fn(usize) -> Kind) {
        let world = self.world.clone();
        for (rank, worker) in world.iter().enumerate() {
            self.assign(worker, kind(rank), effects);
        }
        self.world_task = Some(WorldTask { waiting: world.into_iter().collect(), rank0: None, digests: Default::default() });
    }

    fn world_done(&mut self, worker: &str, outcome: Outcome, now: Duration, effects: &mut Vec<Effect>) {
        let rank0 = self.world.first().is_some_and(|first| first == worker);
        if let Outcome::Joined(joined) = &outcome
            && rank0
        {
            joined.warnings.iter().for_each(|warning| self.warn(warning.clone(), effects));
        }
        let Some(task) = &mut self.world_task else { return };
        task.waiting.remove(worker);
        if let Outcome::Trained(trained) = &outcome {
            task.digests.insert(trained.params_digest.clone());
        }
        if rank0 {
            task.rank0 = Some(outcome);
        }
        if !task.waiting.is_empty() {
            return;
        }
        let digests = task.digests.len();
        let Some(Some(outcome)) = self.world_task.take().map(|task| task.rank0) else { return };
        if digests > 1 {
            let message =
                format!("the ranks' parameters differ after step {}: this is a defect or a broken machine; run again", self.step);
            return self.fail(Failure { exit: Exit::Internal, message }, effects);
        }
        self.world_next(outcome, now, effects);
    }

    /// Every rank is done: rank 0's outcome decides what follows.
    fn world_next(&mut self, outcome: Outcome, now: Duration, effects: &mut Vec<Effect>) {
        match (self.phase, outcome) {
            (Phase::Joining, Outcome::Joined(joined)) => {
                let workers = self.world.len() as u32;
                effects.push(Effect::Emit(Event::World { generation: self.generation, workers, plan: joined.plan }));
                self.phase = Phase::EvaluatingBase;
                self.enter(Stage::EvaluateBase, now, effects);
                self.world_task(effects, |_| Kind::Evaluate(v1::Evaluate { step: 0 }));
            }
            (Phase::EvaluatingBase, Outcome::Evaluated(evaluated)) => {
                let metrics: artel_common::records::Metrics = evaluated.metrics.into_iter().collect();
                self.before = Some(metrics.clone());
                self.measured(metrics, effects);
                self.train(now, effects);
            }
            (Phase::Training, Outcome::Trained(trained)) => {
                self.trained(&trained);
                self.phase = Phase::Evaluating;
                self.enter(Stage::Evaluate, now, effects);
                let step = self.step;
                self.world_task(effects, |_| Kind::Evaluate(v1::Evaluate { step }));
            }
            (Phase::Evaluating, Outcome::Evaluated(evaluated)) => {
                self.measured(evaluated.metrics.into_iter().collect(), effects);
                self.choose(now, effects);
            }
            (Phase::Keeping, Outcome::Kept(_)) => self.train(now, effects),
            (Phase::Exporting, Outcome::Exported(exported)) => self.exported(exported, now, effects),
            (phase, outcome) => {
                let message = format!("a worker answered {outcome:?} in phase {phase:?}; run the same version everywhere");
                self.fail(Failure { exit: Exit::Internal, message }, effects);
            }
        }
    }

    /// Trains up to the next measuring point, or exports where there is none.
    fn train(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let Some(to_step) = self.points.pop_front() else { return self.export(now, effects) };
        self.phase = Phase::Training;
        self.enter(Stage::Train, now, effects);
        let from_step = self.step;
        self.world_task(effects, |_| Kind::Train(v1::Train { from_step, to_step }));
    }

    fn trained(&mut self, trained: &v1::Trained) {
        if let Some(prepared) = &self.prepared {
            let steps = self.step as usize..trained.to_step as usize;
            let rows = prepared.rows_per_step.get(steps).unwrap_or_default();
            self.trained_pairs += rows.iter().map(|&rows| u64::from(rows)).sum::<u64>();
        }
        self.step = trained.to_step;
        self.losses.extend_from_slice(&trained.losses);
    }

    fn measured(&mut self, metrics: artel_common::records::Metrics, effects: &mut Vec<Effect>) {
        let epoch = self.schedule.as_ref().map_or(0.0, |schedule| schedule.epoch_at(self.step));
        let evaluation = Evaluation { step: self.step, epoch, metrics };
        let Evaluation { step, epoch, metrics } = evaluation.clone();
        effects.push(Effect::Emit(Event::Evaluation { step, epoch, metrics }));
        self.evaluations.push(evaluation);
        effects.push(Effect::PutEvaluations(self.evaluations.clone()));
    }

    /// Keeps the weights that were just measured, if they are the best and will not be the last.
    fn choose(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let Some(measured) = self.evaluations.last().cloned() else { return };
        let Some(metric) = self.prepared.as_ref().map(|prepared| prepared.best_metric.clone()) else { return };
        let value = |evaluation: &Evaluation| evaluation.metrics.get(&metric).copied().unwrap_or(f64::NEG_INFINITY);
        let is_best =
            !self.spec.train.load_best_model_at_end || self.best.as_ref().is_none_or(|best| value(&measured) > value(best));
        if is_best {
            self.best = Some(measured);
        }
        if is_best && self.spec.train.load_best_model_at_end && !self.points.is_empty() {
            self.phase = Phase::Keeping;
            let step = self.step;
            self.kept = Some(step);
            return self.world_task(effects, |_| Kind::KeepWeights(v1::KeepWeights { step }));
        }
        self.train(now, effects);
    }

    fn export(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        self.phase = Phase::Exporting;
        self.enter(Stage::Export, now, effects);
        let step = self.best.as_ref().map_or(self.step, |best| best.step);
        let report = self.report(None, now);
        match serde_json::to_string(&report) {
            Ok(report_json) => self.world_task(effects, |_| Kind::Export(v1::Export { step, report_json: report_json.clone() })),
            Err(e) => self.fail(Failure { exit: Exit::Internal, message: format!("cannot write the report: {e}") }, effects),
        }
    }

    fn exported(&mut self, exported: v1::Exported, now: Duration, effects: &mut Vec<Effect>) {
        self.phase = Phase::Reporting;
        self.enter(Stage::Report, now, effects);
        let Some(digest) = artel_common::digest::Digest::parse(&exported.weights_digest) else {
            let message = "the exporting worker gave no digest of the weights; run the same version everywhere".to_owned();
            return self.fail(Failure { exit: Exit::Internal, message }, effects);
        };
        let report = self.report(Some(digest), now);
        effects.push(Effect::CommitReport(Box::new(report), exported.files));
    }

    /// A worker's task goes on.
    pub(super) fn reported(&mut self, worker: &str, report: Report, effects: &mut Vec<Effect>) {
        if self.world.first().is_none_or(|first| first != worker) {
            return;
        }
        let Some(schedule) = &self.schedule else { return };
        let (total, epoch_at) = (schedule.total(), |step| schedule.epoch_at(step));
        match report {
            Report::Step(step) => effects.push(Effect::Emit(Event::Step {
                step: step.step,
                total,
                loss: step.loss,
                grad_norm: step.grad_norm,
                learning_rate: step.learning_rate,
                epoch: epoch_at(step.step),
                pairs_per_second: step.pairs_per_second,
            })),
            Report::Progress(progress) => self.progress(progress.done, progress.total, progress.unit, effects),
        }
    }
}
