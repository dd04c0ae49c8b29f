//! MultipleNegativesRanking of one leaf in one go, in f32 or f64: what [`super::BatchLoss`] is proven against.

use super::bands::{Band, Norms};
use super::kernels::Span;
use super::real::Real;
use super::tiles::{Gradient, RowSums, Scratch, Sides};
use super::{LeafLoss, LossSpec};

/// The loss of one leaf's anchors against all candidates of the batch, and its gradient.
///
/// `anchors` is [R, h], `candidates` [C, h] (all positives, then all first negatives, and so on), row-major and not
/// necessarily normalised; anchor i owns candidate `own_offset + i`. `num_anchors` is the number of anchors of the whole
/// batch. Overwrites `d_anchors` [R, h] and `d_candidates` [C, h] with the gradient of the weighted loss; summed over the
/// leaves, `d_candidates` is the batch's. NaN or infinite input shows as a NaN loss.
///
/// Formula: PARITY.md, MultipleNegativesRankingLoss and MatryoshkaLoss.
///
/// # Panics
/// When the slices' lengths disagree, an own candidate does not exist, or `spec` would not pass [`LossSpec::check`].
#[allow(clippy::too_many_arguments)]
pub fn mnrl_leaf<T: Real>(
    spec: &LossSpec,
    h: usize,
    anchors: &[T],
    candidates: &[T],
    own_offset: usize,
    num_anchors: usize,
    d_anchors: &mut [T],
    d_candidates: &mut [T],
) -> LeafLoss {
    spec.check(h).expect("the loss's settings were checked before the run");
    assert!(anchors.len().is_multiple_of(h) && candidates.len().is_multiple_of(h), "embeddings are whole rows");
    assert!(d_anchors.len() == anchors.len() && d_candidates.len() == candidates.len(), "gradients have their rows' shape");
    let (num_rows, num_candidates) = (anchors.len() / h, candidates.len() / h);
    assert!(own_offset + num_rows <= num_candidates, "every anchor owns a candidate");
    assert!(num_rows <= num_anchors, "a leaf is a part of its batch");
    d_anchors.fill(T::ZERO);
    d_candidates.fill(T::ZERO);
    let bands = Band::of(spec, num_anchors);
    let candidate_norms = Norms::of(candidates, h, &bands);
    let sides = Sides::new((h, spec.scale, &bands), anchors, own_offset, candidates, &candidate_norms);
    let all = Span { first: 0, len: num_candidates };
    let (mut row_radial, mut column_radial) =
        (vec![vec![0.0; num_rows]; bands.len()], vec![vec![0.0; num_candidates]; bands.len()]);
    let mut d_anchors = Gradient { values: d_anchors, stride: h, radial: &mut row_radial };
    let mut d_candidates = Gradient { values: d_candidates, stride: h, radial: &mut column_radial };
    let mut losses = vec![0.0; bands.len()];
    let mut sums = RowSums::new(bands.len(), num_rows);
    let mut scratch = Scratch::new(bands.len());
    for rows in sides.tiles() {
        sides.log_sum_exps(rows, &mut sums, &mut scratch, &mut losses);
        sides.gradients(rows, all, &sums, &mut scratch, &mut d_anchors, &mut d_candidates);
    }
    sides.finish_block(all, &mut d_candidates);
    sides.finish_anchors(&mut d_anchors);
    LeafLoss::of(&bands, &losses, num_anchors)
}
