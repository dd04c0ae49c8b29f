//! Every request to the language model asks here first: pace and budget of the whole run, whoever sends it.
//!
//! What may be spent is recorded ahead of being spent (`Reserved`), so that a coordinator that takes over never allows more than was set; where one
//! died, what it had reserved and not spent counts as spent.

use std::collections::BTreeMap;
use std::time::Duration;

use artel_common::spec::{ProviderKind, QuestionsSection};
use artel_proto::v1;
use artel_questions::budget::{Budget, Verdict};
use artel_questions::pace::Pace;
use artel_questions::price::{Cost, Price};
use artel_questions::{Estimate, Usage};

/// Units of [`Cost`] in a millionth of a dollar.
const UNITS_PER_MICRO: u128 = 1_000_000;
/// How soon to ask again while a reservation is being recorded, or others hold what is left.
const SOON: Duration = Duration::from_millis(20);
const LATER: Duration = Duration::from_millis(200);

/// A request that was permitted and has not come to its end.
#[derive(Debug, Clone, Copy)]
struct Granted {
    at: Duration,
    estimate: Estimate,
}

/// Pace, budget, and what is under way.
#[derive(Debug)]
pub(super) struct Gate {
    pace: Pace,
    budget: Budget,
    is_limited: bool,
    step: u64,
    granted: BTreeMap<(String, u64), Granted>,
    /// Requests permitted so far, but for those that were never sent; and the most that they can have cost.
    requests: u64,
    cost: Cost,
    /// What the journal allows, and what it will allow once a record is in it.
    reserved: (u64, Cost),
    asked_for: Option<(u64, u64)>,
}

/// What a wish came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Granted,
    Wait(Duration),
    Stopped(String),
}

impl Gate {
    /// The gate of these settings; `reserved` is what the journal has (requests, millionths of a dollar).
    ///
    /// # Errors
    /// A limit of dollars for a model without a price.
    pub(super) fn new(questions: &QuestionsSection, reserved: (u64, u64)) -> Result<Self, String> {
        let price = Price::of(&questions.model, questions.price_in, questions.price_out);
        // offline nothing is asked of anybody
        let max_cost = questions.max_cost.filter(|_| questions.provider != ProviderKind::Offline);
        let mut budget = Budget::new(questions.max_requests, max_cost, price)?;
        if let Some((model, _)) = questions.judge() {
            let price = Price::of_judge(model, &questions.model, questions.price_in, questions.price_out);
            budget = budget.with_judge(price)?;
        }
        let reserved = (reserved.0, Cost(u128::from(reserved.1) * UNITS_PER_MICRO));
        budget.already(Usage { requests: reserved.0, ..Usage::default() });
        budget.already_cost(reserved.1);
        Ok(Self {
            pace: Pace::new(questions.requests_per_minute, questions.tokens_per_minute),
            budget,
            is_limited: questions.max_requests.is_some() || questions.max_cost.is_some(),
            step: questions.max_requests.map_or(64, |most| (most / 100).clamp(1, 256)),
            granted: BTreeMap::new(),
            requests: reserved.0,
            cost: reserved.1,
            reserved,
            asked_for: None,
        })
    }

    /// A request came to its end.
    pub(super) fn settle(&mut self, worker: &str, spent: &v1::Spent) {
        let usage = Usage { requests: spent.requests, tokens_in: spent.tokens_in, tokens_out: spent.tokens_out };
        self.settle_as(&(worker.to_owned(), spent.tag), Some(usage));
    }

    /// Settles a grant; without usage nobody knows what it came to, and it counts as the whole estimate.
    fn settle_as(&mut self, key: &(String, u64), usage: Option<Usage>) {
        let Some(Granted { at, estimate }) = self.granted.remove(key) else { return };
        let all = Usage { requests: 1, tokens_in: estimate.tokens_in, tokens_out: estimate.tokens_out_max };
        let usage = usage.unwrap_or(all);
        self.pace.settle(at, estimate, usage);
        self.budget.settle(estimate, usage);
        if let Some(price) = self.budget.price(estimate) {
            self.cost = Cost((self.cost.0 + price.spent(usage).0).saturating_sub(price.most(estimate).0));
        }
        self.requests -= u64::from(usage.requests == 0);
    }

    /// A worker is lost: what it had under way may have been answered and billed.
    pub(super) fn lost(&mut self, worker: &str) {
        let keys: Vec<(String, u64)> = self.granted.keys().filter(|(of, _)| of == worker).cloned().collect();
        for key in keys {
            self.settle_as(&key, None);
        }
    }

    /// May this request be sent?
    pub(super) fn wish(&mut self, worker: &str, tag: u64, estimate: Estimate, now: Duration) -> Answer {
        let key = (worker.to_owned(), tag);
        if self.granted.contains_key(&key) {
            return Answer::Granted;
        }
        let most = self.budget.price(estimate).map(|price| price.most(estimate)).unwrap_or_default();
        if self.is_limited && !self.has_reserved(most) {
            // a budget that is spent reserves nothing more
            return match self.budget.reserve(1, estimate) {
                Verdict::Spent(why) => Answer::Stopped(why),
                Verdict::Wait => Answer::Wait(LATER),
                Verdict::Granted(_) => {
                    self.budget.settle(estimate, Usage::default());
                    let cost = Cost(self.cost.0 + most.0 * u128::from(self.step));
                    let micros = cost.0.div_ceil(UNITS_PER_MICRO);
                    self.asked_for = Some((self.requests + self.step, u64::try_from(micros).unwrap_or(u64::MAX)));
                    Answer::Wait(SOON)
                }
            };
        }
        match self.budget.reserve(1, estimate) {
            Verdict::Spent(why) => return Answer::Stopped(why),
            Verdict::Wait => return Answer::Wait(LATER),
            Verdict::Granted(_) => {}
        }
        let grant = self.pace.grant(now, 1, estimate);
        if grant.granted == 0 {
            self.budget.settle(estimate, Usage::default());
            return Answer::Wait(grant.retry_after.max(Duration::from_millis(1)));
        }
        self.granted.insert(key, Granted { at: now, estimate });
        self.requests += 1;
        self.cost.0 += most.0;
        Answer::Granted
    }

    fn has_reserved(&self, most: Cost) -> bool {
        self.requests < self.reserved.0 && self.cost.0 + most.0 <= self.reserved.1.0
    }

    /// What is to be recorded before more is permitted (requests, millionths of a dollar); told once.
    pub(super) fn take_reservation(&mut self) -> Option<(u64, u64)> {
        self.asked_for.take()
    }

    /// The journal has a reservation.
    pub(super) fn recorded(&mut self, requests: u64, cost_micros: u64) {
        self.reserved = (requests, Cost(u128::from(cost_micros) * UNITS_PER_MICRO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use artel_common::spec::RunSpec;

    fn questions(limits: &str) -> QuestionsSection {
        let text = format!(
            "[documents]\nsources = \"d\"\n[questions]\nprovider = \"openai\"\nmodel = \"m\"\nbase_url = \"http://h/v1\"\nprice_in = 1\nprice_out = 2\n{limits}\n[model]\nbase = \"b\""
        );
        RunSpec::parse(&text, "test").unwrap().0.questions.unwrap()
    }

    const ESTIMATE: Estimate = Estimate { tokens_in: 100, tokens_out_max: 50, is_judgement: false };

    /// Wishes until something other than a recording is in the way; how many were granted.
    fn grants(gate: &mut Gate, worker: &str, tags: std::ops::Range<u64>, now: Duration) -> (u64, Option<String>) {
        let mut granted = 0;
        for tag in tags {
            loop {
                match gate.wish(worker, tag, ESTIMATE, now) {
                    Answer::Granted => granted += 1,
                    Answer::Stopped(why) => return (granted, Some(why)),
                    Answer::Wait(_) => match gate.take_reservation() {
                        Some((requests, cost)) => {
                            gate.recorded(requests, cost);
                            continue;
                        }
                        None => return (granted, None),
                    },
                }
                break;
            }
        }
        (granted, None)
    }

    /// Goal: never more requests than allowed, over workers and coordinators. Method: two workers spend, a third coordinator knows only the journal.
    #[test]
    fn requests_are_bounded() {
        let mut gate = Gate::new(&questions("max_requests = 10"), (0, 0)).unwrap();
        assert_eq!(grants(&mut gate, "a", 1..5, Duration::ZERO).0, 4);
        assert_eq!(grants(&mut gate, "b", 1..5, Duration::ZERO).0, 4);
        for tag in 1..5 {
            gate.settle("a", &v1::Spent { tag, requests: 1, tokens_in: 10, tokens_out: 5 });
            gate.settle("a", &v1::Spent { tag, requests: 1, tokens_in: 10, tokens_out: 5 });
        }
        // one that was not sent gives its place back
        gate.settle("b", &v1::Spent { tag: 4, ..v1::Spent::default() });
        assert_eq!(grants(&mut gate, "c", 1..9, Duration::ZERO), (3, None));
        gate.lost("b");
        gate.lost("c");
        let (more, why) = grants(&mut gate, "d", 1..9, Duration::ZERO);
        assert_eq!(more, 0);
        assert!(why.unwrap().contains("max_requests is reached: 10 of 10"));
        let reserved = (gate.reserved.0, (gate.reserved.1.0 / UNITS_PER_MICRO) as u64);
        let mut next = Gate::new(&questions("max_requests = 10"), reserved).unwrap();
        assert!(grants(&mut next, "a", 1..9, Duration::ZERO).1.is_some());
    }

    /// Goal: never more money. Method: each request may cost 200 millionths; 1,000 are allowed, answers cost half.
    #[test]
    fn money_is_bounded() {
        let mut gate = Gate::new(&questions("max_cost = 0.001"), (0, 0)).unwrap();
        assert_eq!(grants(&mut gate, "a", 1..9, Duration::ZERO), (5, None));
        for tag in 1..6 {
            gate.settle("a", &v1::Spent { tag, requests: 1, tokens_in: 50, tokens_out: 25 });
        }
        assert_eq!(grants(&mut gate, "a", 6..20, Duration::ZERO), (2, None));
        assert!(gate.reserved.1.0 >= gate.cost.0);
    }

    /// Goal: a judgement counts at its own model's price. Method: a judge that the price table knows, questions that it does not; 1,200 millionths.
    #[test]
    fn judgements_have_their_price() {
        let judged = "max_cost = 0.0012\njudge_threshold = 3\njudge_model = \"gpt-4o\"";
        let mut gate = Gate::new(&questions(judged), (0, 0)).unwrap();
        // 100 tokens in and 50 out are 200 millionths of a dollar by the spec's price, and 750 by the judge's
        let judgement = Estimate { is_judgement: true, ..ESTIMATE };
        let wish = |gate: &mut Gate, tag, estimate| loop {
            match (gate.wish("a", tag, estimate, Duration::ZERO), gate.take_reservation()) {
                (Answer::Wait(_), Some((requests, cost))) => gate.recorded(requests, cost),
                (answer, _) => break answer,
            }
        };
        assert_eq!(wish(&mut gate, 1, judgement), Answer::Granted);
        assert_eq!(wish(&mut gate, 2, ESTIMATE), Answer::Granted);
        assert_eq!(wish(&mut gate, 3, ESTIMATE), Answer::Granted);
        assert!(matches!(wish(&mut gate, 4, ESTIMATE), Answer::Wait(_)));
        gate.settle("a", &v1::Spent { tag: 1, requests: 1, tokens_in: 100, tokens_out: 0 });
        assert_eq!(gate.cost, Cost(650 * UNITS_PER_MICRO));
        let unknown = questions("max_cost = 1\njudge_threshold = 3\njudge_model = \"n\"");
        assert!(Gate::new(&unknown, (0, 0)).is_ok(), "price_in and price_out are for a judge that the table does not know");
    }

    /// Goal: no limit, no records; a repeated wish is the same permit. Method: many wishes, one twice.
    #[test]
    fn without_limits() {
        let mut gate = Gate::new(&questions("requests_per_minute = 60"), (0, 0)).unwrap();
        assert_eq!(gate.wish("a", 1, ESTIMATE, Duration::ZERO), Answer::Granted);
        assert_eq!(gate.wish("a", 1, ESTIMATE, Duration::ZERO), Answer::Granted);
        assert!(matches!(gate.wish("a", 2, ESTIMATE, Duration::ZERO), Answer::Wait(_)));
        assert_eq!(gate.take_reservation(), None);
    }
}
