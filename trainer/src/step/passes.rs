//! The encoder's passes over a slice, forward and back.
//!
//! Where all activations are kept, the leaves go through the layers together, and a layer's gradient is summed over the
//! tree, and over the ranks, as soon as the last leaf has made it: one layer's gradients exist at a time, and their
//! exchange overlaps the layers below. Where some are made again, a leaf goes back through all layers at once. The sums are
//! the same: a leaf's over its micro-batches in order, then the tree's.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use candle_core::Tensor;

use super::Trainer;
use super::slice::{Micro, OwnLeaf, Slice};
use crate::dropout::{Dropout, DropoutKey};
use crate::encoder::{Activations, Pass, Workspace};
use crate::error::{Error, Result};
use crate::gradient::{Gradient, GradientShape};
use crate::ops::GradPart;
use crate::ops::access::write;
use crate::state::{into_values, tensor, with_values};
use crate::tree::{Forest, NodeId};

/// Tokens of a leaf that may be added to its sibling while it is made: so many that a matrix product sums them in registers, in
/// one go, and adds the whole once. The bits are then those of two vectors and their sum.
const JOINED_TOKENS: RangeInclusive<usize> = 3..=512;

/// Sums of subtrees, of one part of the gradient.
type Nodes = Vec<(NodeId, Vec<f32>)>;

impl Trainer {
    fn dropout(&self) -> Option<Dropout> {
        let (hidden, attention) = self.settings.dropout;
        let key = DropoutKey { seed: self.settings.seed, step: self.state.step };
        (hidden > 0.0 || attention > 0.0).then_some(Dropout { key, hidden: hidden as f32, attention: attention as f32 })
    }

    fn num_layers(&self) -> usize {
        self.encoder.config().num_hidden_layers
    }

    /// Floats that embeddings of so many rows take.
    fn embedding_len(&self, num_rows: usize, num_columns: usize) -> usize {
        num_rows * num_columns * self.encoder.config().hidden_size
    }

    /// Embeds the slice: [rows of the slice, C, h].
    pub(super) fn embed(&self, slice: &mut Slice, num_columns: usize) -> Result<Vec<f32>> {
        let keeps_all = slice.keeps_all();
        let num_layers = self.num_layers();
        let stages = if keeps_all { num_layers + 2 } else { slice.own.iter().map(|leaf| leaf.micros.len()).max().unwrap_or(0) };
        let mut embeddings = self.pool.take(self.embedding_len(slice.rows().len(), num_columns));
        let mut items = Vec::with_capacity(slice.own.len());
        let mut rest = &mut embeddings[..];
        for leaf in &slice.own {
            let (out, after) = rest.split_at_mut(self.embedding_len(leaf.rows.len(), num_columns));
            items.push((leaf, out));
            rest = after;
        }
        let dropout = self.dropout();
        self.team.staged(stages, &mut items, |stage, _, (leaf, out)| {
            self.interrupt.check()?;
            self.workspaces.with(|workspace| {
                let micros = if keeps_all { &leaf.micros[..] } else { leaf.micros.get(stage..=stage).unwrap_or_default() };
                for micro in micros {
                    let pass = self.encoder.pass(&self.state.params, &micro.batch, dropout.as_ref())?;
                    let from = self.embedding_len(micro.rows.start - leaf.rows.start, num_columns);
                    let out = &mut out[from..from + self.embedding_len(micro.rows.len(), num_columns)];
                    match &micro.kept {
                        Some(acts) if keeps_all && stage == 0 => pass.embed(acts)?,
                        Some(acts) if keeps_all && stage <= num_layers => pass.layer(stage - 1, acts, workspace)?,
                        Some(acts) if keeps_all => {
                            pass.pool(acts)?;
                            with_values(&acts.embeddings, |values| out.copy_from_slice(values))?;
                        }
                        Some(acts) => forward(&pass, acts, workspace, out)?,
                        None => forward(&pass, &pass.room(false, workspace)?, workspace, out)?,
                    }
                }
                Ok(())
            })
        })?;
        Ok(embeddings)
    }

    /// Goes back through every micro-batch of the slice and sums over the fixed tree; `d_embeddings` is
    /// [rows of the slice, C, h].
    pub(super) fn go_back(
        &self,
        slice: &mut Slice,
        d_embeddings: &[f32],
        num_columns: usize,
        shape: GradientShape,
    ) -> Result<Gradient> {
        let back = Back {
            trainer: self,
            shape: &shape,
            forests: shape.parts.iter().map(|_| Forest::new(self.settings.num_leaves, &self.pool)).collect(),
            dropout: self.dropout(),
            d_embeddings,
            first_row: slice.rows().start,
            num_columns,
        };
        let (send, receive) = mpsc::channel();
        let summed = std::thread::scope(|scope| {
            let summer = scope.spawn(move || self.sum_parts(&receive));
            let made = if slice.keeps_all() { back.by_layer(slice, &send) } else { back.by_leaf(slice, &send) };
            drop(send);
            let summed = summer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // an exchange that failed is the reason for whatever else did
            summed.and_then(|summed| made.map(|()| summed))
        })?;
        let mut values = vec![Vec::new(); shape.parts.len()];
        for (part, sum) in summed {
            values[part] = sum;
        }
        Ok(Gradient::new(shape, values))
    }

    /// Sums parts over all ranks as they come.
    fn sum_parts(&self, parts: &mpsc::Receiver<(usize, Nodes)>) -> Result<Vec<(usize, Vec<f32>)>> {
        let sum = |(part, nodes)| Ok((part, self.collective.tree_all_reduce(self.settings.num_leaves, nodes)?));
        parts.iter().map(sum).collect()
    }
}

/// A forward of one micro-batch, its embeddings copied out.
fn forward(pass: &Pass<'_>, acts: &Activations, workspace: &mut Workspace, out: &mut [f32]) -> Result<()> {
    pass.forward(acts, workspace)?;
    with_values(&acts.embeddings, |values| out.copy_from_slice(values))
}

/// The way back of a slice.
struct Back<'a> {
    trainer: &'a Trainer,
    shape: &'a GradientShape,
    /// By part.
    forests: Vec<Forest<'a>>,
    dropout: Option<Dropout>,
    d_embeddings: &'a [f32],
    first_row: usize,
    num_columns: usize,
}

impl Back<'_> {
    /// Parts in the order in which they are made: the top layer's first, the embeddings' last.
    fn part(&self, stage: usize) -> usize {
        self.shape.parts.len() - 1 - stage
    }

    /// Memory for a leaf's share of a part. A layer's is overwritten by the first micro-batch; of the embeddings it names some rows.
    fn memory(&self, part: usize, leaf: &OwnLeaf) -> Vec<f32> {
        let (pool, len) = (&self.trainer.pool, self.shape.part_len(part));
        if part == 0 || leaf.micros.is_empty() { pool.zeroed(len) } else { pool.take(len) }
    }

    /// The sum of a leaf's sibling, where the leaf's share may be added to it as it is made: one vector less to write and to add.
    fn sibling(&self, part: usize, leaf: &OwnLeaf) -> Option<Vec<f32>> {
        // of the embeddings, a word's row is summed token by token
        let config = self.trainer.encoder.config();
        let matrices = config.hidden_size > 1 && config.intermediate_size > 1;
        match &leaf.micros[..] {
            [only] if part > 0 && matrices && JOINED_TOKENS.contains(&only.batch.num_tokens()) => {
                self.forests[part].take_sibling(leaf.leaf)
            }
            _ => None,
        }
    }

    fn grad_part<'a>(&self, part: usize, tensor: &'a Tensor, is_empty: bool) -> GradPart<'a> {
        GradPart { tensor, first: self.shape.part_first(part), fresh: is_empty && part > 0 }
    }

    fn pass<'a>(&'a self, micro: &'a Micro) -> Result<Pass<'a>> {
        self.trainer.encoder.pass(&self.trainer.state.params, &micro.batch, self.dropout.as_ref())
    }

    /// All leaves at once, layer by layer.
    fn by_layer(&self, slice: &Slice, parts: &mpsc::Sender<(usize, Nodes)>) -> Result<()> {
        let num_parts = self.shape.parts.len();
        let left: Vec<AtomicUsize> = (0..num_parts).map(|_| AtomicUsize::new(slice.own.len())).collect();
        let mut items: Vec<&OwnLeaf> = slice.own.iter().collect();
        // siblings far from one another, so that the first is done when the second begins
        items.sort_by_key(|leaf| leaf.leaf % 2);
        self.trainer.team.staged(num_parts, &mut items, |stage, _, leaf| {
            self.trainer.interrupt.check()?;
            let part = self.part(stage);
            let sibling = self.sibling(part, leaf);
            let joined = sibling.is_some();
            let grad = tensor(sibling.unwrap_or_else(|| self.memory(part, leaf)))?;
            self.trainer.workspaces.with(|workspace| {
                for (index, micro) in leaf.micros.iter().enumerate() {
                    let acts = micro.kept.as_ref().ok_or_else(|| Error::Internal("activations were not kept".into()))?;
                    if stage == 0 {
                        self.begin(micro, acts, workspace)?;
                    }
                    self.make(micro, acts, part, self.grad_part(part, &grad, index == 0 && !joined), workspace)?;
                }
                Ok(())
            })?;
            let (forest, values) = (&self.forests[part], into_values(grad)?);
            if joined {
                forest.add_joined(leaf.leaf, values)
            } else {
                forest.add(leaf.leaf, values)
            }
            if left[part].fetch_sub(1, Ordering::AcqRel) == 1 {
                self.hand_on(part, parts);
            }
            Ok(())
        })
    }

    /// Leaf by leaf, every one through all layers.
    fn by_leaf(&self, slice: &Slice, parts: &mpsc::Sender<(usize, Nodes)>) -> Result<()> {
        let num_parts = self.shape.parts.len();
        let mut items: Vec<&OwnLeaf> = slice.own.iter().collect();
        self.trainer.team.each(&mut items, |_, leaf| {
            let grads = (0..num_parts).map(|part| tensor(self.memory(part, leaf)));
            let grads = grads.collect::<Result<Vec<_>>>()?;
            for (index, micro) in leaf.micros.iter().enumerate() {
                self.trainer.interrupt.check()?;
                self.trainer.workspaces.with(|workspace| {
                    let again = match &micro.kept {
                        Some(_) => None,
                        None => {
                            let pass = self.pass(micro)?;
                            let acts = pass.room(true, workspace)?;
                            pass.forward(&acts, workspace)?;
                            Some(acts)
                        }
                    };
                    let acts = micro.kept.as_ref().or(again.as_ref()).expect("it is one or the other");
                    self.begin(micro, acts, workspace)?;
                    for part in (0..num_parts).map(|stage| self.part(stage)) {
                        self.make(micro, acts, part, self.grad_part(part, &grads[part], index == 0), workspace)?;
                    }
                    Ok(())
                })?;
            }
            for (forest, grad) in self.forests.iter().zip(grads) {
                forest.add(leaf.leaf, into_values(grad)?);
            }
            Ok(())
        })?;
        (0..num_parts).for_each(|stage| self.hand_on(self.part(stage), parts));
        Ok(())
    }

    /// Takes the gradient of a micro-batch's embeddings to that of its last hidden states.
    fn begin(&self, micro: &Micro, acts: &Activations, workspace: &mut Workspace) -> Result<()> {
        let from = self.trainer.embedding_len(micro.rows.start - self.first_row, self.num_columns);
        let own = &self.d_embeddings[from..from + self.trainer.embedding_len(micro.rows.len(), self.num_columns)];
        write::<f32, _>(&acts.embeddings, |values| {
            values.copy_from_slice(own);
            Ok(())
        })?;
        self.pass(micro)?.pool_backward(acts, workspace)
    }

    /// Adds a micro-batch's share of one part.
    fn make(&self, micro: &Micro, acts: &Activations, part: usize, grad: GradPart<'_>, workspace: &mut Workspace) -> Result<()> {
        let pass = self.pass(micro)?;
        match part.checked_sub(1) {
            Some(layer) => pass.layer_backward(layer, acts, grad, workspace),
            None => pass.embed_backward(acts, &self.shape.word_rows, grad),
        }
    }

    /// Hands a part's sums on; where nobody takes them any more, the one who did says why.
    fn hand_on(&self, part: usize, parts: &mpsc::Sender<(usize, Nodes)>) {
        let _ = parts.send((part, self.forests[part].take_nodes()));
    }
}
