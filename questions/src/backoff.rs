//! When to try again: full jitter, what a server's Retry-After says, and a budget of retries for all chunks together.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime};

/// The first wait is up to this long; each further one up to twice as long.
const BASE: Duration = Duration::from_millis(500);
/// No wait is longer.
const CAP: Duration = Duration::from_secs(30);
/// Without any success one retry is allowed in this time, so that a retry never waits forever.
const TRICKLE: Duration = Duration::from_secs(1);

/// Random waits. Every process has its own: workers that failed together do not come back together.
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Default for Jitter {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0u64))
    }
}

impl Jitter {
    /// Jitter that is the same each time.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A wait before attempt `attempt` + 1 (full jitter: Brooker, "Exponential backoff and jitter", 2015).
    pub fn wait(&mut self, attempt: u32) -> Duration {
        let most = BASE.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(CAP);
        most.mul_f64(self.share())
    }

    /// A number from 0 to 1 (SplitMix64).
    pub fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ (bits >> 31)) as f64 / u64::MAX as f64
    }
}

/// What a Retry-After header says: seconds, or a date of HTTP. Never more than `most`; `None` if it says neither.
pub fn retry_after(header: &str, now: SystemTime, most: Duration) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<f64>() {
        return seconds_up_to(seconds, most);
    }
    let date = httpdate::parse_http_date(header).ok()?;
    Some(date.duration_since(now).unwrap_or_default().min(most))
}

/// A number of seconds as a duration of at most `most`.
pub fn seconds_up_to(seconds: f64, most: Duration) -> Option<Duration> {
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(most.as_secs_f64())))
}

/// Retries that all chunks together may still make. Each success adds a share of one; a retry takes one.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    tokens: f64,
    most: f64,
    share: f64,
    at: Duration,
}

impl RetryBudget {
    /// A budget with `most` retries in it, and never more than that.
    pub fn new(most: u32, share: f64) -> Self {
        let most = f64::from(most.max(1));
        Self { tokens: most, most, share, at: Duration::ZERO }
    }

    /// A request was answered.
    pub fn success(&mut self) {
        self.tokens = (self.tokens + self.share).min(self.most);
    }

    /// Takes a retry.
    ///
    /// # Errors
    /// None is left; how long until there is one even if nothing succeeds.
    pub fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let passed = now.saturating_sub(self.at);
        self.at = now;
        self.tokens = (self.tokens + passed.as_secs_f64() / TRICKLE.as_secs_f64()).min(self.most);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        // a millisecond more, so that rounding does not make the caller come back too early
        Err(TRICKLE.mul_f64(1.0 - self.tokens) + Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: waits are random, bounded and grow. Method: a thousand of each attempt.
    #[test]
    fn waits() {
        let mut jitter = Jitter::seeded(1);
        let mut mean = |attempt: u32| {
            let waits: Vec<f64> = (0..1000).map(|_| jitter.wait(attempt).as_secs_f64()).collect();
            let most = (0.5 * 2f64.powi(attempt as i32 - 1)).min(30.0);
            assert!(waits.iter().all(|wait| (0.0..=most).contains(wait)), "attempt {attempt}");
            waits.iter().sum::<f64>() / 1000.0 / most
        };
        for attempt in [1, 2, 5, 7, 40] {
            assert!((0.45..0.55).contains(&mean(attempt)), "attempt {attempt}");
        }
        assert_ne!(Jitter::default().share(), Jitter::default().share());
    }

    /// Goal: both spellings of Retry-After are understood and capped. Method: seconds, dates, nonsense.
    #[test]
    fn retry_after_spellings() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let says = |header: &str| retry_after(header, now, Duration::from_secs(60));
        assert_eq!(says("3"), Some(Duration::from_secs(3)));
        assert_eq!(says(" 0.5 "), Some(Duration::from_millis(500)));
        assert_eq!(says("9999999999999999999"), Some(Duration::from_secs(60)));
        assert_eq!(says("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(says("Sun, 06 Nov 1994 08:49:27 GMT"), Some(Duration::ZERO));
        assert_eq!(says("Sat, 06 Nov 2094 08:49:27 GMT"), Some(Duration::from_secs(60)));
        for odd in ["", "-1", "soon", "NaN", "inf s"] {
            assert_eq!(says(odd), None, "{odd}");
        }
    }

    /// Goal: retries are a share of successes, and never cease. Method: take all; then with successes, then with time.
    #[test]
    fn a_budget_of_retries() {
        let mut budget = RetryBudget::new(3, 0.5);
        let now = Duration::from_millis(1);
        assert_eq!((0..10).filter(|_| budget.take(now).is_ok()).count(), 3);
        (0..4).for_each(|_| budget.success());
        assert_eq!((0..10).filter(|_| budget.take(now).is_ok()).count(), 2);
        let wait = budget.take(now).unwrap_err();
        assert!(wait <= Duration::from_millis(1001), "{wait:?}");
        assert!(budget.take(now + wait).is_ok());
        assert!(budget.take(now + wait).is_err());
        (0..1000).for_each(|_| budget.success());
        assert_eq!((0..10).filter(|_| budget.take(now + wait).is_ok()).count(), 3);
    }
}
