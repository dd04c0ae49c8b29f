//! Words to lines.

use super::model::{Rect, Word};
use super::words::WORD_GAP;

/// A gap wider than this part of the size parts two cells of a line.
pub const CELL_GAP: f32 = 1.3;

/// A sign of another size closer than this part of the size is part of the word.
const TOUCH: f32 = 0.03;
/// The part of its height by which a small sign reaches into its line.
const REACH: f32 = 0.3;

/// Words of one region on one baseline, from left to right.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its words; close ones without a blank between them are one.
    pub words: Vec<Word>,
    /// Its place.
    pub rect: Rect,
    /// The baseline of most of it.
    pub base: f32,
    /// The font size of most of it.
    pub size: f32,
    /// Whether nearly all of it is bold.
    pub bold: bool,
}

impl Line {
    /// Its words, parted by blanks.
    pub fn text(&self) -> String {
        text_of(&self.words)
    }

    /// Its words in cells: parted where gaps are wide.
    pub fn cells(&self) -> Vec<&[Word]> {
        let mut cells = Vec::new();
        let mut from = 0;
        for at in 1..self.words.len() {
            if self.words[at].rect.x0 - self.words[at - 1].rect.x1 > CELL_GAP * self.size {
                cells.push(&self.words[from..at]);
                from = at;
            }
        }
        cells.push(&self.words[from..]);
        cells
    }

    fn new(mut words: Vec<Word>) -> Self {
        words.sort_by(|a, b| a.rect.x0.total_cmp(&b.rect.x0));
        let words = join_close(words);
        let rect = words.iter().skip(1).fold(words[0].rect, |r, w| r.union(&w.rect));
        let size = common_size(&words);
        let chars: usize = words.iter().map(|w| w.text.len()).sum();
        let bold: usize = words.iter().filter(|w| w.bold).map(|w| w.text.len()).sum();
        let main = words.iter().find(|w| (w.size - size).abs() < 0.5).unwrap_or(&words[0]);
        Self { base: main.base, rect, size, bold: bold * 10 > chars * 8, words }
    }
}

/// Words parted by blanks; texts that run from right to left are in the order of their places, from right to left.
pub fn text_of(words: &[Word]) -> String {
    let leftward = words.iter().filter(|w| is_leftward(&w.text)).count();
    let texts: Vec<&str> = match leftward * 2 > words.len() {
        true => words.iter().rev().map(|w| w.text.as_str()).collect(),
        false => words.iter().map(|w| w.text.as_str()).collect(),
    };
    texts.join(" ")
}

/// Whether a text is written from right to left (Hebrew, Arabic and their forms).
pub fn is_leftward(text: &str) -> bool {
    text.chars().any(|c| matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}'))
}

/// Whether a text is vowel marks alone, which follow their letter.
fn is_mark(text: &str) -> bool {
    text.chars().all(|c| matches!(c, '\u{591}'..='\u{5c7}' | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}' | '\u{670}'))
}

/// The size that most characters have.
pub fn common_size(words: &[Word]) -> f32 {
    let mut counts: Vec<(f32, usize)> = Vec::new();
    for word in words {
        match counts.iter_mut().find(|(size, _)| (*size - word.size).abs() < 0.25) {
            Some((_, count)) => *count += word.text.len(),
            None => counts.push((word.size, word.text.len())),
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map_or(0.0, |(size, _)| size)
}

/// Groups the words of a region into lines, from top to bottom.
pub fn lines(mut words: Vec<Word>) -> Vec<Line> {
    words.sort_by(|a, b| a.base.total_cmp(&b.base));
    // large words first: a raised number must not open a line of its own before the word that it belongs to
    let mut rows: Vec<(Rect, f32, Vec<Word>)> = Vec::new();
    let mut order: Vec<Word> = Vec::new();
    std::mem::swap(&mut order, &mut words);
    let common = common_size(&order);
    let (main, small): (Vec<Word>, Vec<Word>) = order.into_iter().partition(|w| w.size > 0.85 * common);
    for word in main.into_iter().chain(small) {
        let fits = |(rect, base, _): &&mut (Rect, f32, Vec<Word>)| {
            let tall = rect.height().min(word.rect.height()).max(0.1);
            let reach = if word.size > 0.85 * common { 0.55 } else { REACH };
            (word.base - *base).abs() < 0.2 * tall.max(word.size) || rect.overlap_y(&word.rect) > reach * tall
        };
        let best = rows.iter_mut().filter(fits).min_by(|a, b| (a.1 - word.base).abs().total_cmp(&(b.1 - word.base).abs()));
        match best {
            Some((_, _, row)) => row.push(word),
            None => rows.push((word.rect, word.base, vec![word])),
        }
    }
    let mut lines: Vec<Line> = rows.into_iter().map(|(_, _, row)| Line::new(row)).collect();
    lines.sort_by(|a, b| a.base.total_cmp(&b.base));
    lines
}

/// Joins neighbours of a line that stand too close to be two words.
fn join_close(words: Vec<Word>) -> Vec<Word> {
    let mut out: Vec<Word> = Vec::with_capacity(words.len());
    // the size of the piece that was joined last: a word may end in a small sign
    let mut tail: f32 = 0.0;
    for word in words {
        let size = word.size;
        let close = out.last().is_some_and(|last: &Word| {
            let gap = word.rect.x0 - last.rect.x1;
            let large = tail.max(word.size);
            // raised and lowered signs touch what they belong to
            let near = if (tail - word.size).abs() > 0.1 * large { TOUCH } else { WORD_GAP };
            !last.spaced && gap < near * large && gap > -0.6 * large
        });
        match (close, out.last_mut()) {
            (true, Some(last)) => {
                let (a, b) = (last.text.len(), word.text.len());
                last.bold = if b > a { word.bold } else { last.bold };
                if b > a {
                    (last.size, last.base) = (word.size, word.base);
                }
                match is_leftward(&last.text) && !is_mark(&word.text) {
                    true => last.text.insert_str(0, &word.text),
                    false => last.text.push_str(&word.text),
                }
                last.rect = last.rect.union(&word.rect);
                last.spaced = word.spaced;
            }
            _ => out.push(word),
        }
        tail = size;
    }
    out
}
