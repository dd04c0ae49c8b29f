//! Watches calls into NCCL from outside: one that does not return by its deadline is answered by an abort, which lets the other ranks know, and then by the
//! end of the process: what such a call would do with an aborted communicator is not defined.

use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Instant;

/// What is to be done about a call that hangs.
pub(super) trait Rescue: Send + Sync {
    /// Aborts in bounded time, and ends the process.
    fn give_up_call(&self, operation: &str);
}

/// A call that has begun.
#[derive(Debug, Clone, Copy)]
struct Call {
    operation: &'static str,
    deadline: Instant,
    /// It was given up.
    late: bool,
}

#[derive(Debug, Default)]
struct Watched {
    call: Option<Call>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    watched: Mutex<Watched>,
    changed: Condvar,
}

/// Watches one thread's calls.
#[derive(Debug)]
pub(super) struct Watchdog {
    shared: Arc<Shared>,
}

impl Watchdog {
    /// Begins to watch.
    pub(super) fn start(rescue: Weak<dyn Rescue>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        std::thread::Builder::new().name("nccl-watchdog".into()).spawn(move || watch(&own, &rescue))?;
        Ok(Self { shared })
    }

    /// Runs a call that is to return before the deadline, one at a time; none if it was given up by then.
    pub(super) fn guard<T>(&self, operation: &'static str, deadline: Instant, call: impl FnOnce() -> T) -> Option<T> {
        let watched = || self.shared.watched.lock().expect("no thread panics with it");
        watched().call = Some(Call { operation, deadline, late: false });
        self.shared.changed.notify_all();
        let result = call();
        let late = watched().call.take().is_some_and(|call| call.late);
        self.shared.changed.notify_all();
        (!late).then_some(result)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.watched.lock().expect("no thread panics with it").ended = true;
        self.shared.changed.notify_all();
    }
}

fn watch(shared: &Shared, rescue: &Weak<dyn Rescue>) {
    let mut watched = shared.watched.lock().expect("no thread panics with it");
    while !watched.ended {
        let Some(call) = watched.call.as_mut().filter(|call| !call.late) else {
            watched = shared.changed.wait(watched).expect("no thread panics with it");
            continue;
        };
        let left = call.deadline.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            watched = shared.changed.wait_timeout(watched, left).expect("no thread panics with it").0;
            continue;
        }
        call.late = true;
        let operation = call.operation;
        drop(watched);
        let Some(rescue) = rescue.upgrade() else { return };
        rescue.give_up_call(operation);
        watched = shared.watched.lock().expect("no thread panics with it");
    }
}
