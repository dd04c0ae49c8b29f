//! One update: embed the slice, gather, loss and its gradient, go back, sum over the fixed tree, clip, AdamW.
//!
//! Shapes: B rows of the global batch, C columns a row, h width, L leaves. A rank owns whole leaves, hence a
//! contiguous slice of the batch's rows (DESIGN section 7).

mod budget;
mod passes;
mod slice;

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use budget::{ActivationBudget, MemoryPlan};

use crate::collective::Collective;
use crate::encoder::{Encoder, Slot, Workspaces};
use crate::error::{Error, Result};
use crate::gathered::Gathered;
use crate::gpu::{DeviceSettings, DeviceTrainer, Gpu, Next, Others, Peers};
use crate::gradient::{Gradient, GradientShape};
use crate::interrupt::Interrupt;
use crate::loss::{BatchLoss, LossMemory, LossSpec};
use crate::nccl::{Element, Seat};
use crate::optim::AdamW;
use crate::pool::FloatPool;
use crate::state::{TrainState, into_values, tensor};
use crate::team::Team;
use crate::tokens::TokenTable;
use crate::tree::rank_leaves;
use slice::{Slice, word_rows};

/// Parts in which the update goes over the parameters, on several threads.
const UPDATE_PARTS: usize = 64;

/// Between two looks at whether the other ranks are there, while GPUs exchange.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// What changes the weights, and what only changes speed and memory.
#[derive(Debug, Clone)]
pub struct StepSettings {
    /// The loss, its scale and widths.
    pub loss: LossSpec,
    /// Leaves of the summation tree.
    pub num_leaves: usize,
    /// Tokens of a micro-batch.
    pub micro_batch_tokens: usize,
    /// Greatest gradient norm; 0 is no clipping.
    pub max_grad_norm: f64,
    /// The optimizer.
    pub adamw: AdamW,
    /// Seed of the dropout masks.
    pub seed: u64,
    /// Dropout of hidden states and of attention probabilities.
    pub dropout: (f64, f64),
    /// Threads of this rank.
    pub threads: usize,
    /// What kept activations may take on this rank.
    pub activation_budget: ActivationBudget,
}

/// What an update came to; equal on every rank, but for what was kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// Mean loss over the batches.
    pub loss: f64,
    /// Norm of the gradient before the clip.
    pub grad_norm: f64,
    /// Micro-batches of this rank whose activations were kept, and all of them.
    pub kept: (usize, usize),
    /// A rank was asked to leave: no step is to be begun after this one.
    pub leave: bool,
}

/// Loss and gradient of one batch; equal on every rank, but for what was kept.
#[derive(Debug)]
pub struct BatchGradient {
    /// The loss.
    pub loss: f64,
    /// Its gradient.
    pub grad: Gradient,
    /// Micro-batches of this rank whose activations were kept, and all of them.
    pub kept: (usize, usize),
    /// A rank was asked to leave.
    pub leave: bool,
}

/// A rank's trainer: encoder, state, peers.
pub struct Trainer {
    encoder: Arc<Encoder>,
    settings: StepSettings,
    collective: Arc<dyn Collective>,
    interrupt: Arc<Interrupt>,
    team: Team,
    workspaces: Workspaces,
    slots: Mutex<Vec<Slot>>,
    /// Whether the batch before was kept whole.
    kept_all: AtomicBool,
    pool: FloatPool,
    loss_memory: LossMemory,
    /// Parameters and moments; where a GPU computes, as they were when [`Self::settle`] last fetched them, but for the step.
    pub state: TrainState,
    /// The GPU that computes, if it is not the CPU.
    device: Option<DeviceTrainer>,
    /// Whether the GPU's state has moved on since.
    moved_on: bool,
}

impl Trainer {
    /// A trainer of this rank.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn new(
        encoder: Arc<Encoder>,
        settings: StepSettings,
        collective: Arc<dyn Collective>,
        state: TrainState,
    ) -> Result<Self> {
        Ok(Self {
            encoder,
            team: Team::new(settings.threads)?,
            settings,
            collective,
            interrupt: Arc::default(),
            workspaces: Workspaces::default(),
            slots: Mutex::default(),
            kept_all: AtomicBool::new(true),
            pool: FloatPool::new(),
            loss_memory: LossMemory::default(),
            state,
            device: None,
            moved_on: false,
        })
    }

    /// Lets a GPU compute, from the state as it is; where there are other ranks, with theirs, which it has joined, and with which gradients are exchanged as these elements.
    ///
    /// # Errors
    /// The model does not run on it, it has too little memory, or ranks and peers do not agree.
    pub fn on_gpu(mut self, gpu: Arc<Gpu>, peers: Option<Box<dyn Peers>>, exchanged: Element) -> Result<Self> {
        let seat = Seat { rank: self.collective.rank(), world_size: self.collective.world_size() };
        let joined = peers.as_ref().map_or(Seat { rank: 0, world_size: 1 }, |peers| peers.seat());
        if joined != seat {
            return Err(Error::Internal(format!("{seat:?} has a GPU with {joined:?}")));
        }
        let tokens_at_once = DeviceTrainer::tokens_that_fit(&gpu, &self.encoder)?;
        let StepSettings { loss, max_grad_norm, adamw, seed, dropout, .. } = self.settings.clone();
        let settings = DeviceSettings { loss, max_grad_norm, adamw, seed, dropout, tokens_at_once, exchanged };
        let device = DeviceTrainer::new(gpu, self.encoder.clone(), settings, &self.state)?;
        self.device = Some(match peers {
            None => device,
            Some(peers) => device.with_peers(peers)?,
        });
        Ok(self)
    }

    /// With the activations of at most so many tokens on the GPU at once, where one computes.
    pub fn with_tokens_at_once(mut self, tokens: usize) -> Self {
        self.device = self.device.map(|device| device.with_tokens_at_once(tokens));
        self
    }

    /// The GPU that computes, if it is not the CPU.
    pub fn device(&self) -> Option<&DeviceTrainer> {
        self.device.as_ref()
    }

    /// Fetches the state from where it is computed: to be called before it is saved, exported or looked at.
    ///
    /// # Errors
    /// The GPU is gone.
    pub fn settle(&mut self) -> Result<()> {
        if let Some(device) = self.device.as_ref().filter(|_| self.moved_on) {
            self.state = device.optimizer.state()?;
            self.moved_on = false;
        }
        Ok(())
    }

    /// Lets this interrupt end its work early.
    pub fn with_interrupt(mut self, interrupt: Arc<Interrupt>) -> Self {
        self.interrupt = interrupt;
        self
    }

    /// What may end its work early.
    pub fn interrupt(&self) -> &Arc<Interrupt> {
        &self.interrupt
    }

    /// The settings.
    pub fn settings(&self) -> &StepSettings {
        &self.settings
    }

    /// The encoder.
    pub fn encoder(&self) -> &Arc<Encoder> {
        &self.encoder
    }

    /// The other ranks.
    pub fn collective(&self) -> &Arc<dyn Collective> {
        &self.collective
    }

    /// Frees what is kept from step to step; the next step makes it anew.
    pub fn release_memory(&mut self) {
        self.workspaces = Workspaces::default();
        self.slots = Mutex::default();
        self.pool = FloatPool::new();
        self.loss_memory = LossMemory::default();
        self.device.iter_mut().for_each(DeviceTrainer::release_memory);
    }

    /// Applies one update: the mean gradient of `batches` (rows of `table`), at this learning rate.
    ///
    /// # Errors
    /// A rank was lost, a loss or gradient is not finite, or the step was given up; the state is then what it was before.
    pub fn step(&mut self, table: &TokenTable, batches: &[&[u32]], learning_rate: f64) -> Result<StepOutcome> {
        self.step_before(table, batches, learning_rate, None)
    }

    /// The same where it is known which batch comes next, which is made ready meanwhile.
    ///
    /// # Errors
    /// As there.
    pub fn step_before(
        &mut self,
        table: &TokenTable,
        batches: &[&[u32]],
        learning_rate: f64,
        next: Option<Next<'_>>,
    ) -> Result<StepOutcome> {
        if self.device.is_some() {
            return self.step_on_gpu(table, batches, learning_rate, next);
        }
        let words = word_rows(table, batches.iter().copied().flatten(), self.encoder.config().vocab_size);
        let shape = GradientShape::new(&self.encoder, words);
        let mut sum: Option<Gradient> = None;
        let (mut loss, mut kept, mut leave) = (0.0, (0, 0), false);
        for (index, rows) in batches.iter().enumerate() {
            let batch = self.gradient_of(table, rows, shape.clone())?;
            if !batch.loss.is_finite() {
                return Err(self.not_finite("loss", batch.loss, index, rows));
            }
            loss += batch.loss;
            leave |= batch.leave;
            kept = (kept.0 + batch.kept.0, kept.1 + batch.kept.1);
            match &mut sum {
                None => sum = Some(batch.grad),
                Some(sum) => {
                    sum.add(&batch.grad);
                    batch.grad.release(&self.pool);
                }
            }
        }
        let grad = sum.ok_or_else(|| Error::Internal("a step needs a batch".into()))?;
        let share = 1.0 / batches.len() as f64;
        let norm = grad.norm() * share;
        if !norm.is_finite() {
            return Err(self.not_finite("gradient norm", norm, 0, batches[0]));
        }
        let clip = match self.settings.max_grad_norm {
            // torch.nn.utils.clip_grad_norm_: max_norm / (norm + 1e-6), at most 1
            max if max > 0.0 => (max / (norm + 1e-6)).min(1.0),
            _ => 1.0,
        };
        self.apply(&grad, learning_rate, (share * clip) as f32)?;
        grad.release(&self.pool);
        Ok(StepOutcome { loss: loss * share, grad_norm: norm, kept, leave })
    }

    fn step_on_gpu(
        &mut self,
        table: &TokenTable,
        batches: &[&[u32]],
        learning_rate: f64,
        next: Option<Next<'_>>,
    ) -> Result<StepOutcome> {
        let (collective, interrupt) = (self.collective.clone(), self.interrupt.clone());
        let device = self.device.as_mut().ok_or_else(|| Error::Internal("no GPU computes".into()))?;
        let looked = Cell::new(Instant::now());
        let alive = || match looked.get().elapsed() < BETWEEN_LOOKS {
            true => Ok(()),
            false => collective.check().inspect(|()| looked.set(Instant::now())),
        };
        let leave = Cell::new(false);
        let agree = || {
            let flags = collective.all_gather(&[u8::from(interrupt.is_leaving())])?;
            leave.set(flags.iter().any(|flag| flag.first().is_some_and(|flag| *flag != 0)));
            Ok(())
        };
        let others = Others { alive: &alive, agree: &agree };
        let begun = device.begin(table, batches, &interrupt);
        let outcome = begun.and_then(|()| device.finish(batches, learning_rate, others, next));
        let outcome = outcome.inspect_err(|_| {
            // the others must not wait for a rank that has given up, nor this one for them
            if collective.world_size() > 1 {
                collective.abort();
                device.abort();
            }
        })?;
        let leave = leave.get();
        self.state.step = device.optimizer.step;
        self.moved_on = true;
        Ok(StepOutcome { loss: outcome.loss, grad_norm: outcome.grad_norm, kept: (0, 0), leave })
    }

    fn not_finite(&self, what: &str, value: f64, batch: usize, rows: &[u32]) -> Error {
        let first: Vec<String> = rows.iter().take(8).map(u32::to_string).collect();
        Error::NotFinite(format!(
            "the {what} is {value} at step {} (batch {batch}, training rows {}, ...); lower learning_rate or look at those rows",
            self.state.step + 1,
            first.join(", ")
        ))
    }

    fn apply(&mut self, grad: &Gradient, learning_rate: f64, grad_scale: f32) -> Result<()> {
        let held = std::mem::replace(&mut self.state.params, tensor(Vec::new())?);
        let mut params = into_values(held)?;
        let state = &mut self.state;
        let update = self.settings.adamw.update(state.step + 1, learning_rate, grad_scale);
        let entries = &self.encoder.layout().entries;
        let share = params.len().div_ceil(UPDATE_PARTS);
        let parts = params.chunks_mut(share).zip(state.exp_avg.chunks_mut(share)).zip(state.exp_avg_sq.chunks_mut(share));
        let mut parts: Vec<_> = parts.map(|((params, m), v)| (params, m, v)).collect();
        let updated = self.team.each(&mut parts, |index, (params, m, v)| {
            let first = index * share;
            let range = first..first + params.len();
            let begin = entries.partition_point(|entry| entry.range().end <= range.start);
            for entry in entries[begin..].iter().take_while(|entry| entry.offset < range.end) {
                let own = entry.offset.max(range.start)..entry.range().end.min(range.end);
                grad.pieces(own, |piece, values| {
                    let at = piece.start - first..piece.end - first;
                    update.apply(entry.decay, &mut params[at.clone()], values, &mut m[at.clone()], &mut v[at]);
                });
            }
            Ok(())
        });
        state.params = tensor(params)?;
        updated?;
        state.step += 1;
        Ok(())
    }

    /// Loss and gradient of one batch, over all ranks; nothing is applied.
    ///
    /// # Errors
    /// A rank was lost, or the step was given up.
    pub fn gradient(&self, table: &TokenTable, rows: &[u32]) -> Result<BatchGradient> {
        let word_rows = word_rows(table, rows.iter(), self.encoder.config().vocab_size);
        self.gradient_of(table, rows, GradientShape::new(&self.encoder, word_rows))
    }

    fn gradient_of(&self, table: &TokenTable, rows: &[u32], shape: GradientShape) -> Result<BatchGradient> {
        let StepSettings { num_leaves, micro_batch_tokens, activation_budget, .. } = self.settings;
        let mine = rank_leaves(num_leaves, self.collective.rank(), self.collective.world_size());
        let mut slice = Slice::cut(table, rows, num_leaves, micro_batch_tokens, mine);
        let slots = std::mem::take(&mut *self.slots.lock().expect("no thread panics with it"));
        slice.keep(&self.encoder, activation_budget, shape.part_len(0), slots, &self.state.params)?;
        if self.kept_all.swap(slice.keeps_all(), Ordering::Relaxed) != slice.keeps_all() {
            // the other way needs other memory, and the budget has room for one of them
            self.pool.clear();
            self.workspaces.clear();
        }
        let kept = slice.num_kept();
        let embeddings = self.embed(&mut slice, table.num_columns())?;
        let all = self.gather(embeddings, rows.len(), table.num_columns())?;
        let (loss, leave, d_embeddings) = self.loss(&slice, all)?;
        let grad = self.go_back(&mut slice, &d_embeddings, table.num_columns(), shape)?;
        self.loss_memory.give(d_embeddings);
        self.slots.lock().expect("no thread panics with it").extend(slice.into_slots());
        Ok(BatchGradient { loss, grad, kept, leave })
    }

    /// All ranks' embeddings; `mine` is [rows of the slice, C, h].
    fn gather(&self, mine: Vec<f32>, num_rows: usize, num_columns: usize) -> Result<Gathered> {
        let mut all = Gathered::new(num_rows, num_columns, self.encoder.config().hidden_size, &self.pool);
        if self.collective.world_size() == 1 {
            all.push(&mine)?;
            self.pool.give(mine);
        } else {
            let bytes: Vec<u8> = mine.iter().flat_map(|value| value.to_le_bytes()).collect();
            self.pool.give(mine);
            for part in self.collective.all_gather(&bytes)? {
                all.push_bytes(&part)?;
            }
        }
        all.check_complete()?;
        Ok(all)
    }

    /// Loss of the batch, whether a rank is to leave, and the gradient on this rank's embeddings: [rows of the slice, C, h].
    fn loss(&self, slice: &Slice, all: Gathered) -> Result<(f64, bool, Vec<f32>)> {
        let leaves: Vec<Range<usize>> = slice.leaves.iter().map(|leaf| leaf.rows.clone()).collect();
        let spec = &self.settings.loss;
        let batch = BatchLoss {
            spec,
            hidden: all.hidden,
            anchors: &all.anchors,
            candidates: &all.candidates,
            leaves: &leaves,
            team: &self.team,
            memory: &self.loss_memory,
            collective: &*self.collective,
            interrupt: &self.interrupt,
        };
        let outcome = batch.run()?;
        all.release(&self.pool);
        let losses: Vec<f64> = outcome.losses.iter().map(|loss| loss.total(spec)).collect();
        let (loss, leave) = self.sum_losses(&losses)?;
        Ok((loss, leave, outcome.d_embeddings))
    }

    /// Sums the leaves' losses in the order of leaves, whoever computed them; and tells whether any rank is to leave, so that all end after
    /// the same step.
    fn sum_losses(&self, mine: &[f64]) -> Result<(f64, bool)> {
        let mut bytes: Vec<u8> = vec![u8::from(self.interrupt.is_leaving())];
        bytes.extend(mine.iter().flat_map(|loss| loss.to_le_bytes()));
        let parts = self.collective.all_gather(&bytes)?;
        let leave = parts.iter().any(|part| part.first().is_some_and(|flag| *flag != 0));
        let losses = parts.iter().flat_map(|part| part.get(1..).unwrap_or_default().as_chunks::<8>().0);
        Ok((losses.map(|c| f64::from_le_bytes(*c)).sum(), leave))
    }
}
