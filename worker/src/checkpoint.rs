//! A training state out of the store: every part checked against its digest, or nothing.

use artel_common::checkpoint::{CheckpointManifest, CheckpointPart, History, StateVector};
use artel_common::records::ObjectRef;
use artel_common::store::Store;
use artel_common::{Error, Result};
use artel_trainer::state::TrainState;
use futures::{StreamExt as _, TryStreamExt as _};

/// Parts read at once.
const PARTS_AT_ONCE: usize = 3;

/// A checkpoint's manifest, whole in itself.
///
/// # Errors
/// [`Error::Damaged`] where it is missing, torn, flipped or does not name all of every vector.
pub async fn read_manifest(store: &Store, object: &ObjectRef) -> Result<CheckpointManifest> {
    let manifest: CheckpointManifest = store.get_json_verified(object).await?;
    manifest.check()?;
    Ok(manifest)
}

/// One of its vectors.
///
/// # Errors
/// [`Error::Damaged`] where a part is missing, torn or flipped.
pub async fn read_vector(store: &Store, manifest: &CheckpointManifest, vector: StateVector) -> Result<Vec<f32>> {
    let mut values = vec![0.0; manifest.num_values as usize];
    let parts = manifest.parts.iter().filter(|part| part.vector == vector);
    let mut read = futures::stream::iter(parts)
        .map(|part| async move { Ok::<_, Error>((part, store.get_verified(&part.object).await?)) })
        .buffer_unordered(PARTS_AT_ONCE);
    while let Some((CheckpointPart { start, len, .. }, bytes)) = read.try_next().await? {
        let (start, len) = (*start as usize, *len as usize);
        for (value, bytes) in values[start..start + len].iter_mut().zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
    }
    Ok(values)
}

/// The whole state, with the losses that led to it.
///
/// # Errors
/// As [`read_vector`]; or it is not of this model.
pub(crate) async fn read_state(store: &Store, manifest: &CheckpointManifest, num_values: usize) -> Result<(TrainState, History)> {
    if manifest.num_values as usize != num_values {
        let (step, found) = (manifest.step, manifest.num_values);
        return Err(Error::Damaged(format!("checkpoint {step} has {found} values, the model has {num_values}")));
    }
    let history = History::from_bytes(&store.get_verified(&manifest.history).await?, manifest.step)?;
    let [params, exp_avg, exp_avg_sq] = StateVector::ALL.map(|vector| read_vector(store, manifest, vector));
    let (params, exp_avg, exp_avg_sq) = (params.await?, exp_avg.await?, exp_avg_sq.await?);
    let state = TrainState::saved(params, exp_avg, exp_avg_sq, manifest.step).map_err(|e| Error::Internal(e.to_string()))?;
    Ok((state, history))
}
