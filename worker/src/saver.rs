//! A rank's part of each checkpoint: copied between two steps, put into the store while training goes on (CKPT-1).
//!
//! At most one checkpoint is in flight: the next one waits for it, and says so. A part counts when the coordinator has recorded the whole.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use artel_common::checkpoint::{CheckpointPart, History, StateVector};
use artel_common::layout;
use artel_common::records::ObjectRef;
use artel_common::store::Store;
use artel_proto::v1::{self, FailureKind, report_request::Report};
use artel_trainer::state::TrainState;
use artel_trainer::tree::rank_leaves;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time;

use crate::client::Client;
use crate::session::{Reporter, TaskError, TaskResult};

/// Values of a part at most: 64 MiB.
const PART_VALUES: usize = 16 << 20;
/// Parts on their way at once.
const PARTS_AT_ONCE: usize = 2;
/// Between two questions whether the checkpoint is whole: at first, and at most.
const ASK_AGAIN: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(200)];
/// How long a run that leaves waits for the checkpoint in flight before it saves the present state instead.
const LAST_WAIT: Duration = Duration::from_secs(3);
/// A state that would take longer than this to put is not begun while leaving.
const LAST_SAVE: Duration = Duration::from_secs(10);

/// Which rank of which world saves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat {
    pub generation: u64,
    pub rank: usize,
    pub world_size: usize,
}

/// Vectors of snapshots that were put: memory that is touched already is copied to several times faster than fresh memory.
type Spare = Arc<Mutex<Vec<Vec<f32>>>>;

/// Values as bytes, without a copy; the vector is spared for the next snapshot.
struct Values {
    values: Vec<f32>,
    spare: Spare,
}

impl AsRef<[u8]> for Values {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.values)
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        if let Ok(mut spare) = self.spare.lock()
            && spare.len() < StateVector::ALL.len()
        {
            spare.push(std::mem::take(&mut self.values));
        }
    }
}

/// A copy of what a rank saves.
struct Snapshot {
    seat: Seat,
    step: u64,
    num_values: u64,
    range: Range<usize>,
    /// Parameters, first and second moment over `range`.
    vectors: [Bytes; 3],
    history: Option<Bytes>,
}

struct InFlight {
    step: u64,
    begun: Instant,
    done: Arc<AtomicU64>,
    bytes: u64,
    task: JoinHandle<TaskResult<()>>,
}

/// What saves a rank's part.
pub(crate) struct Saver {
    client: Client,
    worker_id: String,
    store: Store,
    runtime: Handle,
    in_flight: Option<InFlight>,
    spare: Spare,
}

impl Saver {
    pub(crate) fn new(client: Client, worker_id: String, store: Store, runtime: Handle) -> Self {
        Self { client, worker_id, store, runtime, in_flight: None, spare: Spare::default() }
    }

    /// Copies the state and begins to put it; waits for the checkpoint before it, if that is still in flight.
    pub(crate) fn begin(&mut self, seat: Seat, state: &TrainState, history: &History, report: &Reporter) -> TaskResult<()> {
        let begun = Instant::now();
        if let Some(before) = self.in_flight.as_ref().filter(|before| !before.task.is_finished()) {
            report(Report::Warning(v1::Warning {
                message: format!(
                    "the store is slower than the training: the checkpoint of step {} waits for that of step {}",
                    state.step, before.step
                ),
            }));
        }
        self.settle()?;
        let snapshot = snapshot(seat, state, history, &self.spare)?;
        let (store, client, worker) = (self.store.clone(), self.client.clone(), self.worker_id.clone());
        let done = Arc::new(AtomicU64::new(0));
        let bytes = snapshot.vectors.iter().map(|vector| vector.len() as u64).sum();
        let stall = begun.elapsed();
        let task = self.runtime.spawn(put(snapshot, stall, store, client, worker, done.clone()));
        self.in_flight = Some(InFlight { step: state.step, begun: Instant::now(), done, bytes, task });
        Ok(())
    }

    /// Fails if the checkpoint in flight has failed; does not wait for it.
    pub(crate) fn check(&mut self) -> TaskResult<()> {
        match &self.in_flight {
            Some(flight) if flight.task.is_finished() => self.settle(),
            _ => Ok(()),
        }
    }

    /// Waits until the checkpoint in flight is whole.
    pub(crate) fn settle(&mut self) -> TaskResult<()> {
        let Some(flight) = self.in_flight.take() else { return Ok(()) };
        ended(self.runtime.block_on(flight.task))
    }

    /// Saves the present state of a run that leaves: after the one in flight if that is soon whole, instead of it if not. Where the store
    /// is too slow for a whole state, the one in flight is all that can be saved.
    pub(crate) fn last(&mut self, seat: Seat, state: &TrainState, history: &History, report: &Reporter) -> TaskResult<()> {
        if let Some(mut flight) = self.in_flight.take() {
            let waited = self.runtime.block_on(async { time::timeout(LAST_WAIT, &mut flight.task).await });
            match waited {
                Ok(result) if flight.step == state.step => return ended(result),
                // what became of an older one does not matter any more
                Ok(_) => {}
                Err(_) if flight.step == state.step => return ended(self.runtime.block_on(flight.task)),
                Err(_) if flight.whole_takes() > LAST_SAVE => {
                    ended(self.runtime.block_on(flight.task))?;
                    return Err(TaskError {
                        kind: FailureKind::Left,
                        message: format!("the store is too slow to save step {} while leaving", state.step),
                    });
                }
                Err(_) => flight.task.abort(),
            }
        }
        self.begin(seat, state, history, report)?;
        self.settle()
    }

    /// The step of the checkpoint in flight.
    pub(crate) fn in_flight(&self) -> Option<u64> {
        self.in_flight.as_ref().map(|flight| flight.step)
    }
}

impl InFlight {
    /// How long a whole state takes at this one's pace.
    fn whole_takes(&self) -> Duration {
        match self.done.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            done => self.begun.elapsed().mul_f64(self.bytes as f64 / done as f64),
        }
    }
}

fn ended(result: Result<TaskResult<()>, tokio::task::JoinError>) -> TaskResult<()> {
    result.unwrap_or_else(|e| Err(TaskError::internal(format!("saving a checkpoint was interrupted: {e}"))))
}

fn snapshot(seat: Seat, state: &TrainState, history: &History, spare: &Spare) -> TaskResult<Snapshot> {
    let num_values = state.exp_avg.len();
    let range = rank_leaves(num_values, seat.rank, seat.world_size);
    let into = StateVector::ALL.map(|_| spare.lock().ok().and_then(|mut spare| spare.pop()).unwrap_or_default());
    let vectors = state.copy_range(range.clone(), into)?.map(|values| Bytes::from_owner(Values { values, spare: spare.clone() }));
    let history = (seat.rank == 0).then(|| history.to_bytes().into());
    Ok(Snapshot { seat, step: state.step, num_values: num_values as u64, range, vectors, history })
}

/// Puts every part, then tells the coordinator until the checkpoint is whole.
async fn put(
    snapshot: Snapshot,
    stall: Duration,
    store: Store,
    client: Client,
    worker: String,
    done: Arc<AtomicU64>,
) -> TaskResult<()> {
    fail::fail_point!("checkpoint::before_parts");
    let Snapshot { seat: Seat { generation, .. }, step, num_values, range, vectors, history } = snapshot;
    let pieces = StateVector::ALL.into_iter().zip(vectors).flat_map(|(vector, bytes)| {
        let starts = range.clone().step_by(PART_VALUES);
        let (first, end) = (range.start, range.end);
        starts.map(move |start| {
            let stop = end.min(start + PART_VALUES);
            (vector, start as u64, bytes.slice((start - first) * 4..(stop - first) * 4))
        })
    });
    let (store, counted) = (&store, &done);
    let parts: Vec<CheckpointPart> = futures::stream::iter(pieces)
        .map(|(vector, start, bytes)| async move {
            let key = layout::checkpoint_part(generation, step, vector.name(), start);
            let len = bytes.len() as u64 / 4;
            let object = store.put(&key, bytes).await?;
            counted.fetch_add(object.bytes, Ordering::Relaxed);
            fail::fail_point!("checkpoint::between_parts");
            Ok::<_, artel_common::Error>(CheckpointPart { vector, start, len, object })
        })
        .buffered(PARTS_AT_ONCE)
        .try_collect()
        .await?;
    let history: Option<ObjectRef> = match history {
        Some(bytes) => Some(store.put(&layout::checkpoint_history(generation, step), bytes).await?),
        None => None,
    };
    fail::fail_point!("checkpoint::after_parts");
    let request = v1::SavedPartRequest {
        worker_id: worker,
        generation,
        step,
        parts: parts.iter().map(Into::into).collect(),
        history: history.as_ref().map(Into::into),
        num_values,
        stall_ms: stall.as_millis() as u64,
    };
    until_whole(client, request).await
}

/// Tells the coordinator, and asks again until the checkpoint is whole. A coordinator that does not answer is for the heartbeats to notice.
async fn until_whole(mut client: Client, request: v1::SavedPartRequest) -> TaskResult<()> {
    let [mut pause, most] = ASK_AGAIN;
    loop {
        match client.saved_part(request.clone()).await {
            Ok(answer) if answer.get_ref().whole => return Ok(()),
            Ok(_) => {}
            Err(status) if matches!(status.code(), tonic::Code::FailedPrecondition | tonic::Code::InvalidArgument) => {
                let message = format!("the checkpoint of step {} was refused: {}", request.step, status.message());
                return Err(TaskError::internal(message));
            }
            Err(_) => {}
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(most);
    }
}
