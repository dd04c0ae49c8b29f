//! What a checkpoint is (CKPT-1): parts in the store, then a manifest that names them all, then a journal entry that names the manifest.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::records::ObjectRef;

/// Version of [`CheckpointManifest`].
pub const FORMAT: u32 = 1;

/// One of the vectors of a training state, each f32 of one length (`trainer`'s layout).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateVector {
    /// The parameters.
    Params,
    /// Adam's first moment.
    ExpAvg,
    /// Adam's second moment.
    ExpAvgSq,
}

impl StateVector {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Params, Self::ExpAvg, Self::ExpAvgSq];

    /// Its name in keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Params => "params",
            Self::ExpAvg => "exp_avg",
            Self::ExpAvgSq => "exp_avg_sq",
        }
    }
}

/// A range of a vector, little-endian f32.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointPart {
    /// Which vector.
    pub vector: StateVector,
    /// Its first value.
    pub start: u64,
    /// How many values.
    pub len: u64,
    /// Where they lie.
    pub object: ObjectRef,
}

/// The training state after `step` updates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointManifest {
    /// Version of this record.
    pub format: u32,
    /// The run's identity.
    pub run_digest: Digest,
    /// The world that wrote it.
    pub generation: u64,
    /// Updates applied; the cursor into the batch plan too.
    pub step: u64,
    /// Values of each vector.
    pub num_values: u64,
    /// The kernel path that computed it (SAME-3 holds on one).
    pub kernel_path: String,
    /// Losses and gradient norms of all updates so far.
    pub history: ObjectRef,
    /// The parts of all vectors, in order of vectors and values.
    pub parts: Vec<CheckpointPart>,
}

impl CheckpointManifest {
    /// Whether the parts are all of every vector: each value once, in order, and each part as long as its values.
    ///
    /// # Errors
    /// What is missing, double or of another length.
    pub fn check(&self) -> Result<()> {
        if self.format != FORMAT {
            return Err(Error::Store(format!(
                "checkpoint {} has format {}, this binary reads {FORMAT}; use the binary that wrote it",
                self.step, self.format
            )));
        }
        let wrong = |what: String| Err(Error::Damaged(format!("checkpoint {} is damaged: {what}", self.step)));
        let mut parts = self.parts.iter().peekable();
        for vector in StateVector::ALL {
            let mut next = 0;
            while let Some(part) = parts.next_if(|part| part.vector == vector) {
                if part.start != next || part.len == 0 {
                    return wrong(format!("{} goes on at value {}, expected {next}", vector.name(), part.start));
                }
                if part.object.bytes != part.len * 4 {
                    let (key, bytes, len) = (&part.object.key, part.object.bytes, part.len);
                    return wrong(format!("{key} has {bytes} bytes for {len} values"));
                }
                next += part.len;
            }
            if next != self.num_values {
                return wrong(format!("{} has {next} of {} values", vector.name(), self.num_values));
            }
        }
        match parts.next() {
            None => Ok(()),
            Some(part) => wrong(format!("{} stands out of order", part.object.key)),
        }
    }

    /// Every object of it but the manifest itself.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.parts.iter().map(|part| &part.object).chain([&self.history])
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.objects().map(|object| object.bytes).sum()
    }
}

/// Losses and gradient norms of the updates so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// Of each update, in order.
    pub losses: Vec<f64>,
    /// Before the clip, of each update.
    pub grad_norms: Vec<f64>,
}

impl History {
    /// As an object's bytes: loss and norm of each update in turn, little-endian f64.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.losses
            .iter()
            .zip(&self.grad_norms)
            .flat_map(|(loss, norm)| [loss.to_le_bytes(), norm.to_le_bytes()])
            .flatten()
            .collect()
    }

    /// Reads what [`History::to_bytes`] wrote.
    ///
    /// # Errors
    /// It is not of so many updates.
    pub fn from_bytes(bytes: &[u8], steps: u64) -> Result<Self> {
        if bytes.len() as u64 != steps * 16 {
            return Err(Error::Damaged(format!(
                "a history of {steps} updates has {} bytes, expected {}",
                bytes.len(),
                steps * 16
            )));
        }
        let values: Vec<f64> = bytes.as_chunks::<8>().0.iter().map(|chunk| f64::from_le_bytes(*chunk)).collect();
        Ok(Self {
            losses: values.iter().step_by(2).copied().collect(),
            grad_norms: values.iter().skip(1).step_by(2).copied().collect(),
        })
    }

    /// One update more.
    pub fn push(&mut self, loss: f64, grad_norm: f64) {
        self.losses.push(loss);
        self.grad_norms.push(grad_norm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(vector: StateVector, start: u64, len: u64) -> CheckpointPart {
        let object = ObjectRef { key: format!("{}-{start}", vector.name()), bytes: len * 4, sha256: Digest::of(b"") };
        CheckpointPart { vector, start, len, object }
    }

    fn manifest() -> CheckpointManifest {
        let parts = StateVector::ALL.into_iter().flat_map(|vector| [part(vector, 0, 3), part(vector, 3, 2)]).collect();
        let history = ObjectRef { key: "history".into(), bytes: 16, sha256: Digest::of(b"") };
        CheckpointManifest {
            format: FORMAT,
            run_digest: Digest::of(b"run"),
            generation: 1,
            step: 7,
            num_values: 5,
            kernel_path: "AVX2".into(),
            history,
            parts,
        }
    }

    /// Goal: a manifest that does not name all of every vector is none. Method: each part left out, doubled, moved, lengthened.
    #[test]
    fn holes_are_seen() {
        manifest().check().expect("whole");
        assert_eq!(manifest().bytes(), 3 * 5 * 4 + 16);
        for index in 0..6 {
            let mut missing = manifest();
            missing.parts.remove(index);
            assert!(missing.check().is_err(), "{index} missing");
            let mut double = manifest();
            double.parts.insert(index, double.parts[index].clone());
            assert!(double.check().is_err(), "{index} twice");
            let mut longer = manifest();
            longer.parts[index].object.bytes += 4;
            assert!(longer.check().is_err(), "{index} longer");
            let mut swapped = manifest();
            swapped.parts.swap(index, (index + 1) % 6);
            assert!(swapped.check().is_err(), "{index} swapped");
        }
        let more = CheckpointManifest { num_values: 6, ..manifest() };
        assert!(more.check().is_err());
        let newer = CheckpointManifest { format: FORMAT + 1, ..manifest() };
        assert!(newer.check().expect_err("another format").to_string().contains("use the binary that wrote it"));
    }

    /// Goal: the history survives its bytes. Method: there and back; another number of updates is refused.
    #[test]
    fn history_round_trip() {
        let mut history = History::default();
        history.push(1.5, 2.5);
        history.push(0.1, 0.2);
        let bytes = history.to_bytes();
        assert_eq!(History::from_bytes(&bytes, 2).expect("whole"), history);
        assert!(History::from_bytes(&bytes, 3).is_err() && History::from_bytes(&bytes[1..], 2).is_err());
    }
}
