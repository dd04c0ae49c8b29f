//! `base = "artel:toy"`: a small BERT that Artel makes itself, so that a first run needs no download.

use artel_common::spec::LoadedSpec;
use tempfile::TempDir;

use crate::failure::Failure;
use crate::view::View;

/// The spec's word for it.
const TOY: &str = "artel:toy";

/// Makes the model if the spec names it and the store has no base model yet; the folder goes when it is dropped.
pub async fn model_folder(loaded: &LoadedSpec, _view: &mut View) -> Result<Option<TempDir>, Failure> {
    if loaded.spec.model.base != TOY {
        return Ok(None);
    }
    Err(Failure::internal("no toy yet"))
}
