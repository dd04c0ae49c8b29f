//! Requests and tokens per minute, shared out so that no window of 60 seconds has more than the limit.
//!
//! Two rules hold at once. A log of what was granted in the last window makes "never more" exact. A bucket that fills at the rate of
//! the limit and holds a few seconds' worth spreads the grants, so that servers which look at shorter times are content too.
//! Pure: `now` is the time since some start, given by the caller, and must not go back.

use std::collections::VecDeque;
use std::time::Duration;

use crate::gate::{Estimate, Usage};

/// The window that a limit speaks of.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How long a grant may take to reach the server without two windows running into each other; at most 60 / 61 of a limit is used.
const SLACK: Duration = Duration::from_secs(1);
/// Grants within this time are one entry of the log: it has at most 612.
const SLOT: Duration = Duration::from_millis(100);
/// The bucket holds what comes in this time, and at least one request: whoever asks each second loses nothing.
const BURST: Duration = Duration::from_secs(3);

/// One limit over one kind of thing.
#[derive(Debug, Clone)]
struct Rate {
    limit: u64,
    log: VecDeque<(Duration, u64)>,
    in_log: u64,
    bucket: f64,
    at: Duration,
}

impl Rate {
    fn new(limit: u64) -> Self {
        let mut rate = Self { limit: limit.max(1), log: VecDeque::new(), in_log: 0, bucket: 0.0, at: Duration::ZERO };
        rate.bucket = rate.first();
        rate
    }

    /// What is in the bucket at first: a second's worth.
    fn first(&self) -> f64 {
        (self.limit as f64 / WINDOW.as_secs_f64()).max(1.0)
    }

    fn per_second(&self) -> f64 {
        // the first grants and those that follow come to the limit together, so that the log seldom holds anything up; with a
        // small limit one grant is too large a part of it to be left out
        let spread = if self.first() > 1.0 { self.limit as f64 - self.first() } else { self.limit as f64 };
        spread / (WINDOW + SLACK).as_secs_f64()
    }

    fn burst(&self) -> f64 {
        (self.per_second() * BURST.as_secs_f64()).max(1.0)
    }

    /// Brings log and bucket to `now`.
    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.bucket = (self.bucket + passed * self.per_second()).min(self.burst());
        self.at = self.at.max(now);
        while let Some((at, amount)) = self.log.front().copied() {
            // an entry's last grant may be a slot later than its first
            if at + WINDOW + SLACK + SLOT > self.at {
                break;
            }
            self.in_log -= amount;
            self.log.pop_front();
        }
    }

    /// What one grant of `amount` counts as: more than the limit would never fit.
    fn fitted(&self, amount: u64) -> u64 {
        amount.min(self.limit)
    }

    /// How long until `amount` may be granted; zero if now. The bucket may run into debt, the log may not.
    fn wait(&self, amount: u64) -> Duration {
        let amount = self.fitted(amount);
        let mut wait = Duration::ZERO;
        let need = amount.min(self.first() as u64).max(1) as f64;
        // a grain less: what rounding lost must not make anybody wait
        if self.bucket < need - 1e-6 {
            wait = Duration::from_secs_f64((need - self.bucket) / self.per_second());
        }
        let mut over = (self.in_log + amount).saturating_sub(self.limit);
        for (at, of) in &self.log {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(*of);
            wait = wait.max((*at + WINDOW + SLACK + SLOT).saturating_sub(self.at));
        }
        wait
    }

    fn take(&mut self, amount: u64) {
        let amount = self.fitted(amount);
        self.bucket -= amount as f64;
        self.in_log += amount;
        match self.log.back_mut() {
            Some((at, of)) if self.at < *at + SLOT => *of += amount,
            _ => self.log.push_back((self.at, amount)),
        }
    }

    /// What was granted at `granted` came to `spent` only, or to more.
    fn correct(&mut self, granted: Duration, amount: u64, spent: u64) {
        let amount = self.fitted(amount);
        if spent < amount {
            self.bucket = (self.bucket + (amount - spent) as f64).min(self.burst());
        } else {
            self.bucket -= (spent - amount) as f64;
        }
        let entry = self.log.iter_mut().rev().find(|(at, _)| *at <= granted);
        if let Some((_, of)) = entry.filter(|(at, _)| granted < *at + SLOT) {
            let corrected = (*of + spent).saturating_sub(amount);
            self.in_log = self.in_log + corrected - *of;
            *of = corrected;
        }
    }
}

/// What may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Requests that may be sent, at most as many as were wanted. They are to be sent within a second, or given back.
    pub granted: u32,
    /// When to ask for the rest; zero if all was granted.
    pub retry_after: Duration,
}

/// Requests per minute and tokens per minute for everybody together.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    requests: Option<Rate>,
    tokens: Option<Rate>,
}

impl Pace {
    /// A pace of these limits per minute; `None` is no limit. A limit of 0 counts as 1.
    pub fn new(requests_per_minute: Option<u64>, tokens_per_minute: Option<u64>) -> Self {
        Self { requests: requests_per_minute.map(Rate::new), tokens: tokens_per_minute.map(Rate::new) }
    }

    /// Grants up to `wanted` requests that come to at most `estimate` each. A request of more tokens than a minute allows is
    /// granted alone in its minute.
    pub fn grant(&mut self, now: Duration, wanted: u32, estimate: Estimate) -> Grant {
        for rate in self.requests.iter_mut().chain(&mut self.tokens) {
            rate.advance(now);
        }
        let mut granted = 0;
        while granted < wanted {
            let requests = self.requests.as_ref().map_or(Duration::ZERO, |rate| rate.wait(1));
            let tokens = self.tokens.as_ref().map_or(Duration::ZERO, |rate| rate.wait(estimate.tokens()));
            let wait = requests.max(tokens);
            if !wait.is_zero() {
                return Grant { granted, retry_after: wait };
            }
            self.requests.iter_mut().for_each(|rate| rate.take(1));
            self.tokens.iter_mut().for_each(|rate| rate.take(estimate.tokens()));
            granted += 1;
        }
        Grant { granted, retry_after: Duration::ZERO }
    }

    /// Counts what was sent before, for whoever takes over from another: as much of the last minute as is known.
    pub fn already(&mut self, now: Duration, requests: u64, tokens: u64) {
        for (rate, amount) in
            self.requests.iter_mut().map(|rate| (rate, requests)).chain(self.tokens.iter_mut().map(|rate| (rate, tokens)))
        {
            rate.advance(now);
            rate.take(amount);
        }
    }

    /// Corrects one request, granted at `granted`, by what it came to; a request that was not sent came to nothing.
    pub fn settle(&mut self, granted: Duration, estimate: Estimate, spent: Usage) {
        if let Some(rate) = &mut self.requests {
            rate.correct(granted, 1, spent.requests.min(1));
        }
        if let Some(rate) = &mut self.tokens {
            rate.correct(granted, estimate.tokens(), spent.tokens_in + spent.tokens_out);
        }
    }
}

#[cfg(test)]
mod tests;
