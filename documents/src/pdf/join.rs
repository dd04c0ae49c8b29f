//! Lines to running text: words that a line's end parts are joined.

use std::collections::HashSet;

/// Words of a document, for deciding what a hyphen at a line's end is.
#[derive(Debug, Default)]
pub struct Vocabulary(HashSet<String>);

/// Words kept at most; beyond, hyphens are decided without the others.
const MAX_WORDS: usize = 500_000;

impl Vocabulary {
    /// Remembers the words of a line that stand within it.
    pub fn learn(&mut self, line: &str) {
        for word in line.split_whitespace() {
            let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
            if bare.len() > 3 && self.0.len() < MAX_WORDS && !word.ends_with('-') {
                self.0.insert(bare.to_lowercase());
            }
        }
    }

    fn knows(&self, word: &str) -> bool {
        self.0.contains(&word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase())
    }
}

/// Appends a line to a text: with a blank, or joined where a hyphen parts a word. A hyphen between small letters goes, unless the
/// document has the word with its hyphen elsewhere and not without; one before a capital or a digit stays.
pub fn append(text: &mut String, line: &str, words: &Vocabulary) {
    let line = line.trim();
    if text.is_empty() || line.is_empty() {
        text.push_str(line);
        return;
    }
    let Some(hyphen) = text.chars().next_back().filter(|c| matches!(c, '-' | '\u{2010}' | '\u{ad}')) else {
        text.push(' ');
        text.push_str(line);
        return;
    };
    let bare = &text[..text.len() - hyphen.len_utf8()];
    let before = bare.rsplit(char::is_whitespace).next().unwrap_or_default();
    let after = line.split_whitespace().next().unwrap_or_default();
    let part = before.chars().next_back().is_some_and(char::is_alphabetic);
    if !part {
        text.push(' ');
    } else if after.starts_with(char::is_lowercase) {
        let (joined, kept) = (format!("{before}{after}"), format!("{before}-{after}"));
        if hyphen == '\u{ad}' || words.knows(&joined) || !words.knows(&kept) {
            text.truncate(bare.len());
        }
    } else if hyphen == '\u{ad}' {
        text.truncate(bare.len());
    } else if !after.starts_with(char::is_alphanumeric) {
        text.push(' ');
    }
    text.push_str(line);
}
