//! Glyphs to words.

use std::collections::HashMap;

use super::accents::{combining, compose};
use super::lines::is_leftward;
use super::model::{Glyph, RawPage, Rect, Word};

/// A gap wider than this part of the size ends a word.
pub const WORD_GAP: f32 = 0.13;
/// A step back further than this part of the size ends a word.
const STEP_BACK: f32 = 0.35;
/// A glyph whose baseline is off by more than this part of the size begins a word (a raised number, a new line).
const BASE_SHIFT: f32 = 0.15;
/// The same character drawn again within this part of the size is a bold look, not text.
const AGAIN: f32 = 0.12;
/// Gaps between spaced-out letters differ by less than this part of the size.
const EVEN_GAPS: f32 = 0.1;

/// The words of a page that run in one direction, in a frame where they run to the right.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Words {
    /// Quarter turns of the frame, as in [`Glyph::turn`].
    pub turn: u8,
    /// Points from left to right in the frame.
    pub width: f32,
    /// Points from top to bottom in the frame.
    pub height: f32,
    /// Words in the order of the file.
    pub words: Vec<Word>,
}

/// The words of a page by their direction, the one with the most text first; never empty.
pub fn words(page: &RawPage) -> Vec<Words> {
    let mut all: Vec<Words> = (0..4).map(|turn| of_turn(page, turn)).collect();
    let length = |w: &Words| w.words.iter().map(|w| w.text.len()).sum::<usize>();
    all.sort_by_key(|w| std::cmp::Reverse(length(w)));
    let mut kept = 0;
    all.retain(|w| {
        kept += 1;
        kept == 1 || !w.words.is_empty()
    });
    all
}

/// Turns a point of the page into the frame in which text of direction `turn` runs to the right.
pub fn to_frame(page: &RawPage, turn: u8, (x, y): (f32, f32)) -> (f32, f32) {
    match turn {
        1 => (y, page.width - x),
        2 => (page.width - x, page.height - y),
        3 => (page.height - y, x),
        _ => (x, y),
    }
}

/// Turns a rectangle of the page likewise.
pub fn rect_to_frame(page: &RawPage, turn: u8, r: &Rect) -> Rect {
    let (a, b) = (to_frame(page, turn, (r.x0, r.y0)), to_frame(page, turn, (r.x1, r.y1)));
    Rect::of(a.0, a.1, b.0, b.1)
}

fn of_turn(page: &RawPage, turn: u8) -> Words {
    let (width, height) = if turn.is_multiple_of(2) { (page.width, page.height) } else { (page.height, page.width) };
    let mut builder = Builder::default();
    let mut drawn: HashMap<(i32, i32), Vec<usize>> = HashMap::new();
    for (index, glyph) in page.glyphs.iter().enumerate().filter(|(_, g)| g.turn == turn) {
        if glyph.text.chars().all(char::is_whitespace) {
            if !glyph.text.is_empty() {
                builder.blank();
            }
            continue;
        }
        let (from, to) = (to_frame(page, turn, glyph.origin), to_frame(page, turn, glyph.end));
        if is_drawn_again(&page.glyphs, glyph, index, &mut drawn) {
            builder.again(glyph, from, to);
            continue;
        }
        builder.push(glyph, from, to);
    }
    builder.blank();
    Words { turn, width, height, words: join_spaced_out(builder.words) }
}

/// Whether the same character stands at (nearly) the same place already.
fn is_drawn_again(all: &[Glyph], glyph: &Glyph, index: usize, drawn: &mut HashMap<(i32, i32), Vec<usize>>) -> bool {
    const CELL: f32 = 3.0;
    let cell = |at: f32| (at / CELL).floor() as i32;
    let (x, y) = glyph.origin;
    let near = |other: &Glyph| {
        let far = AGAIN * glyph.size.min(other.size);
        other.text == glyph.text && (other.origin.0 - x).abs() < far && (other.origin.1 - y).abs() < far
    };
    let far = AGAIN * glyph.size;
    // a glyph larger than a page's cells is compared with its own neighbourhood alone
    let cells = |at: f32| cell(at - far).max(cell(at).saturating_sub(2))..=cell(at + far).min(cell(at).saturating_add(2));
    for key in cells(x).flat_map(|cx| cells(y).map(move |cy| (cx, cy))) {
        if drawn.get(&key).is_some_and(|there| there.iter().any(|&i| near(&all[i]))) {
            return true;
        }
    }
    let (x, y) = (cell(x), cell(y));
    drawn.entry((x, y)).or_default().push(index);
    false
}

#[derive(Default)]
struct Builder {
    words: Vec<Word>,
    open: Option<Word>,
    chars: usize,
    bold_chars: usize,
}

impl Builder {
    fn push(&mut self, glyph: &Glyph, from: (f32, f32), to: (f32, f32)) {
        let size = glyph.size.max(0.1);
        let rect = Rect { x0: from.0.min(to.0), x1: from.0.max(to.0), y0: from.1 - 0.8 * size, y1: from.1 + 0.2 * size };
        if self.accent(glyph, &rect) {
            return;
        }
        if let Some(open) = &self.open {
            let unit = size.min(open.size);
            let gap = rect.x0 - open.rect.x1;
            let apart = gap > WORD_GAP * size || gap < -STEP_BACK * unit;
            // letters that run leftwards are put in order when their line is known
            let leftward = is_leftward(&glyph.text) || is_leftward(&open.text);
            if leftward || apart || (from.1 - open.base).abs() > BASE_SHIFT * unit || (size - open.size).abs() > 0.1 * size {
                self.close(false);
            }
        }
        let open = self.open.get_or_insert_with(|| Word { rect, base: from.1, size, ..Word::default() });
        open.text.push_str(&glyph.text);
        open.rect = open.rect.union(&rect);
        self.chars += 1;
        self.bold_chars += usize::from(glyph.bold);
    }

    /// A glyph of the open word is drawn once more, a little off: the word reaches that far.
    fn again(&mut self, glyph: &Glyph, from: (f32, f32), to: (f32, f32)) {
        if let Some(open) = self.open.as_mut().filter(|o| (o.base - from.1).abs() < 0.3 * glyph.size) {
            let reach = to.0.max(from.0);
            if reach - open.rect.x1 < 0.3 * glyph.size {
                open.rect.x1 = open.rect.x1.max(reach);
            }
        }
    }

    /// Puts an accent and the letter over or under which it stands together; `false`: it is no such case.
    fn accent(&mut self, glyph: &Glyph, rect: &Rect) -> bool {
        let Some(open) = &mut self.open else { return false };
        let last = open.text.chars().next_back().map(String::from).unwrap_or_default();
        let composed = match (combining(&glyph.text), combining(&last)) {
            (Some(mark), None) => compose(&last, mark),
            (None, Some(mark)) => compose(&glyph.text, mark),
            _ => None,
        };
        // over one another: the later one starts well before the earlier one ends
        let over = open.rect.x1 - rect.x0 > 0.4 * rect.width().min(open.rect.width()) - 0.01;
        let near = (open.base - (rect.y1 - 0.2 * glyph.size)).abs() < 0.8 * glyph.size;
        match composed.filter(|_| over && near) {
            Some(both) => {
                open.text.truncate(open.text.len() - last.len());
                open.text.push_str(&both);
                if combining(&glyph.text).is_none() {
                    // the letter says where the word stands and ends
                    open.base = if open.text == both { rect.y1 - 0.2 * glyph.size } else { open.base };
                    open.rect.x1 = rect.x1;
                }
                true
            }
            None => false,
        }
    }

    fn blank(&mut self) {
        self.close(true);
        if let Some(last) = self.words.last_mut() {
            last.spaced = true;
        }
    }

    fn close(&mut self, spaced: bool) {
        if let Some(mut word) = self.open.take() {
            word.spaced = spaced;
            word.bold = self.bold_chars * 2 > self.chars;
            self.words.push(word);
        }
        (self.chars, self.bold_chars) = (0, 0);
    }
}

/// Joins letters that are set apart evenly (`H E A D I N G` of one word), which no blank parts.
fn join_spaced_out(words: Vec<Word>) -> Vec<Word> {
    let mut out: Vec<Word> = Vec::with_capacity(words.len());
    let mut at = 0;
    while at < words.len() {
        let end = even_run(&words[at..]) + at;
        if end - at >= 4 {
            let mut joined = words[at].clone();
            for word in &words[at + 1..end] {
                joined.text.push_str(&word.text);
                joined.rect = joined.rect.union(&word.rect);
                joined.spaced = word.spaced;
            }
            out.push(joined);
            at = end;
        } else {
            out.push(words[at].clone());
            at += 1;
        }
    }
    out
}

/// How many words from the start are single letters in one line with even gaps and no blanks.
fn even_run(words: &[Word]) -> usize {
    let single = |w: &Word| w.text.chars().count() == 1 && w.text.chars().all(char::is_alphabetic);
    let mut gap: Option<f32> = None;
    for (index, pair) in words.windows(2).enumerate() {
        let [a, b] = pair else { break };
        let here = b.rect.x0 - a.rect.x1;
        let even = gap.is_none_or(|g| (g - here).abs() < EVEN_GAPS * a.size) && here > 0.0 && here < a.size;
        let level = (a.base - b.base).abs() < 0.1 * a.size;
        if a.spaced || !single(a) || !single(b) || !even || !level {
            return index + 1;
        }
        gap = gap.or(Some(here));
    }
    words.len()
}
