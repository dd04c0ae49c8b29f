//! The loss of a batch and its gradient on a rank's embeddings, in memory of little more than these.
//!
//! Shapes: B rows of the batch, C = (columns - 1) B candidates, width h, R rows of a leaf. A first sweep takes the log-sum-exps
//! of each leaf's anchors over all candidates. A second takes the candidates a block at a time: each leaf adds to its anchors'
//! gradient and gives its share of the block's, the shares are summed over the fixed tree, and a rank keeps its own rows of
//! the sum. Every value is the sum of the same terms in the same order whatever the block's length and the number of
//! threads and ranks, so the bits are the same too (SAME-3).

use std::ops::Range;
use std::sync::Mutex;

use super::bands::{Band, Norms};
use super::kernels::{Span, TILE_CANDIDATES};
use super::tiles::{Gradient, RowSums, Scratch, Sides, spans};
use super::{LeafLoss, LossSpec};
use crate::collective::Collective;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::pool::FloatPool;
use crate::team::Team;
use crate::tree::{Forest, rank_leaves};

/// Candidates of a block. A thread holds a block's gradient, and the tree some more of them.
const BLOCK_CANDIDATES: usize = 8 * TILE_CANDIDATES;

/// A batch whose loss is wanted; the same on every rank.
pub struct BatchLoss<'a> {
    /// Scale, widths and weights.
    pub spec: &'a LossSpec,
    /// Width of an embedding.
    pub hidden: usize,
    /// [B, h], not necessarily normalised.
    pub anchors: &'a [f32],
    /// [C, h]: all positives, then all first negatives, and so on; row i owns candidate i.
    pub candidates: &'a [f32],
    /// The rows of each leaf of the summation tree; together 0..B in order. A rank computes those that
    /// [`rank_leaves`] allots to it.
    pub leaves: &'a [Range<usize>],
    /// Threads of this rank.
    pub team: &'a Team,
    /// Memory that is used again.
    pub memory: &'a LossMemory,
    /// The ranks.
    pub collective: &'a dyn Collective,
    /// Looked at between two tiles of anchors.
    pub interrupt: &'a Interrupt,
}

/// What a rank gets of a batch's loss.
#[derive(Debug)]
pub struct BatchLossOutcome {
    /// The share of each of the rank's leaves in the loss.
    pub losses: Vec<LeafLoss>,
    /// The gradient of the weighted loss on the embeddings of the rank's rows: [rows of the rank, columns, h].
    pub d_embeddings: Vec<f32>,
}

/// Memory of one batch's loss, for the next one's.
#[derive(Debug, Default)]
pub struct LossMemory {
    pool: FloatPool,
    scratches: Mutex<Vec<Scratch<f32>>>,
}

impl LossMemory {
    /// Takes back what [`BatchLoss::run`] returned.
    pub fn give(&self, d_embeddings: Vec<f32>) {
        self.pool.give(d_embeddings);
    }

    fn with_scratch<T>(&self, num_bands: usize, work: impl FnOnce(&mut Scratch<f32>) -> T) -> T {
        let lock = || self.scratches.lock().expect("no thread panics with it");
        let mut scratch =
            lock().pop().filter(|scratch| scratch.num_bands() == num_bands).unwrap_or_else(|| Scratch::new(num_bands));
        let result = work(&mut scratch);
        lock().push(scratch);
        result
    }
}

/// A leaf of this rank between the sweeps.
struct OwnLeaf<'a> {
    rows: Range<usize>,
    sides: Sides<'a, f32>,
    sums: RowSums<f32>,
    /// By band.
    losses: Vec<f64>,
    /// [band][R].
    radial: Vec<Vec<f64>>,
    /// [R, columns, h].
    d_rows: &'a mut [f32],
}

impl BatchLoss<'_> {
    /// The losses of this rank's leaves and the gradient on its embeddings. NaN or infinite input shows as a NaN loss.
    ///
    /// Formula: PARITY.md, MultipleNegativesRankingLoss and MatryoshkaLoss.
    ///
    /// # Errors
    /// A rank was lost, or the step is to be given up.
    ///
    /// # Panics
    /// When there is no row, the slices' lengths or the leaves disagree, or the spec would not pass [`LossSpec::check`].
    pub fn run(&self) -> Result<BatchLossOutcome> {
        self.run_in_blocks(BLOCK_CANDIDATES)
    }

    fn run_in_blocks(&self, block_candidates: usize) -> Result<BatchLossOutcome> {
        let (num_rows, num_candidates) = self.check();
        let row_len = (1 + num_candidates / num_rows) * self.hidden;
        let own = rank_leaves(self.leaves.len(), self.collective.rank(), self.collective.world_size());
        let bands = Band::of(self.spec, num_rows);
        let candidate_norms = Norms::of(self.candidates, self.hidden, &bands);
        let own_len = self.leaves[own.clone()].iter().map(|rows| rows.len() * row_len).sum();
        let mut d_embeddings = self.memory.pool.zeroed(own_len);
        let mut rest = &mut d_embeddings[..];
        let mut leaves = Vec::with_capacity(own.len());
        for rows in &self.leaves[own.clone()] {
            let (d_rows, after) = rest.split_at_mut(rows.len() * row_len);
            rest = after;
            let anchors = &self.anchors[rows.start * self.hidden..rows.end * self.hidden];
            leaves.push(OwnLeaf {
                rows: rows.clone(),
                sides: Sides::new((self.hidden, self.spec.scale, &bands), anchors, rows.start, self.candidates, &candidate_norms),
                sums: RowSums::new(bands.len(), rows.len()),
                radial: vec![vec![0.0; rows.len()]; bands.len()],
                losses: Vec::new(),
                d_rows,
            });
        }
        self.team.each(&mut leaves, |_, leaf| self.sum(leaf, bands.len()))?;
        let losses = leaves.iter().map(|leaf| LeafLoss::of(&bands, &leaf.losses, num_rows)).collect();
        for block in spans(num_candidates, block_candidates) {
            let forest = Forest::new(self.leaves.len(), &self.memory.pool);
            self.team.each(&mut leaves, |index, leaf| {
                let mut d_block = self.memory.pool.zeroed(block.len * self.hidden);
                self.add_block(leaf, row_len, block, &mut d_block, bands.len())?;
                forest.add(own.start + index, d_block);
                Ok(())
            })?;
            let d_block = self.collective.tree_all_reduce(self.leaves.len(), forest.take_nodes())?;
            for leaf in &mut leaves {
                self.keep(leaf, row_len, block, &d_block);
            }
            self.memory.pool.give(d_block);
        }
        for leaf in leaves {
            let OwnLeaf { sides, mut radial, d_rows, .. } = leaf;
            sides.finish_anchors(&mut Gradient { values: d_rows, stride: row_len, radial: &mut radial });
        }
        Ok(BatchLossOutcome { losses, d_embeddings })
    }

    /// Refuses what is no batch; (B, C).
    fn check(&self) -> (usize, usize) {
        let h = self.hidden;
        self.spec.check(h).expect("the loss's settings were checked before the run");
        assert!(self.anchors.len().is_multiple_of(h) && !self.anchors.is_empty(), "anchors are whole rows, at least one");
        assert!(self.candidates.len().is_multiple_of(self.anchors.len()), "each row has as many candidates");
        assert!(!self.candidates.is_empty(), "every anchor owns a candidate");
        let num_rows = self.anchors.len() / h;
        let end = self.leaves.iter().try_fold(0, |end, rows| (rows.start == end && end <= rows.end).then_some(rows.end));
        assert_eq!(end, Some(num_rows), "the leaves hold every row once, in order");
        (num_rows, self.candidates.len() / h)
    }

    /// First sweep over a leaf.
    fn sum(&self, leaf: &mut OwnLeaf<'_>, num_bands: usize) -> Result<()> {
        leaf.losses = vec![0.0; num_bands];
        self.memory.with_scratch(num_bands, |scratch| {
            for rows in leaf.sides.tiles() {
                self.interrupt.check()?;
                leaf.sides.log_sum_exps(rows, &mut leaf.sums, scratch, &mut leaf.losses);
            }
            Ok(())
        })
    }

    /// Second sweep over a leaf and a block of candidates: adds to the gradient of the leaf's anchors and to that of the block, [block, h].
    fn add_block(
        &self,
        leaf: &mut OwnLeaf<'_>,
        row_len: usize,
        block: Span,
        d_block: &mut [f32],
        num_bands: usize,
    ) -> Result<()> {
        let mut radial = vec![vec![0.0; block.len]; num_bands];
        let mut d_block = Gradient { values: d_block, stride: self.hidden, radial: &mut radial };
        let mut d_anchors = Gradient { values: leaf.d_rows, stride: row_len, radial: &mut leaf.radial };
        self.memory.with_scratch(num_bands, |scratch| {
            for rows in leaf.sides.tiles() {
                self.interrupt.check()?;
                leaf.sides.gradients(rows, block, &leaf.sums, scratch, &mut d_anchors, &mut d_block);
            }
            Ok::<(), crate::Error>(())
        })?;
        leaf.sides.finish_block(block, &mut d_block);
        Ok(())
    }

    /// Puts a block's gradient, [block, h], where the leaf's own candidates stand.
    fn keep(&self, leaf: &mut OwnLeaf<'_>, row_len: usize, block: Span, d_block: &[f32]) {
        let (h, num_rows) = (self.hidden, self.anchors.len() / self.hidden);
        for column in 1..row_len / h {
            let before = (column - 1) * num_rows;
            let first = block.first.max(before + leaf.rows.start);
            let end = (block.first + block.len).min(before + leaf.rows.end);
            for candidate in first..end {
                let to = (candidate - before - leaf.rows.start) * row_len + column * h;
                let from = (candidate - block.first) * h;
                leaf.d_rows[to..to + h].copy_from_slice(&d_block[from..from + h]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
