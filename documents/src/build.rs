//! What every reader needs to build a document: text with its white space collapsed, elements, and what a text is by its looks.

use crate::element::{Document, Element, ElementKind};

/// Words that a text may have and still be a label rather than a sentence.
const FEWEST_WORDS: usize = 5;

impl Element {
    /// An element of this kind and text, with nothing else known.
    pub(crate) fn new(kind: ElementKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), page: None, html: None, depth: None }
    }

    /// A title of a depth (1 is the uppermost).
    pub(crate) fn title(text: impl Into<String>, depth: u8) -> Self {
        Self { depth: Some(depth.max(1)), ..Self::new(ElementKind::Title, text) }
    }
}

impl Document {
    /// A document without pages.
    pub(crate) fn unpaged(reader: &str, elements: Vec<Element>) -> Self {
        Self { elements, pages: 0, reader: reader.into(), warnings: Vec::new() }
    }

    /// Whether no element says anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.elements.iter().all(|element| element.text.trim().is_empty())
    }
}

/// Adds `text` to `out` with every run of white space as one space; nothing at the beginning of `out`.
pub(crate) fn push_collapsed(out: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_whitespace() {
            if !out.is_empty() && !out.ends_with(' ') {
                out.push(' ');
            }
        } else if c != '\u{ad}' && !c.is_control() {
            // A soft hyphen is a place to break a line at, not a letter.
            out.push(c);
        }
    }
}

/// `text` with every run of white space as one space, none at the ends.
pub(crate) fn collapsed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_collapsed(&mut out, text);
    out.truncate(out.trim_end().len());
    out
}

/// What running text is that no markup tells about.
pub(crate) fn classify(text: &str) -> ElementKind {
    if is_email(text) {
        return ElementKind::EmailAddress;
    }
    let is_ended =
        text.trim_end_matches(['"', '\'', ')', ']', '”', '’', '»']).ends_with(['.', '!', '?', ':', ';', '…', '。', '！', '？']);
    if is_ended || text.split_whitespace().nth(FEWEST_WORDS).is_some() {
        ElementKind::NarrativeText
    } else {
        ElementKind::UncategorizedText
    }
}

fn is_email(text: &str) -> bool {
    let is_word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._%+-".contains(c));
    let Some((user, host)) = text.split_once('@') else { return false };
    is_word(user) && is_word(host) && host.contains('.') && !host.starts_with('.') && !host.ends_with('.')
}

/// A line's text after the bullet that it begins with: `- `, `* `, `• `, ..., `1. `, `2) `, `(3) `, `a) `.
pub(crate) fn after_bullet(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let mut chars = line.chars();
    let first = chars.next()?;
    let rest = chars.as_str();
    if "-*+•◦▪▫‣⁃∙●○■□–—·".contains(first) {
        let is_apart = rest.starts_with(char::is_whitespace) || (!first.is_ascii() && !"–—".contains(first));
        return Some(rest.trim_start()).filter(|text| is_apart && text.starts_with(|c: char| !"-*+".contains(c)));
    }
    let inner = line.strip_prefix('(').unwrap_or(line);
    let length = inner.chars().take_while(char::is_ascii_alphanumeric).count();
    let (label, after) = inner.split_at(length);
    let is_number = (1..=3).contains(&length) && label.bytes().all(|byte| byte.is_ascii_digit());
    let is_letter = length == 1 && after.starts_with(')');
    let closed = if inner.len() < line.len() { after.strip_prefix(')') } else { after.strip_prefix([')', '.']) };
    closed.filter(|text| (is_number || is_letter) && text.starts_with([' ', '\t'])).map(str::trim_start).filter(|t| !t.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: bullets are told from text that begins like one. Method: a list of each.
    #[test]
    fn bullets() {
        let lists = [("- a", "a"), ("• b", "b"), ("•b", "b"), ("12. c d", "c d"), ("(3) e", "e"), ("a) f", "f"), ("  * g", "g")];
        for (line, text) in lists {
            assert_eq!(after_bullet(line), Some(text), "{line}");
        }
        for line in ["-5 degrees", "--- x", "1999. Was", "3.14 is", "A. Smith", "word", "", "*", "- ", "* * *"] {
            assert_eq!(after_bullet(line), None, "{line}");
        }
    }

    /// Goal: what text is by its looks. Method: one of each kind.
    #[test]
    fn kinds_by_looks() {
        assert_eq!(classify("info@example.org"), ElementKind::EmailAddress);
        assert_eq!(classify("He said \"no.\""), ElementKind::NarrativeText);
        assert_eq!(classify("three words only"), ElementKind::UncategorizedText);
        assert_eq!(classify("the longer a text is the more it is one"), ElementKind::NarrativeText);
        assert_eq!(collapsed(" a\n\tb\u{a0} c "), "a b c");
    }
}
