//! The state of a training run on one rank: parameters and Adam moments, each one flat vector.

use std::ops::Range;
use std::sync::Mutex;

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Storage, Tensor};

use artel_common::digest::{Digest, Hasher};

use crate::error::{Error, Result};

/// Takes the vector out of an f32 tensor on the CPU; the tensor must not be used after that.
struct Take<'a>(Mutex<&'a mut Vec<f32>>);

impl InplaceOp1 for Take<'_> {
    fn name(&self) -> &'static str {
        "take"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _layout: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(values) = storage else { candle_core::bail!("take wants an f32 tensor") };
        let mut taken = self.0.lock().expect("locked once, by this very call");
        std::mem::swap(values, *taken);
        Ok(())
    }
}

/// The values of a flat f32 tensor on the CPU, without a copy. No other handle of it may be used after that.
///
/// # Errors
/// The tensor is of another kind.
pub fn into_values(tensor: Tensor) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    tensor.inplace_op1(&Take(Mutex::new(&mut values)))?;
    Ok(values)
}

/// A flat f32 tensor on the CPU with these values.
///
/// # Errors
/// Out of memory.
pub fn tensor(values: Vec<f32>) -> Result<Tensor> {
    let len = values.len();
    Ok(Tensor::from_vec(values, len, &Device::Cpu)?)
}

/// Zeros in memory that is there: pages that are first read and then written are made twice, with all threads stopped for each.
fn zeros(len: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    // not a zero that the compiler knows, or it would ask the system for untouched pages
    values.resize(len, std::hint::black_box(0.0));
    values
}

/// Gives `read` the values of a contiguous f32 tensor on the CPU.
///
/// # Errors
/// The tensor is of another kind.
pub fn with_values<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(values)) = &*storage else {
        return Err(Error::Internal("an f32 tensor on the CPU was expected".into()));
    };
    let (start, end) = layout.contiguous_offsets().ok_or_else(|| Error::Internal("a contiguous tensor was expected".into()))?;
    Ok(read(&values[start..end]))
}

/// Parameters and moments after `step` updates.
#[derive(Debug)]
pub struct TrainState {
    /// All parameters, f32 [total].
    pub params: Tensor,
    /// Adam's first moment, [total].
    pub exp_avg: Vec<f32>,
    /// Adam's second moment, [total].
    pub exp_avg_sq: Vec<f32>,
    /// Updates applied.
    pub step: u64,
}

impl TrainState {
    /// The state before the first update.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(params: Vec<f32>) -> Result<Self> {
        let total = params.len();
        Ok(Self { params: tensor(params)?, exp_avg: zeros(total), exp_avg_sq: zeros(total), step: 0 })
    }

    /// A state that was saved.
    ///
    /// # Errors
    /// The vectors differ in length, or there is no memory.
    pub fn saved(params: Vec<f32>, exp_avg: Vec<f32>, exp_avg_sq: Vec<f32>, step: u64) -> Result<Self> {
        if exp_avg.len() != params.len() || exp_avg_sq.len() != params.len() {
            return Err(Error::Internal("the vectors of a state are of one length".into()));
        }
        Ok(Self { params: tensor(params)?, exp_avg, exp_avg_sq, step })
    }

    /// Copies of a range of parameters, first and second moment, in the memory of these vectors.
    ///
    /// # Errors
    /// The parameters are not on the CPU.
    pub fn copy_range(&self, range: Range<usize>, into: [Vec<f32>; 3]) -> Result<[Vec<f32>; 3]> {
        with_values(&self.params, |params| {
            let mut into = into.into_iter();
            let sources = [params, &self.exp_avg, &self.exp_avg_sq].map(|values| (values, into.next().unwrap_or_default()));
            std::thread::scope(|scope| {
                let copy = |(values, mut copy): (&'_ [f32], Vec<f32>)| {
                    copy.clear();
                    copy.extend_from_slice(values);
                    copy
                };
                sources
                    .map(|(values, into)| {
                        let part = &values[range.clone()];
                        scope.spawn(move || copy((part, into)))
                    })
                    .map(|copy| copy.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
        })
    }

    /// Digest of the parameters' bits: equal on every rank, for any number of ranks (SAME-3).
    ///
    /// # Errors
    /// The parameters are not on the CPU.
    pub fn params_digest(&self) -> Result<Digest> {
        with_values(&self.params, |values| {
            let mut hasher = Hasher::default();
            for block in values.chunks(1 << 14) {
                let bytes: Vec<u8> = block.iter().flat_map(|value| value.to_le_bytes()).collect();
                hasher.update(&bytes);
            }
            hasher.finish()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: values come out of a tensor as they went in. Method: look at them.
    #[test]
    fn in_and_out() {
        let flat = tensor(vec![1.0, 2.0]).unwrap();
        assert_eq!(with_values(&flat, <[f32]>::to_vec).unwrap(), [1.0, 2.0]);
        assert_eq!(into_values(flat).unwrap(), [1.0, 2.0]);
    }

    /// Goal: a state's ranges together are the state. Method: copies of two ranges, and vectors that do not fit.
    #[test]
    fn ranges() {
        let state = TrainState::saved(vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0], vec![7.0, 8.0, 9.0], 5).unwrap();
        assert_eq!(state.copy_range(0..1, Default::default()).unwrap(), [[1.0], [4.0], [7.0]]);
        assert_eq!(state.copy_range(1..3, [vec![0.0; 9], vec![], vec![5.0]]).unwrap(), [[2.0, 3.0], [5.0, 6.0], [8.0, 9.0]]);
        assert!(TrainState::saved(vec![1.0], vec![], vec![1.0], 0).is_err());
    }
}
