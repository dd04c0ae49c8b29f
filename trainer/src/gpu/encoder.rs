//! Encoding on a device, by a trainer or by parameters alone.

use std::fmt::Debug;

use candle_core::Tensor;

use super::memory::MOST_TOGETHER;
use super::{DeviceBatch, DeviceTrainer, Gpu, Place, Weights, ops};
use crate::Result;
use crate::encoder::{Encoder, Workspace};
use crate::packed::PackedBatch;

/// What encodes batches on a device.
pub trait EncodeOnDevice: Debug + Sync {
    /// The embeddings of a batch, f32 [S, h].
    ///
    /// # Errors
    /// The batch does not suit the model, or the device refused something.
    fn encode(&self, batch: &PackedBatch, workspace: &mut Workspace) -> Result<Vec<f32>>;

    /// Tokens that go through the device at once.
    fn micro_batch_tokens(&self) -> usize;
}

/// A model's parameters on a device.
#[derive(Debug)]
pub struct DeviceEncoder {
    gpu: Gpu,
    encoder: Encoder,
    params: Tensor,
    weights: Weights,
    micro_batch_tokens: usize,
}

impl DeviceEncoder {
    /// Copies a model's parameters, f32 [total], to a device.
    ///
    /// # Errors
    /// The model does not run on it, or it gives no memory.
    pub fn new(gpu: Gpu, encoder: Encoder, params: &Tensor) -> Result<Self> {
        ops::check_model(encoder.config())?;
        let micro_batch_tokens = DeviceTrainer::tokens_that_fit(&gpu, &encoder)?.min(MOST_TOGETHER);
        let params = params.to_device(gpu.device())?;
        let weights = Weights::new(&gpu, encoder.layout())?;
        weights.update(&gpu, &params)?;
        Ok(Self { gpu, encoder, params, weights, micro_batch_tokens })
    }

    /// What it runs on, for people.
    pub fn describe(&self) -> String {
        self.gpu.backend().describe()
    }
}

impl EncodeOnDevice for DeviceEncoder {
    fn encode(&self, batch: &PackedBatch, workspace: &mut Workspace) -> Result<Vec<f32>> {
        encode(&self.gpu, &self.encoder, &self.params, &self.weights, (batch, workspace))
    }

    fn micro_batch_tokens(&self) -> usize {
        self.micro_batch_tokens
    }
}

/// The embeddings of a batch by parameters on a device, with the buffers of a workspace.
pub(super) fn encode(
    gpu: &Gpu,
    encoder: &Encoder,
    params: &Tensor,
    weights: &Weights,
    (batch, workspace): (&PackedBatch, &mut Workspace),
) -> Result<Vec<f32>> {
    if batch.num_sequences() == 0 {
        return Ok(Vec::new());
    }
    let on_device = DeviceBatch::new(gpu, batch, encoder.config(), encoder.pooling())?;
    let pass = encoder.pass(params, batch, None)?.on(Place { gpu, batch: &on_device, weights, keep_masks: false });
    let acts = pass.room(false, workspace)?;
    pass.forward(&acts, workspace)?;
    Ok(acts.embeddings.flatten_all()?.to_vec1()?)
}
