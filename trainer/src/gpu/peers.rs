//! What the GPUs of a world exchange.

use std::fmt::Debug;

use super::Gpu;
use crate::collective::Collective;
use crate::nccl::{Comm, Deadlines, Element, GiveUp, Library, Seat, UniqueId};
use crate::{Error, Result};

/// What the first byte of a rank's introduction says.
const READY: u8 = 1;
const UNABLE: u8 = 0;

/// The other ranks' GPUs, as one rank sees them. Every rank asks for the same exchanges in the same order. An exchange begins after what was asked of the
/// device before it, and goes on beside what is asked of it afterwards. After an error the world is of no more use.
pub trait Peers: Debug + Send {
    /// Which rank of how many this is.
    fn seat(&self) -> Seat;

    /// Begins the sum over all ranks of `len` elements from an address of the device on, in their place. Every rank gets the same bits.
    ///
    /// # Errors
    /// A rank was lost, or the exchange did not begin in time.
    ///
    /// # Safety
    /// The elements lie in live memory of the device, and nobody else uses them before [`Self::join`] or [`Self::wait`].
    unsafe fn all_reduce(&self, address: u64, len: usize, element: Element) -> Result<()>;

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

    /// Waits until all exchanges that were begun have come to their end, asking again and again whether the other ranks are `alive`.
    ///
    /// # Errors
    /// A rank was lost, or they did not end in time.
    fn wait(&self, alive: &dyn Fn() -> Result<()>) -> Result<()>;

    /// Ends what was begun, and makes every exchange fail, on all ranks in time.
    fn abort(&self);
}

/// Joins the GPUs of a world, whose ranks are connected already, by NCCL; none where this rank is the only one. All ranks call it at once. `give_up` is told what
/// hung, and is to end the process.
///
/// # Errors
/// A rank lacks NCCL or has another version of it, or they do not find one another.
pub fn join(gpu: &Gpu, collective: &dyn Collective, give_up: GiveUp) -> Result<Option<Box<dyn Peers>>> {
    let seat = Seat { rank: collective.rank(), world_size: collective.world_size() };
    if seat.world_size == 1 {
        return Ok(None);
    }
    let library = Library::load();
    // what is amiss on one rank is said on all
    let mine = introduction(library.as_deref(), seat);
    let all = collective.all_gather(&mine)?;
    let id = agreed(&all)?;
    let comm = Comm::init(&library?, id, seat, Deadlines::default(), gpu.backend().binder(), give_up)?;
    Ok(Some(gpu.backend().peers(comm)?))
}

/// What a rank says of itself: its NCCL's version, and from rank 0 the world's id, 128 bytes; or why it has none.
fn introduction(library: Result<&Library, &Error>, seat: Seat) -> Vec<u8> {
    let ready = || {
        let library = library.map_err(ToString::to_string)?;
        let id = (seat.rank == 0).then(|| library.unique_id()).transpose().map_err(|error| error.to_string())?;
        let id = id.iter().flat_map(|id| id.as_bytes().to_vec());
        Ok::<_, String>([READY].into_iter().chain(library.version().into_bytes()).chain([0]).chain(id).collect())
    };
    ready().unwrap_or_else(|why| [UNABLE].into_iter().chain(why.into_bytes()).collect())
}

/// The world's id, where all ranks are ready and have the same version.
fn agreed(introductions: &[Vec<u8>]) -> Result<UniqueId> {
    let mut versions = Vec::new();
    let mut id = None;
    for (rank, said) in introductions.iter().enumerate() {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match said.split_first() {
            Some((&READY, rest)) => {
                let mut parts = rest.splitn(2, |byte| *byte == 0);
                versions.push(text(parts.next().unwrap_or_default()));
                id = id.or(parts.next().filter(|id| !id.is_empty()).map(UniqueId::from_bytes));
            }
            Some((_, why)) => return Err(Error::input(format!("rank {rank} cannot join the other GPUs: {}", text(why)))),
            None => return Err(Error::Collective(format!("rank {rank} said nothing of its NCCL"))),
        }
    }
    if let Some(rank) = versions.iter().position(|version| *version != versions[0]) {
        let (first, other) = (&versions[0], &versions[rank]);
        return Err(Error::input(format!(
            "the ranks of a world need the same NCCL: rank 0 has {first}, rank {rank} has {other}; install one version everywhere, or name a file in ARTEL_NCCL"
        )));
    }
    id.unwrap_or_else(|| Err(Error::Collective("rank 0 gave the GPUs' world no id".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: ranks join only where all can, and what is amiss on one is told to all. Method: introductions, whole and broken.
    #[test]
    fn ranks_agree() {
        let ready = |version: &str, id: &[u8]| [&[READY], version.as_bytes(), &[0], id].concat();
        let id = [7; 128];
        assert_eq!(agreed(&[ready("2.28.9", &id), ready("2.28.9", &[])]).unwrap().as_bytes(), id);
        for (introductions, expected) in [
            (vec![ready("2.28.9", &id), ready("2.27.1", &[])], "rank 0 has 2.28.9, rank 1 has 2.27.1"),
            (
                vec![ready("2.28.9", &id), introduction(Err(&Error::input("no NCCL")), Seat { rank: 1, world_size: 2 })],
                "rank 1 cannot join the other GPUs: no NCCL",
            ),
            (vec![ready("2.28.9", &[]), ready("2.28.9", &[])], "no id"),
            (vec![ready("2.28.9", &id[1..])], "127 bytes"),
            (vec![ready("2.28.9", &id), vec![]], "rank 1 said nothing"),
        ] {
            let error = agreed(&introductions).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
