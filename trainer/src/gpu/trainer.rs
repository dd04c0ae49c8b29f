//! An update on one device: embed the batch, loss and its gradient, go back, clip, AdamW.
//!
//! B rows of the batch, C columns, T = B C texts, h width. Texts stand column by column: all anchors, all positives, and so on; they are cut into
//! micro-batches by tokens. Where one holds them all it is embedded once; else all are embedded, and embedded again on
//! the way back (GradCache), with the same masks.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::{DeviceBatch, DeviceLoss, Gpu, Optimizer, Outcome, Place, ops};
use crate::dropout::{Dropout, DropoutKey};
use crate::encoder::{Activations, Encoder, Pass, Workspace};
use crate::interrupt::Interrupt;
use crate::loss::LossSpec;
use crate::optim::AdamW;
use crate::packed::{PackedBatch, SampleKey};
use crate::state::TrainState;
use crate::tokens::TokenTable;
use crate::{Error, Result};

/// The share of what is free that is planned with; the rest is for what libraries take.
const FREE_SHARE: f64 = 0.85;
/// Bytes a parameter: it, its moments, its gradient, its bf16 copy.
const STATE_BYTES: usize = 18;
/// What the loss may take.
const LOSS_BYTES: usize = 1 << 30;
/// Tokens at once: as few as one long text and some, and as many as the sizes of products allow with ease.
const LEAST_TOKENS: usize = 1024;
const MOST_TOKENS: usize = 1 << 19;

/// What changes the weights, and how many tokens go through the device at once.
#[derive(Debug, Clone)]
pub struct DeviceSettings {
    /// The loss, its scale and widths.
    pub loss: LossSpec,
    /// Greatest gradient norm; 0 is no clipping.
    pub max_grad_norm: f64,
    /// The optimizer.
    pub adamw: AdamW,
    /// Seed of the dropout masks.
    pub seed: u64,
    /// Dropout of hidden states and of attention probabilities.
    pub dropout: (f64, f64),
    /// Tokens of a micro-batch, as many as memory holds; a longer text stands alone.
    pub micro_batch_tokens: usize,
}

/// Trains on one device.
#[derive(Debug)]
pub struct DeviceTrainer {
    gpu: Arc<Gpu>,
    encoder: Arc<Encoder>,
    settings: DeviceSettings,
    workspace: Workspace,
    /// Parameters, moments, gradient.
    pub optimizer: Optimizer,
}

/// A micro-batch: which texts, and they packed.
struct Micro {
    texts: Range<usize>,
    packed: PackedBatch,
    on_device: DeviceBatch,
}

impl DeviceTrainer {
    /// A trainer that begins from this state.
    ///
    /// # Errors
    /// The model does not run on the device, or it gives no memory.
    pub fn new(gpu: Arc<Gpu>, encoder: Arc<Encoder>, settings: DeviceSettings, state: &TrainState) -> Result<Self> {
        ops::check_model(encoder.config())?;
        let optimizer = Optimizer::new(&gpu, encoder.layout(), state)?;
        Ok(Self { gpu, encoder, settings, workspace: Workspace::new(), optimizer })
    }

    /// Applies one update: the mean gradient of `batches` (rows of `table`), at this learning rate. Where memory does not suffice, half as
    /// many tokens go through the device at once from then on.
    ///
    /// # Errors
    /// A loss or gradient is not finite, the work is to end, or the device refused something; the state is then what it was before.
    pub fn step(&mut self, table: &TokenTable, batches: &[&[u32]], learning_rate: f64, interrupt: &Interrupt) -> Result<Outcome> {
        while let Err(error) = self.gradient(table, batches, interrupt) {
            if !is_out_of_memory(&error) || self.settings.micro_batch_tokens <= LEAST_TOKENS {
                return Err(error);
            }
            self.settings.micro_batch_tokens = (self.settings.micro_batch_tokens / 2).max(LEAST_TOKENS);
            self.release_memory();
            tracing::warn!("the GPU ran out of memory; going on with {} tokens at once", self.settings.micro_batch_tokens);
        }
        let share = 1.0 / batches.len().max(1) as f64;
        let DeviceSettings { adamw, max_grad_norm, .. } = &self.settings;
        let outcome = self.optimizer.update(&self.gpu, adamw, learning_rate, share, *max_grad_norm)?;
        if !(outcome.loss.is_finite() && outcome.grad_norm.is_finite()) {
            return Err(Error::NotFinite(format!(
                "the loss is {} and the gradient norm {} at step {}; lower learning_rate or look at the training rows from {:?} on",
                outcome.loss,
                outcome.grad_norm,
                self.optimizer.step + 1,
                batches.first().and_then(|rows| rows.first()),
            )));
        }
        Ok(outcome)
    }

    /// The embeddings of a batch, f32 [S, h], by the parameters as they are.
    ///
    /// # Errors
    /// The batch does not suit the model, or the device refused something.
    pub fn encode(&self, batch: &PackedBatch, workspace: &mut Workspace) -> Result<Vec<f32>> {
        if batch.num_sequences() == 0 {
            return Ok(Vec::new());
        }
        let on_device = DeviceBatch::new(&self.gpu, batch, self.encoder.config(), self.encoder.pooling())?;
        let place = Place { gpu: &self.gpu, batch: &on_device, weights: &self.optimizer.weights };
        let pass = self.encoder.pass(&self.optimizer.params, batch, None)?.on(place);
        let acts = pass.room(false, workspace)?;
        pass.forward(&acts, workspace)?;
        Ok(acts.embeddings.flatten_all()?.to_vec1()?)
    }

    /// What it runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Tokens that go through the device at once.
    pub fn micro_batch_tokens(&self) -> usize {
        self.settings.micro_batch_tokens
    }

    /// Frees what is kept from update to update; the next one makes it anew.
    pub fn release_memory(&mut self) {
        self.workspace = Workspace::new();
        self.gpu.release_memory();
        // a device gives freed memory back when it is waited for; what went wrong before shows at the next call
        let _ = self.gpu.backend().synchronize();
    }

    /// How many tokens' activations fit into what is free, beside a state that is yet to come, and the loss.
    ///
    /// # Errors
    /// The device is gone.
    pub fn tokens_that_fit(gpu: &Gpu, encoder: &Encoder) -> Result<usize> {
        let kept = encoder.activation_bytes(1) / 2;
        let buffers = encoder.buffer_width() * 2;
        let free = (gpu.backend().free_bytes()? as f64 * FREE_SHARE) as usize;
        let state = encoder.layout().total * STATE_BYTES;
        Ok((free.saturating_sub(state + LOSS_BYTES) / (kept + buffers)).clamp(LEAST_TOKENS, MOST_TOKENS))
    }

    fn dropout(&self) -> Option<Dropout> {
        let (hidden, attention) = self.settings.dropout;
        let key = DropoutKey { seed: self.settings.seed, step: self.optimizer.step };
        (hidden > 0.0 || attention > 0.0).then_some(Dropout { key, hidden: hidden as f32, attention: attention as f32 })
    }

    /// The gradient of the batches' losses, added up.
    fn gradient(&mut self, table: &TokenTable, batches: &[&[u32]], interrupt: &Interrupt) -> Result<()> {
        self.optimizer.clear()?;
        batches.iter().try_for_each(|rows| self.add_batch(table, rows, interrupt))
    }

    /// Adds a batch's loss and gradient.
    fn add_batch(&mut self, table: &TokenTable, rows: &[u32], interrupt: &Interrupt) -> Result<()> {
        let micros = self.cut(table, rows)?;
        let dropout = self.dropout();
        let (h, num_texts) = (self.encoder.config().hidden_size, rows.len() * table.num_columns());
        let embeddings = Tensor::zeros((num_texts, h), DType::F32, self.gpu.device())?;
        let keep = micros.len() == 1;
        let mut kept = None;
        for micro in &micros {
            interrupt.check()?;
            let acts = self.forward(micro, dropout.as_ref(), keep)?;
            embeddings.slice_set(&acts.embeddings, 0, micro.texts.start)?;
            kept = keep.then_some(acts);
        }
        let d_embeddings = self.loss(&embeddings, rows.len())?;
        for micro in &micros {
            interrupt.check()?;
            let acts = match kept.take() {
                Some(acts) => acts,
                None => self.forward(micro, dropout.as_ref(), true)?,
            };
            let d = d_embeddings.narrow(0, micro.texts.start, micro.texts.len())?;
            let pass = pass(&self.gpu, &self.encoder, &self.optimizer, micro, dropout.as_ref())?;
            pass.backward(acts, &d, &self.optimizer.grad, &mut self.workspace)?;
        }
        Ok(())
    }

    /// The batch's texts in micro-batches.
    fn cut(&self, table: &TokenTable, rows: &[u32]) -> Result<Vec<Micro>> {
        let (mut micros, mut packed, mut first) = (Vec::new(), PackedBatch::new(), 0);
        let finish = |packed: PackedBatch, texts: Range<usize>| {
            let on_device = DeviceBatch::new(&self.gpu, &packed, self.encoder.config(), self.encoder.pooling())?;
            Ok::<_, Error>(Micro { texts, packed, on_device })
        };
        let texts = (0..table.num_columns()).flat_map(|column| rows.iter().map(move |&row| (row, column)));
        for (index, (row, column)) in texts.enumerate() {
            let ids = table.text(row as usize, column);
            if packed.num_tokens() > 0 && packed.num_tokens() + ids.len() > self.settings.micro_batch_tokens {
                micros.push(finish(std::mem::replace(&mut packed, PackedBatch::new()), first..index)?);
                first = index;
            }
            packed.push(SampleKey { sample: u64::from(row), column: column as u32 }, ids, table.prompt_len(column));
        }
        let end = first + packed.num_sequences();
        micros.push(finish(packed, first..end)?);
        Ok(micros)
    }

    fn forward(&mut self, micro: &Micro, dropout: Option<&Dropout>, keep: bool) -> Result<Activations> {
        let pass = pass(&self.gpu, &self.encoder, &self.optimizer, micro, dropout)?;
        let acts = pass.room(keep, &mut self.workspace)?;
        pass.forward(&acts, &mut self.workspace)?;
        Ok(acts)
    }

    /// Adds the loss of all embeddings, [T, h]; gives its gradient.
    fn loss(&self, embeddings: &Tensor, num_rows: usize) -> Result<Tensor> {
        let others = embeddings.dims2()?.0 - num_rows;
        let d_embeddings = embeddings.zeros_like()?;
        let part = |tensor: &Tensor, first, len| tensor.narrow(0, first, len);
        let loss = DeviceLoss {
            gpu: &self.gpu,
            spec: &self.settings.loss,
            anchors: &part(embeddings, 0, num_rows)?,
            candidates: &part(embeddings, num_rows, others)?,
            own_offset: 0,
            num_anchors: num_rows,
        };
        loss.run(&self.optimizer.loss()?, &part(&d_embeddings, 0, num_rows)?, &part(&d_embeddings, num_rows, others)?)?;
        Ok(d_embeddings)
    }
}

/// Whether a device had no memory left, as CUDA and cuBLAS say it.
fn is_out_of_memory(error: &Error) -> bool {
    let text = error.to_string();
    ["OUT_OF_MEMORY", "out of memory", "ALLOC_FAILED"].iter().any(|name| text.contains(name))
}

/// A micro-batch's way through the encoder.
fn pass<'a>(
    gpu: &'a Gpu,
    encoder: &'a Encoder,
    optimizer: &'a Optimizer,
    micro: &'a Micro,
    dropout: Option<&'a Dropout>,
) -> Result<Pass<'a>> {
    let place = Place { gpu, batch: &micro.on_device, weights: &optimizer.weights };
    Ok(encoder.pass(&optimizer.params, &micro.packed, dropout)?.on(place))
}
