//! What should not have come out of a model: parts of its prompt, talk about itself, keys.

use std::collections::HashSet;

use artel_questions::secret::MASK;

use super::super::words::{Words, mix};

/// So many words in a row are not shared with the prompt by chance.
const COPIED_WORDS: usize = 8;
/// How a line begins that a parser should have taken apart.
const LABELS: &[&str] = &["question:", "answer:", "text chunk:", "q:", "a:", "question 1:", "answer 1:"];
/// How models talk of themselves and of their task, in lower case.
const TALK: &[&str] = &[
    "as an ai language model",
    "as a language model",
    "as an ai assistant",
    "i'm sorry, but",
    "i am sorry, but",
    "i cannot answer",
    "i can't answer",
    "i cannot provide",
    "here is a question",
    "here's a question",
    "here is the question",
    "here are the question",
    "question and answer pair",
    "question-answer pair",
];
/// Fewer letters are no key.
const MIN_KEY_LETTERS: usize = 20;
/// So many letters, small and capital, with digits among them, are no word.
const MIN_UNKNOWN_KEY_LETTERS: usize = 32;
const MIN_OF_EACH_KIND: usize = 3;
/// How known keys begin: Google, OpenAI and others, GitHub, Slack, Hugging Face, AWS, Stripe.
const KEY_PREFIXES: &[&str] = &[
    "AIza",
    "ya29.",
    "sk-",
    "sk_live_",
    "rk_live_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "hf_",
    "AKIA",
    "ASIA",
    "eyJhbGci",
];

/// The word sequences of a prompt's template.
pub(super) struct Prompt {
    sequences: HashSet<u64>,
}

fn sequences(words: &[u64]) -> impl Iterator<Item = u64> {
    words.windows(COPIED_WORDS).map(|words| words.iter().fold(14, |sum, &word| mix(sum, word)))
}

impl Prompt {
    pub(super) fn new(template: &str) -> Self {
        let mut words = Words::default();
        words.read(template);
        Self { sequences: sequences(words.hashes()).collect() }
    }

    /// What of the prompt is in a text, in words.
    pub(super) fn copied(&self, text: &str, words: &mut Words) -> Option<String> {
        let lower = text.to_lowercase();
        let label = lower.lines().find_map(|line| {
            let line = line.trim_start_matches(|letter: char| letter.is_whitespace() || "*#_->".contains(letter));
            LABELS.iter().find(|label| line.starts_with(**label))
        });
        if let Some(label) = label {
            return Some(format!("a line begins with \"{label}\""));
        }
        if let Some(talk) = TALK.iter().find(|talk| lower.contains(**talk)) {
            return Some(format!("it says \"{talk}\""));
        }
        if self.sequences.is_empty() {
            return None;
        }
        words.read(text);
        let is_copied = sequences(words.hashes()).any(|sequence| self.sequences.contains(&sequence));
        is_copied.then(|| format!("{COPIED_WORDS} words in a row are the prompt's"))
    }
}

/// What kind of secret a text seems to have; long tokens that the chunk has are the document's own.
pub(super) fn secret(text: &str, chunk: &str) -> Option<String> {
    if text.contains("-----BEGIN") && text.contains("PRIVATE KEY") {
        return Some("a private key".to_owned());
    }
    if text.contains(MASK) && !chunk.contains(MASK) {
        return Some("the key of the server, which was blotted out".to_owned());
    }
    let is_of_key = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    text.split(|letter| !is_of_key(letter)).map(|token| token.trim_matches('.')).find_map(|token| {
        if token.len() < MIN_KEY_LETTERS {
            return None;
        }
        let count = |is: fn(&u8) -> bool| token.as_bytes().iter().filter(|byte| is(byte)).count();
        let num_digits = count(u8::is_ascii_digit);
        if let Some(prefix) = KEY_PREFIXES.iter().find(|prefix| token.starts_with(**prefix) && num_digits > 0) {
            return Some(format!("a key that begins with {prefix}"));
        }
        let mixed = [num_digits, count(u8::is_ascii_lowercase), count(u8::is_ascii_uppercase)]
            .into_iter()
            .all(|num| num >= MIN_OF_EACH_KIND);
        let is_unknown_key = mixed && token.len() >= MIN_UNKNOWN_KEY_LETTERS && !token.contains('.') && !chunk.contains(token);
        is_unknown_key.then(|| format!("a token of {} letters and digits that the chunk has not", token.len()))
    })
}

#[cfg(test)]
mod tests;
