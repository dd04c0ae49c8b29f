//! Weights into the store: the best so far, and at last the model folder.

use std::path::{Path, PathBuf};

use artel_common::layout;
use artel_common::records::{ModelFile, ModelManifest, Report};
use artel_common::spec::RunSpec;
use artel_proto::v1::{self, FailureKind};
use artel_trainer::model::card::{CardFacts, render};
use artel_trainer::model::digest::weights_digest;
use artel_trainer::model::export::{ExportOptions, write};
use artel_trainer::model::{ModelFolder, PoolingMode};
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
    let bytes: Vec<u8> = with_values(&world.trainer.state.params, |values| values.iter().flat_map(|value| value.to_le_bytes()).collect())?;
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
    let report: Report = serde_json::from_str(&task.report_json).map_err(|e| TaskError::internal(format!("the report is not readable: {e}")))?;
    let params = params(session, task.step)?;
    let folder = session.folder()?;
    let manifest: Option<ModelManifest> = session.wait(session.store.get_json(layout::MODEL_MANIFEST))?;
    let source = manifest.map(|manifest| manifest.source).unwrap_or_default();
    let max_seq_length = session.tokenizer()?.max_seq_length();
    let card = render(&facts(&session.spec, &folder, &report, &source, max_seq_length));
    let scratch = tempfile::tempdir().map_err(|e| TaskError { kind: FailureKind::Store, message: format!("no temporary folder: {e}") })?;
    let to = scratch.path().join("model");
    let options = ExportOptions {
        matryoshka_dims: session.spec.train_dims(folder.config.hidden_size).iter().map(|width| width.dim).collect(),
        max_seq_length,
        query_prompt: session.spec.model.query_prompt.clone(),
        passage_prompt: session.spec.model.passage_prompt.clone(),
        card,
    };
    write(&folder, &params, &to, &options)?;
    let digest = weights_digest(&to.join("model.safetensors"))?;
    let mut files = Vec::new();
    for path in files_below(&to)? {
        let relative = path.strip_prefix(&to).map_err(|e| TaskError::internal(e.to_string()))?.to_string_lossy().into_owned();
        let object = session.wait(session.store.put_file(&layout::export_file(&relative), &path))?;
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

fn facts(spec: &RunSpec, folder: &ModelFolder, report: &Report, source: &str, max_seq_length: usize) -> CardFacts {
    let train = &spec.train;
    let setting = |name: &str, value: String| (name.to_owned(), value);
    CardFacts {
        name: spec.run.name.clone(),
        base_model: source.to_owned(),
        hidden_size: folder.config.hidden_size,
        max_seq_length,
        pooling: match folder.pooling.mode {
            PoolingMode::Cls => "cls",
            PoolingMode::Mean => "mean",
            PoolingMode::Max => "max",
        }
        .to_owned(),
        matryoshka_dims: spec.train_dims(folder.config.hidden_size).iter().map(|width| width.dim).collect(),
        loss: "MultipleNegativesRankingLoss".to_owned(),
        train_rows: report.train_rows,
        test_rows: report.test_rows,
        measured_on: report.measured_on.clone(),
        step: report.exported_step,
        before: report.before.clone(),
        after: report.after.clone(),
        settings: vec![
            setting("global_batch_size", train.global_batch_size.to_string()),
            setting("gradient_accumulation_steps", train.gradient_accumulation_steps.to_string()),
            setting("num_train_epochs", train.num_train_epochs.to_string()),
            setting("learning_rate", train.learning_rate.to_string()),
            setting("lr_scheduler_type", serde_json::to_value(train.lr_scheduler_type).map_or_else(|_| String::new(), |v| v.as_str().unwrap_or_default().to_owned())),
            setting("warmup_ratio", train.warmup_ratio.to_string()),
            setting("weight_decay", train.weight_decay.to_string()),
            setting("max_grad_norm", train.max_grad_norm.to_string()),
            setting("scale", train.scale.to_string()),
            setting("seed", train.seed.to_string()),
        ],
        query_prompt: spec.model.query_prompt.clone(),
        passage_prompt: spec.model.passage_prompt.clone(),
    }
}
