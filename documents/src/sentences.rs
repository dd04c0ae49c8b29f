//! Where sentences begin and end: Unicode's rules (UAX 29, by ICU), with what those split at abbreviations joined again.

mod abbreviations;

use std::borrow::Cow;
use std::ops::Range;

use icu_segmenter::SentenceSegmenter;
use icu_segmenter::options::SentenceBreakInvariantOptions;

use abbreviations::{Ending, NUMBERED_WORDS, ending, is_month, is_starter};

/// Bytes before a break that are looked at.
const LOOK_BACK: usize = 64;

/// Byte ranges of the sentences of `text`, in order, without the white space around them; together they hold every other character.
/// No sentence goes over a blank line. A single line break within a paragraph is a space.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for paragraph in paragraphs(text) {
        split_paragraph(text, paragraph, &mut found);
    }
    found
}

/// Ranges between blank lines.
fn paragraphs(text: &str) -> Vec<Range<usize>> {
    let (mut found, mut start, mut end, mut at) = (Vec::new(), 0, 0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() {
            if end > start {
                found.push(start..end);
            }
            start = at + line.len();
            end = start;
        } else {
            end = at + line.len();
        }
        at += line.len();
    }
    if end > start {
        found.push(start..end);
    }
    found
}

fn split_paragraph(text: &str, paragraph: Range<usize>, found: &mut Vec<Range<usize>>) {
    let words = unwrapped(&text[paragraph.clone()]);
    let segmenter = SentenceSegmenter::new(SentenceBreakInvariantOptions::default());
    let mut start = 0;
    for at in segmenter.segment_str(&words) {
        let (before, after) = (&words[start..at], &words[at..]);
        if before.is_empty() || joins(before, after) {
            continue;
        }
        let left = before.len() - before.trim_start().len();
        let length = before.trim().len();
        if length > 0 {
            let from = paragraph.start + start + left;
            found.push(from..from + length);
        }
        start = at;
    }
}

/// The paragraph with its line breaks, which Unicode ends sentences at, as spaces of the same length.
fn unwrapped(paragraph: &str) -> Cow<'_, str> {
    let is_break = |c: char| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\u{85}' | '\u{2028}' | '\u{2029}');
    if !paragraph.contains(is_break) {
        return Cow::Borrowed(paragraph);
    }
    let mut words = String::with_capacity(paragraph.len());
    for c in paragraph.chars() {
        if is_break(c) { words.extend(std::iter::repeat_n(' ', c.len_utf8())) } else { words.push(c) }
    }
    Cow::Owned(words)
}

/// Whether a break of Unicode's rules between `before` (the sentence so far) and `after` ends no sentence.
fn joins(before: &str, after: &str) -> bool {
    let Some(next) = after.chars().next() else { return false };
    if next.is_lowercase() {
        return true;
    }
    let is_apart = before.ends_with(char::is_whitespace);
    let is_short = before.len() <= LOOK_BACK;
    let from = before.ceil_char_boundary(before.len().saturating_sub(LOOK_BACK));
    let seen = before[from..].trim_end();
    if is_short && !seen.contains(char::is_alphanumeric) {
        return true;
    }
    if !is_apart && next.is_ascii() && seen.ends_with(['.', '!', '?']) {
        // Paths, addresses and program text; scripts without spaces have full stops of their own.
        return true;
    }
    let Some(without_dot) = seen.strip_suffix('.') else { return false };
    let (earlier, token) = match without_dot.rfind(|c: char| c.is_whitespace() || "([{\"'“‘«/–—".contains(c)) {
        Some(at) => {
            let length = without_dot[at..].chars().next().map_or(1, char::len_utf8);
            (&without_dot[..at], &without_dot[at + length..])
        }
        None => ("", without_dot),
    };
    let is_first = is_short && earlier.trim().is_empty();
    joins_after(token, is_first, last_word(earlier), next, first_word(after))
}

/// The same, with what stands before the break taken apart: the word that the dot follows, whether it is the sentence's first, the
/// word before it, and the next character and word.
fn joins_after(token: &str, is_first: bool, earlier: &str, next: char, next_word: &str) -> bool {
    let is_number = !token.is_empty() && token.chars().all(|c| c.is_ascii_digit() || c == '.');
    if is_number {
        // "1. Introduction", "2.3. Results", "3. Mai".
        return is_first || (token.len() <= 2 && is_month(next_word));
    }
    let mut letters = token.chars();
    if let (Some(letter), None) = (letters.next(), letters.next())
        && letter.is_uppercase()
    {
        // An initial, or the name of a vitamin at the end of its sentence.
        let names_a_kind = NUMBERED_WORDS.contains(&earlier.to_lowercase().as_str());
        return is_first || (next.is_uppercase() && !names_a_kind && !is_starter(next_word));
    }
    match ending(token) {
        Ending::Never => true,
        Ending::BeforeNumber => next.is_ascii_digit() || "(#§".contains(next) || is_label(next_word),
        Ending::Month => next.is_ascii_digit() || (next.is_uppercase() && !is_starter(next_word)),
        Ending::Maybe => next.is_uppercase() && !is_starter(next_word),
        Ending::Always => false,
    }
}

/// A Roman number or a capital letter, as in "Sec. IV", "App. B".
fn is_label(word: &str) -> bool {
    !word.is_empty() && (word.chars().all(|c| "IVXLC".contains(c)) || (word.chars().count() == 1 && word != "A" && word != "I"))
}

fn first_word(text: &str) -> &str {
    let word = text.trim_start_matches(|c: char| !c.is_alphanumeric() && !c.is_whitespace());
    let length: usize = word.chars().take(LOOK_BACK).take_while(|c| c.is_alphabetic()).map(char::len_utf8).sum();
    &word[..length]
}

fn last_word(text: &str) -> &str {
    text.split_whitespace().next_back().unwrap_or_default()
}

#[cfg(test)]
mod tests;
