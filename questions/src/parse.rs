//! A model's reply to pairs: JSON where there is some, else the text form. Whole pairs only; nothing is guessed.

mod json;
#[cfg(test)]
mod tests;
mod text;

use serde::{Deserialize, Serialize};

/// Bytes of a reply that are looked at; an answer of 8,000 tokens has about 40 kB.
pub(crate) const MOST_REPLY_BYTES: usize = 1 << 20;

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QaPair {
    /// The question, one line, never empty.
    pub question: String,
    /// The answer, never empty.
    pub answer: String,
}

/// Why a reply holds no pair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// The pairs of a reply, in its order. `cut` says that the reply ended at the limit of tokens: then the last pair of a text counts
/// only if something follows it.
///
/// # Errors
/// No pair in it is whole; the reason is the first that was met.
pub fn parse(reply: &str, cut: bool) -> Result<Vec<QaPair>, Malformed> {
    if reply.len() > MOST_REPLY_BYTES {
        return Err(Malformed(format!("the reply has {} bytes, at most {MOST_REPLY_BYTES}", reply.len())));
    }
    let reply = without_thoughts(reply.trim_start_matches('\u{feff}').trim());
    if reply.is_empty() {
        return Err(Malformed(if cut { "the reply was cut off before it began" } else { "the reply is empty" }.into()));
    }
    let mut found = Found::default();
    if !json::collect(reply, &mut found) {
        text::collect(reply, cut, &mut found);
    }
    match found.pairs.is_empty() {
        false => Ok(found.pairs),
        true => Err(Malformed(found.trouble.unwrap_or_else(|| "no question and answer in the reply".into()))),
    }
}

/// The reply after the thoughts that some models write before it.
pub(crate) fn without_thoughts(reply: &str) -> &str {
    match reply.strip_prefix("<think>") {
        Some(thoughts) => thoughts.split_once("</think>").map_or("", |(_, after)| after.trim_start()),
        None => reply,
    }
}

/// What was found so far, and the first thing that was wrong.
#[derive(Debug, Default)]
struct Found {
    pairs: Vec<QaPair>,
    trouble: Option<String>,
}

impl Found {
    fn trouble(&mut self, what: &str) {
        self.trouble.get_or_insert_with(|| what.to_owned());
    }

    /// Takes a pair if both halves say something.
    fn push(&mut self, question: &str, answer: &str) {
        let question = clean(question).split_whitespace().collect::<Vec<_>>().join(" ");
        let answer = clean(answer);
        match (says_nothing(&question), says_nothing(&answer)) {
            (None, None) => self.pairs.push(QaPair { question, answer }),
            (Some(what), _) => self.trouble(&format!("the question {what}")),
            (None, Some(what)) => self.trouble(&format!("the answer {what}")),
        }
    }
}

/// Why a half of a pair is none.
fn says_nothing(text: &str) -> Option<&'static str> {
    let words: String = text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    match words.as_str() {
        "" => Some("is missing"),
        "na" | "none" | "null" | "nil" | "notapplicable" | "notavailable" => Some("is N/A"),
        "thequestion" | "theanswertoit" | "yourquestion" | "youranswer" => Some("is the prompt's own placeholder"),
        _ => None,
    }
}

/// The text without Markdown bold, a fence or a rule at its end, and quotes or brackets around all of it.
fn clean(text: &str) -> String {
    let mut lines: Vec<&str> = text.trim().lines().map(str::trim_end).collect();
    while lines.last().is_some_and(|line| {
        let line = line.trim();
        line.is_empty()
            || line.starts_with("```")
            || (line.len() >= 3 && line.chars().all(|c| matches!(c, '-' | '*' | '_' | '=')))
    }) {
        lines.pop();
    }
    let text = without_bold(lines.join("\n").trim());
    let mut text = text.trim();
    for (open, close) in [('*', '*'), ('_', '_'), ('[', ']'), ('"', '"'), ('\u{201c}', '\u{201d}')] {
        let inner = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        text = inner.filter(|inner| !inner.contains([open, close])).unwrap_or(text).trim();
    }
    text.to_owned()
}

/// Takes out `**`, but where it stands between two words or two blanks: that is a power, not bold.
fn without_bold(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("**") {
        out.push_str(&rest[..at]);
        let (before, after) = (out.chars().next_back(), rest[at + 2..].chars().next());
        let blank = |c: Option<char>| c.is_none_or(char::is_whitespace);
        let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        if (blank(before) && blank(after) && before.is_some() && after.is_some()) || (word(before) && word(after)) {
            out.push_str("**");
        }
        rest = &rest[at + 2..];
    }
    out + rest
}
