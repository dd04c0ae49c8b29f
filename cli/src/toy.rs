//! `base = "artel:toy"`: a small BERT that Artel makes itself, so that a first run needs no download.

use artel_common::spec::LoadedSpec;
use artel_common::{Error, Result};
use artel_coordinator::MakeModel;
use artel_coordinator::dataset::read_rows;
use artel_trainer::model::toy;
use tempfile::TempDir;

/// The spec's word for it.
const TOY: &str = "artel:toy";

/// What makes the model, if the spec names it; the folder goes when it is dropped.
pub fn make_model(loaded: &LoadedSpec) -> Option<MakeModel> {
    let loaded = loaded.clone();
    (loaded.spec.model.base == TOY).then(|| -> MakeModel { Box::new(move || Box::pin(make(loaded.clone()))) })
}

async fn make(loaded: LoadedSpec) -> Result<TempDir> {
    let rows = read_rows(&loaded.spec.data, &loaded.folder, &|_, _| {}).await?;
    let texts: Vec<String> = rows.train.iter().flat_map(|pair| pair.columns().map(str::to_owned)).collect();
    let folder = tempfile::Builder::new().prefix("artel-toy-").tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
    toy::make(&texts, loaded.spec.train.seed, folder.path()).map_err(|e| Error::Model(format!("cannot make {TOY}: {e}")))?;
    Ok(folder)
}
