//! What a run is prepared with: data set, base model and plans in the store, and what follows from them.

use artel_common::digest::Digest;
use artel_common::plan::EpochPlan;
use artel_common::records::{DatasetManifest, ModelManifest, ObjectRef, Stored};
use artel_common::schedule::Schedule;
use artel_common::spec::RunSpec;
use artel_common::{Error, Result};
use artel_proto::v1;

/// Data set, model and plan lie in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// The data set.
    pub dataset: Stored<DatasetManifest>,
    /// The base model.
    pub model: Stored<ModelManifest>,
    /// The batch plan of each epoch.
    pub plans: Vec<ObjectRef>,
    /// The updates.
    pub schedule: Schedule,
    /// Training rows that an epoch leaves out, the most of any epoch.
    pub rows_left_out: u64,
    /// The run's identity.
    pub run_digest: Digest,
    /// The metric that says which weights are the best, such as `dim_128_cosine_ndcg@10`.
    pub best_metric: String,
    /// Rows of the batches of each update, in order of updates.
    pub rows_per_step: Vec<u32>,
}

impl Prepared {
    /// What follows from the plans; `hidden` is the model's width.
    ///
    /// # Errors
    /// There is nothing to train on.
    pub fn new(
        spec: &RunSpec,
        dataset: Stored<DatasetManifest>,
        model: Stored<ModelManifest>,
        plans: &[EpochPlan],
        objects: Vec<ObjectRef>,
        run_digest: Digest,
        hidden: usize,
    ) -> Result<Self> {
        let batches = plans.iter().map(|plan| plan.num_batches() as u64).collect();
        let schedule = Schedule::new(batches, spec.train.gradient_accumulation_steps as u64, spec.train.max_steps);
        if schedule.total() == 0 {
            return Err(Error::Data("the training rows fill no batch: there is nothing to train on".into()));
        }
        let rows_per_step = (0..schedule.total())
            .filter_map(|step| schedule.batches(step))
            .map(|at| {
                let plan = &plans[at.epoch as usize];
                (at.first..at.first + at.count).map(|batch| plan.batch(batch as usize).len() as u32).sum()
            })
            .collect();
        let rows_left_out = plans.iter().map(|plan| u64::from(plan.left_out)).max().unwrap_or(0);
        let best_metric = spec.best_metric(hidden);
        Ok(Self { dataset, model, plans: objects, schedule, rows_left_out, run_digest, best_metric, rows_per_step })
    }

    /// What workers must know of it.
    pub(super) fn inputs(&self, tokens: Option<&ObjectRef>) -> v1::Inputs {
        v1::Inputs {
            dataset: Some((&self.dataset.object).into()),
            model: Some((&self.model.object).into()),
            plans: self.plans.iter().map(Into::into).collect(),
            tokens: tokens.map(Into::into),
        }
    }

    /// Pairs that the first `step` updates train on.
    pub(super) fn pairs_up_to(&self, step: u64) -> u64 {
        self.rows_per_step.iter().take(step as usize).map(|&rows| u64::from(rows)).sum()
    }
}
