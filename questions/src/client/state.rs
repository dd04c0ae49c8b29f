//! What the asker does just now, for people.

use std::fmt;

/// How it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Requests under way.
    pub in_flight: usize,
    /// Requests that may be under way.
    pub limit: usize,
    /// Requests answered so far.
    pub answered: u64,
    /// Whether JSON by a schema is asked for.
    pub json: bool,
    /// Why everything pauses, if it does.
    pub paused: Option<String>,
    /// Why everything has stopped, if it has.
    pub stopped: Option<String>,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.stopped, &self.paused) {
            (Some(reason), _) => write!(f, "stopped: {reason}"),
            (None, Some(reason)) => write!(f, "paused: {reason}"),
            (None, None) => write!(f, "asking: {} of {} requests in flight", self.in_flight, self.limit),
        }
    }
}
