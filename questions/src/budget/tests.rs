use proptest::prelude::*;

use super::*;

const PRICE: Price = Price { input: 1.0, output: 2.0 };

fn estimate(tokens_in: u64, tokens_out_max: u64) -> Estimate {
    Estimate { tokens_in, tokens_out_max, is_judgement: false }
}

fn usage(tokens_in: u64, tokens_out: u64) -> Usage {
    Usage { requests: 1, tokens_in, tokens_out }
}

/// Goal: requests are counted, those in flight make others wait, and the end is said. Method: a budget of three.
#[test]
fn requests() {
    let mut budget = Budget::new(Some(3), None, None).unwrap();
    let small = estimate(1, 1);
    assert_eq!(budget.reserve(2, small), Verdict::Granted(2));
    assert_eq!(budget.reserve(2, small), Verdict::Granted(1));
    assert_eq!(budget.reserve(1, small), Verdict::Wait);
    budget.settle(small, Usage::default());
    assert_eq!(budget.reserve(1, small), Verdict::Granted(1));
    (0..3).for_each(|_| budget.settle(small, usage(1, 1)));
    let Verdict::Spent(reason) = budget.reserve(1, small) else { panic!("not spent") };
    assert_eq!(reason, "max_requests is reached: 3 of 3 requests were sent");
    assert_eq!(budget.spent(), Usage { requests: 3, tokens_in: 3, tokens_out: 3 });
}

/// Goal: money is reserved at its worst and given back. Method: 10 dollars, requests of at most 4 that come to 1.
#[test]
fn money() {
    let mut budget = Budget::new(None, Some(10.0), Some(PRICE)).unwrap();
    let most = estimate(2_000_000, 1_000_000);
    assert_eq!(budget.reserve(5, most), Verdict::Granted(2));
    assert_eq!(budget.reserve(1, most), Verdict::Wait);
    (0..2).for_each(|_| budget.settle(most, usage(1_000_000, 0)));
    assert_eq!(budget.spent_cost().dollars(), 2.0);
    assert_eq!(budget.reserve(5, most), Verdict::Granted(2));
    (0..2).for_each(|_| budget.settle(most, usage(2_000_000, 1_000_000)));
    let Verdict::Spent(reason) = budget.reserve(1, most) else { panic!("not spent") };
    assert!(reason.starts_with("max_cost is reached: 10.0000 of 10 dollars are spent"), "{reason}");
    let mut resumed = Budget::new(None, Some(10.0), Some(PRICE)).unwrap();
    resumed.already(budget.spent());
    assert!(matches!(resumed.reserve(1, most), Verdict::Spent(_)));
}

/// Goal: a bound of dollars without a price is refused, free models are not. Method: each.
#[test]
fn prices() {
    assert!(Budget::new(None, Some(1.0), None).unwrap_err().contains("price_in"));
    assert!(Budget::new(None, Some(-1.0), Some(PRICE)).is_err());
    assert!(Budget::new(None, Some(f64::NAN), Some(PRICE)).is_err());
    let mut free = Budget::new(None, Some(0.0), Some(Price { input: 0.0, output: 0.0 })).unwrap();
    assert_eq!(free.reserve(7, estimate(1 << 40, 1)), Verdict::Granted(7));
}

proptest! {
    /// Goal: never over budget, at no moment, and not stopped while a request fits. Method: random wishes and settlements, some requests unused.
    #[test]
    fn never_over(
        max_requests in 0u64..200,
        max_cost in 0.0f64..2.0,
        steps in proptest::collection::vec((any::<bool>(), 1u32..20, 0u64..20_000, 0u64..20_000, 0.0f64..=1.0), 1..300),
    ) {
        let mut budget = Budget::new(Some(max_requests), Some(max_cost), Some(PRICE)).unwrap();
        let mut open: Vec<Estimate> = Vec::new();
        for (ask, wanted, tokens_in, tokens_out, share) in steps {
            if ask || open.is_empty() {
                let most = estimate(tokens_in, tokens_out);
                match budget.reserve(wanted, most) {
                    Verdict::Granted(granted) => {
                        prop_assert!((1..=wanted).contains(&granted));
                        open.extend(vec![most; granted as usize]);
                    }
                    Verdict::Wait => prop_assert!(!open.is_empty()),
                    Verdict::Spent(_) => {
                        let fits = budget.spent_cost().0 + PRICE.most(most).0 <= Cost::from_dollars(max_cost).0;
                        prop_assert!(budget.spent().requests == max_requests || !fits);
                    }
                }
            } else {
                let most = open.swap_remove(open.len() / 2);
                let part = |n: u64| (n as f64 * share) as u64;
                let spent = if share < 0.1 { Usage::default() } else { usage(part(most.tokens_in), part(most.tokens_out_max)) };
                budget.settle(most, spent);
            }
            prop_assert!(budget.spent().requests + open.len() as u64 <= max_requests);
            let reserved: u128 = open.iter().map(|most| PRICE.most(*most).0).sum();
            prop_assert!(budget.spent_cost().0 + reserved <= Cost::from_dollars(max_cost).0);
        }
    }
}
