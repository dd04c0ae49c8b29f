//! A world of one rank.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Collective;
use crate::error::{Error, Result};
use crate::pool::FloatPool;
use crate::tree::{NodeId, combine_nodes, maximal_nodes};

/// The only rank of its world.
#[derive(Debug, Default)]
pub struct Solo {
    aborted: AtomicBool,
}

impl Solo {
    /// A world of one.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Collective for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn all_gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.check()?;
        Ok(vec![mine.to_vec()])
    }

    fn tree_all_reduce(&self, num_leaves: usize, nodes: Vec<(NodeId, Vec<f32>)>) -> Result<Vec<f32>> {
        self.check()?;
        if !nodes.iter().map(|node| node.0).eq(maximal_nodes(num_leaves, 0..num_leaves)) {
            return Err(Error::Collective(format!("the sums do not cover the {num_leaves} leaves of the tree")));
        }
        Ok(combine_nodes(num_leaves, nodes, &FloatPool::new()))
    }

    fn barrier(&self) -> Result<()> {
        self.check()
    }

    fn check(&self) -> Result<()> {
        match self.aborted.load(Ordering::SeqCst) {
            true => Err(Error::Collective("the exchange between ranks was aborted".into())),
            false => Ok(()),
        }
    }

    fn abort(&self) {
        self.aborted.store(true, Ordering::SeqCst);
    }
}
