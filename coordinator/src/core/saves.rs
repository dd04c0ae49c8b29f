//! Checkpoints: parts of every rank, then the manifest, then the journal (CKPT-1); and which of them stay.

use std::collections::BTreeMap;
use std::time::Duration;

use artel_common::checkpoint::{CheckpointManifest, CheckpointPart, FORMAT};
use artel_common::event::Event;
use artel_common::exit::Exit;
use artel_common::journal::CheckpointRecord;
use artel_common::records::ObjectRef;
use artel_proto::v1::task::Kind;
use artel_proto::v1::{self};

use super::{Commit, Core, Effect, Failure, Phase, RankPart};

/// A checkpoint whose parts are coming in.
#[derive(Debug, Default)]
pub(super) struct Saving {
    begun: Duration,
    /// By rank.
    parts: BTreeMap<usize, Vec<CheckpointPart>>,
    history: Option<ObjectRef>,
    stall_ms: u64,
    committing: bool,
}

impl Core {
    /// Why a part is refused, if it is: it must be of the present world.
    ///
    /// # Errors
    /// The worker is of another world.
    pub fn admit_part(&self, worker: &str, generation: u64) -> Result<usize, String> {
        let rank = self.world.iter().position(|member| member == worker);
        match rank {
            Some(rank) if generation == self.generation => Ok(rank),
            _ => Err(format!("{worker} is not a rank of generation {}: its part of a checkpoint is refused", self.generation)),
        }
    }

    /// Whether the checkpoint of this step is whole.
    pub fn is_whole(&self, generation: u64, step: u64) -> bool {
        let known = |checkpoint: &CheckpointRecord| (checkpoint.generation, checkpoint.step) == (generation, step);
        generation == self.generation && !self.saving.contains_key(&step) && self.run.checkpoints.iter().any(known)
    }

    /// A rank's part lies in the store; the last one makes the checkpoint whole.
    pub(super) fn part(&mut self, worker: &str, part: RankPart, now: Duration, effects: &mut Vec<Effect>) {
        let Ok(rank) = self.admit_part(worker, part.generation) else { return };
        if self.run.checkpoints.iter().any(|known| (known.generation, known.step) == (part.generation, part.step)) {
            return;
        }
        let Some(run_digest) = self.prepared.as_ref().map(|prepared| prepared.run_digest.clone()) else { return };
        let saving = self.saving.entry(part.step).or_insert_with(|| Saving { begun: now, ..Saving::default() });
        saving.parts.insert(rank, part.parts);
        saving.history = saving.history.take().or(part.history);
        saving.stall_ms = saving.stall_ms.max(part.stall_ms);
        if saving.committing || saving.parts.len() < self.world.len() {
            return;
        }
        let Some(history) = saving.history.clone() else { return };
        saving.committing = true;
        let mut parts: Vec<CheckpointPart> = saving.parts.values().flatten().cloned().collect();
        parts.sort_by_key(|part| (part.vector, part.start));
        let kernel_path = self.workers.first().map(|worker| worker.facts.kernel_path.clone()).unwrap_or_default();
        let manifest = CheckpointManifest {
            format: FORMAT,
            run_digest,
            generation: part.generation,
            step: part.step,
            num_values: part.num_values,
            kernel_path,
            history,
            parts,
        };
        if let Err(e) = manifest.check() {
            let message = format!("the ranks' parts do not make a checkpoint: {e}; run the same version everywhere");
            return self.fail(Failure { exit: Exit::Internal, message }, effects);
        }
        Self::commit(Commit::Checkpoint { manifest, peak_bytes: self.peak_bytes, wall_s: self.wall_s(now) }, effects);
    }

    pub(super) fn checkpoint_committed(&mut self, checkpoint: &CheckpointRecord, now: Duration, effects: &mut Vec<Effect>) {
        let saving = self.saving.remove(&checkpoint.step).unwrap_or_else(|| Saving { begun: now, ..Saving::default() });
        let (wall_s, stall_s) = (now.saturating_sub(saving.begun).as_secs_f64(), saving.stall_ms as f64 / 1e3);
        effects.push(Effect::Emit(Event::Checkpoint { step: checkpoint.step, bytes: checkpoint.bytes, wall_s, stall_s }));
        self.prune(effects);
    }

    /// Checkpoints beyond `save_total_limit` go; the newest stays always, and so does the best, whose weights may be exported.
    fn prune(&mut self, effects: &mut Vec<Effect>) {
        let Some(limit) = self.spec.train.save_total_limit else { return };
        let best = self.best().map(|best| best.step);
        let old = self.run.checkpoints.len().saturating_sub(limit as usize);
        let gone: Vec<CheckpointRecord> =
            self.run.checkpoints.iter().take(old).filter(|known| Some(known.step) != best).cloned().collect();
        if !gone.is_empty() {
            Self::commit(Commit::Prune(gone), effects);
        }
    }

    /// Every rank saves its part of the present state; the run goes on when the checkpoint is whole.
    pub(super) fn save(&mut self, effects: &mut Vec<Effect>) {
        self.phase = Phase::Saving;
        let step = self.step;
        self.world_task(effects, |_| Kind::Save(v1::Save { step }));
    }

    /// Whether the present state lies in the store whole.
    pub(super) fn is_saved(&self) -> bool {
        self.run.checkpoint_at(self.step).is_some()
    }
}
