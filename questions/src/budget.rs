//! Requests and money that may be spent: each request reserves the most that it can come to, and gives back what it did not need.
//!
//! Pure. What is spent and reserved together never exceeds the budget, as long as servers keep to the estimates.

use crate::gate::{Estimate, Usage};
use crate::price::{Cost, Price};

/// What a budget says to a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// So many requests are reserved, at least one, at most as many as wanted.
    Granted(u32),
    /// Not now: what is reserved for others covers the rest; some of it may come back when they are settled.
    Wait,
    /// Never again for requests like this: the reason to stop.
    Spent(String),
}

/// What was spent and reserved, and how much may be.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    max_requests: Option<u64>,
    max_cost: Option<Cost>,
    price: Option<Price>,
    judge_price: Option<Price>,
    spent: Usage,
    reserved_requests: u64,
    reserved_cost: Cost,
    spent_cost: Cost,
}

impl Budget {
    /// A budget of so many requests and dollars; `None` is no bound. A bound of dollars needs a price: without one it is refused.
    ///
    /// # Errors
    /// `max_cost` without a price, or that is no amount.
    pub fn new(max_requests: Option<u64>, max_cost_dollars: Option<f64>, price: Option<Price>) -> Result<Self, String> {
        if let Some(dollars) = max_cost_dollars {
            if !(0.0..1e12).contains(&dollars) {
                return Err(format!("max_cost is {dollars}; it is an amount of dollars"));
            }
            if price.is_none() {
                return Err("max_cost is set, but the model has no known price; set price_in and price_out".into());
            }
        }
        let max_cost = max_cost_dollars.map(Cost::from_dollars);
        Ok(Self { max_requests, max_cost, price, judge_price: price, ..Self::default() })
    }

    /// The same budget, where judgements have a price of their own.
    ///
    /// # Errors
    /// There is a bound of dollars, and no such price.
    pub fn with_judge(self, price: Option<Price>) -> Result<Self, String> {
        if self.max_cost.is_some() && price.is_none() {
            return Err("max_cost is set, but judge_model has no known price; set price_in and price_out".into());
        }
        Ok(Self { judge_price: price, ..self })
    }

    /// The price of such a request.
    pub fn price(&self, estimate: Estimate) -> Option<Price> {
        if estimate.is_judgement { self.judge_price } else { self.price }
    }

    /// Counts what earlier runs spent on questions.
    pub fn already(&mut self, usage: Usage) {
        self.spend(usage, self.price);
    }

    fn spend(&mut self, usage: Usage, price: Option<Price>) {
        self.spent += usage;
        self.spent_cost.0 += price.map(|price| price.spent(usage)).unwrap_or_default().0;
    }

    /// Counts money that earlier runs spent, beside what [`Budget::already`] knows the tokens of.
    pub fn already_cost(&mut self, cost: Cost) {
        self.spent_cost.0 += cost.0;
    }

    /// Reserves up to `wanted` requests that come to at most `estimate` each.
    pub fn reserve(&mut self, wanted: u32, estimate: Estimate) -> Verdict {
        let most = self.price(estimate).map(|price| price.most(estimate)).unwrap_or_default();
        let mut granted = u64::from(wanted);
        if let Some(max) = self.max_requests {
            if self.spent.requests >= max {
                return Verdict::Spent(format!("max_requests is reached: {} of {max} requests were sent", self.spent.requests));
            }
            granted = granted.min(max.saturating_sub(self.spent.requests + self.reserved_requests));
        }
        if let Some(max) = self.max_cost {
            if self.spent_cost.0 + most.0 > max.0 {
                let (spent, max, most) = (self.spent_cost.dollars(), max.dollars(), most.dollars());
                let what = format!("max_cost is reached: {spent:.4} of {max} dollars are spent");
                return Verdict::Spent(format!("{what}, and one more request may cost {most:.6}"));
            }
            let left = max.0.saturating_sub(self.spent_cost.0 + self.reserved_cost.0);
            granted = granted.min(u64::try_from(left.checked_div(most.0).unwrap_or(u128::MAX)).unwrap_or(u64::MAX));
        }
        if granted == 0 && wanted > 0 {
            return Verdict::Wait;
        }
        self.reserved_requests += granted;
        self.reserved_cost.0 += most.0 * u128::from(granted);
        Verdict::Granted(u32::try_from(granted).unwrap_or(wanted))
    }

    /// Settles one reserved request.
    pub fn settle(&mut self, estimate: Estimate, spent: Usage) {
        let most = self.price(estimate).map(|price| price.most(estimate)).unwrap_or_default();
        self.reserved_requests = self.reserved_requests.saturating_sub(1);
        self.reserved_cost.0 = self.reserved_cost.0.saturating_sub(most.0);
        self.spend(spent, self.price(estimate));
    }

    /// What was spent so far.
    pub fn spent(&self) -> Usage {
        self.spent
    }

    /// What was spent so far in money; nothing without a price.
    pub fn spent_cost(&self) -> Cost {
        self.spent_cost
    }
}

#[cfg(test)]
mod tests;
