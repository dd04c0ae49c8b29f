//! What cleaning took out, counted by rule, with examples.

use serde::{Deserialize, Serialize};

use super::pair::GeneratedPair;

/// Examples that a rule keeps.
pub const MAX_EXAMPLES: usize = 3;
/// Characters of a question, an answer or a reason that an example shows.
pub const MAX_EXAMPLE_CHARS: usize = 200;

/// What one rule took out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filtered {
    /// The rule's name: `too_short`, `near_duplicate`, ...
    pub rule: String,
    /// Pairs that it took out; each pair counts for the first rule that it breaks.
    pub count: u64,
    /// The first of them.
    pub examples: Vec<FilteredExample>,
    /// The ids of all of them, in order.
    pub ids: Vec<String>,
}

/// A pair that was taken out, cut to what a person reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilteredExample {
    /// The pair's id.
    pub id: String,
    /// The document that it came from.
    pub document: String,
    /// Its question.
    pub question: String,
    /// Its answer.
    pub answer: String,
    /// Why, in words.
    pub reason: String,
}

/// What is left, and what was taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleaned {
    /// The pairs that are left, in their order.
    pub kept: Vec<GeneratedPair>,
    /// Every rule in the order of asking, those that took nothing out too.
    pub filtered: Vec<Filtered>,
    /// Pairs that were compared with some of the pairs that they might be near-duplicates of, not all: thousands were alike.
    pub compared_in_part: u64,
}

impl Cleaned {
    /// How many pairs a rule took out; 0 for a rule that there is not.
    pub fn count(&self, rule: &str) -> u64 {
        self.filtered.iter().filter(|filtered| filtered.rule == rule).map(|filtered| filtered.count).sum()
    }
}

impl Filtered {
    pub(crate) fn new(rule: &str) -> Self {
        Self { rule: rule.to_owned(), count: 0, examples: Vec::new(), ids: Vec::new() }
    }

    /// Counts a pair; `show` says whether its texts may be repeated.
    pub(crate) fn add(&mut self, pair: &GeneratedPair, reason: impl FnOnce() -> String, show: bool) {
        self.count += 1;
        self.ids.push(pair.id.clone());
        if self.examples.len() < MAX_EXAMPLES {
            let text = |text: &str| if show { cut(text) } else { "(not shown)".to_owned() };
            self.examples.push(FilteredExample {
                id: pair.id.clone(),
                document: cut(&pair.document),
                question: text(&pair.question),
                answer: text(&pair.answer),
                reason: cut(&reason()),
            });
        }
    }
}

/// The beginning of a text.
fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_EXAMPLE_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
