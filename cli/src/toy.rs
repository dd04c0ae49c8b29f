//! `base = "artel:toy"`: a small BERT that Artel makes itself, so that a first run needs no download.

use artel_common::spec::LoadedSpec;
use artel_common::{Error, Result};
use artel_coordinator::MakeModel;
use artel_trainer::model::toy;
use tempfile::TempDir;

/// The spec's word for it.
const TOY: &str = "artel:toy";

/// What makes the model, if the spec names it; the folder goes when it is dropped.
///
/// # Errors
/// The spec asks for widths or lengths that it does not have.
pub fn make_model(loaded: &LoadedSpec) -> Result<Option<MakeModel>> {
    if loaded.spec.model.base != TOY {
        return Ok(None);
    }
    loaded.spec.check_dims(toy::HIDDEN_SIZE)?;
    loaded.spec.check_length(toy::MAX_POSITIONS)?;
    let seed = loaded.spec.train.seed;
    Ok(Some(Box::new(move |texts| Box::pin(make(texts, seed)))))
}

async fn make(texts: Vec<String>, seed: u64) -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("artel-toy-").tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
    toy::make(&texts, seed, folder.path()).map_err(|e| Error::Model(format!("cannot make {TOY}: {e}")))?;
    Ok(folder)
}
