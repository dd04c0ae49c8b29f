//! MultipleNegativesRankingLoss under Matryoshka, streamed: no logit matrix is ever held.
//!
//! Shapes: R anchors of a leaf, C candidates of the whole batch, h width, D Matryoshka widths, B anchors of the batch.
//! logit_ij^d = scale * cos(anchor_i[..d], candidate_j[..d]); loss_d = sum_i (logsumexp_j logit_ij^d - logit_i,own^d) / B;
//! loss = sum_d weight_d loss_d (sentence-transformers' `MultipleNegativesRankingLoss` and `MatryoshkaLoss`).
//!
//! Dot products of a width are those of the width before plus a segment's. The gradient of a segment's columns takes
//! the coefficients of all widths that hold it at once, so all widths together cost what the full width alone costs.

use super::real::{Product, Real, View, product};

/// Anchors of a tile.
const TILE_ROWS: usize = 64;
/// Candidates of a tile.
const TILE_COLS: usize = 512;
/// The least norm, as `torch.nn.functional.normalize` has it.
const MIN_NORM: f64 = 1e-12;

/// The loss: its scale, its Matryoshka widths in any order, and their weights.
#[derive(Debug, Clone, PartialEq)]
pub struct LossSpec {
    /// What a cosine is multiplied by.
    pub scale: f64,
    /// Widths, each between 1 and h.
    pub dims: Vec<usize>,
    /// One weight a width.
    pub weights: Vec<f64>,
}

/// A leaf's part of the loss.
#[derive(Debug, Clone, PartialEq)]
pub struct LeafLoss {
    /// For each width of the spec, in its order: the sum over the leaf's anchors, divided by B; without weight.
    pub per_dim: Vec<f64>,
}

impl LeafLoss {
    /// The weighted sum over widths.
    pub fn total(&self, spec: &LossSpec) -> f64 {
        self.per_dim.iter().zip(&spec.weights).map(|(loss, weight)| loss * weight).sum()
    }
}

/// One width: its columns beyond the width before, and its place in the spec.
struct Segment {
    from: usize,
    to: usize,
    place: usize,
    weight: f64,
}

/// Rows with their inverse norms at each width: `[D][rows]`.
struct Rows<'a, T> {
    values: &'a [T],
    len: usize,
    inverse: Vec<Vec<f64>>,
    /// 0 where the norm was held at its least: there is then no pull along the row.
    moving: Vec<Vec<f64>>,
}

impl<'a, T: Real> Rows<'a, T> {
    fn new(values: &'a [T], h: usize, segments: &[Segment]) -> Self {
        let len = values.len() / h;
        let mut rows = Self {
            values,
            len,
            inverse: vec![Vec::with_capacity(len); segments.len()],
            moving: vec![Vec::with_capacity(len); segments.len()],
        };
        for row in values.chunks_exact(h) {
            let mut sum = 0.0;
            for (d, segment) in segments.iter().enumerate() {
                sum += row[segment.from..segment.to].iter().map(|value| value.to_f64() * value.to_f64()).sum::<f64>();
                let norm = sum.sqrt();
                // a NaN norm stays NaN
                let held = if norm < MIN_NORM { MIN_NORM } else { norm };
                rows.inverse[d].push(1.0 / held);
                rows.moving[d].push(if norm < MIN_NORM { 0.0 } else { 1.0 });
            }
        }
        rows
    }
}

/// A tile's place: anchors from `row`, candidates from `col`.
#[derive(Clone, Copy)]
struct Tile {
    row: usize,
    col: usize,
    rows: usize,
    cols: usize,
}

struct Leaf<'a, T> {
    segments: Vec<Segment>,
    h: usize,
    anchors: Rows<'a, T>,
    candidates: Rows<'a, T>,
    /// Inverse norms in T: of anchors times scale, and of candidates, `[D][rows]`.
    scaled: Vec<Vec<T>>,
    inverse: Vec<Vec<T>>,
    own_offset: usize,
    num_anchors: usize,
    /// Dot products of the tile at hand, `[D][TILE_ROWS * TILE_COLS]`.
    dots: Vec<Vec<T>>,
    logits: Vec<T>,
    grads: Vec<T>,
}

/// One leaf's loss and gradient: its anchors `[R, h]` against all candidates `[C, h]` of the batch, where
/// candidates = [all positives, all negative_1, ...] and anchor i of the leaf owns candidate `own_offset + i`.
/// `d_anchors` and `d_candidates` are overwritten; the sum over leaves is the gradient of the batch's loss over
/// `num_anchors` anchors.
///
/// # Panics
/// The slices, offsets and widths do not fit one another.
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
    assert!(h > 0 && anchors.len().is_multiple_of(h) && candidates.len().is_multiple_of(h), "rows of {h} values");
    assert!(
        anchors.len() == d_anchors.len() && candidates.len() == d_candidates.len(),
        "gradients have the shape of their values"
    );
    assert!(own_offset + anchors.len() / h <= candidates.len() / h, "every anchor owns a candidate");
    assert!(
        spec.dims.len() == spec.weights.len() && spec.dims.iter().all(|&dim| dim > 0 && dim <= h),
        "widths {:?} of {h}",
        spec.dims
    );
    let mut leaf = Leaf::new(spec, h, anchors, candidates, own_offset, num_anchors);
    let (log_sums, loss) = leaf.log_sums();
    leaf.gradient(&log_sums, d_anchors, d_candidates);
    loss
}

fn segments(spec: &LossSpec) -> Vec<Segment> {
    let mut order: Vec<usize> = (0..spec.dims.len()).collect();
    order.sort_by_key(|&place| spec.dims[place]);
    let mut from = 0;
    let mut segments = Vec::new();
    for place in order {
        let to = spec.dims[place];
        segments.push(Segment { from, to, place, weight: spec.weights[place] });
        from = to;
    }
    segments
}

impl<'a, T: Real> Leaf<'a, T> {
    fn new(spec: &LossSpec, h: usize, anchors: &'a [T], candidates: &'a [T], own_offset: usize, num_anchors: usize) -> Self {
        let segments = segments(spec);
        let anchors = Rows::new(anchors, h, &segments);
        let candidates = Rows::new(candidates, h, &segments);
        let scaled = anchors.inverse.iter().map(|row| row.iter().map(|inverse| T::of(inverse * spec.scale)).collect()).collect();
        let inverse = candidates.inverse.iter().map(|row| row.iter().map(|&inverse| T::of(inverse)).collect()).collect();
        let dots = vec![vec![T::ZERO; TILE_ROWS * TILE_COLS]; segments.len()];
        let (logits, grads) = (vec![T::ZERO; TILE_COLS], vec![T::ZERO; TILE_COLS]);
        Self { segments, h, anchors, candidates, scaled, inverse, own_offset, num_anchors, dots, logits, grads }
    }

    fn tiles(&self) -> Vec<Tile> {
        let (num_rows, num_cols) = (self.anchors.len, self.candidates.len);
        let mut tiles = Vec::new();
        for col in (0..num_cols).step_by(TILE_COLS) {
            for row in (0..num_rows).step_by(TILE_ROWS) {
                tiles.push(Tile { row, col, rows: TILE_ROWS.min(num_rows - row), cols: TILE_COLS.min(num_cols - col) });
            }
        }
        tiles
    }

    fn anchor_view(&self, tile: Tile, segment: &Segment) -> View {
        View { start: tile.row * self.h + segment.from, stride: self.h, rows: tile.rows, width: segment.to - segment.from }
    }

    fn candidate_view(&self, tile: Tile, segment: &Segment) -> View {
        View { start: tile.col * self.h + segment.from, stride: self.h, rows: tile.cols, width: segment.to - segment.from }
    }

    fn dot_view(tile: Tile) -> View {
        View { start: 0, stride: TILE_COLS, rows: tile.rows, width: tile.cols }
    }

    /// Dot products of a tile at every width.
    fn multiply(&mut self, tile: Tile) {
        for d in 0..self.segments.len() {
            let segment = &self.segments[d];
            if d > 0 {
                let (before, after) = self.dots.split_at_mut(d);
                after[0][..tile.rows * TILE_COLS].copy_from_slice(&before[d - 1][..tile.rows * TILE_COLS]);
            }
            if segment.from == segment.to {
                continue;
            }
            let (a, b) = (
                (self.anchors.values, self.anchor_view(tile, segment)),
                (self.candidates.values, self.candidate_view(tile, segment)),
            );
            product(Product::ByTransposed, (&mut self.dots[d], Self::dot_view(tile)), a, b, d > 0);
        }
    }

    /// Logits of row `i` of a tile at width `d`.
    fn fill_logits(&mut self, tile: Tile, d: usize, i: usize) {
        let dots = &self.dots[d][i * TILE_COLS..i * TILE_COLS + tile.cols];
        let inverse = &self.inverse[d][tile.col..tile.col + tile.cols];
        let scaled = self.scaled[d][tile.row + i];
        for ((logit, &dot), &inverse) in self.logits.iter_mut().zip(dots).zip(inverse) {
            *logit = dot * scaled * inverse;
        }
    }

    /// The column, within a tile, of the candidate that row `i` owns.
    fn own(&self, tile: Tile, i: usize) -> Option<usize> {
        let own = self.own_offset + tile.row + i;
        (tile.col..tile.col + tile.cols).contains(&own).then(|| own - tile.col)
    }

    /// The logarithm of each row's sum of exponentials, `[D][R]`, and the loss.
    fn log_sums(&mut self) -> (Vec<Vec<f64>>, LeafLoss) {
        let (num_dims, num_rows) = (self.segments.len(), self.anchors.len);
        let mut highest = vec![vec![T::LOWEST; num_rows]; num_dims];
        let mut sums = vec![vec![0.0f64; num_rows]; num_dims];
        let mut owns = vec![vec![0.0f64; num_rows]; num_dims];
        for tile in self.tiles() {
            self.multiply(tile);
            for d in 0..num_dims {
                for i in 0..tile.rows {
                    self.fill_logits(tile, d, i);
                    let row = tile.row + i;
                    if let Some(own) = self.own(tile, i) {
                        owns[d][row] = self.logits[own].to_f64();
                    }
                    let logits = &mut self.logits[..tile.cols];
                    let before = highest[d][row];
                    let high = logits.iter().fold(before, |high, &logit| if logit > high { logit } else { high });
                    logits.iter_mut().for_each(|logit| *logit -= high);
                    T::exp_all(logits);
                    sums[d][row] = sums[d][row] * (before.to_f64() - high.to_f64()).exp() + sum(logits);
                    highest[d][row] = high;
                }
            }
        }
        let mut per_dim = vec![0.0; num_dims];
        for d in 0..num_dims {
            for row in 0..num_rows {
                sums[d][row] = highest[d][row].to_f64() + sums[d][row].ln();
            }
            let loss: f64 = sums[d].iter().zip(&owns[d]).map(|(log_sum, own)| log_sum - own).sum();
            per_dim[self.segments[d].place] = loss / self.num_anchors as f64;
        }
        (sums, LeafLoss { per_dim })
    }

    /// The gradient, given the rows' log sums.
    fn gradient(&mut self, log_sums: &[Vec<f64>], d_anchors: &mut [T], d_candidates: &mut [T]) {
        d_anchors.fill(T::ZERO);
        d_candidates.fill(T::ZERO);
        let num_dims = self.segments.len();
        // sums of gradient times logit: the pull along the row itself, [D][rows]
        let mut along_anchor = vec![vec![0.0f64; self.anchors.len]; num_dims];
        let mut along_candidate = vec![vec![T::ZERO; self.candidates.len]; num_dims];
        let mut factors = vec![T::ZERO; TILE_ROWS * TILE_COLS];
        for tile in self.tiles() {
            self.multiply(tile);
            factors.fill(T::ZERO);
            for d in (0..num_dims).rev() {
                for (i, factors) in factors.chunks_exact_mut(TILE_COLS).take(tile.rows).enumerate() {
                    let row = tile.row + i;
                    self.fill_grads(tile, d, i, log_sums[d][row]);
                    along_anchor[d][row] +=
                        self.add_row(tile, d, row, factors, &mut along_candidate[d][tile.col..tile.col + tile.cols]);
                }
                let segment = &self.segments[d];
                if segment.from == segment.to {
                    continue;
                }
                let (av, cv, fv) = (self.anchor_view(tile, segment), self.candidate_view(tile, segment), Self::dot_view(tile));
                product(Product::Plain, (d_anchors, av), (&factors, fv), (self.candidates.values, cv), true);
                product(Product::TransposedBy, (d_candidates, cv), (&factors, fv), (self.anchors.values, av), true);
            }
        }
        let along_candidate: Vec<Vec<f64>> =
            along_candidate.iter().map(|row| row.iter().map(|value| value.to_f64()).collect()).collect();
        pull_back(&self.segments, self.h, &self.anchors, &along_anchor, d_anchors);
        pull_back(&self.segments, self.h, &self.candidates, &along_candidate, d_candidates);
    }

    /// The loss's gradient by the logits of row `i` of a tile; leaves the logits themselves in place.
    fn fill_grads(&mut self, tile: Tile, d: usize, i: usize, log_sum: f64) {
        self.fill_logits(tile, d, i);
        let share = T::of(self.segments[d].weight / self.num_anchors as f64);
        let log_sum = T::of(log_sum);
        let grads = &mut self.grads[..tile.cols];
        for (grad, &logit) in grads.iter_mut().zip(&self.logits) {
            *grad = logit - log_sum;
        }
        T::exp_all(grads);
        grads.iter_mut().for_each(|grad| *grad = *grad * share);
        if let Some(own) = self.own(tile, i) {
            self.grads[own] -= share;
        }
    }

    /// Adds a row's factors (gradient by the dot products) and its gradient times logit; returns the latter's sum.
    fn add_row(&mut self, tile: Tile, d: usize, row: usize, factors: &mut [T], along: &mut [T]) -> f64 {
        let scaled = self.scaled[d][row];
        let inverse = &self.inverse[d][tile.col..tile.col + tile.cols];
        let (grads, logits) = (&self.grads[..tile.cols], &mut self.logits[..tile.cols]);
        for ((factor, &grad), &inverse) in factors.iter_mut().zip(grads).zip(inverse) {
            *factor += grad * scaled * inverse;
        }
        for ((along, &grad), logit) in along.iter_mut().zip(grads).zip(logits.iter_mut()) {
            *logit = grad * *logit;
            *along += *logit;
        }
        sum(logits)
    }
}

/// Takes the part of the gradient along the row away: normalisation makes it vanish.
fn pull_back<T: Real>(segments: &[Segment], h: usize, rows: &Rows<'_, T>, along: &[Vec<f64>], grads: &mut [T]) {
    for (row, (grad, values)) in grads.chunks_exact_mut(h).zip(rows.values.chunks_exact(h)).enumerate() {
        let mut pull = 0.0;
        for (d, segment) in segments.iter().enumerate().rev() {
            pull += along[d][row] * rows.inverse[d][row] * rows.inverse[d][row] * rows.moving[d][row];
            let pull = T::of(pull);
            for (grad, &value) in grad[segment.from..segment.to].iter_mut().zip(&values[segment.from..segment.to]) {
                *grad -= pull * value;
            }
        }
    }
}

/// The sum in f64 of sixteen running sums: a fixed order, and vector code.
fn sum<T: Real>(values: &[T]) -> f64 {
    let mut lanes = [T::ZERO; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += value;
    }
    lanes.iter().map(|lane| lane.to_f64()).sum()
}

#[cfg(test)]
mod tests;
