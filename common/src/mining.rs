//! What lies in the store while the base model is asked about pairs: texts to embed, which passages each question is held against, and what was found.
//!
//! A pool is written once and named by the journal; its texts, vectors and finds are shards of equal numbers, so that a piece of work is a shard.

use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::records::ObjectRef;
use crate::tables::{Columns, Table};

/// Texts of a shard: what a worker embeds, and questions that it searches for, in one piece.
pub const SHARD_TEXTS: usize = 256;
/// In a table: no such passage.
const NONE: u64 = u64::MAX;

/// Which pairs are dropped and which passages are hard negatives, as sentence-transformers' `mine_hard_negatives` counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MiningRule {
    /// The greatest rank at which a question may find its chunk; unchecked where there is none.
    pub round_trip: Option<u64>,
    /// Negatives of a row; 0 is none.
    pub num_negatives: u64,
    /// Candidates that are passed over, of those that are left.
    pub range_min: u64,
    /// Candidates that are looked at, beside `max_positives`.
    pub range_max: u64,
    /// Positives of the question that has the most.
    pub max_positives: u64,
    /// A candidate must score below the least positive by this share of it.
    pub relative_margin: f64,
}

/// A shard of texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolShard {
    /// Where it lies.
    pub object: ObjectRef,
    /// How many texts it has.
    pub count: u64,
}

/// All that is embedded and searched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// Version of this record.
    pub format: u32,
    /// What is wanted.
    pub rule: MiningRule,
    /// Questions (Parquet, [`PoolQuestion`]), one for each row that is judged.
    pub questions: Vec<PoolShard>,
    /// Passages (Parquet), each text once: first chunks, then candidates that are none.
    pub passages: Vec<PoolShard>,
    /// Passages that are chunks, by number.
    pub chunks: Range<u64>,
    /// Passages that may become negatives, by number.
    pub candidates: Range<u64>,
}

/// A question, and what is known to answer it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolQuestion {
    /// Its text.
    pub question: String,
    /// The chunk that it must find, by number of passage; missing where nothing is to be found.
    pub chunk: Option<u64>,
    /// Every passage that answers it, by number; empty where no negatives are wanted.
    pub positives: Vec<u64>,
}

/// What was found for a question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FoundRow {
    /// The rank of its chunk, from 1; 0 where that is beyond the rule's, or was not asked for.
    pub rank: u64,
    /// Its negatives by number of passage, the nearest first; fewer than were wanted where there are no more.
    pub negatives: Vec<u64>,
    /// Their scores.
    pub scores: Vec<f32>,
}

/// The pool is in the store: what is embedded and searched. A later one begins afresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MiningRecord {
    /// What it was made for ([`crate::spec::RunSpec::mining_digest`]).
    pub settings: Digest,
    /// The pool: JSON, [`Pool`].
    pub pool: ObjectRef,
    /// Questions in it.
    pub questions: u64,
    /// Passages in it.
    pub passages: u64,
    /// Shards of questions.
    pub question_shards: u64,
    /// Shards of passages.
    pub passage_shards: u64,
}

/// What a text is, and so which prompt stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextKind {
    /// A question.
    Question,
    /// A passage.
    Passage,
}

/// The vectors of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddedRecord {
    /// Of which texts.
    pub kind: TextKind,
    /// Which shard.
    pub index: u64,
    /// How many texts it has.
    pub count: u64,
    /// The vectors: f32 [n, h], little-endian.
    pub vectors: ObjectRef,
}

/// What was found for the questions of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchedRecord {
    /// Which shard.
    pub index: u64,
    /// How many questions it has.
    pub count: u64,
    /// JSON, a list of [`FoundRow`].
    pub found: ObjectRef,
}

/// What a run knows of its mining: the journal's records, added up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MiningState {
    /// The pool.
    pub record: MiningRecord,
    /// Shards that were embedded.
    pub embedded: Vec<EmbeddedRecord>,
    /// Shards of questions that were searched for.
    pub searched: Vec<SearchedRecord>,
}

impl MiningState {
    /// The vectors of all shards of a kind, in order.
    pub fn vectors(&self, kind: TextKind) -> Vec<ObjectRef> {
        let mut embedded: Vec<&EmbeddedRecord> = self.embedded.iter().filter(|embedded| embedded.kind == kind).collect();
        embedded.sort_by_key(|embedded| embedded.index);
        embedded.into_iter().map(|embedded| embedded.vectors.clone()).collect()
    }

    /// Every object that it names itself.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        let embedded = self.embedded.iter().map(|embedded| &embedded.vectors);
        embedded.chain(self.searched.iter().map(|searched| &searched.found))
    }
}

/// Questions as Parquet bytes; the same questions give the same bytes.
///
/// # Errors
/// More than 2 GiB of text.
pub fn encode_questions(rows: &[PoolQuestion]) -> Result<Bytes> {
    let positives: Vec<String> = rows.iter().map(|row| numbers(&row.positives)).collect();
    let mut table = Table::default();
    table.texts("question", rows.iter().map(|row| row.question.as_str()))?;
    table.numbers("chunk", rows.iter().map(|row| row.chunk.unwrap_or(NONE)));
    table.texts("positives", positives.iter().map(String::as_str))?;
    table.encode()
}

/// Reads what [`encode_questions`] wrote.
///
/// # Errors
/// The bytes are damaged.
pub fn decode_questions(bytes: Bytes) -> Result<Vec<PoolQuestion>> {
    Columns::read(bytes, |columns, row| {
        let positives = columns.text("positives", row)?;
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number of a passage"));
        Ok(PoolQuestion {
            question: columns.text("question", row)?,
            chunk: Some(columns.number("chunk", row)?).filter(|chunk| *chunk != NONE),
            positives: positives.split_whitespace().map(number).collect::<Result<_, _>>()?,
        })
    })
}

fn numbers(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

/// Passages as Parquet bytes; the same passages give the same bytes.
///
/// # Errors
/// More than 2 GiB of text.
pub fn encode_passages(passages: &[&str]) -> Result<Bytes> {
    let mut table = Table::default();
    table.texts("passage", passages.iter().copied())?;
    table.encode()
}

/// Reads what [`encode_passages`] wrote.
///
/// # Errors
/// The bytes are damaged.
pub fn decode_passages(bytes: Bytes) -> Result<Vec<String>> {
    Columns::read(bytes, |columns, row| columns.text("passage", row))
}

/// Vectors as bytes, f32, little-endian.
pub fn encode_vectors(vectors: &[f32]) -> Bytes {
    vectors.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
}

/// Reads what [`encode_vectors`] wrote.
///
/// # Errors
/// The bytes are no whole values.
pub fn decode_vectors(bytes: &[u8]) -> Result<Vec<f32>> {
    let (values, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Error::Damaged(format!("{} bytes are no vectors of f32 values", bytes.len())));
    }
    Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: texts and vectors survive the store. Method: write, read, compare; damaged bytes are an error.
    #[test]
    fn round_trips() {
        let questions = [
            PoolQuestion { question: "Wörter?".into(), chunk: Some(0), positives: vec![7, 12] },
            PoolQuestion { question: String::new(), chunk: None, positives: Vec::new() },
        ];
        let bytes = encode_questions(&questions).unwrap();
        assert_eq!(decode_questions(bytes.clone()).unwrap(), questions);
        assert!(decode_questions(bytes.slice(..bytes.len() / 2)).is_err());
        assert!(decode_passages(bytes).is_err());
        assert_eq!(decode_passages(encode_passages(&["a", "b\n"]).unwrap()).unwrap(), ["a", "b\n"]);
        let vectors = encode_vectors(&[0.5, -1e-30]);
        assert_eq!(decode_vectors(&vectors).unwrap(), [0.5, -1e-30]);
        assert!(decode_vectors(&vectors[1..]).is_err());
    }
}
