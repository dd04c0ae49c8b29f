//! Plain text and reStructuredText: paragraphs, lists and underlined headings by their looks.

use crate::build::{after_bullet, classify, collapsed};
use crate::decode::decode;
use crate::element::{Document, Element, ElementKind};
use crate::read::Unreadable;

/// Characters of a heading that nothing but its looks tells.
const LONGEST_TITLE: usize = 80;
/// Words of such a heading.
const MOST_TITLE_WORDS: usize = 12;

/// Reads text: paragraphs end at blank lines; a line underlined with punctuation is a title. In reStructuredText (a name that ends in
/// `.rst`) the lines that begin directives and name targets are left out.
///
/// # Errors
/// `Broken` if the bytes are no text.
pub(crate) fn read(bytes: &[u8], name: &str) -> Result<Document, Unreadable> {
    let is_rst = name.to_ascii_lowercase().ends_with(".rst");
    Ok(Document::unpaged("text", elements(&decode(bytes, None)?, is_rst)))
}

fn elements(text: &str, is_rst: bool) -> Vec<Element> {
    let mut reader = Reader::default();
    // `lines` takes \n and \r\n; a form feed and old \r ends lines too.
    for line in text.lines().flat_map(|line| line.split(['\r', '\x0c', '\u{2028}', '\u{2029}', '\x0b'])) {
        let mark = line.trim_start().strip_prefix(".. ").filter(|_| is_rst);
        let is_markup = mark.is_some_and(|mark| mark.starts_with('_') || mark.contains("::"));
        reader.line(if is_markup { "" } else { line.trim_end() });
    }
    reader.end_paragraph();
    reader.demote_last_title();
    reader.elements
}

#[derive(Default)]
struct Reader<'a> {
    elements: Vec<Element>,
    /// Lines of the paragraph that is being read.
    lines: Vec<&'a str>,
    /// Characters that underline titles, the uppermost first.
    underlines: Vec<char>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a str) {
        let Some(mark) = underline(line) else {
            return if line.trim().is_empty() { self.end_paragraph() } else { self.lines.push(line) };
        };
        match self.lines.pop() {
            Some(title) if is_underlined(title, line) => {
                self.end_paragraph();
                let depth = self.depth(mark);
                self.elements.push(Element::title(collapsed(title), depth));
            }
            // A rule, or the line above a title: it ends what came before and says nothing.
            Some(other) => {
                self.lines.push(other);
                self.end_paragraph();
            }
            None => {}
        }
    }

    fn depth(&mut self, mark: char) -> u8 {
        let at = self.underlines.iter().position(|known| *known == mark).unwrap_or_else(|| {
            self.underlines.push(mark);
            self.underlines.len() - 1
        });
        u8::try_from(at + 1).unwrap_or(u8::MAX)
    }

    /// Makes elements of the lines read: items where they begin with bullets, else one paragraph.
    fn end_paragraph(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        let mut text = String::new();
        let mut is_item = false;
        for line in &lines {
            if let Some(item) = after_bullet(line) {
                self.push(&text, is_item, false);
                (text, is_item) = (item.to_owned(), true);
            } else {
                join_line(&mut text, line.trim());
            }
        }
        self.push(&text, is_item, lines.len() == 1);
    }

    fn push(&mut self, text: &str, is_item: bool, is_alone: bool) {
        let text = collapsed(text);
        if text.is_empty() {
            return;
        }
        self.elements.push(if is_item {
            Element::new(ElementKind::ListItem, text)
        } else if is_alone && looks_like_title(&text) {
            Element::new(ElementKind::Title, text)
        } else {
            let kind = classify(&text);
            Element::new(kind, text)
        });
    }

    /// A short last line is the end of a text, not the title of what follows.
    fn demote_last_title(&mut self) {
        if let Some(last) = self.elements.last_mut()
            && last.kind == ElementKind::Title
            && last.depth.is_none()
        {
            last.kind = classify(&last.text);
        }
    }
}

/// Adds a line; a word that is hyphenated at the line's end is joined.
fn join_line(text: &mut String, line: &str) {
    let is_hyphenated = text.ends_with('-') && text[..text.len() - 1].ends_with(char::is_lowercase);
    if is_hyphenated && line.starts_with(char::is_lowercase) {
        text.pop();
    } else if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(line);
}

/// The character of a line of at least three punctuation characters, all the same.
fn underline(line: &str) -> Option<char> {
    let line = line.trim();
    let mark = line.chars().next()?;
    (mark.is_ascii_punctuation() && line.len() >= 3 && line.chars().all(|c| c == mark)).then_some(mark)
}

fn is_underlined(title: &str, line: &str) -> bool {
    let (title, line) = (title.trim().chars().count(), line.trim().len());
    title > 0 && title <= 2 * LONGEST_TITLE && line * 10 >= title * 8
}

/// A short line alone that begins a text and does not end a sentence.
fn looks_like_title(text: &str) -> bool {
    text.chars().count() <= LONGEST_TITLE
        && text.split(' ').count() <= MOST_TITLE_WORDS
        && text.starts_with(|c: char| c.is_uppercase() || c.is_numeric())
        && text.chars().filter(|c| c.is_alphabetic()).count() * 2 > text.chars().count()
        && !text.ends_with(['.', ',', ';', ':', '!', '?', '"', '”', '…'])
        && !text.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(ElementKind, String)> {
        read(text.as_bytes(), "a.txt").unwrap().elements.into_iter().map(|element| (element.kind, element.text)).collect()
    }

    /// Goal: paragraphs, titles and lists by their looks. Method: a letter with one of each.
    #[test]
    fn a_letter() {
        use ElementKind::*;
        let text =
            "Annual Report\n\nThis is a para-\ngraph over\r\ntwo lines.\n\n- one\n- two\n  goes on\n3. three\n\nLast words\n";
        let wanted = [
            (Title, "Annual Report"),
            (NarrativeText, "This is a paragraph over two lines."),
            (ListItem, "one"),
            (ListItem, "two goes on"),
            (ListItem, "three"),
            (UncategorizedText, "Last words"),
        ];
        assert_eq!(kinds(text), wanted.map(|(kind, text)| (kind, text.to_owned())));
    }

    /// Goal: underlined headings have the depth of their mark. Method: reStructuredText with two marks and an overline.
    #[test]
    fn underlined_titles() {
        let text = "=====\nTop\n=====\n\nWords here.\nSection\n-------\nmore words.\n\nOther\n-----\n\nx\n\n----\n\nLower\n-----";
        let titles: Vec<(String, Option<u8>)> = read(text.as_bytes(), "a.txt")
            .unwrap()
            .elements
            .into_iter()
            .filter(|element| element.kind == ElementKind::Title)
            .map(|element| (element.text, element.depth))
            .collect();
        let wanted = [("Top", 1), ("Section", 2), ("Other", 2), ("Lower", 2)];
        assert_eq!(titles, wanted.map(|(text, depth)| (text.to_owned(), Some(depth))));
    }

    /// Goal: markup of reStructuredText is no text. Method: a target and a directive, in a file of that name and of another.
    #[test]
    fn markup_of_rst() {
        let text = b".. _target:\n\n.. note::\n   Mind the gap here.\n";
        let found = read(text, "a.RST").unwrap().elements;
        assert_eq!((found.len(), found[0].text.as_str()), (1, "Mind the gap here."));
        assert_eq!(read(text, "a.txt").unwrap().elements.len(), 2);
    }

    /// Goal: ten megabytes on one line, and ten megabytes of short lines, take no more than moments. Method: both are read.
    #[test]
    fn ten_megabytes() {
        let line = "word ".repeat(2 << 20);
        let elements = read(line.as_bytes(), "a.txt").unwrap().elements;
        assert_eq!((elements.len(), elements[0].text.len()), (1, line.len() - 1));
        let lines = "- a\n".repeat(2 << 20);
        assert_eq!(read(lines.as_bytes(), "a.txt").unwrap().elements.len(), 2 << 20);
        let many = "a\n".repeat(4 << 20);
        assert_eq!(read(many.as_bytes(), "a.txt").unwrap().elements.len(), 1);
    }
}
