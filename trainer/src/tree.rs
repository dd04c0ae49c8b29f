//! The fixed binary tree in which leaves are summed (SAME-3).
//!
//! Over L leaves, level 0 holds the leaves and node (level, i) has the children (level - 1, 2i) and
//! (level - 1, 2i + 1); a node without a right sibling passes up unchanged. The sum's association depends on L
//! alone, never on who computed which leaf or when: any number of ranks and threads gives the same bits.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use crate::pool::FloatPool;

/// A node of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId {
    /// Height above the leaves.
    pub level: u32,
    /// Place in its level.
    pub index: u32,
}

/// The leaves that a rank owns: a contiguous share, as equal as can be.
pub fn rank_leaves(num_leaves: usize, rank: usize, world_size: usize) -> Range<usize> {
    rank * num_leaves / world_size..(rank + 1) * num_leaves / world_size
}

/// The nodes in which the sum over `leaves` is handed on: the greatest that hold no other leaf, in order.
pub fn maximal_nodes(num_leaves: usize, leaves: Range<usize>) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = Vec::new();
    for leaf in leaves {
        let mut node = raise(num_leaves, NodeId { level: 0, index: leaf as u32 });
        while nodes.last().is_some_and(|last| node.index % 2 == 1 && *last == sibling(node)) {
            nodes.pop();
            node = raise(num_leaves, parent(node));
        }
        nodes.push(node);
    }
    nodes
}

fn parent(node: NodeId) -> NodeId {
    NodeId { level: node.level + 1, index: node.index / 2 }
}

fn sibling(node: NodeId) -> NodeId {
    NodeId { level: node.level, index: node.index ^ 1 }
}

fn num_nodes(num_leaves: usize, level: u32) -> usize {
    num_leaves.div_ceil(1usize.checked_shl(level).unwrap_or(usize::MAX))
}

/// Passes a node up as long as it has no sibling.
fn raise(num_leaves: usize, mut node: NodeId) -> NodeId {
    while num_nodes(num_leaves, node.level) > 1 && sibling(node).index as usize >= num_nodes(num_leaves, node.level) {
        node = parent(node);
    }
    node
}

/// A key that orders nodes by their first leaf.
fn key(node: NodeId) -> (u64, u32) {
    (u64::from(node.index) << node.level, node.level)
}

type Pending = BTreeMap<(u64, u32), (NodeId, Vec<f32>)>;

/// Sums of subtrees, combined as soon as both siblings are there; for many threads at once.
#[derive(Debug)]
pub struct Forest<'a> {
    num_leaves: usize,
    pool: &'a FloatPool,
    pending: Mutex<Pending>,
}

impl<'a> Forest<'a> {
    /// No leaf yet, of `num_leaves`; the vectors come from `pool` and go back there.
    pub fn new(num_leaves: usize, pool: &'a FloatPool) -> Self {
        Self { num_leaves, pool, pending: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().expect("no thread panics with it")
    }

    /// Adds a leaf's values, in any order of leaves; each leaf once, all of one length.
    pub fn add(&self, leaf: usize, values: Vec<f32>) {
        self.insert(NodeId { level: 0, index: leaf as u32 }, values);
    }

    /// Takes out the sum of a leaf's sibling if it is there and is a leaf too, so that the leaf's values may be added to it where they
    /// are made; [`Self::add_joined`] brings it back.
    pub fn take_sibling(&self, leaf: usize) -> Option<Vec<f32>> {
        let node = NodeId { level: 0, index: leaf as u32 };
        if raise(self.num_leaves, node) != node || self.num_leaves == 1 {
            return None;
        }
        self.lock().remove(&key(sibling(node))).map(|(_, values)| values)
    }

    /// Adds the sum of a leaf and its sibling, of which neither is in the tree.
    pub fn add_joined(&self, leaf: usize, values: Vec<f32>) {
        self.insert(parent(NodeId { level: 0, index: leaf as u32 }), values);
    }

    /// Adds a subtree's sum.
    ///
    /// # Panics
    /// The node lies outside the tree or came before, or its length differs: a defect of the caller.
    pub fn insert(&self, node: NodeId, values: Vec<f32>) {
        assert!(
            (node.index as usize) < num_nodes(self.num_leaves, node.level),
            "{node:?} is not in a tree of {} leaves",
            self.num_leaves
        );
        let mut node = raise(self.num_leaves, node);
        let mut values = values;
        loop {
            let other = {
                let mut pending = self.lock();
                match pending.remove(&key(sibling(node))) {
                    Some((_, other)) if num_nodes(self.num_leaves, node.level) > 1 => other,
                    _ => {
                        match pending.entry(key(node)) {
                            Entry::Occupied(_) => panic!("{node:?} was added twice"),
                            Entry::Vacant(place) => place.insert((node, values)),
                        };
                        return;
                    }
                }
            };
            let (mut left, right) = if node.index.is_multiple_of(2) { (values, other) } else { (other, values) };
            assert_eq!(left.len(), right.len(), "siblings of one tree have one length");
            left.iter_mut().zip(&right).for_each(|(left, right)| *left += right);
            self.pool.give(right);
            node = raise(self.num_leaves, parent(node));
            values = left;
        }
    }

    /// Takes out the maximal nodes, in order of their leaves.
    pub fn take_nodes(&self) -> Vec<(NodeId, Vec<f32>)> {
        std::mem::take(&mut *self.lock()).into_values().collect()
    }
}

/// Sums nodes that together cover all leaves, in any order, to the root.
/// Vectors that are not the root's go to `pool`.
///
/// # Panics
/// They do not cover all leaves once: check them by [`maximal_nodes`] if they come from outside.
pub fn combine_nodes(num_leaves: usize, nodes: Vec<(NodeId, Vec<f32>)>, pool: &FloatPool) -> Vec<f32> {
    let forest = Forest::new(num_leaves, pool);
    for (node, values) in nodes {
        forest.insert(node, values);
    }
    let mut roots = forest.take_nodes();
    let root = roots.pop().expect("a tree has a leaf");
    assert!(roots.is_empty() && num_nodes(num_leaves, root.0.level) == 1, "the nodes do not cover all {num_leaves} leaves");
    root.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf_values(leaf: usize, len: usize) -> Vec<f32> {
        (0..len).map(|i| ((leaf * 7919 + i * 104_729) % 1000) as f32 * 1e-3 - 0.37 * leaf as f32).collect()
    }

    /// The sum by recursion over the leaves' range: what the tree means.
    fn recursive(num_leaves: usize, level: u32, index: usize, len: usize) -> Vec<f32> {
        if level == 0 {
            return leaf_values(index, len);
        }
        let left = recursive(num_leaves, level - 1, 2 * index, len);
        if 2 * index + 1 >= num_nodes(num_leaves, level - 1) {
            return left;
        }
        let right = recursive(num_leaves, level - 1, 2 * index + 1, len);
        left.iter().zip(&right).map(|(left, right)| left + right).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    /// Goal: SAME-3, the sum's bits hang on L alone. Method: every world size up to L, leaves added in several
    /// orders, against recursion, for L of all kinds.
    #[test]
    fn any_order_and_any_world_give_the_same_bits() {
        let (len, pool) = (33, FloatPool::new());
        for num_leaves in [1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 16, 21, 64] {
            let top = (0..).find(|&level| num_nodes(num_leaves, level) == 1).unwrap();
            let expected = recursive(num_leaves, top, 0, len);
            for world_size in 1..=num_leaves {
                let mut nodes = Vec::new();
                for rank in 0..world_size {
                    let leaves = rank_leaves(num_leaves, rank, world_size);
                    let forest = Forest::new(num_leaves, &pool);
                    let mut order: Vec<usize> = leaves.clone().collect();
                    order.sort_by_key(|leaf| (leaf * 31 + world_size * 17) % 11);
                    for leaf in order {
                        let mut values = pool.take(len);
                        values.copy_from_slice(&leaf_values(leaf, len));
                        forest.add(leaf, values);
                    }
                    let own = forest.take_nodes();
                    assert_eq!(own.iter().map(|node| node.0).collect::<Vec<_>>(), maximal_nodes(num_leaves, leaves));
                    nodes.extend(own);
                }
                nodes.reverse();
                assert_eq!(
                    bits(&combine_nodes(num_leaves, nodes, &pool)),
                    bits(&expected),
                    "{num_leaves} leaves, {world_size} ranks"
                );
            }
        }
    }

    /// Goal: a leaf that is added to its sibling outside gives the same bits. Method: all leaves in pairs, where there is a sibling.
    #[test]
    fn leaves_may_join_outside() {
        let (len, pool) = (33, FloatPool::new());
        for num_leaves in [1, 2, 3, 5, 8, 13] {
            let top = (0..).find(|&level| num_nodes(num_leaves, level) == 1).unwrap();
            let forest = Forest::new(num_leaves, &pool);
            let (even, odd): (Vec<usize>, Vec<usize>) = (0..num_leaves).partition(|leaf| leaf % 2 == 0);
            for leaf in even {
                assert!(forest.take_sibling(leaf).is_none());
                forest.add(leaf, leaf_values(leaf, len));
            }
            for leaf in odd {
                let mut sum = forest.take_sibling(leaf).expect("the leaf before it was added");
                assert!(forest.take_sibling(leaf).is_none());
                sum.iter_mut().zip(leaf_values(leaf, len)).for_each(|(sum, value)| *sum += value);
                forest.add_joined(leaf, sum);
            }
            let nodes = forest.take_nodes();
            assert_eq!(nodes.len(), 1);
            assert_eq!(bits(&nodes[0].1), bits(&recursive(num_leaves, top, 0, len)));
        }
    }

    /// Goal: threads may add at once. Method: four threads add 64 leaves; the bits are those of one thread.
    #[test]
    fn threads_add_at_once() {
        let expected = recursive(64, 6, 0, 257);
        let pool = FloatPool::new();
        let forest = Forest::new(64, &pool);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let forest = &forest;
                scope.spawn(move || (0..16).for_each(|i| forest.add(i * 4 + thread, leaf_values(i * 4 + thread, 257))));
            }
        });
        let nodes = forest.take_nodes();
        assert_eq!(nodes.len(), 1);
        assert_eq!(bits(&nodes[0].1), bits(&expected));
    }

    /// Goal: shares cover all leaves once. Method: join them.
    #[test]
    fn shares_cover_all_leaves() {
        for (num_leaves, world_size) in [(1, 1), (7, 3), (64, 5), (8, 8)] {
            let all: Vec<usize> = (0..world_size).flat_map(|rank| rank_leaves(num_leaves, rank, world_size)).collect();
            assert_eq!(all, (0..num_leaves).collect::<Vec<_>>());
        }
    }
}
