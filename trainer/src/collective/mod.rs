//! Exchanges between the ranks of a world.

mod solo;
mod tcp;

pub use solo::Solo;
pub use tcp::{TcpCollective, TcpListenerHandle};

use crate::error::Result;
use crate::tree::NodeId;

/// What ranks do together. Every rank calls the same operations in the same order; after an error the world is
/// of no more use, and the step is thrown away. When a rank is lost, the operation at hand may still succeed on some
/// ranks and fail on others; the next one fails on all. Errors are [`crate::Error::Collective`].
pub trait Collective: Send + Sync {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn world_size(&self) -> usize;

    /// Every rank's bytes, in order of ranks.
    ///
    /// # Errors
    /// A rank is gone, silent or out of step.
    fn all_gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Sums over the fixed tree of `num_leaves` leaves, each rank giving the maximal nodes of the leaves that
    /// [`crate::tree::rank_leaves`] allots to it, all of one length. Every rank gets the same bits.
    ///
    /// # Errors
    /// A rank is gone, silent or out of step, or the nodes are not those of the rank's leaves.
    fn tree_all_reduce(&self, num_leaves: usize, nodes: Vec<(NodeId, Vec<f32>)>) -> Result<Vec<f32>>;

    /// Waits until every rank is here.
    ///
    /// # Errors
    /// A rank is gone, silent or out of step.
    fn barrier(&self) -> Result<()>;

    /// Whether the other ranks are still connected, as far as can be told at once; for work that waits for them in another way.
    ///
    /// # Errors
    /// A rank is gone, or the world was aborted.
    fn check(&self) -> Result<()>;

    /// Makes every operation fail, those that another thread is blocked in included.
    fn abort(&self);
}
