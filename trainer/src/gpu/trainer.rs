//! An update on a device, alone or in a world of them: embed the batch, loss and its gradient, go back, clip, AdamW.
//!
//! B rows of the batch, of which a rank has consecutive ones, C columns a row, T texts of a rank, h width. Texts stand column by column: all anchors, all positives, and so on; they are cut into
//! micro-batches by tokens. Where one holds them all it is embedded once; else all are embedded, and embedded again on
//! the way back (GradCache), with the same masks.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Tensor};

use super::address::element;
use super::micro::{CutBatch, Micro};
use super::{DeviceLoss, EncodeOnDevice, Gpu, Optimizer, Outcome, Peers, Place, ops};
use crate::dropout::{Dropout, DropoutKey};
use crate::encoder::{Activations, Encoder, Pass, Workspace};
use crate::interrupt::Interrupt;
use crate::loss::LossSpec;
use crate::nccl::Seat;
use crate::optim::AdamW;
use crate::packed::PackedBatch;
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

/// Trains on a device.
#[derive(Debug)]
pub struct DeviceTrainer {
    gpu: Arc<Gpu>,
    /// The other ranks; none where this is the only one. A lock, so that the whole can be shared: one thread trains.
    peers: Option<Mutex<Box<dyn Peers>>>,
    encoder: Arc<Encoder>,
    settings: DeviceSettings,
    workspace: Workspace,
    /// The batch that comes next, cut while the device was busy.
    ahead: Option<CutBatch>,
    /// Parameters, moments, gradient.
    pub optimizer: Optimizer,
}

/// What a rank does with the others beside exchanges of GPUs.
#[derive(Clone, Copy)]
pub struct Others<'a> {
    /// Whether they are there.
    pub alive: &'a dyn Fn() -> Result<()>,
    /// Tells them that this rank's sums have come to their end, and waits until theirs have.
    pub agree: &'a dyn Fn() -> Result<()>,
}

impl Others<'_> {
    /// There are none.
    pub const NONE: Self = Self { alive: &|| Ok(()), agree: &|| Ok(()) };
}

/// The batch that comes next.
#[derive(Debug, Clone, Copy)]
pub struct Next<'a> {
    /// Where its texts are.
    pub table: &'a TokenTable,
    /// Its rows.
    pub rows: &'a [u32],
}

impl DeviceTrainer {
    /// A trainer that begins from this state.
    ///
    /// # Errors
    /// The model does not run on the device, or it gives no memory.
    pub fn new(gpu: Arc<Gpu>, encoder: Arc<Encoder>, settings: DeviceSettings, state: &TrainState) -> Result<Self> {
        ops::check_model(encoder.config())?;
        let optimizer = Optimizer::new(&gpu, encoder.layout(), state)?;
        Ok(Self { gpu, peers: None, encoder, settings, workspace: Workspace::new(), ahead: None, optimizer })
    }

    /// The same as one rank of a world, all of whose ranks began from the same state.
    pub fn with_peers(mut self, peers: Box<dyn Peers>) -> Self {
        self.peers = Some(Mutex::new(peers));
        self
    }

    /// Applies one update, alone: [`Self::begin`] and [`Self::finish`].
    ///
    /// # Errors
    /// Theirs.
    pub fn step(&mut self, table: &TokenTable, batches: &[&[u32]], learning_rate: f64, interrupt: &Interrupt) -> Result<Outcome> {
        self.begin(table, batches, interrupt)?;
        self.finish(batches, learning_rate, Others::NONE, None)
    }

    /// Begins the mean gradient of `batches` (rows of `table`) over all ranks; nothing has changed yet. Where memory does not suffice, half as many tokens go through the
    /// device at once from then on; not in a world, where other ranks may be further.
    ///
    /// # Errors
    /// The work is to end, a rank was lost, memory does not suffice, or the device refused something.
    pub fn begin(&mut self, table: &TokenTable, batches: &[&[u32]], interrupt: &Interrupt) -> Result<()> {
        while let Err(error) = self.gradient(table, batches, interrupt) {
            // what is under way uses memory that is about to be freed
            self.abort();
            if !is_out_of_memory(&error) || self.settings.micro_batch_tokens <= LEAST_TOKENS {
                return Err(error);
            }
            self.settings.micro_batch_tokens = (self.settings.micro_batch_tokens / 2).max(LEAST_TOKENS);
            self.release_memory();
            let tokens = self.settings.micro_batch_tokens;
            if self.peers.is_some() {
                return Err(Error::Collective(format!(
                    "the GPU of a rank ran out of memory; it goes on with {tokens} tokens at once"
                )));
            }
            tracing::warn!("the GPU ran out of memory; going on with {tokens} tokens at once");
        }
        Ok(())
    }

    /// Applies what was begun, at this learning rate, on every rank or on none; while the device works the next batch is cut.
    ///
    /// # Errors
    /// A loss or gradient is not finite, a rank was lost, or the device failed; the state is then what it was before.
    pub fn finish(
        &mut self,
        batches: &[&[u32]],
        learning_rate: f64,
        others: Others<'_>,
        next: Option<Next<'_>>,
    ) -> Result<Outcome> {
        let tokens = self.settings.micro_batch_tokens;
        let own = |next: &Next<'_>| own_rows(next.rows.len(), self.seat());
        let cut = next.map(|next| CutBatch::of(&self.encoder, next.table, &next.rows[own(&next)], tokens));
        self.ahead = cut.transpose()?;
        // before anything is changed: a sum may be half one, here or on another rank
        self.exchange(|peers| peers.wait(others.alive))?;
        (others.agree)()?;
        let share = 1.0 / batches.len().max(1) as f64;
        let DeviceSettings { adamw, max_grad_norm, .. } = &self.settings;
        self.optimizer.begin_update(&self.gpu, adamw, learning_rate, share, *max_grad_norm)?;
        let outcome = self.optimizer.finish_update(share)?;
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

    /// What it runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// With at most so many tokens at once.
    pub fn with_micro_batch_tokens(mut self, tokens: usize) -> Self {
        self.settings.micro_batch_tokens = self.settings.micro_batch_tokens.min(tokens);
        self
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
        Ok(Self::tokens_in(gpu.backend().free_bytes()?, encoder))
    }

    /// The same of so many free bytes.
    pub fn tokens_in(free_bytes: usize, encoder: &Encoder) -> usize {
        let free = (free_bytes as f64 * FREE_SHARE) as usize;
        let state = encoder.layout().total * STATE_BYTES;
        (free.saturating_sub(state + LOSS_BYTES) / Self::token_bytes(encoder)).clamp(LEAST_TOKENS, MOST_TOKENS)
    }

    /// Bytes that a token takes in a step: activations, a bit for each probability of the longest texts, buffers.
    fn token_bytes(encoder: &Encoder) -> usize {
        let config = encoder.config();
        let masks = config.num_hidden_layers * config.num_attention_heads * config.max_position_embeddings / 8;
        // all in half of f32's bytes
        encoder.activation_bytes(1) / 2 + masks + encoder.buffer_width() * 2
    }

    /// Bytes that a step with so many tokens at once takes, the state and the loss included.
    pub fn step_bytes(tokens: usize, encoder: &Encoder) -> usize {
        encoder.layout().total * STATE_BYTES + LOSS_BYTES + tokens * Self::token_bytes(encoder)
    }

    fn dropout(&self) -> Option<Dropout> {
        let (hidden, attention) = self.settings.dropout;
        let key = DropoutKey { seed: self.settings.seed, step: self.optimizer.step };
        (hidden > 0.0 || attention > 0.0).then_some(Dropout { key, hidden: hidden as f32, attention: attention as f32 })
    }

    /// Ends exchanges that are under way, and makes further ones fail: this rank or another has given up.
    pub fn abort(&self) {
        if let Some(peers) = &self.peers {
            peers.lock().expect("no thread panics with it").abort();
        }
    }

    /// Which rank of how many this is.
    fn seat(&self) -> Seat {
        let peers = self.peers.as_ref();
        peers.map_or(Seat { rank: 0, world_size: 1 }, |peers| peers.lock().expect("no thread panics with it").seat())
    }

    /// Does something with the other ranks, if there are any.
    fn exchange(&self, work: impl FnOnce(&dyn Peers) -> Result<()>) -> Result<()> {
        self.peers.as_ref().map_or(Ok(()), |peers| work(&**peers.lock().expect("no thread panics with it")))
    }

    /// The gradient of the batches' losses, added up, over all ranks.
    fn gradient(&mut self, table: &TokenTable, batches: &[&[u32]], interrupt: &Interrupt) -> Result<()> {
        self.optimizer.clear()?;
        for (index, rows) in batches.iter().enumerate() {
            self.add_batch(table, rows, index + 1 == batches.len(), interrupt)?;
        }
        let loss = element(&self.optimizer.loss()?, 0)?;
        // SAFETY: the loss is one number, which nobody uses before the exchanges have ended.
        self.exchange(|peers| unsafe { peers.all_reduce(loss, 1) })?;
        self.exchange(|peers| peers.join())
    }

    /// Adds a batch's loss and gradient; with the last one, the parts of the gradient are summed over the ranks as they are done.
    fn add_batch(&mut self, table: &TokenTable, rows: &[u32], last: bool, interrupt: &Interrupt) -> Result<()> {
        let own = own_rows(rows.len(), self.seat());
        let micros = self.micros(table, &rows[own.clone()])?;
        let dropout = self.dropout();
        let (h, num_texts) = (self.encoder.config().hidden_size, own.len() * table.num_columns());
        let embeddings = Tensor::zeros((num_texts.max(1), h), DType::F32, self.gpu.device())?.narrow(0, 0, num_texts)?;
        let keep = micros.len() == 1;
        let mut kept = None;
        for micro in &micros {
            interrupt.check()?;
            let acts = self.forward(micro, dropout.as_ref(), keep)?;
            embeddings.slice_set(&acts.embeddings, 0, micro.texts.start)?;
            kept = keep.then_some(acts);
        }
        let d_embeddings = self.loss(&embeddings, rows.len(), table.num_columns())?;
        for (index, micro) in micros.iter().enumerate() {
            interrupt.check()?;
            let acts = match kept.take() {
                Some(acts) => acts,
                None => self.forward(micro, dropout.as_ref(), true)?,
            };
            let d = d_embeddings.narrow(0, micro.texts.start, micro.texts.len())?;
            let mut workspace = std::mem::take(&mut self.workspace);
            let done = &mut |part| if last && index + 1 == micros.len() { self.sum_part(part) } else { Ok(()) };
            pass(&self.gpu, &self.encoder, &self.optimizer, micro, dropout.as_ref(), true)?.backward_by_parts(
                acts,
                &d,
                &self.optimizer.grad,
                &mut workspace,
                done,
            )?;
            self.workspace = workspace;
        }
        if last && micros.is_empty() {
            (0..self.encoder.parts().len()).rev().try_for_each(|part| self.sum_part(part))?;
        }
        Ok(())
    }

    /// Begins the sum of a part of the gradient over the ranks.
    fn sum_part(&self, part: usize) -> Result<()> {
        self.exchange(|peers| {
            let range = self.encoder.parts()[part].clone();
            // SAFETY: the part lies in the gradient, and nothing is added to it any more.
            unsafe { peers.all_reduce(element(&self.optimizer.grad, range.start)?, range.len()) }
        })
    }

    /// The texts of these rows in micro-batches on the device, cut by now or before.
    fn micros(&mut self, table: &TokenTable, rows: &[u32]) -> Result<Vec<Micro>> {
        let (ahead, tokens) = (self.ahead.take().filter(|ahead| ahead.rows() == rows), self.settings.micro_batch_tokens);
        let cut = match ahead.filter(|ahead| ahead.micro_batch_tokens() == tokens) {
            Some(ahead) => ahead,
            None => CutBatch::of(&self.encoder, table, rows, tokens)?,
        };
        cut.on(&self.gpu)
    }

    fn forward(&mut self, micro: &Micro, dropout: Option<&Dropout>, keep: bool) -> Result<Activations> {
        let pass = pass(&self.gpu, &self.encoder, &self.optimizer, micro, dropout, keep)?;
        let acts = pass.room(keep, &mut self.workspace)?;
        pass.forward(&acts, &mut self.workspace)?;
        Ok(acts)
    }

    /// Adds the loss of this rank's anchors, among all candidates of a batch of `num_rows`; gives the gradient of the rank's embeddings, [T, h], which stand column
    /// by column.
    fn loss(&self, embeddings: &Tensor, num_rows: usize, num_columns: usize) -> Result<Tensor> {
        let h = self.encoder.config().hidden_size;
        let own = own_rows(num_rows, self.seat());
        let num_candidates = num_rows * (num_columns - 1);
        let candidates = match &self.peers {
            None => embeddings.narrow(0, num_rows, num_candidates)?,
            Some(_) => self.gather_candidates(embeddings, num_rows, num_columns)?,
        };
        let anchors = embeddings.narrow(0, 0, own.len())?;
        let gradient =
            |rows: usize| Ok::<_, Error>(Tensor::zeros((rows.max(1), h), DType::F32, self.gpu.device())?.narrow(0, 0, rows)?);
        let all = gradient(own.len() + num_candidates)?;
        let (d_anchors, d_candidates) = (all.narrow(0, 0, own.len())?, all.narrow(0, own.len(), num_candidates)?);
        if !own.is_empty() {
            let (gpu, spec) = (&*self.gpu, &self.settings.loss);
            let (anchors, candidates) = (&anchors, &candidates);
            let loss = DeviceLoss { gpu, spec, anchors, candidates, own_offset: own.start, num_anchors: num_rows };
            loss.run(&self.optimizer.loss()?, &d_anchors, &d_candidates)?;
        }
        if self.peers.is_none() {
            return Ok(all);
        }
        let from = element(&d_candidates, 0)?;
        // SAFETY: the candidates' gradients, which are used after the join.
        self.exchange(|peers| unsafe { peers.all_reduce(from, num_candidates * h) })?;
        self.exchange(|peers| peers.join())?;
        let d_embeddings = gradient(own.len() * num_columns)?;
        if !own.is_empty() {
            d_embeddings.slice_set(&d_anchors, 0, 0)?;
            for column in 1..num_columns {
                let mine = d_candidates.narrow(0, (column - 1) * num_rows + own.start, own.len())?;
                d_embeddings.slice_set(&mine, 0, column * own.len())?;
            }
        }
        Ok(d_embeddings)
    }

    /// All ranks' candidates, column by column in the order of the batch's rows, from this rank's embeddings.
    fn gather_candidates(&self, embeddings: &Tensor, num_rows: usize, num_columns: usize) -> Result<Tensor> {
        let (h, seat) = (self.encoder.config().hidden_size, self.seat());
        let (own, each) = (own_rows(num_rows, seat).len(), num_rows.div_ceil(seat.world_size));
        let zeros = |rows: usize| Ok::<_, Error>(Tensor::zeros((rows, h), DType::F32, self.gpu.device())?);
        let candidates = zeros(num_rows * (num_columns - 1))?;
        for column in 1..num_columns {
            // ranks give equally many; only the last ones that have rows have fewer, so that what is filled up stands at the end
            let (mine, all) = (zeros(each)?, zeros(each * seat.world_size)?);
            if own > 0 {
                mine.slice_set(&embeddings.narrow(0, column * own, own)?, 0, 0)?;
            }
            let (from, to) = (element(&mine, 0)?, element(&all, 0)?);
            // SAFETY: there is room for every rank's rows, and they are used after the join.
            self.exchange(|peers| unsafe { peers.all_gather(from, to, each * h) })?;
            self.exchange(|peers| peers.join())?;
            candidates.slice_set(&all.narrow(0, 0, num_rows)?, 0, (column - 1) * num_rows)?;
        }
        Ok(candidates)
    }
}

impl EncodeOnDevice for DeviceTrainer {
    fn encode(&self, batch: &PackedBatch, workspace: &mut Workspace) -> Result<Vec<f32>> {
        super::encoder::encode(&self.gpu, &self.encoder, &self.optimizer.params, &self.optimizer.weights, (batch, workspace))
    }

    fn micro_batch_tokens(&self) -> usize {
        self.settings.micro_batch_tokens
    }
}

/// The rows of a batch that a rank has: equally many, but for the last ones.
fn own_rows(num_rows: usize, seat: Seat) -> Range<usize> {
    let each = num_rows.div_ceil(seat.world_size);
    (seat.rank * each).min(num_rows)..((seat.rank + 1) * each).min(num_rows)
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
    keep_masks: bool,
) -> Result<Pass<'a>> {
    let place = Place { gpu, batch: &micro.on_device, weights: &optimizer.weights, keep_masks };
    Ok(encoder.pass(&optimizer.params, &micro.packed, dropout)?.on(place))
}
