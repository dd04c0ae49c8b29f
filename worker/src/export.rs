//! Weights into the store: the best so far, and at last the model folder.

use std::path::{Path, PathBuf};

use artel_common::layout;
use artel_common::records::{ModelFile, ModelManifest, Report};
use artel_common::spec::RunSpec;
use artel_proto::v1::{self, FailureKind};
use artel_trainer::model::card::{CardFacts, render};
use artel_trainer::model::digest::weights_digest_of_file;
use artel_trainer::model::export::{ExportOptions, write};
use artel_trainer::model::{ModelFolder, Prompt};
use artel_trainer::state::with_values;

use crate::session::{Session, TaskError, TaskResult};

/// Rank 0 puts the present weights into the store.
pub(crate) fn keep(session: &mut Session, step: u64) -> TaskResult<()> {
    let world = session.world()?;
    if world.rank != 0 {
        return Ok(());
    }
    if world.trainer.state.step != step {
        return Err(TaskError::internal(format!("asked to keep step {step}, this rank is at {}", world.trainer.state.step)));
    }
    let bytes: Vec<u8> =
        with_values(&world.trainer.state.params, |values| values.iter().flat_map(|value| value.to_le_bytes()).collect())?;
    let digest = artel_common::digest::Digest::of(&bytes);
    let object = session.wait(session.store.put(&layout::weights(step), bytes.into()))?;
    if object.sha256 != digest {
        return Err(TaskError { kind: FailureKind::Store, message: format!("{} was not written whole", object.key) });
    }
    session.kept = Some(object);
    Ok(())
}

/// The parameters of `step`: those at hand, or those that were kept.
fn params(session: &mut Session, step: u64) -> TaskResult<Vec<f32>> {
    let world = session.world()?;
    if world.trainer.state.step == step {
        return Ok(with_values(&world.trainer.state.params, <[f32]>::to_vec)?);
    }
    let key = layout::weights(step);
    let object = session.kept.clone().filter(|object| object.key == key);
    let object = object.ok_or_else(|| TaskError::internal(format!("the weights of step {step} were not kept")))?;
    let bytes = session.wait(session.store.get_verified(&object))?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect())
}

/// Rank 0 writes the model folder and puts it into the store; the others have nothing to do.
pub(crate) fn export(session: &mut Session, task: &v1::Export) -> TaskResult<v1::Exported> {
    if session.world()?.rank != 0 {
        return Ok(v1::Exported::default());
    }
    let report: Report =
        serde_json::from_str(&task.report_json).map_err(|e| TaskError::internal(format!("the report is not readable: {e}")))?;
    let params = params(session, task.step)?;
    let folder = session.folder()?;
    let manifest: Option<ModelManifest> = session.wait(session.store.get_json(layout::MODEL_MANIFEST))?;
    let source = manifest.map(|manifest| manifest.source).unwrap_or_default();
    let max_seq_length = session.tokenizer()?.max_seq_length();
    let prompts = session.prompts()?;
    let card = render(&facts(&session.spec, &folder, &report, &source, max_seq_length, &prompts));
    let scratch =
        tempfile::tempdir().map_err(|e| TaskError { kind: FailureKind::Store, message: format!("no temporary folder: {e}") })?;
    let to = scratch.path().join("model");
    let options = ExportOptions {
        matryoshka_dims: session.spec.train_dims(folder.config.hidden_size).iter().map(|width| width.dim).collect(),
        max_seq_length,
        query_prompt: prompts.0.text().to_owned(),
        passage_prompt: prompts.1.text().to_owned(),
        card,
        replace: false,
    };
    write(&folder, &params, &to, &options)?;
    let digest = weights_digest_of_file(&to.join("model.safetensors"))?;
    let mut files = Vec::new();
    for path in files_below(&to)? {
        let relative = path.strip_prefix(&to).map_err(|e| TaskError::internal(e.to_string()))?.to_string_lossy().into_owned();
        let object = session.wait(session.store.put_file(&layout::export_file(&relative), &path, &|_| {}))?;
        files.push(v1::ModelFile::from(&ModelFile { path: relative, object }));
    }
    Ok(v1::Exported { files, weights_digest: digest.to_string() })
}

/// All files of a folder that was just written, in order of names.
fn files_below(folder: &Path) -> TaskResult<Vec<PathBuf>> {
    let io = |e: std::io::Error| TaskError { kind: FailureKind::Store, message: format!("{}: {e}", folder.display()) };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn facts(
    spec: &RunSpec,
    folder: &ModelFolder,
    report: &Report,
    source: &str,
    max_seq_length: usize,
    prompts: &(Prompt, Prompt),
) -> CardFacts {
    let train = &spec.train;
    let scheduler = serde_json::to_value(train.lr_scheduler_type)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default();
    let settings = [
        ("updates", report.exported_step.to_string()),
        ("global_batch_size", train.global_batch_size.to_string()),
        ("gradient_accumulation_steps", train.gradient_accumulation_steps.to_string()),
        ("num_train_epochs", train.num_train_epochs.to_string()),
        ("learning_rate", train.learning_rate.to_string()),
        ("lr_scheduler_type", scheduler),
        ("warmup_ratio", train.warmup_ratio.to_string()),
        ("weight_decay", train.weight_decay.to_string()),
        ("max_grad_norm", train.max_grad_norm.to_string()),
        ("scale", train.scale.to_string()),
        ("seed", train.seed.to_string()),
    ];
    CardFacts {
        name: spec.run.name.clone(),
        base_model: source.to_owned(),
        base_model_id: hub_id(&spec.model.base),
        data: spec.data.pairs.join(", "),
        num_train_pairs: report.train_rows,
        test_data: Some(report.measured_on.clone()),
        num_queries: report.test_rows,
        corpus_size: report.test_rows,
        losses: vec!["MatryoshkaLoss".to_owned(), "MultipleNegativesRankingLoss".to_owned()],
        matryoshka_dims: spec.train_dims(folder.config.hidden_size).iter().map(|width| width.dim).collect(),
        hidden_size: folder.config.hidden_size,
        pooling: folder.pooling,
        max_seq_length,
        query_prompt: prompts.0.text().to_owned(),
        passage_prompt: prompts.1.text().to_owned(),
        settings: settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        notes: report.warnings.clone(),
        before: report.before.clone(),
        after: report.after.clone(),
    }
}

/// The base model's id on the hub, if that is what the spec names: `owner/name`, and no folder or URL.
fn hub_id(base: &str) -> Option<String> {
    let is_name = |part: &str| {
        !part.is_empty() && !part.starts_with('.') && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let parts: Vec<&str> = base.split('/').collect();
    (parts.len() == 2 && parts.into_iter().all(is_name)).then(|| base.to_owned())
}
