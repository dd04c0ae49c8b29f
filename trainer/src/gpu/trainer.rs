//! An update on a device, alone or in a world of them: embed the batch, loss and its gradient, go back, clip, AdamW.
//!
//! B rows of the batch, of which a rank has consecutive ones, C columns a row, T texts of a rank, h width. Texts stand column by column: all anchors, all positives, and so on; they are cut into
//! micro-batches by tokens ([`memory`]). Those whose activations are not kept are embedded again on the way back, with the same masks.

mod gradient;

use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::memory::{self, LEAST_TOKENS, MOST_TOGETHER};
use super::micro::CutBatch;
use super::wire::Wire;
use super::{EncodeOnDevice, Gpu, Optimizer, Outcome, Peers, ops};
use crate::dropout::{Dropout, DropoutKey};
use crate::encoder::{Encoder, Slot, Workspace};
use crate::interrupt::Interrupt;
use crate::loss::LossSpec;
use crate::nccl::{Element, Seat};
use crate::optim::AdamW;
use crate::packed::PackedBatch;
use crate::state::TrainState;
use crate::tokens::TokenTable;
use crate::{Error, Result};

/// What changes the weights, and how much is kept on the device at once.
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
    /// Tokens whose activations are kept at once, as many as memory holds.
    pub tokens_at_once: usize,
    /// What gradients are on their way between ranks.
    pub exchanged: Element,
}

/// Trains on a device.
#[derive(Debug)]
pub struct DeviceTrainer {
    gpu: Arc<Gpu>,
    /// The other ranks; none where this is the only one. A lock, so that the whole can be shared: one thread trains.
    peers: Option<Mutex<Box<dyn Peers>>>,
    /// Where gradients are bf16 on their way to them.
    wire: Option<Wire>,
    encoder: Arc<Encoder>,
    settings: DeviceSettings,
    workspace: Workspace,
    /// What is kept of a batch for the way back, and room for a piece that is embedded again.
    slot: Slot,
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
        Ok(Self {
            gpu,
            peers: None,
            wire: None,
            encoder,
            settings,
            workspace: Workspace::new(),
            slot: Slot::new(),
            ahead: None,
            optimizer,
        })
    }

    /// The same as one rank of a world, all of whose ranks began from the same state.
    ///
    /// # Errors
    /// The device gives no memory for what goes between ranks.
    pub fn with_peers(mut self, peers: Box<dyn Peers>) -> Result<Self> {
        if self.settings.exchanged == Element::Bf16 {
            self.wire = Some(Wire::new(&self.gpu, self.encoder.layout().total)?);
        }
        self.peers = Some(Mutex::new(peers));
        Ok(self)
    }

    /// Applies one update, alone: [`Self::begin`] and [`Self::finish`].
    ///
    /// # Errors
    /// Theirs.
    pub fn step(&mut self, table: &TokenTable, batches: &[&[u32]], learning_rate: f64, interrupt: &Interrupt) -> Result<Outcome> {
        self.begin(table, batches, interrupt)?;
        self.finish(batches, learning_rate, Others::NONE, None)
    }

    /// Begins the mean gradient of `batches` (rows of `table`) over all ranks; nothing has changed yet. Where memory does not suffice, half as many tokens' activations are kept at once
    /// from then on, and the batch is the same: of a world the rank alone that lacks it begins its share anew.
    ///
    /// # Errors
    /// The work is to end, a rank was lost, memory does not suffice where others have gone on with what this rank gave, or the device refused something.
    pub fn begin(&mut self, table: &TokenTable, batches: &[&[u32]], interrupt: &Interrupt) -> Result<()> {
        while let Err(error) = self.gradient(table, batches, interrupt) {
            // what is under way uses memory that is about to be freed
            self.abort();
            if self.peers.is_some() && is_out_of_memory(&error) {
                return Err(Error::Collective(format!(
                    "rank {} ran out of GPU memory where its share of the step cannot be begun anew; set memory_limit in [workers], so that less is planned with: {error}",
                    self.seat().rank
                )));
            }
            if self.peers.is_some() {
                return Err(error);
            }
            self.make_room(error)?;
        }
        Ok(())
    }

    /// Keeps half as many tokens' activations at once from now on, where memory ran out.
    ///
    /// # Errors
    /// It was something else, or there is no less.
    fn make_room(&mut self, error: Error) -> Result<()> {
        if !is_out_of_memory(&error) {
            return Err(error);
        }
        if self.settings.tokens_at_once <= LEAST_TOKENS {
            return Err(Error::input(format!(
                "the GPU's memory does not suffice for {LEAST_TOKENS} tokens at once; see with `nvidia-smi` what else uses it, or take a smaller model: {error}"
            )));
        }
        self.settings.tokens_at_once = (self.settings.tokens_at_once / 2).max(LEAST_TOKENS);
        self.release_memory();
        tracing::warn!(
            "the GPU ran out of memory; going on with the activations of {} tokens at once",
            self.settings.tokens_at_once
        );
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
        let tokens = self.settings.tokens_at_once;
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

    /// What it trains with.
    pub fn settings(&self) -> &DeviceSettings {
        &self.settings
    }

    /// What it runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// With the activations of at most so many tokens at once.
    pub fn with_tokens_at_once(mut self, tokens: usize) -> Self {
        self.settings.tokens_at_once = self.settings.tokens_at_once.min(tokens);
        self
    }

    /// Frees what is kept from update to update; the next one makes it anew.
    pub fn release_memory(&mut self) {
        self.workspace = Workspace::new();
        self.slot = Slot::new();
        self.gpu.release_memory();
        // a device gives freed memory back when it is waited for; what went wrong before shows at the next call
        let _ = self.gpu.backend().synchronize();
    }

    /// How many tokens' activations fit into what is free, beside a state that is yet to come, and the loss.
    ///
    /// # Errors
    /// The device is gone.
    pub fn tokens_that_fit(gpu: &Gpu, encoder: &Encoder) -> Result<usize> {
        Ok(memory::tokens_in(gpu.backend().free_bytes()?, encoder, gpu.precision()))
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
}

impl EncodeOnDevice for DeviceTrainer {
    fn encode(&self, batch: &PackedBatch, workspace: &mut Workspace) -> Result<Vec<f32>> {
        super::encoder::encode(&self.gpu, &self.encoder, &self.optimizer.params, &self.optimizer.weights, (batch, workspace))
    }

    fn micro_batch_tokens(&self) -> usize {
        self.settings.tokens_at_once.min(MOST_TOGETHER)
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
