//! What the GPUs of a world exchange.

use std::fmt::Debug;

use crate::Result;
use crate::nccl::Seat;

/// The other ranks' GPUs, as one rank sees them. Every rank asks for the same exchanges in the same order. An exchange begins after what was asked of the
/// device before it, and goes on beside what is asked of it afterwards. After an error the world is of no more use.
pub trait Peers: Debug + Send {
    /// Which rank of how many this is.
    fn seat(&self) -> Seat;

    /// Begins the sum over all ranks of `len` f32 from an address of the device on, in their place. Every rank gets the same bits.
    ///
    /// # Errors
    /// A rank was lost, or the exchange did not begin in time.
    ///
    /// # Safety
    /// The elements lie in live memory of the device, and nobody else uses them before [`Self::join`] or [`Self::wait`].
    unsafe fn all_reduce(&self, address: u64, len: usize) -> Result<()>;

    /// Begins to collect every rank's `len` f32, in order of ranks, at `to`, which has room for all of them.
    ///
    /// # Errors
    /// As for [`Self::all_reduce`].
    ///
    /// # Safety
    /// As there.
    unsafe fn all_gather(&self, from: u64, to: u64, len: usize) -> Result<()>;

    /// What is asked of the device from now on comes after all exchanges that were begun.
    ///
    /// # Errors
    /// The device is gone.
    fn join(&self) -> Result<()>;

    /// Waits until all exchanges that were begun have come to their end.
    ///
    /// # Errors
    /// A rank was lost, or they did not end in time.
    fn wait(&self) -> Result<()>;
}
