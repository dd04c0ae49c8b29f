//! Chunks of a document: whole sentences while they fit, each chunk beginning with the end of the one before it.
//!
//! A document's *chunk text* is the text of its elements that go into chunks, joined by blank lines. A chunk is a slice of it: the
//! overlap (the tail of the previous chunk, from the beginning of a word) and then new sentences, together at most `chunk_size`. So
//! every character that is no white space is new in exactly one chunk. There are three exceptions to "whole sentences":
//!
//! - A sentence longer than the room beside the overlap begins a chunk and is cut between words, a word longer than that between
//!   characters.
//! - A table or program text that fits no chunk is cut between its lines; a chunk that begins within a table begins with the table's
//!   head, repeated, in the place of the overlap (its `text` is then head and slice).
//! - A title does not stay alone at the end of a chunk where the next one has room for it.
//!
//! How tokens are counted: a sentence is measured once, a chunk is taken to cost the sum of its sentences and of the white space
//! between them, and the finished chunk is measured again and gives sentences back while it is over (joining texts may cost a
//! token more). So a chunk never has more than `chunk_size` tokens, may have a few less than fit, and the time is linear in the text.
//! Since some tokenizers make one token of a word of any length, sixteen characters cost at least a token.

mod cost;
mod pack;
mod pieces;

use serde::{Deserialize, Serialize};

use crate::element::Document;

use cost::Cost;
use pack::Packer;
use pieces::ChunkText;

/// What `chunk_size` and `overlap` count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Characters (Unicode's scalar values, as Python's `len`).
    #[default]
    Characters,
    /// Tokens of a model.
    Tokens,
}

/// How a document is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkOptions {
    /// Most units of a chunk, its overlap included; at least 1.
    pub chunk_size: usize,
    /// Most units that a chunk repeats of the end of the one before it; less than `chunk_size`.
    pub overlap: usize,
    /// What both count.
    pub unit: Unit,
    /// Each title begins a chunk, without overlap; titles that follow one another stay together.
    pub by_title: bool,
}

impl Default for ChunkOptions {
    fn default() -> Self {
        Self { chunk_size: 2048, overlap: 0, unit: Unit::Characters, by_title: false }
    }
}

/// A piece of a document's chunk text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Its text, overlap included.
    pub text: String,
    /// Page that its text begins on, where the document has pages.
    pub first_page: Option<u32>,
    /// Page of its last element.
    pub last_page: Option<u32>,
    /// Where it begins in the document's chunk text, in characters; overlap included, a repeated head of a table not.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// The title above its first new sentence, at most 200 characters of it.
    pub section: Option<String>,
}

/// The text that a document's chunks are cut from.
pub fn chunk_text(document: &Document) -> String {
    ChunkText::new(document).full
}

/// Cuts a document into chunks. `measure` counts the tokens of a text, without those that only begin and end an input; it is asked
/// for `Unit::Tokens` alone. An `overlap` of `chunk_size` or more counts as one less than it, a `chunk_size` of 0 as 1.
pub fn chunk(document: &Document, options: &ChunkOptions, measure: &dyn Fn(&str) -> usize) -> Vec<Chunk> {
    let text = ChunkText::new(document);
    let size = options.chunk_size.max(1);
    let cost = Cost::new(options.unit, measure);
    let pieces = text.pieces(&cost, size);
    let packer = Packer::new(&text, &cost, size, options.overlap.min(size - 1), options.by_title);
    packer.pack(pieces)
}

#[cfg(test)]
mod tests;
