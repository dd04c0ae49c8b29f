//! What comes before any worker: the store is claimed, the base model and the pairs go into it, split and planned.

use std::path::{Path, PathBuf};

use artel_common::event::Stage;
use artel_common::records::{ModelManifest, RunRecord};
use artel_common::schedule::Schedule;
use artel_common::spec::RunSpec;
use artel_common::store::{Created, Store};
use artel_common::{Error, Result, layout};

use crate::core::{Input, Prepared};
use crate::{dataset, model_import};

/// What to prepare from.
pub struct Preparation {
    /// The spec.
    pub spec: RunSpec,
    /// Paths in it are relative to this folder.
    pub folder: PathBuf,
    /// A folder that stands for the spec's base model (made by the caller), if any.
    pub model_folder: Option<PathBuf>,
    /// The run's store.
    pub store: Store,
}

/// Claims the store: nothing of another run may be in it.
async fn claim(spec: &RunSpec, store: &Store) -> Result<()> {
    store.probe().await?;
    match store.create_json(layout::RUN, &RunRecord { format: 1, spec: spec.clone() }).await? {
        Created::New => Ok(()),
        Created::Exists => {
            let done = store.get_opt(layout::REPORT).await?.is_some();
            let state = if done { "a finished run (artel status shows it)" } else { "a run that did not finish" };
            Err(Error::Conflict(format!(
                "{} already holds {state}; one store is one run: choose another with [run] store or --store, or remove it",
                store.url()
            )))
        }
    }
}

/// Gives a claimed store back, so that the same command can be run again once what was wrong is mended. Best effort: the error that led
/// here is the one that matters. The claim goes last, so that nobody else's manifests are taken away.
async fn release(store: &Store) {
    for key in [layout::DATASET_MANIFEST, layout::MODEL_MANIFEST, layout::RUN] {
        if store.delete(key).await.is_err() {
            return;
        }
    }
}

/// Prepares the run; `tell` hears of stages, progress and warnings. Where that fails the store is nobody's again.
///
/// # Errors
/// The store, the data or the model is not usable.
pub async fn prepare(preparation: &Preparation, tell: &(dyn Fn(Input) + Send + Sync)) -> Result<Prepared> {
    tell(Input::Stage(Stage::Import));
    claim(&preparation.spec, &preparation.store).await?;
    let prepared = fill(preparation, tell).await;
    if prepared.is_err() {
        release(&preparation.store).await;
    }
    prepared
}

/// Puts model, data set and plans into the claimed store.
async fn fill(preparation: &Preparation, tell: &(dyn Fn(Input) + Send + Sync)) -> Result<Prepared> {
    let Preparation { spec, folder, store, .. } = preparation;
    let rows = dataset::read_rows(&spec.data, folder, &|done, total| {
        tell(Input::Progress { done, total, unit: "bytes".into() });
    })
    .await?;
    let model = import_model(preparation, tell).await?;
    let hidden = check_model(spec, &model, store).await?;
    tell(Input::Stage(Stage::Split));
    let (data, seed) = (spec.data.clone(), spec.train.seed);
    let split = tokio::task::spawn_blocking(move || dataset::split(rows, &data, seed))
        .await
        .map_err(|e| Error::Internal(format!("the split was interrupted: {e}")))??;
    split.warnings.iter().for_each(|warning| tell(Input::Warning(warning.clone())));
    let train = &spec.train;
    let epochs = 0..train.num_train_epochs;
    let plans = epochs
        .map(|epoch| dataset::plan_epoch(&split.train, train.seed, epoch, train.global_batch_size, train.drop_last))
        .collect::<Result<Vec<_>>>()?;
    let manifest = dataset::commit(&split, store).await?;
    for plan in &plans {
        store.put(&layout::plan(plan.epoch), plan.to_bytes()).await?;
    }
    let batches = plans.iter().map(|plan| plan.num_batches() as u64).collect();
    let schedule = Schedule::new(batches, spec.train.gradient_accumulation_steps as u64, spec.train.max_steps);
    let rows_per_step = (0..schedule.total())
        .filter_map(|step| schedule.batches(step))
        .map(|at| (at.first..at.first + at.count).map(|batch| plans[at.epoch as usize].batch(batch as usize).len() as u32).sum())
        .collect();
    let rows_left_out = plans.iter().map(|plan| u64::from(plan.left_out)).max().unwrap_or(0);
    if rows_left_out > 0 {
        tell(Input::Warning(format!(
            "{rows_left_out} training rows are left out of an epoch: no full batch of {} without equal texts could hold them",
            spec.train.global_batch_size
        )));
    }
    let run_digest = spec.identity(&manifest.train.digest, &model.digest)?;
    let best_metric = spec.best_metric(hidden);
    Ok(Prepared { dataset: manifest, model, schedule, rows_left_out, run_digest, best_metric, rows_per_step })
}

async fn import_model(preparation: &Preparation, tell: &(dyn Fn(Input) + Send + Sync)) -> Result<ModelManifest> {
    let (base, store) = (&preparation.spec.model.base, &preparation.store);
    let progress = |done, total| tell(Input::Progress { done, total, unit: "bytes".into() });
    let (manifest, warnings) = match &preparation.model_folder {
        Some(folder) => model_import::import_folder(folder, base, store, &progress).await?,
        None => {
            let revision = preparation.spec.model.revision.as_deref();
            model_import::import_model(base, revision, Path::new(&preparation.folder), store, &progress).await?
        }
    };
    warnings.into_iter().for_each(|warning| tell(Input::Warning(warning)));
    Ok(manifest)
}

/// What can be known of the model without its weights: its width, which the spec's dimensions must fit.
async fn check_model(spec: &RunSpec, model: &ModelManifest, store: &Store) -> Result<usize> {
    let Some(config) = model.files.iter().find(|file| file.path == "config.json") else {
        return Err(Error::Model(format!("{} has no config.json: it is not a model folder", model.source)));
    };
    let bytes = store.get_verified(&config.object).await?;
    let config: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|e| Error::Model(format!("{}: config.json is not JSON: {e}", model.source)))?;
    let hidden = config.get("hidden_size").and_then(serde_json::Value::as_u64);
    let hidden = hidden.ok_or_else(|| Error::Model(format!("{}: config.json has no hidden_size", model.source)))?;
    spec.check_dims(hidden as usize)?;
    Ok(hidden as usize)
}
