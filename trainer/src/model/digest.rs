//! The weights digest: SHA-256 over a model's f32 tensors in byte order of their names; for each the name, a zero byte
//! and its little-endian data. Integer tensors are left out.

use std::path::Path;

use artel_common::digest::{Digest, Hasher};

use super::folder::ModelFolder;
use super::safetensors::{NewData, NewTensor, SafeTensorsFile};
use crate::{Error, Result};

/// Values hashed at a time.
const PIECE_VALUES: usize = 1 << 16;

/// The digest that an export of these parameters will have.
///
/// # Errors
/// `params` has another length than the layout, or the base model's other tensors cannot be read.
pub fn weights_digest(folder: &ModelFolder, params: &[f32]) -> Result<Digest> {
    if params.len() != folder.layout.total {
        return Err(Error::Internal(format!("{} parameters, the layout has {}", params.len(), folder.layout.total)));
    }
    Ok(digest_of_tensors(&folder.weights.export(&folder.layout, params)?))
}

/// The digest of a model.safetensors.
///
/// # Errors
/// The file cannot be read.
pub fn weights_digest_of_file(path: &Path) -> Result<Digest> {
    let file = SafeTensorsFile::open(path)?;
    let mut hasher = Hasher::default();
    for (name, _) in file.tensors().iter().filter(|(_, info)| info.dtype == "F32") {
        hasher.update(name.as_bytes());
        hasher.update(&[0]);
        hasher.update(&file.read_raw(name)?);
    }
    Ok(hasher.finish())
}

/// The digest of tensors about to be written.
pub fn digest_of_tensors(tensors: &[NewTensor<'_>]) -> Digest {
    let mut floats: Vec<(&str, &[f32])> = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        if let NewData::F32(values) = &tensor.data {
            floats.push((&tensor.name, values));
        }
    }
    floats.sort_unstable_by_key(|(name, _)| *name);
    let mut hasher = Hasher::default();
    let mut bytes = Vec::with_capacity(PIECE_VALUES * 4);
    for (name, values) in floats {
        hasher.update(name.as_bytes());
        hasher.update(&[0]);
        for piece in values.chunks(PIECE_VALUES) {
            bytes.clear();
            piece.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
            hasher.update(&bytes);
        }
    }
    hasher.finish()
}
