//! Pieces into chunks.

use std::collections::HashMap;
use std::ops::Range;

use super::Chunk;
use super::cost::Cost;
use super::pieces::{ChunkText, Piece};

/// What a chunk begins with before its first new piece.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Opening {
    Nothing,
    /// The previous chunk's tail, from here.
    Overlap(usize),
    /// The repeated head of the table that it begins within.
    Head(Range<usize>),
}

/// A chunk that is being filled, and what is left to do.
pub(super) struct Packer<'a> {
    text: &'a ChunkText,
    cost: &'a Cost<'a>,
    size: usize,
    overlap: usize,
    by_title: bool,
    /// Pieces that are in no chunk, the next one last.
    todo: Vec<Piece>,
    /// New pieces of the open chunk.
    current: Vec<Piece>,
    opening: Opening,
    /// What the open chunk costs.
    used: usize,
    /// The slice of the previous chunk, where its tail may be repeated.
    previous: Option<Range<usize>>,
    chunks: Vec<Chunk>,
    /// Costs of the white space between pieces, of which there are few kinds.
    gaps: HashMap<String, usize>,
    titles: Vec<(usize, String)>,
    /// A byte and the number of characters before it.
    counted: (usize, u64),
}

impl<'a> Packer<'a> {
    pub(super) fn new(text: &'a ChunkText, cost: &'a Cost<'a>, size: usize, overlap: usize, by_title: bool) -> Self {
        Self {
            text,
            cost,
            size,
            overlap,
            by_title,
            todo: Vec::new(),
            current: Vec::new(),
            opening: Opening::Nothing,
            used: 0,
            previous: None,
            chunks: Vec::new(),
            gaps: HashMap::new(),
            titles: text.titles(),
            counted: (0, 0),
        }
    }

    pub(super) fn pack(mut self, pieces: Vec<Piece>) -> Vec<Chunk> {
        self.todo = pieces;
        self.todo.reverse();
        loop {
            match self.todo.pop() {
                Some(piece) => self.take(piece),
                None if self.current.is_empty() => return self.chunks,
                None => self.close(),
            }
        }
    }

    /// Adds the piece to the open chunk, or closes that and leaves the piece to be taken again, or cuts it.
    fn take(&mut self, piece: Piece) {
        let has_text = self.current.iter().any(|piece| !piece.is_title);
        if self.by_title && piece.is_title && has_text {
            self.todo.push(piece);
            self.close();
            // No overlap over the beginning of a section; what closing gave back is of the old one.
            if self.todo.last().is_some_and(|next| next.is_title) {
                self.previous = None;
            }
            return;
        }
        if self.current.is_empty() {
            self.open(&piece);
        }
        let joint = self.joint(&piece);
        if self.used + joint + piece.cost <= self.size {
            self.used += joint + piece.cost;
            self.current.push(piece);
        } else if self.current.is_empty() {
            let room = self.size.saturating_sub(self.used + joint);
            self.cut(piece, room, joint);
        } else if !has_text && piece.cost > self.size - self.overlap && self.used + joint + (self.size / 4).max(1) <= self.size {
            // A sentence that is cut in any case is cut below its title.
            let room = self.size - self.used - joint;
            self.cut(piece, room, joint);
        } else {
            self.todo.push(piece);
            if has_text {
                self.put_titles_off();
            }
            self.close();
        }
    }

    /// Begins a chunk whose first new piece is this one.
    fn open(&mut self, piece: &Piece) {
        (self.opening, self.used) = (Opening::Nothing, 0);
        if let Some(head) = &piece.head {
            let cost = self.cost.of(&self.text.full[head.clone()]) + self.gap("\n");
            // Not where a row would have to be cut for it, nor a head that is most of a chunk.
            if cost <= self.size / 2 && (cost + piece.cost <= self.size || piece.cost > self.size) {
                (self.opening, self.used) = (Opening::Head(head.clone()), cost);
            }
            return;
        }
        let Some(previous) = self.previous.clone().filter(|_| self.overlap > 0) else { return };
        let start = previous.start + self.cost.tail(&self.text.full[previous.clone()], self.overlap);
        let cost = self.cost.of(&self.text.full[start..previous.end]);
        let joint = self.gap(&self.text.full[previous.end..piece.range.start]);
        if start < previous.end && cost + joint < self.size {
            (self.opening, self.used) = (Opening::Overlap(start), cost);
        }
    }

    /// What the white space before this piece costs in the open chunk.
    fn joint(&mut self, piece: &Piece) -> usize {
        let before = match (self.current.last(), &self.opening, &self.previous) {
            (Some(last), _, _) => last.range.end,
            (None, Opening::Overlap(_), Some(previous)) => previous.end,
            _ => return 0,
        };
        let text = self.text;
        self.gap(&text.full[before..piece.range.start])
    }

    fn gap(&mut self, white: &str) -> usize {
        if let Some(cost) = self.gaps.get(white) {
            return *cost;
        }
        let cost = if white.is_empty() { 0 } else { self.cost.of(white) };
        if white.len() <= 8 {
            self.gaps.insert(white.to_owned(), cost);
        }
        cost
    }

    /// Puts as much of the piece into the open chunk as `room` holds, and closes that; the rest is taken again.
    fn cut(&mut self, piece: Piece, room: usize, joint: usize) {
        let words = &self.text.full[piece.range.clone()];
        let at = self.cost.cut(words, room.max(1));
        let (first, rest) = (words[..at].trim_end(), words[at..].trim_start());
        let cost = self.cost.of(first);
        if cost > room && !self.current.is_empty() {
            self.todo.push(piece);
            return self.close();
        }
        if cost > room && self.opening != Opening::Nothing {
            // The overlap or head leaves no room for a character: then without it.
            (self.opening, self.used) = (Opening::Nothing, 0);
            let whole = self.size;
            return self.cut(piece, whole, 0);
        }
        if !rest.is_empty() {
            let range = piece.range.end - rest.len()..piece.range.end;
            self.todo.push(Piece { range, cost: self.cost.up_to(rest, self.size), ..piece.clone() });
        }
        self.used += joint + cost;
        self.current.push(Piece { range: piece.range.start..piece.range.start + first.len(), cost, ..piece });
        if !rest.is_empty() {
            self.close();
        }
    }

    /// Titles at the end of the open chunk go to the next one, if they leave half of that for text.
    fn put_titles_off(&mut self) {
        let num_titles = self.current.iter().rev().take_while(|piece| piece.is_title).count();
        let titles = self.current.len() - num_titles;
        let cost: usize = self.current[titles..].iter().map(|piece| piece.cost).sum();
        if cost <= (self.size - self.overlap) / 2 {
            self.todo.extend(self.current.drain(titles..).rev());
        }
    }

    /// Ends the open chunk. Where joining cost more than the sum, the last pieces are left for the next one.
    fn close(&mut self) {
        while self.cost.is_inexact() && self.cost.of(&self.slice().1) > self.size {
            if self.current.len() > 1 {
                self.todo.extend(self.current.pop());
            } else if self.opening != Opening::Nothing {
                self.opening = Opening::Nothing;
            } else {
                break;
            }
        }
        let (range, text) = self.slice();
        let Some(first) = self.current.iter().find(|piece| !piece.is_title).or(self.current.last()) else { return };
        let title = self.titles.partition_point(|(at, _)| *at <= first.range.start).checked_sub(1);
        let section = title.map(|title| self.titles[title].1.clone());
        let (first_page, last_page) = self.text.pages(&range);
        let (start, end) = (self.characters(range.start), self.characters(range.end));
        self.chunks.push(Chunk { text, first_page, last_page, start, end, section });
        self.previous = Some(range);
        self.current.clear();
    }

    /// The open chunk's slice and text.
    fn slice(&self) -> (Range<usize>, String) {
        let (Some(first), Some(last)) = (self.current.first(), self.current.last()) else { return (0..0, String::new()) };
        let range = match &self.opening {
            Opening::Overlap(start) => *start..last.range.end,
            _ => first.range.start..last.range.end,
        };
        let slice = &self.text.full[range.clone()];
        let text = match &self.opening {
            Opening::Head(head) => format!("{}\n{slice}", &self.text.full[head.clone()]),
            _ => slice.to_owned(),
        };
        (range, text)
    }

    /// Characters before a byte, counted from the last place asked for: places move forward but for overlaps.
    fn characters(&mut self, at: usize) -> u64 {
        let (byte, before) = self.counted;
        let count = |range: Range<usize>| self.text.full[range].chars().count() as u64;
        let characters = if at >= byte { before + count(byte..at) } else { before - count(at..byte) };
        self.counted = (at, characters);
        characters
    }
}
