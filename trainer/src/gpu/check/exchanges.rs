//! Whether GPUs exchange what they should: sums and collections over all of them, by NCCL.

use std::sync::Arc;
use std::time::Duration;

use candle_core::{DType, Tensor};

use super::{Check, differ, noise, timed, values};
use crate::gpu::address::element;
use crate::gpu::wire::Wire;
use crate::gpu::{self, Gpu, Precision};
use crate::nccl::{Comm, Deadlines, Element, Library, Seat, UniqueId};
use crate::{Error, Result};

/// Elements that a rank has: as many as no power of two divides.
const LEN: usize = 1_000_003;
/// GPUs of one machine find one another at once.
const DEADLINES: Deadlines =
    Deadlines { init: Duration::from_secs(30), operation: Duration::from_secs(30), abort: Duration::from_secs(10) };

/// Exchanges between these GPUs, one of them or more, each a rank.
pub fn check_exchanges(library: &Arc<Library>, ordinals: &[usize]) -> Check {
    timed(format!("NCCL {}: GPUs {ordinals:?}", library.version()), || {
        let id = library.unique_id()?;
        std::thread::scope(|scope| {
            let rank = |rank| {
                let seat = Seat { rank, world_size: ordinals.len() };
                move || exchange(library, id, seat, ordinals[rank])
            };
            let ranks: Vec<_> = (0..ordinals.len()).map(|index| scope.spawn(rank(index))).collect();
            let outcomes: Vec<_> = ranks.into_iter().map(|rank| rank.join()).collect();
            let panicked = |_| Error::Internal("a rank of the check panicked".to_owned());
            outcomes.into_iter().try_for_each(|outcome| outcome.map_err(panicked)?)
        })?;
        Ok(format!("sums in f32 and bf16, and collections, of {} ranks", ordinals.len()))
    })
}

fn mine(rank: usize) -> Vec<f32> {
    noise(rank as u64 + 1, LEN).into_iter().map(|x| x as f32).collect()
}

fn exchange(library: &Arc<Library>, id: UniqueId, seat: Seat, ordinal: usize) -> Result<()> {
    let gpu: Gpu = gpu::open(ordinal, Precision::Bf16)?;
    let give_up = Arc::new(|why: &str| {
        tracing::error!("{why}");
        std::process::exit(1);
    });
    let comm = Comm::init(library, id, seat, DEADLINES, gpu.backend().binder(), give_up)?;
    let peers = gpu.backend().peers(comm)?;
    let (sum, own) = (Tensor::new(mine(seat.rank), gpu.device())?, Tensor::new(mine(seat.rank), gpu.device())?);
    let all = Tensor::zeros(LEN * seat.world_size, DType::F32, gpu.device())?;
    let (wire, rounded) = (Wire::new(&gpu, LEN)?, own.copy()?);
    let on_wire = wire.narrow(&gpu, &rounded, 0..LEN)?;
    // SAFETY: the tensors are of the device and live until the wait.
    unsafe {
        peers.all_reduce(element(&sum, 0)?, LEN, Element::F32)?;
        peers.all_reduce(on_wire, LEN, Element::Bf16)?;
        peers.all_gather(element(&own, 0)?, element(&all, 0)?, LEN)?;
    }
    peers.join()?;
    let doubled = (&sum + &sum)?;
    wire.widen(&gpu, &rounded)?;
    peers.wait(&|| Ok(()))?;
    let ranks: Vec<Vec<f32>> = (0..seat.world_size).map(mine).collect();
    if all.to_vec1::<f32>()? != ranks.concat() {
        return Err(differ(format!("rank {} of {}: what the ranks have was not collected in order", seat.rank, seat.world_size)));
    }
    let expected: Vec<f64> = (0..LEN).map(|at| ranks.iter().map(|rank| f64::from(rank[at])).sum()).collect();
    // in bf16 each of the ranks' sums may be rounded
    for (what, found, share, bound) in [("f32", values(&doubled)?, 2.0, 1e-5), ("bf16", values(&rounded)?, 1.0, 0.01)] {
        for (at, (found, expected)) in found.into_iter().zip(&expected).enumerate() {
            let error = (found - share * expected).abs();
            if error.is_nan() || error > bound * seat.world_size as f64 {
                let Seat { rank, world_size } = seat;
                return Err(differ(format!(
                    "rank {rank} of {world_size}: sum {at} in {what} is {found}, expected {}",
                    share * expected
                )));
            }
        }
    }
    Ok(())
}
