//! Losses over embeddings, with their gradients, streamed so that logits exist one tile at a time.
//!
//! [`BatchLoss`] is sentence-transformers' MultipleNegativesRankingLoss under MatryoshkaLoss: for each width the
//! prefix of both sides is L2-normalised, `loss_d = mean_i(logsumexp_j(scale cos_ij) - scale cos_i,own)`, and the
//! loss is the weighted sum over the widths.

mod bands;
mod batch;
mod kernels;
mod matrix;
mod mnrl;
mod real;
#[cfg(test)]
mod tests;
mod tiles;

pub use batch::{BatchLoss, BatchLossOutcome, LossMemory};
pub(crate) use matrix::{Product, View, product};
pub use mnrl::mnrl_leaf;
pub use real::Real;

use self::bands::Band;
use crate::error::{Error, Result};

/// What of the loss the user sets: the factor on the cosine, the widths and their weights.
#[derive(Debug, Clone, PartialEq)]
pub struct LossSpec {
    /// Factor on the cosine (sentence-transformers: 20).
    pub scale: f64,
    /// The widths whose losses are summed, in any order, each at most once; empty is not allowed.
    pub dims: Vec<usize>,
    /// The weight of each width, in the order of `dims`.
    pub weights: Vec<f64>,
}

/// The share of one leaf's anchors in the loss.
#[derive(Debug, Clone, PartialEq)]
pub struct LeafLoss {
    /// For each of the spec's `dims`, in their order: the leaf's sum over its anchors divided by the number of
    /// anchors of the whole batch, without the weight. Summed over the leaves it is that width's loss.
    pub per_dim: Vec<f64>,
}

impl LeafLoss {
    /// From a leaf's sums over its anchors, [band].
    fn of(bands: &[Band], losses: &[f64], num_anchors: usize) -> Self {
        let mut per_dim = vec![0.0; bands.len()];
        for (band, loss) in bands.iter().zip(losses) {
            per_dim[band.place] = loss / num_anchors as f64;
        }
        Self { per_dim }
    }

    /// The weighted sum over the widths of `spec`.
    pub fn total(&self, spec: &LossSpec) -> f64 {
        self.per_dim.iter().zip(&spec.weights).map(|(loss, weight)| loss * weight).sum()
    }
}

impl LossSpec {
    /// The plain loss at full width.
    pub fn full_width(scale: f64, hidden: usize) -> Self {
        Self { scale, dims: vec![hidden], weights: vec![1.0] }
    }

    /// Refuses what cannot be computed for embeddings of width `hidden`.
    ///
    /// # Errors
    /// `Input`: no width, a width of 0, beyond `hidden` or named twice, another number of weights than of widths, a
    /// scale or weight that is not finite, a scale that is not positive.
    pub fn check(&self, hidden: usize) -> Result<()> {
        if self.dims.is_empty() {
            return Err(Error::input("the loss has no width: give matryoshka_dims at least one"));
        }
        if self.weights.len() != self.dims.len() {
            return Err(Error::input(format!(
                "matryoshka_weights has {} entries for {} matryoshka_dims: give one weight a width",
                self.weights.len(),
                self.dims.len()
            )));
        }
        for (place, &dim) in self.dims.iter().enumerate() {
            if dim == 0 || dim > hidden {
                return Err(Error::input(format!(
                    "width {dim} in matryoshka_dims does not fit a model of width {hidden}: choose between 1 and {hidden}"
                )));
            }
            if self.dims[..place].contains(&dim) {
                return Err(Error::input(format!("width {dim} stands twice in matryoshka_dims: name it once")));
            }
        }
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return Err(Error::input(format!("scale {} is not a positive number: sentence-transformers takes 20", self.scale)));
        }
        if let Some(weight) = self.weights.iter().find(|weight| !weight.is_finite()) {
            return Err(Error::input(format!("weight {weight} in matryoshka_weights is not a number")));
        }
        Ok(())
    }
}
