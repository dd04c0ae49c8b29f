//! What a run came to, as a record.

use std::time::Duration;

use artel_common::digest::Digest;
use artel_common::event::Stage;
use artel_common::records::{Evaluation, Report};

use super::Core;

impl Core {
    /// The evaluation whose weights are exported: the best, or the last with `load_best_model_at_end = false`. Weights that are neither
    /// at hand nor in a checkpoint cannot be.
    pub(super) fn best(&self) -> Option<&Evaluation> {
        let total = self.schedule().map_or(0, |schedule| schedule.total());
        let metric = self.prepared.as_ref().map(|prepared| prepared.best_metric.as_str()).unwrap_or_default();
        if self.spec.train.load_best_model_at_end {
            self.run.best(metric, |step| step == self.step || self.run.checkpoint_at(step).is_some())
        } else {
            self.run.evaluation_at(total)
        }
    }

    /// The report as far as it is known; `weights_digest` is there once the model is exported.
    pub(super) fn report(&self, weights_digest: Option<Digest>, now: Duration) -> Report {
        let wall = self.wall_s(now);
        let training: f64 = [Stage::Tokenise, Stage::Train].iter().filter_map(|stage| wall.get(stage.name())).sum();
        let exported = self.best().or(self.run.evaluations.last());
        let tenth = (self.losses.len() / 10).max(1);
        let prepared = self.prepared.as_ref();
        let dataset = prepared.map(|prepared| &prepared.dataset.record);
        let made = dataset.and_then(|dataset| dataset.made.as_ref());
        let on_train = dataset.is_some_and(|dataset| dataset.test_is_train);
        let trained_pairs = prepared.map_or(0, |prepared| prepared.pairs_up_to(self.step));
        let mut attempts = self.run.attempts.clone();
        if let Some(last) = attempts.last_mut() {
            last.to_step = self.step;
        }
        Report {
            format: 1,
            name: self.spec.run.name.clone(),
            run_digest: prepared.map_or_else(|| Digest::of(b""), |prepared| prepared.run_digest.clone()),
            before: self.run.evaluation_at(0).map(|base| base.metrics.clone()).unwrap_or_default(),
            after: exported.map(|evaluation| evaluation.metrics.clone()).unwrap_or_default(),
            measured_on: if on_train {
                "the training pairs (test = \"train\"): not a measure of unseen questions"
            } else {
                "test pairs"
            }
            .into(),
            steps: self.step,
            exported_step: exported.map_or(0, |evaluation| evaluation.step),
            weights_digest: weights_digest.unwrap_or_else(|| Digest::of(b"")),
            pairs_per_second: if training > 0.0 { trained_pairs as f64 / training } else { 0.0 },
            wall_s: wall,
            peak_memory_mb: self.peak_bytes as f64 / 1e6,
            attempts,
            import: dataset.map(|dataset| dataset.import.clone()).unwrap_or_default(),
            documents: made.map(|made| made.documents.clone()).unwrap_or_default(),
            questions: made.map(|made| made.questions.clone()),
            evaluations: self.run.evaluations.clone(),
            loss_first: mean(&self.losses[..tenth.min(self.losses.len())]),
            loss_last: mean(&self.losses[self.losses.len().saturating_sub(tenth)..]),
            train_rows: dataset.map_or(0, |dataset| dataset.train.num_rows),
            test_rows: dataset.map_or(0, |dataset| dataset.test.num_rows),
            rows_left_out: prepared.map_or(0, |prepared| prepared.rows_left_out),
            warnings: self.warnings.clone(),
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}
