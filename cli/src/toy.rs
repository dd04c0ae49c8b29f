//! `base = "artel:toy"`: a small BERT that Artel makes itself, so that a first run needs no download.

use artel_common::layout;
use artel_common::spec::LoadedSpec;
use artel_common::store::Store;
use artel_coordinator::dataset::read_rows;
use artel_trainer::model::toy;
use tempfile::TempDir;

use crate::failure::Failure;

/// The spec's word for it.
const TOY: &str = "artel:toy";

/// Makes the model if the spec names it and the store has no base model yet; the folder goes when it is dropped.
///
/// # Errors
/// The pairs cannot be read, or the temporary folder not written.
pub async fn model_folder(loaded: &LoadedSpec, store: &Store) -> Result<Option<TempDir>, Failure> {
    if loaded.spec.model.base != TOY || store.get_opt(layout::MODEL_MANIFEST).await?.is_some() {
        return Ok(None);
    }
    let rows = read_rows(&loaded.spec.data, &loaded.folder, &|_, _| {}).await?;
    let texts: Vec<String> = rows.train.iter().flat_map(|pair| pair.columns().map(str::to_owned)).collect();
    let folder = tempfile::Builder::new().prefix("artel-toy-").tempdir();
    let folder = folder
        .map_err(|e| Failure::data(format!("cannot make a folder for {TOY} in {}: {e}", std::env::temp_dir().display())))?;
    toy::make(&texts, loaded.spec.train.seed, folder.path())?;
    Ok(Some(folder))
}
