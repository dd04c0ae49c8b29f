//! Watches calls into NCCL from outside: one that does not return by its deadline is answered by an abort, and one that does not return after that by
//! the end of the process.

use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

/// What is to be done about a call that hangs.
pub(super) trait Rescue: Send + Sync {
    /// Makes the call return, from another thread.
    fn abort(&self, operation: &str);

    /// The call, or the abort, hangs for good.
    fn give_up(&self, operation: &str);
}

/// A call that has begun.
#[derive(Debug, Clone, Copy)]
struct Call {
    number: u64,
    operation: &'static str,
    deadline: Instant,
}

#[derive(Debug, Default)]
struct Watched {
    next_number: u64,
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
    /// Begins to watch. After its deadline a call is aborted, and `grace` later given up.
    pub(super) fn start(rescue: Weak<dyn Rescue>, grace: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        std::thread::Builder::new().name("nccl-watchdog".into()).spawn(move || watch(&own, &rescue, grace))?;
        Ok(Self { shared })
    }

    /// Runs a call that is to return before the deadline.
    pub(super) fn guard<T>(&self, operation: &'static str, deadline: Instant, call: impl FnOnce() -> T) -> T {
        let set = |call: Option<(&'static str, Instant)>| {
            let mut watched = self.shared.watched.lock().expect("no thread panics with it");
            watched.next_number += 1;
            let number = watched.next_number;
            watched.call = call.map(|(operation, deadline)| Call { number, operation, deadline });
            drop(watched);
            self.shared.changed.notify_all();
        };
        set(Some((operation, deadline)));
        let result = call();
        set(None);
        result
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.watched.lock().expect("no thread panics with it").ended = true;
        self.shared.changed.notify_all();
    }
}

fn watch(shared: &Shared, rescue: &Weak<dyn Rescue>, grace: Duration) {
    let mut aborted = None;
    let mut watched = shared.watched.lock().expect("no thread panics with it");
    while !watched.ended {
        let Some(call) = watched.call else {
            watched = shared.changed.wait(watched).expect("no thread panics with it");
            continue;
        };
        let deadline = if aborted == Some(call.number) { call.deadline + grace } else { call.deadline };
        let left = deadline.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            watched = shared.changed.wait_timeout(watched, left).expect("no thread panics with it").0;
            continue;
        }
        drop(watched);
        let Some(rescue) = rescue.upgrade() else { return };
        if aborted == Some(call.number) {
            rescue.give_up(call.operation);
            return;
        }
        rescue.abort(call.operation);
        aborted = Some(call.number);
        watched = shared.watched.lock().expect("no thread panics with it");
    }
}
