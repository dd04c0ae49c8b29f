//! Lengths in the base model's tokens, for chunks that are counted in them.

use artel_common::model_files;
use artel_common::records::{ModelManifest, ObjectRef};
use artel_common::store::Store;
use artel_proto::v1::FailureKind;
use artel_trainer::model::{ModelFolder, Prompt, Tokenizer};

use crate::session::{TaskError, TaskResult};

/// `[CLS]` and `[SEP]`, which stand around every text.
const AROUND: usize = 2;

/// A tokenizer that counts.
pub(crate) struct Tokens(Tokenizer);

impl Tokens {
    /// The tokenizer of the model in the store, for chunks of this size.
    pub(crate) async fn fetch(store: &Store, model: &ObjectRef, chunk_size: usize) -> TaskResult<Self> {
        let manifest: ModelManifest = store.get_json_verified(model).await?;
        let scratch = tempfile::tempdir()
            .map_err(|e| TaskError { kind: FailureKind::Store, message: format!("no temporary folder: {e}") })?;
        let path = scratch.path().join("base");
        model_files::fetch_model(&manifest, store, &path).await?;
        let folder = ModelFolder::open(&path)?;
        let most = folder.config.max_position_embeddings;
        if chunk_size + AROUND > most {
            let message = format!(
                "chunks.chunk_size = {chunk_size} tokens is more than {} reads ({most}, {AROUND} of them for the ends); write at most {}",
                manifest.source,
                most.saturating_sub(AROUND)
            );
            return Err(TaskError { kind: FailureKind::Model, message });
        }
        Ok(Self(folder.tokenizer(most)?))
    }

    /// Tokens of a text; beyond what the model reads it is as much as that.
    pub(crate) fn count(&self, text: &str) -> usize {
        // a text without tokens still takes room
        self.0.encode(text, &Prompt::none()).map_or(usize::MAX / 4, |ids| ids.len().saturating_sub(AROUND))
    }
}
