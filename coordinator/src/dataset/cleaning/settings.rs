//! What cleaning shall take out.

use serde::{Deserialize, Serialize};

/// The limits of every rule. The defaults are those of `docs/adr/near-duplicate-pairs.md`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CleanSettings {
    /// A question has at least so many words; in a script without spaces each letter is one.
    pub min_question_words: usize,
    /// A question has at least so many letters and digits.
    pub min_question_letters: usize,
    /// An answer has at least so many words.
    pub min_answer_words: usize,
    /// An answer has at least so many letters and digits.
    pub min_answer_letters: usize,
    /// Take out questions that speak of the text they were made from.
    pub refers_to_text: bool,
    /// More phrases that such questions have, as words: `"laut handbuch"`.
    pub refers_to_text_phrases: Vec<String>,
    /// At least this share (0 to 1) of the answer's content words is in the chunk; 0 turns the rule off.
    pub min_support: f64,
    /// Every number of the answer is in the chunk.
    pub numbers_supported: bool,
    /// Question and answer are in the chunk's language.
    pub same_language: bool,
    /// A pair that was judged has at least this score, 1 to 5; one that was not stays. `None` turns the rule off.
    pub judge_threshold: Option<u64>,
    /// The template of the prompt, so that what a model copies from it is found; empty where there is none.
    pub prompt: String,
    /// Take out answers and questions with what looks like a key or a password.
    pub secrets: bool,
    /// Take out a question that an earlier pair asks in the same words, whatever the answers.
    pub same_question: bool,
    /// Take out pairs whose question and answer are nearly those of an earlier pair.
    pub near_duplicates: bool,
    /// How alike two questions must be for that (0 to 1).
    pub near_question: f64,
    /// How alike two answers must be for that (0 to 1).
    pub near_answer: f64,
    /// The questions are sentences of the chunks: take out those that stand in another pair's chunk as well.
    pub questions_from_text: bool,
}

impl Default for CleanSettings {
    fn default() -> Self {
        Self {
            min_question_words: 3,
            min_question_letters: 6,
            min_answer_words: 3,
            min_answer_letters: 6,
            refers_to_text: true,
            refers_to_text_phrases: Vec::new(),
            min_support: 0.5,
            numbers_supported: true,
            same_language: true,
            judge_threshold: None,
            prompt: String::new(),
            secrets: true,
            same_question: true,
            near_duplicates: true,
            near_question: 0.55,
            near_answer: 0.6,
            questions_from_text: false,
        }
    }
}

impl CleanSettings {
    /// Every setting that is out of its range, in words; empty if all are sound.
    pub fn problems(&self) -> Vec<String> {
        let shares = [
            ("min_support", self.min_support, 0.0),
            ("near_question", self.near_question, 0.2),
            ("near_answer", self.near_answer, 0.2),
        ];
        let wrong = shares.into_iter().filter(|(_, share, least)| !(*least..=1.0).contains(share));
        let wrong = wrong.map(|(name, share, least)| format!("{name} is {share}; it must be from {least} to 1"));
        let threshold = self.judge_threshold.filter(|threshold| !(1..=5).contains(threshold));
        wrong.chain(threshold.map(|threshold| format!("judge_threshold is {threshold}; it must be from 1 to 5"))).collect()
    }
}
