//! What the entries add up to: a pure fold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::{CheckpointRecord, Entry, Exported, PreparedRecord, Record};
use crate::making::MakingState;
use crate::mining::MiningState;
use crate::records::{Attempt, Evaluation, ObjectRef, Report};

/// A run as its journal tells it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// The highest term.
    pub term: u64,
    /// Who holds it.
    pub writer: String,
    /// The run's name.
    pub name: String,
    /// When the last coordinator began, seconds since 1970.
    pub began_unix_s: u64,
    /// The highest generation.
    pub generation: u64,
    /// Documents on their way to pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub making: Option<MakingState>,
    /// What the import came to.
    pub prepared: Option<Box<PreparedRecord>>,
    /// The tokens' manifest.
    pub tokens: Option<ObjectRef>,
    /// What was measured, each step once, in order of steps.
    pub evaluations: Vec<Evaluation>,
    /// Checkpoints that a resume may begin from, the oldest first.
    pub checkpoints: Vec<CheckpointRecord>,
    /// Checkpoints passed over, with what was found.
    pub damaged: Vec<(u64, String)>,
    /// Spans of steps by one set of workers.
    pub attempts: Vec<Attempt>,
    /// Wall seconds by stage.
    pub wall_s: BTreeMap<String, f64>,
    /// The model folder.
    pub exported: Option<Exported>,
    /// The end.
    pub done: Option<Box<Report>>,
    /// Objects of the checkpoints pruned last: their deletion may have been cut short.
    pub pruned: Vec<ObjectRef>,
}

impl RunState {
    /// Takes an entry in.
    pub fn apply(&mut self, entry: &Entry) {
        self.term = entry.term;
        self.writer.clone_from(&entry.writer);
        self.record(&entry.record);
    }

    /// Takes in what an entry says.
    pub fn record(&mut self, record: &Record) {
        match record {
            Record::Began(began) => {
                self.name.clone_from(&began.name);
                self.began_unix_s = began.unix_s;
            }
            Record::Sources { list, settings, documents, model, wall_s } => {
                // what was spent is spent, whatever is asked from now on
                let reserved = self.making.as_ref().map_or((0, 0), |before| before.reserved);
                self.making = Some(MakingState {
                    sources: list.clone(),
                    settings: settings.clone(),
                    documents: *documents,
                    model: model.clone(),
                    read: Vec::new(),
                    asked: Vec::new(),
                    reserved,
                    mining: None,
                });
                self.wall_s.clone_from(wall_s);
            }
            Record::Read(read) => self.making.iter_mut().for_each(|making| making.read.push(read.clone())),
            Record::Asked(asked) => self.making.iter_mut().for_each(|making| making.asked.push(asked.clone())),
            Record::Mining(record) => {
                let mining = MiningState { record: record.clone(), embedded: Vec::new(), searched: Vec::new() };
                self.making.iter_mut().for_each(|making| making.mining = Some(mining.clone()));
            }
            Record::Embedded(embedded) => self.mining().for_each(|mining| mining.embedded.push(embedded.clone())),
            Record::Searched(searched) => self.mining().for_each(|mining| mining.searched.push(searched.clone())),
            Record::Reserved { requests, cost_micros } => {
                self.making.iter_mut().for_each(|making| making.reserved = (*requests, *cost_micros));
            }
            Record::Prepared(prepared) => {
                self.wall_s.clone_from(&prepared.wall_s);
                self.prepared = Some(prepared.clone());
            }
            Record::Tokens { manifest, wall_s } => {
                self.tokens = Some(manifest.clone());
                self.wall_s.clone_from(wall_s);
            }
            Record::World { generation, workers, from_step } => {
                self.generation = *generation;
                self.attempts.push(Attempt { from_step: *from_step, to_step: *from_step, workers: *workers });
            }
            Record::Evaluated { evaluation, wall_s } => {
                self.reached(evaluation.step);
                self.evaluations.retain(|known| known.step != evaluation.step);
                self.evaluations.push(evaluation.clone());
                self.evaluations.sort_by_key(|known| known.step);
                self.wall_s.clone_from(wall_s);
            }
            Record::Checkpoint(checkpoint) => {
                self.reached(checkpoint.step);
                self.wall_s.clone_from(&checkpoint.wall_s);
                self.checkpoints.push(checkpoint.clone());
            }
            Record::Damaged { generation, step, reason } => {
                self.checkpoints.retain(|known| (known.generation, known.step) != (*generation, *step));
                self.damaged.push((*step, reason.clone()));
            }
            Record::Pruned { checkpoints } => {
                let gone = |known: &CheckpointRecord| checkpoints.contains(&(known.generation, known.step));
                self.pruned = self.checkpoints.iter().filter(|known| gone(known)).map(|known| known.manifest.clone()).collect();
                self.checkpoints.retain(|known| !gone(known));
            }
            Record::Exported(exported) => self.exported = Some(exported.clone()),
            Record::Done { report } => self.done = Some(report.clone()),
        }
    }

    fn mining(&mut self) -> impl Iterator<Item = &mut MiningState> {
        self.making.iter_mut().filter_map(|making| making.mining.as_mut())
    }

    fn reached(&mut self, step: u64) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.to_step = attempt.to_step.max(step);
        }
    }

    /// The checkpoint that a resume begins from.
    pub fn last_checkpoint(&self) -> Option<&CheckpointRecord> {
        self.checkpoints.last()
    }

    /// The newest checkpoint of this step.
    pub fn checkpoint_at(&self, step: u64) -> Option<&CheckpointRecord> {
        self.checkpoints.iter().rev().find(|known| known.step == step)
    }

    /// What was measured after so many updates.
    pub fn evaluation_at(&self, step: u64) -> Option<&Evaluation> {
        self.evaluations.iter().find(|known| known.step == step)
    }

    /// The best evaluation of trained weights by this metric, among the steps whose weights can be had; the earlier of two equal ones.
    pub fn best(&self, metric: &str, has_weights: impl Fn(u64) -> bool) -> Option<&Evaluation> {
        let value = |evaluation: &Evaluation| evaluation.metrics.get(metric).copied().unwrap_or(f64::NEG_INFINITY);
        let trained = self.evaluations.iter().filter(|known| known.step > 0 && has_weights(known.step));
        trained.reduce(|best, next| if value(next) > value(best) { next } else { best })
    }
}
