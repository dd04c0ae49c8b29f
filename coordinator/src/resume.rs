//! Whether a spec is still that of the run in the store, and what it was prepared with (CKPT-2).
//!
//! Files of data and model that are still at hand must be what they were: size and time of change are compared first, so that an unchanged
//! file is not read. Those that are gone are not missed, for all that the run needs of them lies in the store.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use artel_common::digest::Digest;
use artel_common::journal::{DataStamp, PreparedRecord, RunState};
use artel_common::plan::EpochPlan;
use artel_common::records::{DatasetManifest, ModelManifest, Stored};
use artel_common::spec::{DeviceKind, RunSpec};
use artel_common::store::Store;
use artel_common::{Error, Result};

use crate::core::Prepared;
use crate::dataset::{digest_file, local_files};
use crate::model_import::local_model;

/// A local file that went into the run.
struct Input {
    name: String,
    path: PathBuf,
    sha256: Digest,
}

/// Stamps of the local files of data and model, for the journal. Files that cannot be looked at have none.
pub async fn stamps(spec: &RunSpec, folder: &Path, dataset: &DatasetManifest, model: &ModelManifest) -> Vec<DataStamp> {
    let inputs = inputs(spec, folder, dataset, model).await;
    inputs.iter().filter_map(|input| stamp(&input.name, &input.path)).collect()
}

fn stamp(name: &str, path: &Path) -> Option<DataStamp> {
    let about = std::fs::metadata(path).ok()?;
    let modified = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(DataStamp { path: name.to_owned(), bytes: about.len(), modified_ns: modified.as_nanos() as u64 })
}

/// The local files of the run that are still there, with the digests that they had.
async fn inputs(spec: &RunSpec, folder: &Path, dataset: &DatasetManifest, model: &ModelManifest) -> Vec<Input> {
    let data = local_files(&spec.data, folder).await.unwrap_or_default();
    let known = |name: &str| dataset.import.files.iter().find(|file| file.key == name).map(|file| file.sha256.clone());
    let mut inputs: Vec<Input> =
        data.into_iter().filter_map(|(name, path)| Some(Input { sha256: known(&name)?, name, path })).collect();
    if let Some(base) = local_model(&spec.model.base, folder) {
        let file = |file: &artel_common::records::ModelFile| Input {
            name: format!("{}/{}", spec.model.base.trim_end_matches('/'), file.path),
            path: base.join(&file.path),
            sha256: file.object.sha256.clone(),
        };
        inputs.extend(model.files.iter().map(file));
    }
    inputs.retain(|input| input.path.is_file());
    inputs
}

/// Whether the spec is still that of the run in the store.
///
/// # Errors
/// [`Error::Conflict`] names every difference; [`Error::Damaged`] where a manifest is damaged.
pub async fn check(spec: &RunSpec, folder: &Path, store: &Store, state: &RunState, record: &PreparedRecord) -> Result<()> {
    let dataset: DatasetManifest = store.get_json_verified(&record.dataset).await?;
    let model: ModelManifest = store.get_json_verified(&record.model).await?;
    let changes = changes(spec, folder, record, &dataset, &model).await?;
    if changes.is_empty() {
        return Ok(());
    }
    let (hint, advice) = device_hint(spec, &record.spec).unwrap_or(("", "change it back"));
    let held = if state.done.is_some() { "a finished run" } else { "a run that has begun" };
    Err(Error::Conflict(format!(
        "{} holds {held} ({}), and this spec is of another: {}{hint}. To go on, {advice}; to start afresh, name another store with --store or [run] store",
        store.url(),
        state.name,
        changes.join("; "),
    )))
}

/// Why the precision is another one where nobody changed it: the device is another, by the spec or by the machine that the spec leaves it to. And what to do to go on.
fn device_hint(spec: &RunSpec, began: &RunSpec) -> Option<(&'static str, &'static str)> {
    if spec.train.precision == began.train.precision {
        return None;
    }
    match (began.workers.device, spec.workers.device, spec.workers.device_found) {
        (DeviceKind::Cuda, DeviceKind::Cpu, true) => Some((
            " (it began on a GPU, device = \"cuda\", and this machine shows none, so that the device, which the spec leaves open, is the CPU; see `artel doctor --gpu`)",
            "run it where there is a GPU",
        )),
        (DeviceKind::Cpu, DeviceKind::Cuda, true) => Some((
            " (it began on the CPU, and this machine shows GPUs, which the spec leaves open)",
            "write device = \"cpu\" in [workers]",
        )),
        (DeviceKind::Cuda, DeviceKind::Cpu, false) => {
            Some((" (device in [workers] was \"cuda\" and is \"cpu\")", "write device = \"cuda\" in [workers]"))
        }
        (DeviceKind::Cpu, DeviceKind::Cuda, false) => {
            Some((" (device in [workers] was \"cpu\" and is \"cuda\")", "write device = \"cpu\" in [workers]"))
        }
        _ => None,
    }
}

/// What the run in the store was prepared with.
///
/// # Errors
/// As [`check`]; or a plan is damaged.
pub async fn prepared(
    spec: &RunSpec,
    folder: &Path,
    store: &Store,
    state: &RunState,
    record: &PreparedRecord,
) -> Result<Prepared> {
    check(spec, folder, store, state, record).await?;
    let mut plans = Vec::with_capacity(record.plans.len());
    for plan in &record.plans {
        plans.push(EpochPlan::from_bytes(&store.get_verified(plan).await?)?);
    }
    let dataset = Stored { record: store.get_json_verified(&record.dataset).await?, object: record.dataset.clone() };
    let model = Stored { record: store.get_json_verified(&record.model).await?, object: record.model.clone() };
    Prepared::new(spec, dataset, model, &plans, record.plans.clone(), record.run_digest.clone(), record.hidden_size as usize)
}

async fn changes(
    spec: &RunSpec,
    folder: &Path,
    record: &PreparedRecord,
    dataset: &DatasetManifest,
    model: &ModelManifest,
) -> Result<Vec<String>> {
    let mut changes = spec.changes_since(&record.spec)?;
    let began = &record.spec.model;
    let base_is_local = local_model(&spec.model.base, folder).is_some();
    if (&spec.model.base, &spec.model.revision) != (&began.base, &began.revision) && !base_is_local {
        changes.push(format!("model.base was {:?} and is {:?}", began.base, spec.model.base));
    }
    if let Ok(files) = local_files(&spec.data, folder).await {
        let known = |name: &str| dataset.import.files.iter().any(|file| file.key == name);
        let new = files.iter().filter(|(name, _)| !known(name) && spec.data.limit.is_none());
        changes.extend(new.map(|(name, _)| format!("{name} was not among the files of the pairs and is now")));
    }
    for input in inputs(spec, folder, dataset, model).await {
        let unchanged = stamp(&input.name, &input.path).is_some_and(|stamp| record.stamps.contains(&stamp));
        if !unchanged && digest_file(&input.path, &input.name)?.sha256 != input.sha256 {
            changes.push(format!("{} has changed since the run began", input.name));
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: where another device has changed the precision, the refusal says so, and how to go on. Method: specs of both devices, found and written.
    #[test]
    fn devices_that_differ() {
        let of = |workers: &str| {
            let text = format!("[data]\npairs = \"p\"\n[model]\nbase = \"b\"\n[workers]\n{workers}\n");
            RunSpec::parse(&text, "s.toml").unwrap().0
        };
        let (open, on_cpu, on_gpu) = (of(""), of("device = \"cpu\""), of("device = \"cuda\""));
        let mut gpu_found = on_gpu.clone();
        gpu_found.workers.device_found = true;
        assert!(device_hint(&open, &on_gpu).unwrap().0.contains("this machine shows none"));
        assert!(device_hint(&gpu_found, &on_cpu).unwrap().1.contains("write device = \"cpu\""));
        assert!(device_hint(&on_cpu, &on_gpu).unwrap().0.contains("was \"cuda\" and is \"cpu\""));
        assert!(device_hint(&on_gpu, &on_cpu).unwrap().0.contains("was \"cpu\" and is \"cuda\""));
        for (now, began) in [(&open, &on_cpu), (&gpu_found, &on_gpu)] {
            assert_eq!(device_hint(now, began), None);
        }
    }
}
