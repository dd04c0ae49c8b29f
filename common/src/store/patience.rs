//! Patience: a request that failed for a passing reason is tried again, with full jitter, within a budget of time.
//!
//! Waits follow "full jitter" (Brooker, "Exponential backoff and jitter", 2015): each is drawn evenly from nothing to a bound that doubles,
//! so that many workers whose store came back do not all ask at once.

use std::error::Error as _;
use std::time::Duration;

use super::Store;
use super::failure::redact;
use crate::clock;
use crate::rng::Rng;

/// How long a command waits for a store that does not answer.
pub(super) const SHORT: Duration = Duration::from_secs(20);
/// How long a run waits for a store that was there and is gone for now.
pub const LONG: Duration = Duration::from_secs(180);
/// Bound of the first wait; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Bound of the longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// From when on a wait is said.
const SAID_AFTER: Duration = Duration::from_secs(5);
/// Statuses of the 400s that another try may change: time-out, too early, too many requests.
const PASSING_STATUSES: [&str; 3] = ["408", "425", "429"];

/// The name under which an upload of unknown outcome fails.
pub(super) const UPLOAD: &str = "an upload whose completion was not confirmed";

/// The tries of one request.
pub(super) struct Tries {
    what: String,
    begun: Duration,
    budget: Duration,
    bound: Duration,
    said: bool,
    rng: Rng,
}

impl Tries {
    /// None made yet, of `verb` on `key`.
    pub(super) fn new(store: &Store, verb: &str, key: &str) -> Self {
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Self {
            what: format!("{verb} {key} in {}", store.url()),
            begun: clock::now(),
            budget: store.patience,
            bound: FIRST_WAIT,
            said: false,
            rng: Rng::stream("store waits", &[u64::from(std::process::id()), nanos]),
        }
    }

    /// Waits before the next try, or gives the error back where another is of no use or the budget is spent.
    pub(super) async fn wait(&mut self, error: object_store::Error) -> object_store::Result<()> {
        let waited = clock::now() - self.begun;
        if !is_passing(&error) || waited >= self.budget {
            return Err(error);
        }
        if waited > SAID_AFTER && !self.said {
            self.said = true;
            let left = (self.budget - waited).as_secs();
            tracing::warn!("cannot {}: {}; trying again for up to {left} s", self.what, redact(&error.to_string()));
        }
        let share = self.rng.below(1 << 20) as f64 / f64::from(1 << 20);
        tokio::time::sleep(self.bound.mul_f64(share)).await;
        self.bound = (self.bound * 2).min(LONGEST_WAIT);
        Ok(())
    }
}

/// Whether the same request may succeed a little later. What a file system refuses it goes on refusing.
fn is_passing(error: &object_store::Error) -> bool {
    let object_store::Error::Generic { store, .. } = error else { return false };
    match *store {
        "LocalFileSystem" => return false,
        UPLOAD => return true,
        _ => {}
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if let Some((_, status)) = text.split_once("non-2xx status code: ") {
            return !status.starts_with('4') || PASSING_STATUSES.iter().any(|passing| status.starts_with(passing));
        }
        cause = inner.source();
    }
    true
}

impl Store {
    /// Makes a request until it succeeds, fails for good, or the store's patience is at its end.
    pub(super) async fn retried<T, F>(&self, verb: &str, key: &str, request: impl Fn() -> F) -> object_store::Result<T>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let mut tries = Tries::new(self, verb, key);
        loop {
            match request().await {
                Ok(answer) => return Ok(answer),
                Err(error) => tries.wait(error).await?,
            }
        }
    }

    /// The same store, waited for as long as this where it does not answer.
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }
}
