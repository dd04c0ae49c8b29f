//! How fast a stage goes and how long it will take, from what it has done so far.

use std::time::Duration;

/// Progress of one stage over time; a stage may pause and go on, or begin anew.
#[derive(Debug, Clone)]
pub struct Pace {
    began: Duration,
    recent: Option<(Duration, u64)>,
    per_second: Option<f64>,
}

/// Seconds over which the rate forgets.
const MEMORY_S: f64 = 15.0;
/// A shorter time says nothing of the rate: the first units of a stage often come at once.
const LEAST_S: f64 = 0.2;

impl Pace {
    /// A stage that begins now.
    pub fn new(now: Duration) -> Self {
        Self { began: now, recent: None, per_second: None }
    }

    /// The stage goes on after a pause, which does not count.
    pub fn resume(&mut self, now: Duration) {
        self.began = now;
        self.recent = self.recent.map(|(_, done)| (now, done));
    }

    /// Takes note that `done` units are done; fewer than before mean that the stage began anew.
    pub fn note(&mut self, now: Duration, done: u64) {
        let (then, before) = match self.recent {
            Some(recent) if recent.1 <= done => recent,
            _ => (self.began, 0),
        };
        let seconds = now.saturating_sub(then).as_secs_f64();
        if done == before || seconds < LEAST_S {
            return;
        }
        let latest = (done - before) as f64 / seconds;
        let keep = (-seconds / MEMORY_S).exp();
        self.per_second = Some(self.per_second.map_or(latest, |old| keep * old + (1.0 - keep) * latest));
        self.recent = Some((now, done));
    }

    /// Units a second, once there is something to go by.
    pub fn per_second(&self) -> Option<f64> {
        self.per_second
    }

    /// Seconds left for `total` units.
    pub fn seconds_left(&self, total: u64) -> Option<f64> {
        let (_, done) = self.recent?;
        let rate = self.per_second.filter(|rate| *rate > 0.0)?;
        Some(total.saturating_sub(done) as f64 / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: rate and time left follow the work. Method: 10 units a second for 10 s of 200 units leave 10 s.
    #[test]
    fn steady_work() {
        let mut pace = Pace::new(Duration::from_secs(5));
        assert_eq!(pace.seconds_left(200), None);
        for second in 1..=10 {
            pace.note(Duration::from_secs(5 + second), second * 10);
        }
        assert!((pace.per_second().expect("work was noted") - 10.0).abs() < 1e-9);
        assert!((pace.seconds_left(200).expect("work was noted") - 10.0).abs() < 1e-9);
    }

    /// Goal: the first rate is no absurd one. Method: 50 units after a thousandth of a second say nothing, and count once a second is over.
    #[test]
    fn first_units() {
        let mut pace = Pace::new(Duration::ZERO);
        pace.note(Duration::from_millis(1), 50);
        assert_eq!((pace.per_second(), pace.seconds_left(100)), (None, None));
        pace.note(Duration::from_secs(1), 60);
        assert_eq!(pace.per_second(), Some(60.0));
    }

    /// Goal: pauses do not slow a stage down, and one that begins anew counts from 0. Method: 10 units a second, a pause of
    /// a minute, 10 units a second again, then the same from 0.
    #[test]
    fn pauses_and_beginnings() {
        let second = Duration::from_secs;
        let mut pace = Pace::new(second(0));
        pace.note(second(10), 100);
        pace.resume(second(70));
        pace.note(second(80), 200);
        assert!((pace.seconds_left(300).expect("work was noted") - 10.0).abs() < 1e-9);
        pace.resume(second(100));
        pace.note(second(110), 100);
        assert!((pace.seconds_left(300).expect("work was noted") - 20.0).abs() < 1e-9);
    }
}
