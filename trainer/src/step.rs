//! One update: embed the slice, gather, loss and its gradient, go back, sum over the fixed tree, clip, AdamW.
//!
//! Shapes: B rows of the global batch, C columns a row, h width, L leaves. A rank owns whole leaves, hence a
//! contiguous slice of the batch's rows (DESIGN section 7).

use std::ops::Range;
use std::sync::{Arc, Mutex};

use candle_core::{Device, Tensor};

use crate::collective::Collective;
use crate::cut::{Leaf, cut_batch};
use crate::dropout::{Dropout, DropoutKey};
use crate::encoder::{Activations, Encoder, Workspace};
use crate::error::{Error, Result};
use crate::gathered::Gathered;
use crate::interrupt::Interrupt;
use crate::loss::{BatchLoss, LossSpec};
use crate::optim::{AdamW, grad_norm};
use crate::packed::{PackedBatch, SampleKey};
use crate::parallel::map_ordered;
use crate::state::{TrainState, into_values, tensor, with_values};
use crate::tokens::TokenTable;
use crate::tree::{Forest, rank_leaves};

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
    /// Bytes that kept activations may take on this rank.
    pub activation_budget: usize,
}

/// What an update came to; equal on every rank.
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
    /// Its gradient, laid out as the parameters.
    pub grad: Vec<f32>,
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
    workspaces: Mutex<Vec<Workspace>>,
    /// Parameters and moments.
    pub state: TrainState,
}

/// Activations of a micro-batch, if they were kept; the backward takes them.
type Kept = Mutex<Option<Activations>>;

/// A micro-batch of this rank's slice.
struct Micro {
    leaf: usize,
    batch: PackedBatch,
    rows: Range<usize>,
    keep: bool,
}

/// The slice of a batch that this rank owns.
struct Slice {
    leaves: Vec<Leaf>,
    mine: Range<usize>,
    micros: Vec<Micro>,
}

impl Trainer {
    /// A trainer of this rank.
    pub fn new(encoder: Arc<Encoder>, settings: StepSettings, collective: Arc<dyn Collective>, state: TrainState) -> Self {
        Self { encoder, settings, collective, interrupt: Arc::default(), workspaces: Mutex::default(), state }
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

    /// Applies one update: the mean gradient of `batches` (rows of `table`), at this learning rate.
    ///
    /// # Errors
    /// A rank was lost, a loss or gradient is not finite, or the step was given up; the state is then what it was before.
    pub fn step(&mut self, table: &TokenTable, batches: &[&[u32]], learning_rate: f64) -> Result<StepOutcome> {
        let mut sum: Option<Vec<f32>> = None;
        let (mut loss, mut kept, mut leave) = (0.0, (0, 0), false);
        for (index, rows) in batches.iter().enumerate() {
            let batch = self.gradient(table, rows)?;
            if !batch.loss.is_finite() {
                return Err(self.not_finite("loss", batch.loss, index, rows));
            }
            loss += batch.loss;
            leave |= batch.leave;
            kept = (kept.0 + batch.kept.0, kept.1 + batch.kept.1);
            match &mut sum {
                None => sum = Some(batch.grad),
                Some(sum) => sum.iter_mut().zip(&batch.grad).for_each(|(sum, grad)| *sum += grad),
            }
        }
        let grad = sum.ok_or_else(|| Error::Internal("a step needs a batch".into()))?;
        let share = 1.0 / batches.len() as f64;
        let norm = grad_norm(&grad) * share;
        if !norm.is_finite() {
            return Err(self.not_finite("gradient norm", norm, 0, batches[0]));
        }
        let clip = match self.settings.max_grad_norm {
            // torch.nn.utils.clip_grad_norm_: max_norm / (norm + 1e-6), at most 1
            max if max > 0.0 => (max / (norm + 1e-6)).min(1.0),
            _ => 1.0,
        };
        self.apply(&grad, learning_rate, (share * clip) as f32)?;
        Ok(StepOutcome { loss: loss * share, grad_norm: norm, kept, leave })
    }

    fn not_finite(&self, what: &str, value: f64, batch: usize, rows: &[u32]) -> Error {
        let first: Vec<String> = rows.iter().take(8).map(u32::to_string).collect();
        Error::NotFinite(format!(
            "the {what} is {value} at step {} (batch {batch}, training rows {}, ...); lower learning_rate or look at those rows",
            self.state.step + 1,
            first.join(", ")
        ))
    }

    fn apply(&mut self, grad: &[f32], learning_rate: f64, grad_scale: f32) -> Result<()> {
        let held = std::mem::replace(&mut self.state.params, tensor(Vec::new())?);
        let mut params = into_values(held)?;
        let state = &mut self.state;
        let step = state.step + 1;
        let layout = self.encoder.layout();
        self.settings.adamw.step(
            &mut params,
            grad,
            &mut state.exp_avg,
            &mut state.exp_avg_sq,
            layout,
            step,
            learning_rate,
            grad_scale,
        );
        state.params = tensor(params)?;
        state.step = step;
        Ok(())
    }

    /// Loss and gradient of one batch, over all ranks; nothing is applied.
    ///
    /// # Errors
    /// A rank was lost, or the step was given up.
    pub fn gradient(&self, table: &TokenTable, rows: &[u32]) -> Result<BatchGradient> {
        let slice = self.slice(table, rows);
        let kept = slice.micros.iter().filter(|micro| micro.keep).count();
        let (embeddings, activations) = self.embed(&slice)?;
        let all = self.gather(embeddings, rows.len(), table.num_columns())?;
        let (loss, leave, d_embeddings) = self.loss(&slice, all)?;
        let grad = self.go_back(&slice, activations, &d_embeddings, table.num_columns())?;
        Ok(BatchGradient { loss, grad, kept: (kept, slice.micros.len()), leave })
    }

    /// Cuts the batch and packs this rank's micro-batches.
    fn slice(&self, table: &TokenTable, rows: &[u32]) -> Slice {
        let lens: Vec<usize> = rows.iter().map(|&row| table.row_len(row as usize)).collect();
        let leaves = cut_batch(&lens, self.settings.num_leaves, self.settings.micro_batch_tokens);
        let mine = rank_leaves(self.settings.num_leaves, self.collective.rank(), self.collective.world_size());
        let mut budget = self.settings.activation_budget;
        let mut micros = Vec::new();
        for (leaf, part) in mine.clone().flat_map(|leaf| leaves[leaf].micro_batches.iter().map(move |part| (leaf, part))) {
            let bytes = self.encoder.activation_bytes(lens[part.clone()].iter().sum());
            let keep = bytes <= budget;
            budget = if keep { budget - bytes } else { 0 };
            micros.push(Micro { leaf, batch: pack_rows(table, &rows[part.clone()]), rows: part.clone(), keep });
        }
        Slice { leaves, mine, micros }
    }

    fn dropout(&self) -> Option<Dropout> {
        let (hidden, attention) = self.settings.dropout;
        let key = DropoutKey { seed: self.settings.seed, step: self.state.step };
        (hidden > 0.0 || attention > 0.0).then_some(Dropout { key, hidden: hidden as f32, attention: attention as f32 })
    }

    fn with_workspace<T>(&self, work: impl FnOnce(&mut Workspace) -> Result<T>) -> Result<T> {
        let mut workspace = self.workspaces.lock().expect("no thread panics with it").pop().unwrap_or_default();
        let result = work(&mut workspace);
        self.workspaces.lock().expect("no thread panics with it").push(workspace);
        result
    }

    /// Embeds the slice: [rows of the slice, C, h], and the activations that were kept.
    fn embed(&self, slice: &Slice) -> Result<(Vec<f32>, Vec<Kept>)> {
        let dropout = self.dropout();
        let parts = map_ordered(slice.micros.len(), self.settings.threads, |index| {
            let micro = &slice.micros[index];
            self.interrupt.check()?;
            self.with_workspace(|workspace| {
                let (embeddings, activations) =
                    self.encoder.forward(&self.state.params, &micro.batch, dropout.as_ref(), micro.keep, workspace)?;
                Ok((with_values(&embeddings, <[f32]>::to_vec)?, activations))
            })
        })?;
        let (embeddings, activations): (Vec<Vec<f32>>, Vec<_>) = parts.into_iter().unzip();
        Ok((embeddings.concat(), activations.into_iter().map(Mutex::new).collect()))
    }

    /// All ranks' embeddings, held once; `mine` is [rows of the slice, C, h].
    fn gather(&self, mine: Vec<f32>, num_rows: usize, num_columns: usize) -> Result<Gathered> {
        let mut all = Gathered::new(num_rows, num_columns, self.encoder.config().hidden_size);
        if self.collective.world_size() == 1 {
            all.push(&mine)?;
        } else {
            let bytes: Vec<u8> = mine.iter().flat_map(|value| value.to_le_bytes()).collect();
            drop(mine);
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
            threads: self.settings.threads,
            collective: &*self.collective,
            interrupt: &self.interrupt,
        };
        let outcome = batch.run()?;
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

    /// Goes back through every micro-batch of the slice, leaf by leaf, and sums over the fixed tree: [total].
    fn go_back(&self, slice: &Slice, activations: Vec<Kept>, d_embeddings: &[f32], num_columns: usize) -> Result<Vec<f32>> {
        let forest = Forest::new(self.settings.num_leaves);
        let total = self.encoder.layout().total;
        let first_row = slice.leaves[slice.mine.start].rows.start;
        map_ordered(slice.mine.len(), self.settings.threads, |index| {
            let leaf = slice.mine.start + index;
            let grad = tensor(forest.zeroed(total))?;
            for (micro, kept) in slice.micros.iter().zip(&activations).filter(|(micro, _)| micro.leaf == leaf) {
                self.interrupt.check()?;
                let kept = kept.lock().expect("each is taken once").take();
                let width = num_columns * self.encoder.config().hidden_size;
                let from = (micro.rows.start - first_row) * width;
                let d_micro = &d_embeddings[from..from + micro.rows.len() * width];
                self.go_back_micro(micro, kept, d_micro, &grad)?;
            }
            forest.add(leaf, into_values(grad)?);
            Ok(())
        })?;
        self.collective.tree_all_reduce(self.settings.num_leaves, forest.into_nodes())
    }

    fn go_back_micro(&self, micro: &Micro, kept: Option<Activations>, d_micro: &[f32], grad: &Tensor) -> Result<()> {
        let dropout = self.dropout();
        let params = &self.state.params;
        self.with_workspace(|workspace| {
            let limit = match kept {
                // their memory is for the gradients now, not for a pool that the next step would fill again
                Some(_) => workspace.free_bytes(),
                None => usize::MAX,
            };
            let activations = match kept {
                Some(kept) => kept,
                None => self
                    .encoder
                    .forward(params, &micro.batch, dropout.as_ref(), true, workspace)?
                    .1
                    .ok_or_else(|| Error::Internal("the encoder kept no activations".into()))?,
            };
            let shape = (micro.batch.keys.len(), self.encoder.config().hidden_size);
            let d_embeddings = Tensor::from_slice(d_micro, shape, &Device::Cpu)?;
            self.encoder.backward(params, &micro.batch, activations, &d_embeddings, dropout.as_ref(), grad, workspace)?;
            workspace.shrink_to(limit);
            Ok(())
        })
    }
}

/// Packs rows of a table: row by row, columns in order.
fn pack_rows(table: &TokenTable, rows: &[u32]) -> PackedBatch {
    let mut batch = PackedBatch::default();
    for &row in rows {
        for column in 0..table.num_columns() {
            let key = SampleKey { sample: u64::from(row), column: column as u32 };
            batch.push(key, table.text(row as usize, column), table.prompt_len(column));
        }
    }
    batch
}
