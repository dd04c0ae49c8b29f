//! How many requests may be in flight: one more for each full round that goes well, half on 429, 503, a timeout, or when answers take
//! much longer than they used to.
//!
//! Pure: `now` is the time since some start, given by the caller.

use std::time::Duration;

/// Answers may take this many times the baseline before it counts as a jam.
const JAM_FACTOR: f64 = 3.0;
/// Differences below this are noise of the network, not a jam.
const JAM_SLACK: Duration = Duration::from_millis(250);
/// The baseline rises by this factor with each round, so that it follows a server that became slower for good.
const BASELINE_DRIFT: f64 = 1.05;
/// Answers of a round at least, so that a median means something.
const ROUND_MIN: usize = 8;
/// Answers of a round at most.
const ROUND_MAX: usize = 256;

/// The number of requests that may be in flight, and what it is learned from.
#[derive(Debug, Clone)]
pub struct Concurrency {
    limit: f64,
    max: f64,
    /// Doubling, until the first time that it was too much.
    starting: bool,
    halved_at: Option<Duration>,
    baseline: Option<f64>,
    round: Vec<f64>,
    /// The most that was under way in the last round and in this one.
    used: [usize; 2],
}

impl Concurrency {
    /// Begins at `start` and never goes over `max`, nor under 1.
    pub fn new(start: u32, max: u32) -> Self {
        let max = f64::from(max.max(1));
        Self {
            limit: f64::from(start.max(1)).min(max),
            max,
            starting: true,
            halved_at: None,
            baseline: None,
            round: Vec::new(),
            used: [0; 2],
        }
    }

    /// Requests that may be in flight now.
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// A request goes out; `in_flight` are under way with it.
    pub fn sent(&mut self, in_flight: usize) {
        self.used[1] = self.used[1].max(in_flight);
    }

    /// A request that was sent at `sent` was answered at `now`. True if the limit was halved.
    pub fn answered(&mut self, sent: Duration, now: Duration) -> bool {
        if self.halved_at.is_some_and(|at| sent < at) {
            // it was sent into the jam
            return false;
        }
        // a limit that is not used has not been tested
        if self.used[0].max(self.used[1]) * 2 >= self.limit() {
            let step = if self.starting { 1.0 } else { 1.0 / self.limit };
            self.limit = (self.limit + step).min(self.max);
        }
        self.round.push(now.saturating_sub(sent).as_secs_f64());
        if self.round.len() < self.limit().clamp(ROUND_MIN, ROUND_MAX) {
            return false;
        }
        let median = self.end_round();
        let baseline = self.baseline.map_or(median, |baseline| (baseline * BASELINE_DRIFT).min(median));
        self.baseline = Some(baseline);
        median > baseline * JAM_FACTOR + JAM_SLACK.as_secs_f64() && self.halve(now)
    }

    /// The server said that it is too much, or did not answer in time. True if the limit was halved: once for all requests that were
    /// sent before.
    pub fn too_much(&mut self, sent: Duration, now: Duration) -> bool {
        if self.halved_at.is_some_and(|at| sent < at) {
            return false;
        }
        self.halve(now)
    }

    fn halve(&mut self, now: Duration) -> bool {
        self.limit = (self.limit / 2.0).floor().max(1.0);
        (self.starting, self.halved_at) = (false, Some(now));
        self.round.clear();
        true
    }

    fn end_round(&mut self) -> f64 {
        self.round.sort_by(f64::total_cmp);
        let median = self.round[self.round.len() / 2];
        self.round.clear();
        self.used = [self.used[1], 0];
        median
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers `rounds` full rounds that take `latency` each.
    fn run(c: &mut Concurrency, now: &mut Duration, rounds: usize, latency: Duration) -> usize {
        let mut halved = 0;
        for _ in 0..rounds {
            let (sent, flight) = (*now, c.limit());
            c.sent(flight);
            *now += latency;
            halved += (0..flight).filter(|_| c.answered(sent, *now)).count();
        }
        halved
    }

    /// Goal: it doubles to its bound at first, and grows by one a round after it was too much. Method: rounds without trouble.
    #[test]
    fn grows() {
        let (mut c, mut now) = (Concurrency::new(4, 64), Duration::from_secs(1));
        let half = Duration::from_millis(500);
        let mut limits = Vec::new();
        for _ in 0..5 {
            run(&mut c, &mut now, 1, half);
            limits.push(c.limit());
        }
        assert_eq!(limits, [8, 16, 32, 64, 64]);
        assert!(c.too_much(now, now));
        assert_eq!(c.limit(), 32);
        run(&mut c, &mut now, 10, half);
        assert!((38..=42).contains(&c.limit()), "{}", c.limit());
    }

    /// Goal: one jam halves once, and one is the least. Method: many refusals of requests that were sent before, then after.
    #[test]
    fn halves_once_a_jam() {
        let mut c = Concurrency::new(64, 64);
        let at = Duration::from_secs;
        assert!(c.too_much(at(1), at(2)));
        assert!(!(0..63).any(|_| c.too_much(at(1), at(2))));
        assert_eq!(c.limit(), 32);
        for second in 3..20 {
            c.too_much(at(second), at(second));
        }
        assert_eq!(c.limit(), 1);
    }

    /// Goal: rising latency halves, a little more does not, and a slower server becomes the new normal. Method: rounds of latencies.
    #[test]
    fn latency() {
        let (mut c, mut now) = (Concurrency::new(32, 32), Duration::from_secs(1));
        let ms = Duration::from_millis;
        assert_eq!(run(&mut c, &mut now, 20, ms(500)), 0);
        assert_eq!(run(&mut c, &mut now, 20, ms(1200)), 0);
        assert!(run(&mut c, &mut now, 6, ms(6000)) > 0);
        assert!(c.limit() < 32, "{}", c.limit());
        run(&mut c, &mut now, 200, ms(6000));
        assert_eq!(run(&mut c, &mut now, 100, ms(6000)), 0);
        assert_eq!(c.limit(), 32);
    }

    /// Goal: a limit that nobody uses does not grow. Method: answers one at a time.
    #[test]
    fn an_unused_limit_stays() {
        let mut c = Concurrency::new(16, 64);
        for i in 0..1000u64 {
            c.sent(1);
            c.answered(Duration::from_secs(i), Duration::from_secs(i + 1));
        }
        assert_eq!(c.limit(), 16);
    }
}
