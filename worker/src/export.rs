//! Tuned weights become a model folder: in the store at a run's end, or anywhere from a checkpoint.

use std::path::{Path, PathBuf};

use artel_common::ErrorKind;
use artel_common::checkpoint::StateVector;
use artel_common::journal::PreparedRecord;
use artel_common::layout;
use artel_common::model_files::fetch_model;
use artel_common::records::{ModelFile, ModelManifest, ObjectRef, Report};
use artel_common::spec::RunSpec;
use artel_common::store::Store;
use artel_proto::convert;
use artel_proto::v1::{self, FailureKind};
use artel_trainer::model::card::{CardFacts, render};
use artel_trainer::model::digest::weights_digest_of_file;
use artel_trainer::model::export::{ExportOptions, write};
use artel_trainer::model::{ModelFolder, Prompt};
use artel_trainer::state::with_values;

use crate::checkpoint;
use crate::session::{Session, TaskError, TaskResult};

/// The parameters of `step`: those at hand, or those of its checkpoint.
fn params(session: &mut Session, step: u64, checkpoint: Option<v1::ObjectRef>) -> TaskResult<Vec<f32>> {
    let world = session.world()?;
    if world.trainer.state.step == step {
        return Ok(with_values(&world.trainer.state.params, <[f32]>::to_vec)?);
    }
    let object = convert::object(checkpoint)
        .map_err(|_| TaskError::internal(format!("the weights of step {step} are in no checkpoint")))?;
    session.wait(checkpoint_params(&session.store, &object)).map_err(|e| match e.kind() {
        ErrorKind::Damaged => TaskError { kind: FailureKind::Checkpoint, message: e.to_string() },
        _ => e.into(),
    })
}

/// The parameters of a checkpoint.
///
/// # Errors
/// A part is missing or damaged.
pub async fn checkpoint_params(store: &Store, manifest: &ObjectRef) -> artel_common::Result<Vec<f32>> {
    let manifest = checkpoint::read_manifest(store, manifest).await?;
    checkpoint::read_vector(store, &manifest, StateVector::Params).await
}

/// Rank 0 writes the model folder and puts it into the store; the others have nothing to do.
pub(crate) fn export(session: &mut Session, task: &v1::Export) -> TaskResult<v1::Exported> {
    if session.world()?.rank != 0 {
        return Ok(v1::Exported::default());
    }
    let report: Report =
        serde_json::from_str(&task.report_json).map_err(|e| TaskError::internal(format!("the report is not readable: {e}")))?;
    let params = params(session, task.step, task.checkpoint.clone())?;
    let folder = session.folder()?;
    let source = session.model()?.source;
    let max_seq_length = session.tokenizer()?.max_seq_length();
    let prompts = session.prompts()?;
    let scratch =
        tempfile::tempdir().map_err(|e| TaskError { kind: FailureKind::Store, message: format!("no temporary folder: {e}") })?;
    let to = scratch.path().join("model");
    let tuned = Tuned {
        spec: &session.spec,
        folder: &folder,
        source: &source,
        report: &report,
        params: &params,
        max_seq_length,
        prompts: &prompts,
    };
    tuned.write(&to)?;
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

/// Tuned weights with all that their folder says of them.
struct Tuned<'a> {
    spec: &'a RunSpec,
    folder: &'a ModelFolder,
    source: &'a str,
    report: &'a Report,
    params: &'a [f32],
    max_seq_length: usize,
    prompts: &'a (Prompt, Prompt),
}

impl Tuned<'_> {
    /// Writes the model folder, its card included.
    fn write(&self, to: &Path) -> artel_trainer::Result<()> {
        let Self { spec, folder, source, report, params, max_seq_length, prompts } = self;
        let card = render(&facts(spec, folder, report, source, *max_seq_length, prompts));
        let options = ExportOptions {
            matryoshka_dims: spec.train_dims(folder.config.hidden_size).iter().map(|width| width.dim).collect(),
            max_seq_length: *max_seq_length,
            query_prompt: prompts.0.text().to_owned(),
            passage_prompt: prompts.1.text().to_owned(),
            card,
            replace: false,
        };
        write(folder, params, to, &options)
    }
}

/// Writes the model folder of a checkpoint, outside of any run: `report` says what is known of it.
///
/// # Errors
/// An object is missing or damaged, or the folder cannot be written.
pub async fn export_checkpoint(
    store: &Store,
    prepared: &PreparedRecord,
    checkpoint: &ObjectRef,
    report: &Report,
    to: &Path,
) -> artel_common::Result<()> {
    let manifest: ModelManifest = store.get_json_verified(&prepared.model).await?;
    let scratch = tempfile::tempdir().map_err(|e| artel_common::Error::io(std::env::temp_dir(), e))?;
    let base = scratch.path().join("base");
    fetch_model(&manifest, store, &base).await?;
    let params = checkpoint_params(store, checkpoint).await?;
    let unusable = |e: artel_trainer::Error| artel_common::Error::Model(e.to_string());
    let folder = ModelFolder::open(&base).map_err(unusable)?;
    let spec = &prepared.spec;
    let max_seq_length = spec.model.max_seq_length.unwrap_or(folder.max_seq_length);
    let tokenizer = folder.tokenizer(max_seq_length).map_err(unusable)?;
    let query = spec.model.query_prompt.as_deref().unwrap_or_else(|| folder.prompts.query());
    let passage = spec.model.passage_prompt.as_deref().unwrap_or_else(|| folder.prompts.passage());
    let prompts = (tokenizer.prompt(query).map_err(unusable)?, tokenizer.prompt(passage).map_err(unusable)?);
    let (params, source) = (&params, &manifest.source);
    let max_seq_length = tokenizer.max_seq_length();
    Tuned { spec, folder: &folder, source, report, params, max_seq_length, prompts: &prompts }.write(to).map_err(unusable)
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
