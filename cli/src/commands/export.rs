//! `artel export STORE --to DIR`: copies a run's model folder out of its store, every byte checked.

use std::path::{Component, Path, PathBuf};

use artel_common::digest::Digest;
use artel_common::exit::Exit;
use artel_common::layout;
use artel_common::records::{ExportManifest, ModelFile};
use artel_common::store::Store;

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
    let manifest: Option<ExportManifest> = store.get_json(layout::EXPORT_MANIFEST).await?;
    let manifest = manifest.ok_or_else(|| {
        let message = format!("{} holds no exported model; `artel status` says how far its run has come", store.url());
        Failure::new(Exit::Store, message)
    })?;
    for file in &manifest.files {
        check_path(&file.path)?;
    }
    refuse_full_folder(args)?;
    for file in &manifest.files {
        copy(&store, file, &args.to).await?;
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
