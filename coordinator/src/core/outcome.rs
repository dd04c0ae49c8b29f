//! What a run came to, as a record.

use std::collections::BTreeMap;
use std::time::Duration;

use artel_common::digest::Digest;
use artel_common::event::Stage;
use artel_common::records::{Attempt, Report};

use super::Core;

impl Core {
    /// The report as far as it is known; `weights_digest` is there once the model is exported.
    pub(super) fn report(&self, weights_digest: Option<Digest>, now: Duration) -> Report {
        let mut wall: BTreeMap<String, f64> =
            self.wall.iter().map(|(name, wall)| ((*name).to_owned(), wall.as_secs_f64())).collect();
        if let Some((stage, since)) = self.stage {
            *wall.entry(stage.name().to_owned()).or_default() += now.saturating_sub(since).as_secs_f64();
        }
        let training: f64 = [Stage::Tokenise, Stage::Train].iter().filter_map(|stage| wall.get(stage.name())).sum();
        let exported = self.best.as_ref().or(self.evaluations.last());
        let tenth = (self.losses.len() / 10).max(1);
        let prepared = self.prepared.as_ref();
        let dataset = prepared.map(|prepared| &prepared.dataset);
        let on_train = dataset.is_some_and(|dataset| dataset.test_is_train);
        Report {
            format: 1,
            name: self.spec.run.name.clone(),
            run_digest: prepared.map_or_else(|| Digest::of(b""), |prepared| prepared.run_digest.clone()),
            before: self.before.clone().unwrap_or_default(),
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
            pairs_per_second: if training > 0.0 { self.trained_pairs as f64 / training } else { 0.0 },
            wall_s: wall,
            peak_memory_mb: self.peak_bytes as f64 / 1e6,
            attempts: vec![Attempt { from_step: 0, to_step: self.step, workers: self.world.len() as u32 }],
            import: dataset.map(|dataset| dataset.import.clone()).unwrap_or_default(),
            evaluations: self.evaluations.clone(),
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
