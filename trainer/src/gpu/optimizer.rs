//! Parameters, moments and gradient on the device, and their update: `kernels/weights.cu`.

use candle_core::{DType, Tensor};

use super::address::{address, element};
use super::launch::Argument;
use super::{Gpu, Launch, Weights};
use crate::model::layout::{ParamEntry, ParamLayout};
use crate::optim::AdamW;
use crate::state::{TrainState, tensor};
use crate::{Error, Result};

/// Threads of a block.
const THREADS: usize = 256;
/// Elements of a thread's loads.
const VECTOR: usize = 4;
/// Blocks for each multiprocessor.
const BLOCKS: usize = 8;
/// What stands for a parameter that has no copy, as kernels/weights.cu has it.
const NO_COPY: u32 = 1 << 31;
/// Numbers of an entry.
const ENTRY: usize = 3;
/// What an update comes to: the gradient's norm, what it is multiplied by, the loss.
const OUTCOME: usize = 3;

/// What an update came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Mean loss over the batches.
    pub loss: f64,
    /// Norm of the gradient before the clip.
    pub grad_norm: f64,
}

/// The state of a run on a device.
#[derive(Debug)]
pub struct Optimizer {
    /// All parameters, f32 [total].
    pub params: Tensor,
    /// What products read of them.
    pub weights: Weights,
    /// The gradient, f32 [total].
    pub grad: Tensor,
    moments: [Tensor; 2],
    /// Updates applied.
    pub step: u64,
    outcome: Tensor,
    /// [entries, 3]: where each ends, whether it decays, how far its place in the weights' copy is from its own.
    entries: Tensor,
}

/// The scalars of an update.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
struct Update([f32; 7]);

// SAFETY: kernels/weights.cu, `Update`: seven floats.
unsafe impl Argument for Update {}

impl Optimizer {
    /// Copies a state to the device.
    ///
    /// # Errors
    /// The device gives no memory, or the model does not run on it.
    pub fn new(gpu: &Gpu, layout: &ParamLayout, state: &TrainState) -> Result<Self> {
        if layout.total >= NO_COPY as usize {
            return Err(Error::input("the model has more than 2^31 parameters"));
        }
        let device = gpu.device();
        let params = state.params.to_device(device)?.copy()?;
        let moment = |values: &[f32]| Tensor::from_slice(values, values.len(), device);
        let weights = Weights::new(gpu, layout)?;
        if let Some(odd) = layout.entries.iter().find(|entry| !entry.offset.is_multiple_of(2)) {
            return Err(Error::input(format!("parameter {} does not run on a GPU: the model's widths must be even", odd.name)));
        }
        let entry = |entry: &ParamEntry| {
            let to_copy =
                weights.first_of(&entry.range()).map_or(NO_COPY, |first| (first as u32).wrapping_sub(entry.offset as u32));
            [entry.range().end as u32, u32::from(entry.decay), to_copy]
        };
        let entries: Vec<u32> = layout.entries.iter().flat_map(entry).collect();
        weights.update(gpu, &params)?;
        Ok(Self {
            weights,
            grad: params.zeros_like()?,
            moments: [moment(&state.exp_avg)?, moment(&state.exp_avg_sq)?],
            params,
            step: state.step,
            outcome: Tensor::zeros(OUTCOME, DType::F32, device)?,
            entries: Tensor::new(entries, device)?,
        })
    }

    /// The state as it is, copied to the CPU.
    ///
    /// # Errors
    /// The device is gone.
    pub fn state(&self) -> Result<TrainState> {
        let [exp_avg, exp_avg_sq] = self.moments.each_ref().map(Tensor::to_vec1::<f32>);
        Ok(TrainState { params: tensor(self.params.to_vec1()?)?, exp_avg: exp_avg?, exp_avg_sq: exp_avg_sq?, step: self.step })
    }

    /// Begins an update: no gradient and no loss yet.
    ///
    /// # Errors
    /// The device refused it.
    pub fn clear(&self) -> Result<()> {
        self.grad.zero_set()?;
        Ok(self.outcome.zero_set()?)
    }

    /// Where losses are added up.
    ///
    /// # Errors
    /// None, but that candle says so.
    pub fn loss(&self) -> Result<Tensor> {
        Ok(self.outcome.narrow(0, OUTCOME - 1, 1)?)
    }

    /// Begins the end of an update: `share` times the gradient, clipped to `max_norm` (0: not), moves the parameters. Where loss or norm is not
    /// finite nothing moves.
    ///
    /// # Errors
    /// The device refused it.
    pub fn begin_update(&self, gpu: &Gpu, adamw: &AdamW, learning_rate: f64, share: f64, max_norm: f64) -> Result<()> {
        let len = self.params.elem_count();
        let blocks = len.div_ceil(THREADS * VECTOR).min(gpu.backend().multiprocessors() as usize * BLOCKS);
        // f64, in memory that candle counts as pairs of f32
        let partials = element(&gpu.scratch("squares", 2 * blocks, DType::F32)?, 0)?;
        let (grad, outcome) = (element(&self.grad, 0)?, element(&self.outcome, 0)?);
        let squares = Launch::new("sum_squares", [blocks, 1, 1], THREADS as u32)
            .shared_floats(2 * THREADS)
            .with(partials)
            .with(grad)
            .count(len);
        let clip = Launch::new("clip", [1, 1, 1], 32).with(outcome).with(partials).count(blocks).with(share).with(max_norm);
        let [exp_avg, exp_avg_sq] = self.moments.each_ref().map(|moment| element(moment, 0));
        let update = Launch::new("adamw", [blocks, 1, 1], THREADS as u32)
            .with(element(&self.params, 0)?)
            .with(exp_avg?)
            .with(exp_avg_sq?)
            .with(self.weights.address()?)
            .with(grad)
            .with(outcome)
            .with(element(&self.outcome, OUTCOME - 1)?)
            .with(address(&self.entries, DType::U32)?)
            .count(self.entries.elem_count() / ENTRY)
            .with(Update(adamw.update(self.step + 1, learning_rate, 1.0).scalars()))
            .count(len);
        // SAFETY: parameters, moments and gradient are of one length, which the entries cover; copies lie where the weights have them.
        unsafe {
            gpu.backend().launch(&squares)?;
            gpu.backend().launch(&clip)?;
            gpu.backend().launch(&update)
        }
    }

    /// Waits for an update that was begun with this share.
    ///
    /// # Errors
    /// The device failed.
    pub fn finish_update(&mut self, share: f64) -> Result<Outcome> {
        let outcome = self.outcome.to_vec1::<f32>()?;
        let outcome = Outcome { loss: f64::from(outcome[OUTCOME - 1]) * share, grad_norm: f64::from(outcome[0]) };
        if outcome.loss.is_finite() && outcome.grad_norm.is_finite() {
            self.step += 1;
        }
        Ok(outcome)
    }
}
