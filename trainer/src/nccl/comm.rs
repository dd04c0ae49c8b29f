//! A communicator: a rank's place in a world.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::library::{Code, Config, IN_PROGRESS, Library, RawComm, SUCCESS, UniqueId};
use super::watchdog::{Rescue, Watchdog};
use crate::{Error, Result};

/// `ncclSum`.
const SUM: c_int = 0;
/// Between two looks at what NCCL has begun: the first, and the longest.
const POLL: (Duration, Duration) = (Duration::from_micros(20), Duration::from_millis(5));

/// What a thread that keeps a deadline itself gets beyond it, so that its own reason is heard.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// f32.
    F32,
    /// bf16: half the bytes, and sums rounded to it.
    Bf16,
}

/// Which rank of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// From 0.
    pub rank: usize,
    /// Ranks.
    pub world_size: usize,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Until all ranks have found one another.
    pub init: Duration,
    /// For one operation to begin, and again for what was begun to end on the device.
    pub operation: Duration,
    /// For an abort, or for leaving in order; after an abort that takes longer the process is given up.
    pub abort: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { init: Duration::from_secs(120), operation: Duration::from_secs(600), abort: Duration::from_secs(20) }
    }
}

/// What a hung call ends in: told what hung. It is to end the process: what is left of NCCL cannot be used.
pub type GiveUp = Arc<dyn Fn(&str) + Send + Sync>;

/// Makes a thread one that may call NCCL: it sets the thread's device.
pub type Bind = Arc<dyn Fn() -> Result<()> + Send + Sync>;

/// A communicator of one rank; one thread at a time uses it.
pub struct Comm {
    inner: Arc<Inner>,
    watchdog: Watchdog,
    /// Not shared between threads: NCCL allows none.
    _one_thread: PhantomData<Cell<()>>,
}

struct Inner {
    library: Arc<Library>,
    seat: Seat,
    deadlines: Deadlines,
    bind: Bind,
    give_up: GiveUp,
    /// None once it was aborted. Who asks NCCL for errors holds the lock, so that none is aborted meanwhile.
    raw: Mutex<Option<Handle>>,
    /// Nobody waits for its init any more.
    abandoned: AtomicBool,
}

/// NCCL's handle may go from thread to thread.
#[derive(Clone, Copy)]
struct Handle(RawComm);

// SAFETY: NCCL ties a communicator to no thread; it is used by one at a time, but for an abort after which the process ends.
unsafe impl Send for Handle {}

impl std::fmt::Debug for Comm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Comm").field("seat", &self.inner.seat).finish_non_exhaustive()
    }
}

impl Comm {
    /// Takes this rank's seat in the world of an id; returns when all ranks have.
    ///
    /// # Errors
    /// NCCL refused, or not all ranks came before the deadline.
    pub fn init(
        library: &Arc<Library>,
        id: UniqueId,
        seat: Seat,
        deadlines: Deadlines,
        bind: Bind,
        give_up: GiveUp,
    ) -> Result<Self> {
        let deadline = Instant::now() + deadlines.init;
        let inner = Arc::new(Inner {
            library: library.clone(),
            seat,
            deadlines,
            bind,
            give_up,
            raw: Mutex::new(None),
            abandoned: AtomicBool::new(false),
        });
        // on a thread of its own, since connecting can hang inside the call; it is left behind if it does
        let begun = inner.on_a_thread("nccl-init", deadline + deadlines.abort + PATIENCE, {
            let inner = inner.clone();
            move || inner.connect(id, deadline)
        });
        match begun {
            Some(outcome) => outcome??,
            None => {
                inner.abandoned.store(true, Ordering::SeqCst);
                inner.abort_in_time("init");
                return Err(inner.late("init", "not all ranks found one another: is each of them running, and can they reach one another? See with NCCL_DEBUG=INFO"));
            }
        }
        let rescue: Weak<dyn Rescue> = Arc::downgrade(&(inner.clone() as Arc<dyn Rescue>));
        let watchdog = Watchdog::start(rescue).map_err(|e| Error::Internal(format!("no thread for a watchdog: {e}")))?;
        Ok(Self { inner, watchdog, _one_thread: PhantomData })
    }

    /// Which rank this is.
    pub fn seat(&self) -> Seat {
        self.inner.seat
    }

    /// Begins the sum over all ranks of `len` elements from an address of the device on, in their place, on a stream.
    ///
    /// # Errors
    /// NCCL refused, a rank was lost, or it did not begin before the deadline. The communicator is then of no more use.
    ///
    /// # Safety
    /// The elements lie in live memory of the device, the stream is one of it, and nobody else uses them until the stream has come by.
    pub unsafe fn all_reduce(&self, address: u64, len: usize, element: Element, stream: *mut c_void) -> Result<()> {
        self.call("all-reduce", |functions, raw| {
            let buffer = address as *mut c_void;
            // SAFETY: the caller's promise.
            unsafe { (functions.all_reduce)(buffer, buffer, len, element.number(), SUM, raw, stream) }
        })
    }

    /// Begins to collect every rank's `len` elements, in order of ranks, at `to`, which has room for all of them.
    ///
    /// # Errors
    /// As for [`Self::all_reduce`].
    ///
    /// # Safety
    /// As there.
    pub unsafe fn all_gather(&self, from: u64, to: u64, len: usize, element: Element, stream: *mut c_void) -> Result<()> {
        self.call("all-gather", |functions, raw| {
            // SAFETY: the caller's promise.
            unsafe { (functions.all_gather)(from as *const c_void, to as *mut c_void, len, element.number(), raw, stream) }
        })
    }

    /// Waits until what was begun has come to its end on the device, which `finished` tells.
    ///
    /// # Errors
    /// A rank was lost meanwhile, the deadline went by, or `finished` failed. The communicator is then of no more use.
    pub fn wait(&self, mut finished: impl FnMut() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        let deadline = begun + self.inner.deadlines.operation;
        loop {
            // what was aborted ends too, with half a sum
            let looked = finished().and_then(|finished| self.inner.check("wait").map(|()| finished));
            match looked {
                Ok(true) => return Ok(()),
                // seldom enough to cost nothing, often enough that little is waited for too long
                Ok(false) if Instant::now() < deadline => std::thread::sleep((begun.elapsed() / 32).clamp(POLL.0, POLL.1)),
                Ok(false) => {
                    self.inner.abort_in_time("wait");
                    return Err(self.inner.late("wait", "an exchange did not end: a rank hangs or the network is cut"));
                }
                Err(error) => {
                    self.inner.abort_in_time("wait");
                    return Err(error);
                }
            }
        }
    }

    /// Makes every operation fail, on all ranks in time.
    pub fn abort(&self) {
        self.inner.abort_in_time("abort");
    }

    fn call(&self, operation: &'static str, begin: impl FnOnce(&super::library::Functions, RawComm) -> Code) -> Result<()> {
        let inner = &self.inner;
        let deadline = Instant::now() + inner.deadlines.operation;
        let raw = inner.handle(operation)?;
        let outcome = match self.watchdog.guard(operation, deadline, || begin(&inner.library.functions, raw.0)) {
            None => Err(inner.late(operation, "the call itself hung and was aborted")),
            Some(code) => inner.settle(operation, code, deadline),
        };
        if outcome.is_err() {
            inner.abort_in_time(operation);
        }
        outcome
    }
}

impl Drop for Comm {
    /// Leaves the world in order; a communicator that was aborted, or cannot be left in time, is left behind.
    fn drop(&mut self) {
        let Some(handle) = self.inner.raw.lock().expect("no thread panics with it").take() else { return };
        let inner = self.inner.clone();
        let deadline = Instant::now() + self.inner.deadlines.abort;
        self.inner.on_a_thread("nccl-destroy", deadline, move || inner.leave(handle, deadline));
    }
}

/// Sleeps, and gives how long to sleep next time.
fn rest(pause: Duration) -> Duration {
    std::thread::sleep(pause);
    (pause * 2).min(POLL.1)
}

impl Element {
    /// `ncclDataType_t`.
    fn number(self) -> c_int {
        match self {
            Self::F32 => 7,
            Self::Bf16 => 9,
        }
    }
}

impl Inner {
    fn at(&self, operation: &str) -> String {
        format!("NCCL {operation} on rank {} of {}", self.seat.rank, self.seat.world_size)
    }

    fn late(&self, operation: &str, why: &str) -> Error {
        Error::Collective(format!("{}: given up at its deadline: {why}", self.at(operation)))
    }

    fn failed(&self, operation: &str, code: Code, raw: RawComm) -> Error {
        Error::Collective(format!("{}: {}", self.at(operation), self.library.describe(code, raw)))
    }

    fn handle(&self, operation: &str) -> Result<Handle> {
        let raw = *self.raw.lock().expect("no thread panics with it");
        raw.ok_or_else(|| self.gone(operation))
    }

    fn gone(&self, operation: &str) -> Error {
        Error::Collective(format!("{}: the communicator was aborted before", self.at(operation)))
    }

    /// Leaves the world in order, or aborts where that does not come to its end in time.
    fn leave(&self, handle: Handle, deadline: Instant) {
        let functions = &self.library.functions;
        let mut pause = POLL.0;
        // SAFETY: the handle was taken out of its place, so nobody else uses it.
        unsafe {
            let mut code = (functions.comm_finalize)(handle.0);
            while code == IN_PROGRESS && Instant::now() < deadline {
                pause = rest(pause);
                let mut state = SUCCESS;
                let asked = (functions.comm_get_async_error)(handle.0, &mut state);
                code = if asked == SUCCESS { state } else { asked };
            }
            // one that is not at rest refuses to be destroyed
            if code != SUCCESS || (functions.comm_destroy)(handle.0) != SUCCESS {
                (functions.comm_abort)(handle.0);
            }
        }
    }

    /// Runs `work` on a thread of its own; none if it has not ended by the deadline: it then goes on, and nobody waits for it.
    fn on_a_thread<T: Send + 'static>(
        &self,
        name: &str,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<Result<T>> {
        let (sender, receiver) = sync_channel(1);
        let bind = self.bind.clone();
        let spawned = std::thread::Builder::new().name(name.into()).spawn(move || {
            // on a new thread NCCL would take the first device
            let _ = sender.send(bind().map(|()| work()));
        });
        spawned.ok()?;
        receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }

    fn connect(&self, id: UniqueId, deadline: Instant) -> Result<()> {
        let mut raw: RawComm = std::ptr::null_mut();
        let (world_size, rank) = (self.seat.world_size as c_int, self.seat.rank as c_int);
        let mut config = Config::non_blocking();
        // SAFETY: the configuration is of the version that it names; the handle is written before the call returns.
        let code = unsafe { (self.library.functions.comm_init_rank_config)(&mut raw, world_size, id, rank, &mut config) };
        if !raw.is_null() {
            *self.raw.lock().expect("no thread panics with it") = Some(Handle(raw));
        }
        let settled = match code {
            SUCCESS | IN_PROGRESS => self.settle("init", code, deadline),
            code => Err(self.failed("init", code, raw)),
        };
        if settled.is_err() || self.abandoned.load(Ordering::SeqCst) {
            self.abort_in_time("init");
        }
        settled
    }

    /// Polls until what returned `code` is no longer in progress.
    fn settle(&self, operation: &str, code: Code, deadline: Instant) -> Result<()> {
        let (mut code, mut pause) = (code, POLL.0);
        while code == IN_PROGRESS {
            if Instant::now() >= deadline {
                return Err(self.late(operation, "it stayed in progress: a rank is missing, hangs, or cannot be reached"));
            }
            pause = rest(pause);
            code = self.async_error(operation)?;
        }
        match code {
            SUCCESS => Ok(()),
            code => Err(self.failed(operation, code, self.handle(operation)?.0)),
        }
    }

    /// What NCCL says of what it does by itself.
    fn async_error(&self, operation: &str) -> Result<Code> {
        let held = self.raw.lock().expect("no thread panics with it");
        let raw = held.ok_or_else(|| self.gone(operation))?.0;
        let mut state = SUCCESS;
        // SAFETY: the communicator lives: an abort takes it out of its place first, and waits for the lock.
        match unsafe { (self.library.functions.comm_get_async_error)(raw, &mut state) } {
            SUCCESS => Ok(state),
            code => Err(self.failed(operation, code, raw)),
        }
    }

    /// Whether all is well.
    fn check(&self, operation: &str) -> Result<()> {
        match self.async_error(operation)? {
            SUCCESS | IN_PROGRESS => Ok(()),
            code => Err(self.failed(operation, code, self.handle(operation)?.0)),
        }
    }

    /// Aborts on a thread of its own; gives the process up where even that hangs.
    fn abort_in_time(&self, operation: &str) {
        let Some(handle) = self.raw.lock().expect("no thread panics with it").take() else { return };
        let abort = self.library.functions.comm_abort;
        let done = self.on_a_thread("nccl-abort", Instant::now() + self.deadlines.abort, move || {
            let handle = handle;
            // SAFETY: the handle was taken out of its place, so this is its last use, but where a call hangs: then the process ends.
            unsafe { abort(handle.0) };
        });
        if done.is_none() {
            (self.give_up)(&format!("{}: it hangs, and so does its abort", self.at(operation)));
        }
    }
}

impl Rescue for Inner {
    fn give_up_call(&self, operation: &str) {
        self.abort_in_time(operation);
        (self.give_up)(&format!("{}: the call hung", self.at(operation)));
    }
}
