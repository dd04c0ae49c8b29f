use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::Error;
use crate::collective::{Solo, TcpCollective, TcpListenerHandle};
use crate::loss::matrix::{Product, View, product};
use crate::loss::tests::{Untiled, back_through_norm, distance, embeddings, leaf_by_leaf, narrow, untiled, widen};
use crate::tree::NodeId;

const PATIENCE: Duration = Duration::from_secs(30);

/// A batch whose anchors, candidates and leaves are at hand.
struct Case {
    spec: LossSpec,
    hidden: usize,
    anchors: Vec<f32>,
    candidates: Vec<f32>,
    leaves: Vec<Range<usize>>,
}

impl Case {
    fn batch<'a>(&'a self, collective: &'a dyn Collective, threads: usize, interrupt: &'a Interrupt) -> BatchLoss<'a> {
        let Case { spec, hidden, anchors, candidates, leaves } = self;
        // a test's own, for as long as it runs
        let (team, memory) = (Box::leak(Box::new(Team::new(threads).unwrap())), Box::leak(Box::default()));
        BatchLoss { spec, hidden: *hidden, anchors, candidates, leaves, team, memory, collective, interrupt }
    }

    /// Per-dim losses summed over these leaves, d_anchors, d_candidates.
    fn parts(&self, losses: &[LeafLoss], d_embeddings: &[f32]) -> (Vec<f64>, Vec<f32>, Vec<f32>) {
        let mut per_dim = vec![0.0; self.spec.dims.len()];
        for loss in losses {
            per_dim.iter_mut().zip(&loss.per_dim).for_each(|(sum, loss)| *sum += loss);
        }
        let num_columns = 1 + self.candidates.len() / self.anchors.len();
        let column = |column: usize| d_embeddings.chunks(self.hidden).skip(column).step_by(num_columns).flatten().copied();
        (per_dim, column(0).collect(), (1..num_columns).flat_map(column).collect())
    }
}

/// A batch of 1,300 rows with a negative each, in five leaves of which one is empty; tiles and blocks have tails and blocks
/// cross from the positives to the negatives.
fn uneven() -> Case {
    let (anchors, candidates) = embeddings(1300, 2600, 40);
    let spec = LossSpec { scale: 20.0, dims: vec![40, 8, 24], weights: vec![1.0, 0.5, 2.0] };
    let leaves = vec![0..300, 300..300, 300..301, 301..900, 900..1300];
    Case { spec, hidden: 40, anchors: narrow(&anchors), candidates: narrow(&candidates), leaves }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Forms a world of threads over loopback and runs `work` on each rank; results in order of ranks.
fn world<T: Send>(size: usize, work: impl Fn(TcpCollective) -> T + Sync) -> Vec<T> {
    let listeners: Vec<_> = (0..size).map(|_| TcpCollective::listen(Ipv4Addr::LOCALHOST.into()).unwrap()).collect();
    let members: Vec<SocketAddr> = listeners.iter().map(TcpListenerHandle::address).collect();
    std::thread::scope(|scope| {
        let (work, members) = (&work, &members);
        let start = |(rank, listener): (usize, TcpListenerHandle)| {
            scope.spawn(move || work(listener.connect([3; 32], 1, rank, members, PATIENCE, PATIENCE).unwrap()))
        };
        let threads: Vec<_> = listeners.into_iter().enumerate().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Goal: SAME-3, blocks, threads and ranks change no bit. Method: blocks of one tile, of three and the usual one, 1 to 3 threads, and 1, 2 and 4
/// ranks, against each leaf in one go and the tree over all candidates at once.
#[test]
fn blocks_threads_and_ranks_give_the_same_bits() {
    let (case, interrupt) = (uneven(), Interrupt::default());
    let (per_dim, d_anchors, d_candidates) = leaf_by_leaf(&case.spec, case.hidden, &case.anchors, &case.candidates, &case.leaves);
    let check = |losses: &[LeafLoss], d_embeddings: &[f32], what: &str| {
        let parts = case.parts(losses, d_embeddings);
        assert!(parts.0 == per_dim, "{what}: {:?} against {per_dim:?}", parts.0);
        assert!(bits(&parts.1) == bits(&d_anchors) && bits(&parts.2) == bits(&d_candidates), "{what}");
    };
    for (threads, block) in [(1, TILE_CANDIDATES), (2, 3 * TILE_CANDIDATES), (3, TILE_CANDIDATES), (1, BLOCK_CANDIDATES)] {
        let outcome = case.batch(&Solo::new(), threads, &interrupt).run_in_blocks(block).unwrap();
        check(&outcome.losses, &outcome.d_embeddings, &format!("{threads} threads, blocks of {block}"));
    }
    for size in [1, 2, 4] {
        let outcomes = world(size, |ranks| case.batch(&ranks, 1 + size % 2, &interrupt).run_in_blocks(1024).unwrap());
        let losses: Vec<LeafLoss> = outcomes.iter().flat_map(|outcome| outcome.losses.clone()).collect();
        let d_embeddings: Vec<f32> = outcomes.iter().flat_map(|outcome| outcome.d_embeddings.clone()).collect();
        check(&losses, &d_embeddings, &format!("{size} ranks"));
    }
}

/// The formula over whole matrices in f64: all logits of a width at once.
fn untiled_by_products(spec: &LossSpec, h: usize, anchors: &[f64], candidates: &[f64]) -> Untiled {
    let (num_anchors, num_candidates) = (anchors.len() / h, candidates.len() / h);
    let mut result =
        Untiled { per_dim: Vec::new(), d_anchors: vec![0.0; anchors.len()], d_candidates: vec![0.0; candidates.len()] };
    let mut logits = vec![0.0; num_anchors * num_candidates];
    let all = View::whole(num_anchors, num_candidates);
    for (&dim, &weight) in spec.dims.iter().zip(&spec.weights) {
        let ((q, q_norms), (d, d_norms)) = (unit(anchors, h, dim), unit(candidates, h, dim));
        let (q_view, d_view) = (View::whole(num_anchors, dim), View::whole(num_candidates, dim));
        product(Product::ByTransposed, (&mut logits, all), (&q, q_view), (&d, d_view), false);
        let mut loss = 0.0;
        for (i, row) in logits.chunks_mut(num_candidates).enumerate() {
            row.iter_mut().for_each(|logit| *logit *= spec.scale);
            let max = row.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = row.iter().map(|logit| (logit - max).exp()).sum();
            loss += max + sum.ln() - row[i];
            let factor = spec.scale * weight / num_anchors as f64;
            row.iter_mut().for_each(|logit| *logit = (*logit - max).exp() / sum * factor);
            row[i] -= factor;
        }
        result.per_dim.push(loss / num_anchors as f64);
        let (mut dq, mut dd) = (vec![0.0; q.len()], vec![0.0; d.len()]);
        product(Product::Plain, (&mut dq, q_view), (&logits, all), (&d, d_view), false);
        product(Product::TransposedBy, (&mut dd, d_view), (&logits, all), (&q, q_view), false);
        back_through_norm(&mut result.d_anchors, h, &q, &dq, &q_norms, dim);
        back_through_norm(&mut result.d_candidates, h, &d, &dd, &d_norms, dim);
    }
    result
}

/// Prefixes of norm 1, and their norms before.
fn unit(rows: &[f64], h: usize, dim: usize) -> (Vec<f64>, Vec<f64>) {
    let norms: Vec<f64> = rows.chunks(h).map(|row| row[..dim].iter().map(|x| x * x).sum::<f64>().sqrt()).collect();
    (rows.chunks(h).zip(&norms).flat_map(|(row, n)| row[..dim].iter().map(move |x| x / n)).collect(), norms)
}

/// Goal: a batch of 4,096 rows of a usual model gives what all logits at once give. Method: width 384 and four widths, eight leaves in f32 against whole
/// matrices in f64 (relative distances: 1e-6 of the losses, 3e-6 of either gradient); and these against plain loops at 100 rows.
#[test]
fn equals_untiled_at_4096() {
    let (h, spec) = (384, LossSpec { scale: 20.0, dims: vec![384, 256, 128, 64], weights: vec![1.0, 1.0, 0.5, 1.0] });
    let (anchors, candidates) = embeddings(100, 200, h);
    let (loops, products) = (untiled(&spec, h, &anchors, &candidates), untiled_by_products(&spec, h, &anchors, &candidates));
    assert!(distance(&products.per_dim, &loops.per_dim) < 1e-12);
    assert!(distance(&products.d_anchors, &loops.d_anchors) < 1e-12);
    assert!(distance(&products.d_candidates, &loops.d_candidates) < 1e-12);

    let (anchors, candidates) = embeddings(4096, 4096, h);
    let truth = untiled_by_products(&spec, h, &anchors, &candidates);
    let leaves = (0..8).map(|leaf| leaf * 512..(leaf + 1) * 512).collect();
    let case = Case { spec, hidden: h, anchors: narrow(&anchors), candidates: narrow(&candidates), leaves };
    let outcome = case.batch(&Solo::new(), 2, &Interrupt::default()).run_in_blocks(2048).unwrap();
    let (per_dim, d_anchors, d_candidates) = case.parts(&outcome.losses, &outcome.d_embeddings);
    let distances = [
        distance(&per_dim, &truth.per_dim),
        distance(&widen(&d_anchors), &truth.d_anchors),
        distance(&widen(&d_candidates), &truth.d_candidates),
    ];
    println!("relative distances of losses, d_anchors, d_candidates: {distances:?}");
    assert!(distances[0] < 1e-6 && distances[1] < 3e-6 && distances[2] < 3e-6, "{distances:?}");
}

/// A world of one whose step is given up during the first sum over the tree.
struct GivenUp<'a> {
    solo: Solo,
    interrupt: &'a Interrupt,
    sums: AtomicUsize,
}

impl Collective for GivenUp<'_> {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn all_gather(&self, mine: &[u8]) -> crate::Result<Vec<Vec<u8>>> {
        self.solo.all_gather(mine)
    }

    fn tree_all_reduce(&self, num_leaves: usize, nodes: Vec<(NodeId, Vec<f32>)>) -> crate::Result<Vec<f32>> {
        self.sums.fetch_add(1, Ordering::Relaxed);
        self.interrupt.give_up();
        self.solo.tree_all_reduce(num_leaves, nodes)
    }

    fn barrier(&self) -> crate::Result<()> {
        self.solo.barrier()
    }

    fn check(&self) -> crate::Result<()> {
        self.solo.check()
    }

    fn abort(&self) {
        self.solo.abort();
    }
}

/// Goal: a long loss can be left, before and between blocks. Method: the step is given up at the first block's sum, so there is no second one; then a
/// step that was given up before.
#[test]
fn a_given_up_step_is_left() {
    let (case, interrupt) = (uneven(), Interrupt::default());
    let ranks = GivenUp { solo: Solo::new(), interrupt: &interrupt, sums: AtomicUsize::new(0) };
    for _ in 0..2 {
        let left = case.batch(&ranks, 2, &interrupt).run_in_blocks(TILE_CANDIDATES).unwrap_err();
        assert!(matches!(left, Error::Left), "{left}");
    }
    assert_eq!(ranks.sums.into_inner(), 1);
}
