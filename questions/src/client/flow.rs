//! When a request may go: slots, pauses and retries of all chunks together, one small state behind one lock.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::State;
use crate::backoff::{Jitter, RetryBudget};
use crate::breaker::{Admit, Breaker, Rules};
use crate::concurrency::Concurrency;
use crate::settings::Patience;

/// Whoever waits for a slot looks again after this time: one that was woken for a slot may have gone away with it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Share of a wait that is added at random, so that not everybody comes back in one moment.
const WAIT_JITTER: f64 = 0.1;

pub(crate) struct Flow {
    core: Mutex<Core>,
    /// Wakes one that waits for a slot, for each slot that is free.
    free: Notify,
    /// Wakes all when everything stops.
    stopped: Notify,
    start: Instant,
}

struct Core {
    concurrency: Concurrency,
    breaker: Breaker,
    retries: RetryBudget,
    jitter: Jitter,
    /// Slots given out, and how many of their requests are under way.
    slots: usize,
    sending: usize,
    /// The server asked for silence until then.
    not_before: Duration,
    answered: u64,
    /// Requests in a row that will never be answered, as long as nothing was.
    refused_at_first: u32,
    refused_most: u32,
    fatal: Option<String>,
}

/// Whether a request may go, or how long to wait before asking again (`None`: until something changes).
enum Turn {
    Go { probe: bool },
    Wait(Option<Duration>),
    Fatal(String),
}

impl Core {
    fn turn(&mut self, now: Duration) -> Turn {
        if let Some(reason) = &self.fatal {
            return Turn::Fatal(reason.clone());
        }
        if now < self.not_before {
            return self.wait(self.not_before - now);
        }
        if self.slots >= self.concurrency.limit() {
            return Turn::Wait(None);
        }
        let probe = match self.breaker.admit(now) {
            Admit::Go => false,
            Admit::Probe => true,
            Admit::Wait(Some(wait)) => return self.wait(wait),
            Admit::Wait(None) => return Turn::Wait(None),
        };
        self.slots += 1;
        Turn::Go { probe }
    }

    fn wait(&mut self, wait: Duration) -> Turn {
        Turn::Wait(Some(wait + wait.mul_f64(WAIT_JITTER * self.jitter.share())))
    }

    /// A failure that says something of the server; the reason to stop for good, if that makes it one.
    fn failure(&mut self, now: Duration, probe: bool, reason: &str, told: Option<Duration>) -> Option<String> {
        if let Some(told) = told {
            self.not_before = self.not_before.max(now + told);
        }
        if self.breaker.failure(now, probe, reason) {
            tracing::warn!("paused: {}", self.breaker.paused(now).unwrap_or_default());
        }
        let outage = self.breaker.outage(now)?;
        Some(self.stop(outage))
    }

    fn stop(&mut self, reason: String) -> String {
        if self.fatal.is_none() {
            // the run ends with it, and says so
            tracing::debug!("stopped: {reason}");
        }
        self.fatal.get_or_insert(reason).clone()
    }

    fn alive(&mut self) {
        if self.breaker.success() {
            tracing::info!("the server answers again");
        }
    }
}

impl Flow {
    pub(crate) fn new(patience: &Patience) -> Self {
        let rules = Rules {
            failures: patience.breaker_failures,
            pause: Duration::from_secs_f64(patience.breaker_pause_seconds),
            max_pause: Duration::from_secs_f64(patience.breaker_max_pause_seconds.max(patience.breaker_pause_seconds)),
            max_outage: Duration::from_secs_f64(patience.max_outage_seconds),
        };
        let core = Core {
            concurrency: Concurrency::new(patience.start_in_flight, patience.max_in_flight),
            breaker: Breaker::new(rules),
            retries: RetryBudget::new(patience.max_in_flight, patience.retry_share),
            jitter: Jitter::default(),
            slots: 0,
            sending: 0,
            not_before: Duration::ZERO,
            answered: 0,
            refused_at_first: 0,
            refused_most: patience.breaker_failures,
            fatal: None,
        };
        Self { core: Mutex::new(core), free: Notify::new(), stopped: Notify::new(), start: Instant::now() }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Waits for a slot.
    ///
    /// # Errors
    /// Everything has stopped; why.
    pub(crate) async fn enter(&self) -> Result<Slot<'_>, String> {
        loop {
            let free = self.free.notified();
            let stopped = self.stopped.notified();
            let turn = self.core().turn(self.now());
            let wait = match turn {
                Turn::Go { probe } => return Ok(Slot { flow: self, probe, sent: None, told: false }),
                Turn::Fatal(reason) => return Err(reason),
                Turn::Wait(wait) => wait.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN),
            };
            tokio::select! {
                () = free => {}
                () = stopped => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Waits until everything has stopped; why.
    pub(crate) async fn fatal(&self) -> String {
        loop {
            // begun before the look, so that nothing between look and wait is missed
            let stopped = self.stopped.notified();
            let fatal = self.core().fatal.clone();
            match fatal {
                Some(reason) => return reason,
                None => stopped.await,
            }
        }
    }

    /// Waits before a chunk's next attempt: at random, and until all chunks together may retry.
    ///
    /// # Errors
    /// Everything has stopped; why.
    pub(crate) async fn before_retry(&self, failures: u32) -> Result<(), String> {
        let wait = self.core().jitter.wait(failures);
        tokio::select! {
            reason = self.fatal() => return Err(reason),
            () = tokio::time::sleep(wait) => {}
        }
        loop {
            let wait = match self.core().retries.take(self.now()) {
                Ok(()) => return Ok(()),
                Err(wait) => wait,
            };
            tokio::select! {
                reason = self.fatal() => return Err(reason),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    pub(crate) fn state(&self, json: bool) -> State {
        let core = self.core();
        State {
            in_flight: core.sending,
            limit: core.concurrency.limit(),
            answered: core.answered,
            json,
            paused: core.breaker.paused(self.now()),
            stopped: core.fatal.clone(),
        }
    }
}

/// The right to have one request under way; given back when it is dropped.
pub(crate) struct Slot<'a> {
    flow: &'a Flow,
    probe: bool,
    sent: Option<Duration>,
    told: bool,
}

impl Slot<'_> {
    /// Whether nothing has paused or stopped since the slot was given.
    pub(crate) fn may_still_go(&self) -> bool {
        let core = self.flow.core();
        core.fatal.is_none() && self.flow.now() >= core.not_before && (self.probe || !core.breaker.is_paused())
    }

    /// The request goes out now.
    pub(crate) fn sent(&mut self) {
        self.sent = Some(self.flow.now());
        let mut core = self.flow.core();
        core.sending += 1;
        let sending = core.sending;
        core.concurrency.sent(sending);
    }

    fn tell<T>(mut self, what: impl FnOnce(&mut Core, Duration, Duration, bool) -> T) -> T {
        self.told = true;
        let now = self.flow.now();
        let mut core = self.flow.core();
        let out = what(&mut core, self.sent.unwrap_or(now), now, self.probe);
        // before the slot goes, which takes the same lock
        drop(core);
        out
    }

    pub(crate) fn answered(self) {
        self.tell(|core, sent, now, _| {
            core.answered += 1;
            core.refused_at_first = 0;
            core.retries.success();
            core.alive();
            if core.concurrency.answered(sent, now) {
                tracing::debug!(limit = core.concurrency.limit(), "answers take much longer: fewer requests at once");
            }
        });
    }

    /// 429, 503 and the like. Gives back why everything stops, if it does.
    pub(crate) fn busy(self, reason: &str, told: Option<Duration>) -> Option<String> {
        self.tell(|core, sent, now, probe| {
            if core.concurrency.too_much(sent, now) {
                tracing::debug!(limit = core.concurrency.limit(), %reason, "the server is busy: fewer requests at once");
            }
            core.failure(now, probe, reason, told)
        })
    }

    /// Broken answers, connections and the server's own errors. Gives back why everything stops, if it does.
    pub(crate) fn broken(self, reason: &str, told: Option<Duration>, timed_out: bool) -> Option<String> {
        self.tell(|core, sent, now, probe| {
            if timed_out {
                core.concurrency.too_much(sent, now);
            }
            core.failure(now, probe, reason, told)
        })
    }

    pub(crate) fn refused_schema(self) -> Option<String> {
        self.tell(|core, _, _, _| core.alive());
        None
    }

    /// A request that will never be answered; when nothing ever was, many of them mean that nothing ever will be.
    pub(crate) fn permanent(self, reason: &str) -> Option<String> {
        self.tell(|core, _, _, _| {
            core.alive();
            core.refused_at_first += 1;
            let never = core.answered == 0 && core.refused_at_first >= core.refused_most;
            let count = core.refused_at_first;
            never.then(|| core.stop(format!("the first {count} requests were all refused, the last with {reason}")))
        })
    }

    pub(crate) fn fatal(self, reason: &str) -> Option<String> {
        self.tell(|core, _, _, _| Some(core.stop(reason.to_owned())))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let now = self.flow.now();
        let mut core = self.flow.core();
        core.slots -= 1;
        core.sending -= usize::from(self.sent.is_some());
        if self.probe && !self.told {
            core.breaker.probe_lost(now);
        }
        let free = core.concurrency.limit().saturating_sub(core.slots);
        let stopped = core.fatal.is_some();
        drop(core);
        (0..free).for_each(|_| self.flow.free.notify_one());
        if stopped {
            self.flow.stopped.notify_waiters();
        }
    }
}
