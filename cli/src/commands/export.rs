//! `artel export STORE --to DIR`: a run's model folder out of its store, or that of a checkpoint, every byte checked.

use std::path::{Component, Path, PathBuf};

use artel_common::digest::Digest;
use artel_common::exit::Exit;
use artel_common::journal::{PreparedRecord, RunState};
use artel_common::records::{DatasetManifest, ExportManifest, ModelFile, Report};
use artel_common::store::Store;
use artel_worker::export_checkpoint;

use crate::failure::Failure;
use crate::output;

/// Copy a run's model folder out of its store, every file checked against its digest
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run's store: a URL or a folder
    #[arg(value_name = "STORE")]
    store: String,
    /// Folder to write; made if there is none, else it must be empty
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The weights of a checkpoint instead of the finished model: a step, `best` or `last`
    #[arg(long, value_name = "N|best|last")]
    checkpoint: Option<String>,
    /// Write into a folder that has files, replacing those of the same names
    #[arg(long)]
    force: bool,
}

/// Copies; a file takes its name when it is whole.
pub fn run(args: Args) -> Result<(), Failure> {
    super::small_runtime()?.block_on(export(&args))?;
    output::data(&args.to.display().to_string())
}

async fn export(args: &Args) -> Result<(), Failure> {
    let store = Store::open(&args.store)?;
    let run = super::status::journal(&store).await?;
    if let Some(which) = &args.checkpoint {
        return checkpoint(&store, &run, which, args).await;
    }
    let exported = run.exported.as_ref().ok_or_else(|| {
        let message = format!(
            "{} holds no exported model yet; `artel status` says how far its run has come, --checkpoint last takes what there is",
            store.url()
        );
        Failure::new(Exit::Store, message)
    })?;
    let manifest: ExportManifest = store.get_json_verified(&exported.manifest).await?;
    for file in &manifest.files {
        check_path(&file.path)?;
    }
    refuse_full_folder(args)?;
    for file in &manifest.files {
        // all of it is whole before any of it is written
        store.get_verified(&file.object).await.map_err(|e| {
            let instead = "--checkpoint best writes the model anew from a checkpoint";
            Failure::new(e.kind().into(), format!("{e}; nothing was written: {instead}"))
        })?;
    }
    for file in &manifest.files {
        copy(&store, file, &args.to).await?;
    }
    Ok(())
}

/// Writes the model folder of a checkpoint.
async fn checkpoint(store: &Store, run: &RunState, which: &str, args: &Args) -> Result<(), Failure> {
    let Some(prepared) = &run.prepared else {
        return Err(Failure::new(Exit::Store, format!("{} holds no base model and no checkpoint yet", store.url())));
    };
    let metric = prepared.spec.best_metric(prepared.hidden_size as usize);
    let found = match which {
        "last" => run.last_checkpoint(),
        "best" => run.best(&metric, |step| run.checkpoint_at(step).is_some()).and_then(|best| run.checkpoint_at(best.step)),
        step => match step.parse() {
            Ok(step) => run.checkpoint_at(step),
            Err(_) => return Err(Failure::usage(format!("--checkpoint {step}: write a step, best or last"))),
        },
    };
    let checkpoint = found.ok_or_else(|| {
        let steps: Vec<String> = run.checkpoints.iter().map(|known| known.step.to_string()).collect();
        let there = if steps.is_empty() { "no checkpoint".to_owned() } else { format!("those of steps {}", steps.join(", ")) };
        Failure::new(Exit::Store, format!("{} has no checkpoint {which:?}; it has {there}", store.url()))
    })?;
    refuse_full_folder(args)?;
    let report = report_of(run, prepared, checkpoint.step, store).await?;
    let scratch = tempfile::tempdir().map_err(|e| cannot_write(&std::env::temp_dir(), &e))?;
    let folder = scratch.path().join("model");
    export_checkpoint(store, prepared, &checkpoint.manifest, &report, &folder).await?;
    copy_folder(&folder, &args.to)
}

/// What is known of a run that may not be done, for the model card.
async fn report_of(run: &RunState, prepared: &PreparedRecord, step: u64, store: &Store) -> Result<Report, Failure> {
    let dataset: DatasetManifest = store.get_json_verified(&prepared.dataset).await?;
    let metrics = |step| run.evaluation_at(step).map(|evaluation| evaluation.metrics.clone()).unwrap_or_default();
    Ok(Report {
        name: run.name.clone(),
        run_digest: prepared.run_digest.clone(),
        before: metrics(0),
        after: metrics(step),
        measured_on: "test pairs".to_owned(),
        steps: step,
        exported_step: step,
        train_rows: dataset.train.num_rows,
        test_rows: dataset.test.num_rows,
        warnings: prepared.warnings.clone(),
        ..Report::default()
    })
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(to).map_err(|e| cannot_write(to, &e))?;
    let entries = std::fs::read_dir(from).map_err(|e| cannot_write(from, &e))?;
    for entry in entries.flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            std::fs::copy(&source, &target).map_err(|e| cannot_write(&target, &e))?;
        }
    }
    Ok(())
}

/// A manifest's path becomes a file's: it may lead nowhere but into the folder.
fn check_path(path: &str) -> Result<(), Failure> {
    let plain = |component: Component<'_>| matches!(component, Component::Normal(_));
    if path.is_empty() || path.contains('\\') || !Path::new(path).components().all(plain) {
        return Err(Failure::new(
            Exit::Store,
            format!("the manifest names a file {path:?}, which is no plain path; nothing was written"),
        ));
    }
    Ok(())
}

fn refuse_full_folder(args: &Args) -> Result<(), Failure> {
    let folder = &args.to;
    let taken = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
        Err(e) => return Err(cannot_write(folder, &e)),
    };
    if taken && !args.force {
        let message = format!("{} is not empty; name another folder, or add --force to replace files in it", folder.display());
        return Err(Failure::new(Exit::Conflict, message));
    }
    Ok(())
}

async fn copy(store: &Store, file: &ModelFile, folder: &Path) -> Result<(), Failure> {
    let bytes = store.get(&file.object.key).await?;
    let digest = Digest::of(&bytes);
    if bytes.len() as u64 != file.object.bytes || digest != file.object.sha256 {
        let message = format!(
            "{} in {} is damaged: {} bytes with SHA-256 {}, but the manifest says {} bytes with {}",
            file.object.key,
            store.url(),
            bytes.len(),
            digest.short(),
            file.object.bytes,
            file.object.sha256.short()
        );
        return Err(Failure::new(Exit::Store, message));
    }
    let path = folder.join(&file.path);
    let parent = path.parent().unwrap_or(folder);
    std::fs::create_dir_all(parent).map_err(|e| cannot_write(parent, &e))?;
    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    let written = std::fs::write(&partial, &bytes).and_then(|()| std::fs::rename(&partial, &path));
    written.map_err(|e| {
        // The partial file is of no use; that it cannot be removed either adds nothing.
        let _stays = std::fs::remove_file(&partial);
        cannot_write(&path, &e)
    })
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::data(format!("cannot write {}: {error}", path.display()))
}
