//! The circuit breaker: after many failures in a row everything pauses, then one probe at a time asks whether the server is back.
//!
//! Pure: `now` is the time since some start, given by the caller.

use std::time::Duration;

/// How the breaker behaves.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Failures in a row that open it.
    pub failures: u32,
    /// The first pause.
    pub pause: Duration,
    /// The longest pause.
    pub max_pause: Duration,
    /// Time without a success after which it gives up.
    pub max_outage: Duration,
}

/// Whether a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// It may.
    Go,
    /// It may, and it is the only one: what becomes of it decides.
    Probe,
    /// Not before this much time, or before a probe ends if `None`.
    Wait(Option<Duration>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Open { until: Duration },
    Probing,
}

/// Counts failures in a row over all requests.
#[derive(Debug, Clone)]
pub struct Breaker {
    rules: Rules,
    phase: Phase,
    in_a_row: u32,
    /// When the first failure of the row was.
    since: Duration,
    pause: Duration,
    reason: String,
}

impl Breaker {
    /// A closed breaker: requests go.
    pub fn new(rules: Rules) -> Self {
        let since = Duration::ZERO;
        Self { rules, phase: Phase::Closed, in_a_row: 0, since, pause: rules.pause, reason: String::new() }
    }

    /// Whether a request may go now.
    pub fn admit(&mut self, now: Duration) -> Admit {
        match self.phase {
            Phase::Closed => Admit::Go,
            Phase::Open { until } if now < until => Admit::Wait(Some(until - now)),
            Phase::Open { .. } => {
                self.phase = Phase::Probing;
                Admit::Probe
            }
            Phase::Probing => Admit::Wait(None),
        }
    }

    /// A request was answered. True if this ends a pause.
    pub fn success(&mut self) -> bool {
        let paused = self.phase != Phase::Closed;
        (self.phase, self.in_a_row, self.pause) = (Phase::Closed, 0, self.rules.pause);
        paused
    }

    /// A request failed in a way that says something of the server. True if this begins a pause.
    pub fn failure(&mut self, now: Duration, probe: bool, reason: &str) -> bool {
        if self.in_a_row == 0 {
            self.since = now;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        reason.clone_into(&mut self.reason);
        match self.phase {
            Phase::Closed if self.in_a_row >= self.rules.failures => {
                self.phase = Phase::Open { until: now + self.pause };
                true
            }
            Phase::Probing if probe => {
                self.pause = self.pause.saturating_mul(2).min(self.rules.max_pause);
                self.phase = Phase::Open { until: now + self.pause };
                false
            }
            _ => false,
        }
    }

    /// A probe was given up before it said anything.
    pub fn probe_lost(&mut self, now: Duration) {
        if self.phase == Phase::Probing {
            self.phase = Phase::Open { until: now };
        }
    }

    /// Whether everything pauses.
    pub fn is_paused(&self) -> bool {
        self.phase != Phase::Closed
    }

    /// Why everything pauses, if it does, when it goes on, and when it is given up.
    pub fn paused(&self, now: Duration) -> Option<String> {
        let left = (self.since + self.rules.max_outage).saturating_sub(now).as_secs();
        let next = match self.phase {
            Phase::Closed => return None,
            Phase::Open { until } => {
                let (next, most) = (until.saturating_sub(now).as_secs_f64(), self.rules.max_pause.as_secs_f64());
                format!("asking again in {next:.0} s, then at most every {most:.0} s")
            }
            Phase::Probing => "asking again just now".to_owned(),
        };
        Some(format!("{} failures in a row: {}; {next}, and giving up in {left} s without an answer", self.in_a_row, self.reason))
    }

    /// Why it is to be given up, if it is: paused, and nothing succeeded for too long.
    pub fn outage(&self, now: Duration) -> Option<String> {
        let long = now.saturating_sub(self.since);
        let over = self.phase != Phase::Closed && long >= self.rules.max_outage;
        over.then(|| {
            let (failures, seconds) = (self.in_a_row, long.as_secs());
            format!("nothing was answered for {seconds} s, {failures} failures in a row: {}", self.reason)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> Breaker {
        Breaker::new(Rules { failures: 3, pause: SECOND, max_pause: 4 * SECOND, max_outage: 20 * SECOND })
    }

    /// Goal: failures in a row pause, one probe at a time goes, pauses grow to their bound. Method: failures only.
    #[test]
    fn failures_pause() {
        let mut b = breaker();
        assert!(!b.failure(SECOND, false, "HTTP 500"));
        assert!(!b.failure(SECOND, false, "HTTP 500"));
        assert_eq!((b.admit(SECOND), b.paused(SECOND)), (Admit::Go, None));
        assert!(b.failure(SECOND, false, "HTTP 503 from x"));
        let said = "3 failures in a row: HTTP 503 from x; asking again in 1 s, then at most every 4 s, and giving up in 20 s without an answer";
        assert_eq!(b.paused(SECOND).unwrap(), said);
        let mut now = SECOND;
        for pause in [1, 2, 4, 4, 4] {
            assert_eq!(b.admit(now), Admit::Wait(Some(pause * SECOND)));
            now += pause * SECOND;
            assert_eq!(b.admit(now), Admit::Probe);
            assert_eq!(b.admit(now), Admit::Wait(None));
            assert!(!b.failure(now, false, "one that was under way"));
            assert_eq!(b.admit(now), Admit::Wait(None));
            assert_eq!(b.outage(now), None);
            assert!(!b.failure(now, true, "HTTP 503"));
        }
        assert_eq!(b.outage(20 * SECOND), None);
        assert!(b.outage(21 * SECOND).unwrap().starts_with("nothing was answered for 20 s, 13 failures in a row: HTTP 503"));
    }

    /// Goal: one success ends the pause and the row. Method: a success as probe, and one among failures.
    #[test]
    fn success_ends_it() {
        let mut b = breaker();
        (0..3).for_each(|_| _ = b.failure(SECOND, false, "x"));
        assert_eq!(b.admit(2 * SECOND), Admit::Probe);
        assert!(b.success());
        assert_eq!((b.admit(2 * SECOND), b.paused(2 * SECOND)), (Admit::Go, None));
        for _ in 0..10 {
            (0..2).for_each(|_| assert!(!b.failure(SECOND, false, "x")));
            assert!(!b.success());
        }
    }

    /// Goal: a probe that never comes back does not hold everything. Method: give it up.
    #[test]
    fn a_lost_probe() {
        let mut b = breaker();
        (0..3).for_each(|_| _ = b.failure(SECOND, false, "x"));
        assert_eq!(b.admit(3 * SECOND), Admit::Probe);
        b.probe_lost(3 * SECOND);
        assert_eq!(b.admit(3 * SECOND), Admit::Probe);
    }
}
