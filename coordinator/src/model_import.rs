//! The base model: from a folder, a bucket or the Hugging Face hub into the run's store.
//!
//! Only the files that a BERT-family SentenceTransformer needs are taken; what can run code (pickles) is never read. The
//! manifest is put last, and exists once the journal names it.

mod files;
mod hub;
mod origin;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use artel_common::model_files::digest_of;
use artel_common::records::{ModelFile, ModelManifest, Stored};
use artel_common::store::{Store, local_folder};
use artel_common::{Error, Result, layout};

use self::files::Found;
use self::origin::Origin;

/// Where a model is imported to.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The run's store.
    pub store: &'a Store,
    /// The coordinator's term.
    pub term: u64,
}

/// Told of bytes moved and bytes to move; the latter grows as files are found.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// Imports the model that `base` names: a folder (relative to `spec_dir`), a URL, or a hub id; under this term of the coordinator.
/// Returns the manifest, and what people should know.
///
/// # Errors
/// [`Error::Model`] where there is no such model or Artel cannot use its files, [`Error::Store`] where the store refuses.
pub async fn import_model(
    base: &str,
    revision: Option<&str>,
    spec_dir: &Path,
    target: Target<'_>,
    progress: Progress<'_>,
) -> Result<(Stored<ModelManifest>, Vec<String>)> {
    import(find(base, revision, spec_dir)?, base, target, progress).await
}

/// Imports a folder under another name than its path: a model that was made and not named.
///
/// # Errors
/// As [`import_model`].
pub async fn import_folder(
    folder: &Path,
    source: &str,
    target: Target<'_>,
    progress: Progress<'_>,
) -> Result<(Stored<ModelManifest>, Vec<String>)> {
    import(Origin::folder(folder, source)?, source, target, progress).await
}

/// The folder that `base` names, where it names one: its files can change under a run.
pub fn local_model(base: &str, spec_dir: &Path) -> Option<PathBuf> {
    let folder = spec_dir.join(local_folder(base)?);
    folder.is_dir().then_some(folder)
}

/// Sees whether `base` names something that can be fetched; nothing is.
///
/// # Errors
/// It names no folder that is there, no bucket and no hub id.
pub fn check_base(base: &str, revision: Option<&str>, spec_dir: &Path) -> Result<()> {
    find(base, revision, spec_dir).map(|_| ())
}

/// What `base` names. A folder that exists goes before a hub id, as it does in sentence-transformers.
fn find(base: &str, revision: Option<&str>, spec_dir: &Path) -> Result<Origin> {
    if let Some(made) = base.strip_prefix("artel:") {
        return Err(Error::Model(format!("model.base: artel:{made} is no model that Artel makes; there is artel:toy")));
    }
    let Some(path) = local_folder(base) else { return Origin::bucket(base) };
    let folder = spec_dir.join(&path);
    if folder.exists() {
        return Origin::folder(&folder, base);
    }
    let is_path = base.starts_with(['/', '.', '~']) || base.starts_with("file:");
    if !is_path && hub::is_id(base) {
        return Origin::hub(base, revision, &folder);
    }
    let or_hub = if is_path { "" } else { ", and it is no hub id (OWNER/NAME) either" };
    Err(Error::Model(format!(
        "model.base: there is no folder {}{or_hub}; name a model folder, an s3://, gs:// or az:// URL, or a hub id such as BAAI/bge-base-en-v1.5",
        folder.display()
    )))
}

async fn import(
    mut origin: Origin,
    source: &str,
    target: Target<'_>,
    progress: Progress<'_>,
) -> Result<(Stored<ModelManifest>, Vec<String>)> {
    let Target { store, term } = target;
    let (found, warnings) = files::collect(&mut origin, progress).await?;
    let fetched: u64 = if origin.is_local() { 0 } else { found.iter().map(|file| file.bytes).sum() };
    let total = fetched + found.iter().map(|file| file.bytes).sum::<u64>();
    let done = std::sync::atomic::AtomicU64::new(fetched);
    let tell = |bytes| {
        let before = done.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        progress(before + bytes, total);
    };
    let mut files = Vec::with_capacity(found.len());
    for Found { path, file, .. } in &found {
        let object = store.put_file(&layout::model_file(term, path), file, &tell).await?;
        origin.verify(path, file, &object)?;
        files.push(ModelFile { path: path.clone(), object });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let record = ModelManifest { format: 1, source: source.to_owned(), digest: digest_of(&files), files };
    let object = store.put_json(&layout::model_manifest(term), &record).await?;
    Ok((Stored { record, object }, warnings))
}
