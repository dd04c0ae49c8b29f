//! The base model: from a folder, a bucket or the Hugging Face hub into the run's store.
//!
//! Only the files that a BERT-family SentenceTransformer needs are taken; what can run code (pickles) is never read. The
//! manifest is put last: what it does not name does not exist.

mod files;
mod hub;
mod origin;
#[cfg(test)]
mod tests;

use std::path::Path;

use artel_common::model_files::digest_of;
use artel_common::records::{ModelFile, ModelManifest};
use artel_common::store::{Created, Store, local_folder};
use artel_common::{Error, Result, layout};

use self::files::Found;
use self::origin::Origin;

/// Told of bytes moved and bytes to move; the latter grows as files are found.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// Imports the model that `base` names: a folder (relative to `spec_dir`), a URL, or a hub id. A store that has this model's manifest
/// already is left as it is. Returns the manifest, and what people should know.
///
/// # Errors
/// [`Error::Model`] where there is no such model or Artel cannot use its files, [`Error::Conflict`] where the store holds another model,
/// [`Error::Store`] where the store refuses.
pub async fn import_model(
    base: &str,
    revision: Option<&str>,
    spec_dir: &Path,
    store: &Store,
    progress: Progress<'_>,
) -> Result<(ModelManifest, Vec<String>)> {
    if let Some(manifest) = already_there(base, store).await? {
        return Ok((manifest, Vec::new()));
    }
    let origin = find(base, revision, spec_dir)?;
    import(origin, base, store, progress).await
}

/// Imports a folder under another name than its path: a model that was made and not named.
///
/// # Errors
/// As [`import_model`].
pub async fn import_folder(
    folder: &Path,
    source: &str,
    store: &Store,
    progress: Progress<'_>,
) -> Result<(ModelManifest, Vec<String>)> {
    if let Some(manifest) = already_there(source, store).await? {
        return Ok((manifest, Vec::new()));
    }
    import(Origin::folder(folder, source)?, source, store, progress).await
}

async fn already_there(source: &str, store: &Store) -> Result<Option<ModelManifest>> {
    let Some(manifest) = store.get_json::<ModelManifest>(layout::MODEL_MANIFEST).await? else { return Ok(None) };
    if manifest.source == source {
        return Ok(Some(manifest));
    }
    Err(Error::Conflict(format!(
        "{} holds a run of the model {}, not of {source}; one store is one run: name another store",
        store.url(),
        manifest.source
    )))
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

async fn import(mut origin: Origin, source: &str, store: &Store, progress: Progress<'_>) -> Result<(ModelManifest, Vec<String>)> {
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
        let object = store.put_file(&layout::model_file(path), file, &tell).await?;
        origin.verify(path, file, &object)?;
        files.push(ModelFile { path: path.clone(), object });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let manifest = ModelManifest { format: 1, source: source.to_owned(), digest: digest_of(&files), files };
    if store.create_json(layout::MODEL_MANIFEST, &manifest).await? == Created::New {
        return Ok((manifest, warnings));
    }
    match already_there(source, store).await? {
        Some(other) if other == manifest => Ok((manifest, warnings)),
        _ => Err(Error::Conflict(format!("another process imported a model into {} meanwhile; run it again", store.url()))),
    }
}
