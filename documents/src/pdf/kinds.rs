//! What a block is, by its looks and its text.

use super::blocks::Block;
use crate::element::ElementKind;

/// Signs that open an item.
const BULLETS: &[char] = &[
    '\u{2022}', '\u{2023}', '\u{2043}', '\u{204c}', '\u{204d}', '\u{2219}', '\u{25cb}', '\u{25cf}', '\u{25aa}', '\u{25a0}',
    '\u{25a1}', '\u{25b6}', '\u{25b8}', '\u{25ba}', '\u{25c6}', '\u{25e6}', '\u{2605}', '\u{2713}', '\u{2714}', '\u{27a2}',
    '\u{27a4}', '\u{f0b7}', '\u{f0a7}', '\u{f0d8}', '\u{f0fc}', '\u{f076}', '\u{b7}', '\u{95}', '\u{f06e}', '\u{f0a8}',
];

/// How many bytes of a text are its bullet with the blanks after it, if it opens with one; 0 for a number that stays.
pub fn starts_item(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    if BULLETS.contains(&first) {
        let rest = text[first.len_utf8()..].trim_start();
        return (!rest.is_empty()).then(|| text.len() - rest.len());
    }
    if matches!(first, '-' | '\u{2013}' | '*' | '\u{2014}' | 'o') && text[first.len_utf8()..].starts_with(' ') {
        let rest = text[first.len_utf8()..].trim_start();
        let opens = rest.starts_with(char::is_alphabetic) && (first != 'o' || rest.starts_with(char::is_uppercase));
        return opens.then(|| text.len() - rest.len());
    }
    let label = text.split_whitespace().next()?;
    (is_label(label) && label.len() < text.trim_end().len()).then_some(0)
}

/// Whether a word is an item's number: `1.`, `(2)`, `3)`, `a)`, `iv.`, `[12]`.
fn is_label(word: &str) -> bool {
    let opened = word.starts_with(['(', '[']);
    let Some(inner) = word.trim_start_matches(['(', '[']).strip_suffix(['.', ')', ']']) else { return false };
    let digits = !inner.is_empty() && inner.len() <= 3 && inner.bytes().all(|b| b.is_ascii_digit());
    let letter = inner.len() == 1 && inner.bytes().all(|b| b.is_ascii_alphabetic()) && !word.ends_with('.');
    let roman = !inner.is_empty() && inner.len() <= 4 && inner.bytes().all(|b| b"ivx".contains(&b));
    digits || letter || roman || opened && inner.len() == 1 && inner.bytes().all(|b| b.is_ascii_alphabetic())
}

/// Whether a text is a figure's or table's caption: a name, a number and a mark after it (or a bold name).
pub fn is_caption(text: &str, bold: bool) -> bool {
    const NAMES: [&str; 12] =
        ["figure", "fig.", "fig", "table", "tab.", "tabelle", "abbildung", "abb.", "scheme", "chart", "exhibit", "listing"];
    let mut words = text.split_whitespace();
    let (Some(name), Some(number)) = (words.next(), words.next()) else { return false };
    if !NAMES.contains(&name.to_lowercase().as_str()) || !name.starts_with(char::is_uppercase) {
        return false;
    }
    let bare = number.trim_end_matches([':', '.', '|']);
    let counted = bare.len() <= 8 && bare.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-')) && {
        bare.chars().any(|c| c.is_ascii_digit()) || bare.chars().all(|c| "IVX".contains(c)) && !bare.is_empty()
    };
    let next = words.next();
    let marked = number.len() > bare.len() || next.is_some_and(|n| matches!(n, ":" | "|" | "-" | "\u{2013}" | "\u{2014}"));
    counted && (marked || next.is_none() || bold)
}

/// The usual look of a document's text.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Body {
    /// The font size of most of it.
    pub size: f32,
    /// Whether most of it is bold.
    pub bold: bool,
}

/// The kind of a block with the joined text `text`.
pub fn kind(block: &Block, text: &str, body: Body) -> ElementKind {
    let words = text.split_whitespace().count();
    if words == 1 && is_email(text) {
        return ElementKind::EmailAddress;
    }
    let first = block.lines.first();
    let named = first.is_some_and(|l| l.words.len() == 2 && is_caption(&l.text(), false));
    if named || is_caption(text, first.is_some_and(|l| l.words.first().is_some_and(|w| w.bold))) {
        return ElementKind::FigureCaption;
    }
    if is_title(block, text, words, body) {
        return ElementKind::Title;
    }
    if starts_item(text).is_some() {
        return ElementKind::ListItem;
    }
    if is_formula(text) {
        return ElementKind::Formula;
    }
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let sentence = words >= 8 || words >= 5 && text.ends_with(['.', '!', '?', ':', '\u{3002}']) || letters > 60;
    if sentence && letters * 2 > text.chars().filter(|c| !c.is_whitespace()).count() {
        ElementKind::NarrativeText
    } else {
        ElementKind::UncategorizedText
    }
}

fn is_title(block: &Block, text: &str, words: usize, body: Body) -> bool {
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let all = text.chars().filter(|c| !c.is_whitespace()).count();
    let lines = block.lines.len();
    if letters < 3 || letters * 2 < all || text.len() > 220 || lines > 4 || is_email(text) {
        return false;
    }
    let ends = text.ends_with(['.', ',', ';', ':']) && !text.ends_with("...");
    let larger = block.size() > 1.12 * body.size;
    let much_larger = block.size() > 1.35 * body.size;
    let bullet = starts_item(text).is_some_and(|n| n > 0);
    if bullet {
        return false;
    }
    if much_larger {
        return words <= 30 && !(ends && words > 15);
    }
    let capitals = words >= 2 && letters >= 6 && text.chars().all(|c| !c.is_lowercase()) && lines <= 2;
    // a small sign: text of the body's size or more, not footnotes
    let sized = block.size() > 0.88 * body.size;
    let bold = block.bold() && !body.bold;
    !ends && words <= 25 && sized && lines <= 3 && (larger || bold || capitals)
}

fn is_email(text: &str) -> bool {
    let Some((name, host)) = text.split_once('@') else { return false };
    !text.contains(char::is_whitespace) && !name.is_empty() && host.contains('.') && !host.contains('@') && text.len() < 100
}

/// Whether a text is mathematics: short, with a relation, and few words of letters.
fn is_formula(text: &str) -> bool {
    let sign = |c: char| matches!(c, '=' | '<' | '>' | '+' | '\u{b1}' | '\u{d7}' | '\u{2190}'..='\u{22ff}' | '\u{391}'..='\u{3c9}' | '\u{1d400}'..='\u{1d7ff}');
    let relation =
        text.chars().any(|c| matches!(c, '=' | '<' | '>' | '\u{2248}' | '\u{2264}' | '\u{2265}' | '\u{2208}' | '\u{2192}'));
    let words = text.split_whitespace().filter(|w| w.chars().count() >= 4 && w.chars().all(char::is_alphabetic)).count();
    let all = text.split_whitespace().count();
    let signs = text.chars().filter(|c| sign(*c)).count();
    relation && text.len() < 200 && words * 4 <= all && signs * 12 >= text.chars().filter(|c| !c.is_whitespace()).count()
}
