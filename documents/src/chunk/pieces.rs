//! A document's chunk text, and the pieces of it that are not cut without need: sentences, titles, rows of tables, lines of programs.

use std::ops::Range;

use super::cost::Cost;
use crate::element::{Document, ElementKind};
use crate::sentences::sentences;

/// Between two elements, as the seed joins them.
const BETWEEN: &str = "\n\n";
/// Characters of a title that a chunk carries as its section: a title of a megabyte must not be copied into every chunk.
const LONGEST_SECTION: usize = 200;

/// An element in the chunk text.
struct Span {
    range: Range<usize>,
    page: Option<u32>,
    kind: ElementKind,
}

/// The elements that go into chunks, joined.
pub(super) struct ChunkText {
    /// Their text.
    pub(super) full: String,
    spans: Vec<Span>,
}

/// A part of the chunk text that stays whole if it can.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// Where it stands, in bytes.
    pub(super) range: Range<usize>,
    /// What it costs; only known to be more than a chunk where it is.
    pub(super) cost: usize,
    /// It is of a title.
    pub(super) is_title: bool,
    /// The head of its table, which is repeated if a chunk begins with this row.
    pub(super) head: Option<Range<usize>>,
}

impl ChunkText {
    pub(super) fn new(document: &Document) -> Self {
        let (mut full, mut spans) = (String::new(), Vec::new());
        for element in document.elements.iter().filter(|element| element.kind.in_chunks()) {
            let text = element.text.trim();
            if text.is_empty() {
                continue;
            }
            if !full.is_empty() {
                full.push_str(BETWEEN);
            }
            let start = full.len();
            full.push_str(text);
            spans.push(Span { range: start..full.len(), page: element.page, kind: element.kind });
        }
        Self { full, spans }
    }

    /// The pieces, in order; together they hold every character but white space. `size` is that of a chunk.
    pub(super) fn pieces(&self, cost: &Cost<'_>, size: usize) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for span in &self.spans {
            let text = &self.full[span.range.clone()];
            let piece = |range: Range<usize>, head: Option<Range<usize>>| {
                let cost = cost.up_to(&text[range.clone()], size);
                let at = |range: Range<usize>| span.range.start + range.start..span.range.start + range.end;
                Piece { range: at(range), cost, is_title: span.kind == ElementKind::Title, head: head.map(at) }
            };
            let is_lines = matches!(span.kind, ElementKind::Table | ElementKind::CodeSnippet);
            if is_lines || span.kind == ElementKind::Title {
                let whole = piece(0..text.len(), None);
                if !is_lines || whole.cost <= size {
                    pieces.push(whole);
                } else {
                    let head = if span.kind == ElementKind::Table { head(text) } else { None };
                    pieces.extend(
                        lines(text, head.clone()).map(|(line, is_headed)| piece(line, head.clone().filter(|_| is_headed))),
                    );
                }
            } else {
                pieces.extend(sentences(text).into_iter().map(|sentence| piece(sentence, None)));
            }
        }
        pieces
    }

    /// The pages of the first and the last element of a range.
    pub(super) fn pages(&self, range: &Range<usize>) -> (Option<u32>, Option<u32>) {
        let first = self.spans.partition_point(|span| span.range.end <= range.start);
        let last = self.spans.partition_point(|span| span.range.start < range.end);
        let spans = self.spans.get(first..last).unwrap_or_default();
        (spans.iter().find_map(|span| span.page), spans.iter().rev().find_map(|span| span.page))
    }

    /// The titles, by where they begin.
    pub(super) fn titles(&self) -> Vec<(usize, String)> {
        let titles = self.spans.iter().filter(|span| span.kind == ElementKind::Title);
        titles.map(|span| (span.range.start, self.full[span.range.clone()].chars().take(LONGEST_SECTION).collect())).collect()
    }
}

/// The first two lines of a Markdown table, where the second is the rule below the head.
fn head(text: &str) -> Option<Range<usize>> {
    let first = text.find('\n')?;
    let rule = text[first + 1..].lines().next()?;
    let is_rule = rule.contains("---") && rule.chars().all(|c| "|-: ".contains(c));
    is_rule.then_some(0..first + 1 + rule.len())
}

/// The lines that are not blank, and whether the head may be repeated above them: the first is head and first row.
fn lines(text: &str, head: Option<Range<usize>>) -> impl Iterator<Item = (Range<usize>, bool)> {
    let skip = head.as_ref().map_or(0, |head| head.end);
    let mut at = 0;
    let ends = text.split_inclusive('\n').map(move |line| {
        let range = at..at + line.trim_end().len();
        at += line.len();
        range
    });
    let mut begin = None;
    ends.filter_map(move |line| {
        if line.end <= line.start {
            return None;
        }
        let from = begin.take().unwrap_or(line.start);
        if line.end <= skip && line.end < text.trim_end().len() {
            begin = Some(from);
            return None;
        }
        Some((from..line.end, from >= skip && skip > 0))
    })
}
