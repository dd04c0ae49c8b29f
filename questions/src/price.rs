//! What models cost, in dollars per million tokens.
//!
//! The table is that of the providers' public price lists for standard requests as of October 2025 (prompts of the shorter class
//! where a provider has two). Prices change: settings override them, and an unknown model has none rather than a guess.

use crate::gate::{Estimate, Usage};

/// Dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// For tokens of the prompt.
    pub input: f64,
    /// For tokens of the answer.
    pub output: f64,
}

/// Model, dollars per million tokens in and out.
const TABLE: [(&str, f64, f64); 24] = [
    ("gemini-1.5-flash", 0.075, 0.30),
    ("gemini-1.5-flash-8b", 0.0375, 0.15),
    ("gemini-1.5-pro", 1.25, 5.00),
    ("gemini-2.0-flash", 0.10, 0.40),
    ("gemini-2.0-flash-lite", 0.075, 0.30),
    ("gemini-2.5-flash", 0.30, 2.50),
    ("gemini-2.5-flash-lite", 0.10, 0.40),
    ("gemini-2.5-pro", 1.25, 10.00),
    ("gpt-3.5-turbo", 0.50, 1.50),
    ("gpt-4", 30.00, 60.00),
    ("gpt-4-turbo", 10.00, 30.00),
    ("gpt-4o", 2.50, 10.00),
    ("gpt-4o-2024-05-13", 5.00, 15.00),
    ("gpt-4o-mini", 0.15, 0.60),
    ("gpt-4.1", 2.00, 8.00),
    ("gpt-4.1-mini", 0.40, 1.60),
    ("gpt-4.1-nano", 0.10, 0.40),
    ("gpt-5", 1.25, 10.00),
    ("gpt-5-mini", 0.25, 2.00),
    ("gpt-5-nano", 0.05, 0.40),
    ("o1", 15.00, 60.00),
    ("o3", 2.00, 8.00),
    ("o3-mini", 1.10, 4.40),
    ("o4-mini", 1.10, 4.40),
];

impl Price {
    /// The price of a model: the overrides where given, else the table's; `None` if that leaves a half unknown.
    pub fn of(model: &str, input: Option<f64>, output: Option<f64>) -> Option<Self> {
        let listed = listed(model);
        let input = input.or(listed.map(|price| price.input))?;
        let output = output.or(listed.map(|price| price.output))?;
        [input, output].iter().all(|dollars| (0.0..1e6).contains(dollars)).then_some(Self { input, output })
    }

    /// The price of a judge, beside the model that writes questions. The overrides are of that one first: another model has the table's
    /// price, and theirs where the table does not know it.
    pub fn of_judge(judge: &str, model: &str, input: Option<f64>, output: Option<f64>) -> Option<Self> {
        let listed = listed(judge).filter(|_| judge != model);
        listed.or_else(|| Self::of(judge, input, output))
    }

    /// What a request comes to at most.
    pub fn most(&self, estimate: Estimate) -> Cost {
        self.cost(estimate.tokens_in, estimate.tokens_out_max)
    }

    /// What was spent.
    pub fn spent(&self, usage: Usage) -> Cost {
        self.cost(usage.tokens_in, usage.tokens_out)
    }

    fn cost(&self, tokens_in: u64, tokens_out: u64) -> Cost {
        // dollars per million tokens are millionths of a dollar per token; a millionth of that is the unit
        let units = |dollars: f64| (dollars * 1e6).round() as u128;
        Cost(u128::from(tokens_in) * units(self.input) + u128::from(tokens_out) * units(self.output))
    }
}

/// An amount of money in units of 1e-12 dollars: sums of it are exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(pub u128);

impl Cost {
    /// From dollars; what is not a positive number is nothing.
    pub fn from_dollars(dollars: f64) -> Self {
        // a float becomes the nearest number there is
        Self((dollars * 1e12).round() as u128)
    }

    /// In dollars.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e12
    }
}

/// The table's price: by the exact name, else by the name before a version such as `-002`, `-2024-08-06` or `-latest`.
fn listed(model: &str) -> Option<Price> {
    let model = model.strip_prefix("models/").unwrap_or(model);
    let find = |name: &str| TABLE.iter().find(|(listed, ..)| *listed == name);
    let version = |rest: &str| rest == "latest" || (!rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit() || c == '-'));
    let before = || model.match_indices('-').find(|(at, _)| version(&model[at + 1..])).map(|(at, _)| &model[..at]);
    let row = find(model).or_else(|| find(before()?))?;
    Some(Price { input: row.1, output: row.2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: names with versions have their model's price, other names none. Method: names of both kinds.
    #[test]
    fn names() {
        let input = |model: &str| Price::of(model, None, None).map(|price| price.input);
        assert_eq!(input("gemini-1.5-flash"), Some(0.075));
        assert_eq!(input("models/gemini-1.5-flash-002"), Some(0.075));
        assert_eq!(input("gemini-1.5-flash-latest"), Some(0.075));
        assert_eq!(input("gemini-1.5-flash-8b-001"), Some(0.0375));
        assert_eq!(input("gpt-4o-2024-08-06"), Some(2.5));
        assert_eq!(input("gpt-4o-2024-05-13"), Some(5.0));
        for unknown in ["", "-", "gpt-4o-audio-preview", "gemini-2.5-flash-preview-05-20", "Qwen/Qwen2.5-7B", "gpt", "gpt-4o-"] {
            assert_eq!(input(unknown), None, "{unknown}");
        }
    }

    /// Goal: overrides count, half an override is not enough for an unknown model, nonsense is no price. Method: each.
    #[test]
    fn overrides() {
        assert_eq!(Price::of("gpt-4o", Some(1.0), None), Some(Price { input: 1.0, output: 10.0 }));
        assert_eq!(Price::of("mine", Some(1.0), None), None);
        assert_eq!(Price::of("mine", Some(0.0), Some(0.5)), Some(Price { input: 0.0, output: 0.5 }));
        assert_eq!(Price::of("mine", Some(-1.0), Some(0.5)), None);
        assert_eq!(Price::of("mine", Some(f64::NAN), Some(0.5)), None);
    }

    /// Goal: a judge has its own price where there is one. Method: the same model, a known one and an unknown one.
    #[test]
    fn a_judges_price() {
        let of = |judge: &str| Price::of_judge(judge, "gpt-4o", Some(1.0), Some(2.0)).unwrap().input;
        assert_eq!((of("gpt-4o"), of("gpt-4.1"), of("mine")), (1.0, 2.0, 1.0));
        assert_eq!(Price::of_judge("mine", "gpt-4o", None, None), None);
    }

    /// Goal: costs are exact. Method: a price with cents of cents, large counts, and dollars there and back.
    #[test]
    fn costs() {
        let price = Price { input: 0.0375, output: 0.15 };
        let usage = Usage { requests: 1, tokens_in: 1_000_000_000_000, tokens_out: 3 };
        assert_eq!(price.spent(usage), Cost(37_500_000_000_000_000 + 450_000));
        assert_eq!(Cost::from_dollars(5.0).dollars(), 5.0);
        assert_eq!(Cost::from_dollars(-1.0), Cost(0));
        assert_eq!(Cost::from_dollars(f64::NAN), Cost(0));
    }
}
