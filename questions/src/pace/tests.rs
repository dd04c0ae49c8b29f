use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// The most that lies in any window of 60 s.
fn most_in_a_window(events: &[(Duration, u64)]) -> u64 {
    let (mut from, mut sum, mut most) = (0, 0, 0);
    for (at, amount) in events {
        sum += amount;
        while events[from].0 + WINDOW <= *at {
            sum -= events[from].1;
            from += 1;
        }
        most = most.max(sum);
    }
    most
}

fn estimate(tokens_in: u64, tokens_out_max: u64) -> Estimate {
    Estimate { tokens_in, tokens_out_max, is_judgement: false }
}

/// Goal: with demand at all times at least 95% of a limit is used and never more. Method: ten minutes at limits from 1 to 30,000.
#[test]
fn demand_is_met() {
    for limit in [1, 2, 7, 10, 60, 600, 30_000] {
        let mut pace = Pace::new(Some(limit), None);
        let (mut now, mut events) = (Duration::ZERO, Vec::new());
        while now < 10 * WINDOW {
            let grant = pace.grant(now, 1000, estimate(10, 10));
            if grant.granted > 0 {
                events.push((now, u64::from(grant.granted)));
            }
            now += grant.retry_after.max(MS);
        }
        let total: u64 = events.iter().map(|(_, n)| n).sum();
        assert!(total as f64 >= 0.95 * (10 * limit) as f64, "{total} of {} at {limit}", 10 * limit);
        assert!(most_in_a_window(&events) <= limit);
    }
}

/// Goal: no second has much more than its share. Method: seconds of five minutes at 600 a minute.
#[test]
fn grants_are_spread() {
    let mut pace = Pace::new(Some(600), None);
    let mut each = Vec::new();
    for second in 0..300u32 {
        let granted = (0..100).map(|i| pace.grant(second * WINDOW / 60 + 10 * i * MS, 50, estimate(1, 1)).granted);
        each.push(granted.sum::<u32>());
    }
    assert!(each[0] <= 20, "{each:?}");
    assert!(each[1..].iter().all(|n| (9..=10).contains(n)), "{each:?}");
}

/// Goal: tokens that were reserved and not used are used by others. Method: estimates four times too high, answers after two seconds.
#[test]
fn refunds_are_used() {
    let mut pace = Pace::new(None, Some(100_000));
    let (mut now, mut events, mut open) = (Duration::ZERO, Vec::new(), VecDeque::new());
    let (high, real) = (estimate(1000, 1000), Usage { requests: 1, tokens_in: 400, tokens_out: 100 });
    while now < 10 * WINDOW {
        while open.front().is_some_and(|at| *at + 2000 * MS <= now) {
            pace.settle(open.pop_front().unwrap(), high, real);
        }
        for _ in 0..pace.grant(now, 10, high).granted {
            open.push_back(now);
            events.push((now, 500));
        }
        now += 20 * MS;
    }
    let total: u64 = events.iter().map(|(_, n)| n).sum();
    // what is in flight stays reserved: 2 s of 60 at four times its size
    assert!(total >= 850_000, "{total}");
    assert!(most_in_a_window(&events) <= 100_000);
}

/// Goal: a request over the limit is granted alone, and one not sent costs nothing. Method: one of each.
#[test]
fn odd_requests() {
    let mut pace = Pace::new(None, Some(100));
    assert_eq!(pace.grant(Duration::ZERO, 2, estimate(1000, 0)).granted, 1);
    assert!(pace.grant(WINDOW / 2, 1, estimate(1, 0)).granted == 0);
    let mut pace = Pace::new(Some(2), None);
    assert_eq!(pace.grant(Duration::ZERO, 1, estimate(1, 0)).granted, 1);
    for i in 0..100 {
        pace.settle(i * MS, estimate(1, 0), Usage::default());
        assert_eq!(pace.grant((i + 1) * MS, 1, estimate(1, 0)).granted, 1, "{i}");
    }
    assert_eq!(Pace::new(None, None).grant(Duration::ZERO, 1000, estimate(1 << 40, 1)).granted, 1000);
}

/// Goal: who takes over does not begin a new minute. Method: 50 of 60 counted, then demand.
#[test]
fn a_takeover() {
    let mut pace = Pace::new(Some(60), Some(1_000_000));
    pace.already(Duration::ZERO, 50, 1000);
    let granted: u32 = (0..60_000).step_by(100).map(|ms| pace.grant(ms * MS, 5, estimate(1, 1)).granted).sum();
    assert!(granted <= 10, "{granted}");
    assert!(pace.grant(2 * WINDOW, 5, estimate(1, 1)).granted >= 1);
}

proptest! {
    /// Goal: never more than the limits in any window of 60 s, as the server sees them up to a second later. Method: random
    /// demand, estimates, refunds and delays.
    #[test]
    fn never_over(
        requests in 1u64..200,
        tokens in 500u64..20_000,
        steps in proptest::collection::vec((0u64..4000, 0u32..60, 1u64..500, 0u64..=500, 0u64..1000), 1..300),
    ) {
        let mut pace = Pace::new(Some(requests), Some(tokens));
        let (mut now, mut seen) = (Duration::ZERO, Vec::new());
        for (gap, wanted, reserved, used, delay) in steps {
            now += MS * gap as u32;
            let granted = pace.grant(now, wanted, estimate(reserved, 0)).granted;
            prop_assert!(granted <= wanted);
            for _ in 0..granted {
                let spent = Usage { requests: 1, tokens_in: used.min(reserved), tokens_out: 0 };
                pace.settle(now, estimate(reserved, 0), spent);
                seen.push((now + MS * delay as u32, 1, spent.tokens_in));
            }
        }
        seen.sort();
        let of = |pick: fn(&(Duration, u64, u64)) -> u64| seen.iter().map(|e| (e.0, pick(e))).collect::<Vec<_>>();
        prop_assert!(most_in_a_window(&of(|e| e.1)) <= requests);
        prop_assert!(most_in_a_window(&of(|e| e.2)) <= tokens);
    }

    /// Goal: whoever waits as told is granted something, and soon. Method: random limits; ask, wait as told, ask.
    #[test]
    fn waiting_helps(requests in 1u64..100, tokens in 10u64..5000, size in 1u64..8000) {
        let mut pace = Pace::new(Some(requests), Some(tokens));
        let mut now = Duration::ZERO;
        for _ in 0..200 {
            let grant = pace.grant(now, 1, estimate(size, 0));
            if grant.granted == 0 {
                prop_assert!(grant.retry_after <= 4 * WINDOW, "{:?}", grant);
                let again = pace.grant(now + grant.retry_after + MS, 1, estimate(size, 0));
                prop_assert_eq!(again.granted, 1, "{:?} then {:?}", grant, again);
                now += grant.retry_after;
            }
            now += MS;
        }
    }
}
