//! What lies in the store on the way from documents to pairs: the list of sources, what reading came to, chunks, and the pairs made from them.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::layout;
use crate::mining::MiningState;
use crate::records::ObjectRef;
use crate::store::Store;
use crate::tables::{Columns, Table};

/// Where a document lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In the run's store, put there from a local file.
    Stored(ObjectRef),
    /// In a bucket of its own.
    Bucket {
        /// The store that it is an object of.
        store: String,
        /// Its key.
        key: String,
    },
    /// Nowhere that may be read; why, and what counts as its reason.
    Refused {
        /// A reason's name (docs/reference/report.md).
        reason: String,
        /// Why.
        message: String,
    },
}

/// A document to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name in messages and reports: as the spec has it where that is one file.
    pub name: String,
    /// Where it lies.
    pub place: Place,
    /// Its size.
    pub bytes: u64,
}

/// All documents of a run, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceList {
    /// Version of this record.
    pub format: u32,
    /// The documents, by name.
    pub sources: Vec<Source>,
}

/// What became of a document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DocumentReport {
    /// Its name.
    pub source: String,
    /// `done` or `failed`.
    pub status: String,
    /// Why it failed: `password`, `broken`, `empty`, `limit`, `unsupported`, `needs_ocr`, `missing`; empty where it did not.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// What read it.
    pub reader: String,
    /// SHA-256 of its bytes; of nothing where they could not be had.
    pub digest: String,
    /// Pages; 0 where the format has none.
    pub pages: u32,
    /// Elements by kind, in Unstructured's names.
    pub elements: BTreeMap<String, u64>,
    /// Chunks.
    pub chunks: u64,
    /// Pairs of it that are in the data set.
    pub pairs: u64,
    /// What a person should know of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What questions were asked, and what they cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// Requests made, those that failed counted.
    pub requests: u64,
    /// Answers, to chunks and about pairs, that lay in a store already.
    pub cache_hits: u64,
    /// Tokens that were sent, for the answers that are used.
    pub tokens_in: u64,
    /// Tokens of those answers.
    pub tokens_out: u64,
    /// What they cost, in millionths of a dollar.
    pub cost_micros: u64,
    /// Chunks asked about.
    pub chunks: u64,
    /// Chunks that came to no pair.
    pub failed_chunks: u64,
    /// Pairs that came of them.
    pub pairs: u64,
}

impl Ledger {
    /// Requests and dollars, for people; no dollars where there is no price.
    pub fn spent(&self) -> String {
        let cost = (self.cost_micros > 0).then(|| format!(", {:.4} dollars", self.cost_micros as f64 / 1e6));
        format!("{} requests{}", self.requests, cost.unwrap_or_default())
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.cache_hits += other.cache_hits;
        self.tokens_in += other.tokens_in;
        self.tokens_out += other.tokens_out;
        self.cost_micros += other.cost_micros;
        self.chunks += other.chunks;
        self.failed_chunks += other.failed_chunks;
        self.pairs += other.pairs;
    }
}

/// What a rule took out, with examples.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilteredBy {
    /// The rule.
    pub rule: String,
    /// Pairs that it took out.
    pub count: u64,
    /// Some of their questions and answers.
    pub examples: Vec<[String; 2]>,
}

/// Pairs that the cleaning took out, by rule: numbers, from 0 and ascending, among all pairs that were made, in the order of shards.
pub type TakenOut = BTreeMap<String, Vec<u64>>;

/// The questions' part of a report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QuestionsReport {
    /// `gemini`, `openai` or `offline`.
    pub provider: String,
    /// The model; empty offline.
    pub model: String,
    /// What was made of it: `answer` or `chunk`.
    pub positive: String,
    /// Requests, those that failed counted.
    pub requests: u64,
    /// Answers, to chunks and about pairs, that lay in a store already.
    pub cache_hits: u64,
    /// Tokens in, of the answers used.
    pub tokens_in: u64,
    /// Tokens out.
    pub tokens_out: u64,
    /// Dollars.
    pub cost: f64,
    /// Chunks that came to no pair.
    pub failed_chunks: u64,
    /// The first of them: document, chunk, reason.
    pub failures: Vec<FailedChunk>,
    /// Pairs before they were cleaned.
    pub pairs_made: u64,
    /// The model that judged them; empty where none did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub judge_model: String,
    /// Pairs whose judgement could not be had; they are kept.
    #[serde(default)]
    pub not_judged: u64,
    /// Pairs taken out, by rule.
    pub filtered: Vec<FilteredBy>,
    /// Pairs in the data set.
    pub pairs: u64,
    /// Where hard negatives were mined: what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negatives: Option<NegativesReport>,
}

/// Hard negatives of the training rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NegativesReport {
    /// How many each row has.
    pub per_row: u64,
    /// Passages that they were taken from.
    pub candidates: u64,
    /// Mean cosine of question and negative by the base model, over the rows that were kept.
    pub mean_score: f64,
}

/// A chunk that came to no pair.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedChunk {
    /// Its document.
    pub document: String,
    /// Its number there, from 0.
    pub chunk: u64,
    /// Why.
    pub reason: String,
}

/// What a run's documents came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MadeReport {
    /// Every document, once.
    pub documents: Vec<DocumentReport>,
    /// The questions.
    pub questions: QuestionsReport,
}

/// Documents that one task read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadRecord {
    /// Number of the first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// How many of them failed.
    pub failed: u64,
    /// Pages of all.
    pub pages: u64,
    /// Chunks of all.
    pub num_chunks: u64,
    /// What became of each: JSON, a list of [`DocumentReport`].
    pub reports: ObjectRef,
    /// Their elements (Parquet).
    pub elements: ObjectRef,
    /// Their chunks (Parquet, [`ChunkRow`]).
    pub chunks: ObjectRef,
}

/// Chunks that one task asked about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AskedRecord {
    /// The first document of the shard that they are of ([`ReadRecord::first`]).
    pub shard: u64,
    /// Number of the first within the shard.
    pub from: u64,
    /// How many.
    pub count: u64,
    /// The pairs (Parquet, [`PairRow`]).
    pub pairs: ObjectRef,
    /// What it took.
    pub ledger: Ledger,
}

/// A chunk of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChunkRow {
    /// The document's name.
    pub document: String,
    /// Its number there, from 0.
    pub chunk: u64,
    /// The text.
    pub text: String,
    /// First and last page, from 1; 0 where the format has none.
    pub first_page: u64,
    /// Last page.
    pub last_page: u64,
    /// Where it begins in the document's text, in characters.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// The title that it stands under.
    pub section: Option<String>,
}

/// A pair, or why a chunk came to none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairRow {
    /// The document's name.
    pub document: String,
    /// The chunk's number there.
    pub chunk: u64,
    /// The chunk.
    pub text: String,
    /// The question; missing where there is none.
    pub question: Option<String>,
    /// Its answer.
    pub answer: Option<String>,
    /// Why there is none.
    pub failure: Option<String>,
    /// What a judge gave it, 1 to 5; missing where none was asked or none answered.
    pub score: Option<u64>,
}

/// An element of a document, as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ElementRow {
    /// The document's name.
    pub document: String,
    /// SHA-256 of the document.
    pub digest: String,
    /// Its place in reading order, from 0.
    pub order: u64,
    /// Page, from 1; 0 where the format has none.
    pub page: u64,
    /// Unstructured's name of what it is.
    pub kind: String,
    /// Its text.
    pub text: String,
    /// A table in HTML.
    pub html: Option<String>,
}

/// Chunks as Parquet bytes; the same chunks give the same bytes.
///
/// # Errors
/// More than 2 GiB of text.
pub fn encode_chunks(rows: &[ChunkRow]) -> Result<Bytes> {
    let mut table = Table::default();
    table.texts("document", rows.iter().map(|row| row.document.as_str()))?;
    table.numbers("chunk", rows.iter().map(|row| row.chunk));
    table.texts("text", rows.iter().map(|row| row.text.as_str()))?;
    table.numbers("first_page", rows.iter().map(|row| row.first_page));
    table.numbers("last_page", rows.iter().map(|row| row.last_page));
    table.numbers("start", rows.iter().map(|row| row.start));
    table.numbers("end", rows.iter().map(|row| row.end));
    table.optional_texts("section", rows.iter().map(|row| row.section.as_deref()))?;
    table.encode()
}

/// Reads what [`encode_chunks`] wrote.
///
/// # Errors
/// The bytes are damaged.
pub fn decode_chunks(bytes: Bytes) -> Result<Vec<ChunkRow>> {
    Columns::read(bytes, |columns, row| {
        Ok(ChunkRow {
            document: columns.text("document", row)?,
            chunk: columns.number("chunk", row)?,
            text: columns.text("text", row)?,
            first_page: columns.number("first_page", row)?,
            last_page: columns.number("last_page", row)?,
            start: columns.number("start", row)?,
            end: columns.number("end", row)?,
            section: columns.text_opt("section", row)?,
        })
    })
}

/// Pairs as Parquet bytes; the same pairs give the same bytes. The column `score` is there where a pair has one.
///
/// # Errors
/// More than 2 GiB of text.
pub fn encode_pairs(rows: &[PairRow]) -> Result<Bytes> {
    let mut table = Table::default();
    table.texts("document", rows.iter().map(|row| row.document.as_str()))?;
    table.numbers("chunk", rows.iter().map(|row| row.chunk));
    table.texts("text", rows.iter().map(|row| row.text.as_str()))?;
    table.optional_texts("question", rows.iter().map(|row| row.question.as_deref()))?;
    table.optional_texts("answer", rows.iter().map(|row| row.answer.as_deref()))?;
    table.optional_texts("failure", rows.iter().map(|row| row.failure.as_deref()))?;
    if rows.iter().any(|row| row.score.is_some()) {
        table.optional_numbers("score", rows.iter().map(|row| row.score));
    }
    table.encode()
}

/// Reads what [`encode_pairs`] wrote.
///
/// # Errors
/// The bytes are damaged.
pub fn decode_pairs(bytes: Bytes) -> Result<Vec<PairRow>> {
    Columns::read(bytes, |columns, row| {
        Ok(PairRow {
            document: columns.text("document", row)?,
            chunk: columns.number("chunk", row)?,
            text: columns.text("text", row)?,
            question: columns.text_opt("question", row)?,
            answer: columns.text_opt("answer", row)?,
            failure: columns.text_opt("failure", row)?,
            score: columns.number_if_there("score", row)?,
        })
    })
}

/// Elements as Parquet bytes.
///
/// # Errors
/// More than 2 GiB of text.
pub fn encode_elements(rows: &[ElementRow]) -> Result<Bytes> {
    let mut table = Table::default();
    table.texts("document", rows.iter().map(|row| row.document.as_str()))?;
    table.texts("digest", rows.iter().map(|row| row.digest.as_str()))?;
    table.numbers("order", rows.iter().map(|row| row.order));
    table.numbers("page", rows.iter().map(|row| row.page));
    table.texts("kind", rows.iter().map(|row| row.kind.as_str()))?;
    table.texts("text", rows.iter().map(|row| row.text.as_str()))?;
    table.optional_texts("html", rows.iter().map(|row| row.html.as_deref()))?;
    table.encode()
}

/// Reads what [`encode_elements`] wrote.
///
/// # Errors
/// The bytes are damaged.
pub fn decode_elements(bytes: Bytes) -> Result<Vec<ElementRow>> {
    Columns::read(bytes, |columns, row| {
        Ok(ElementRow {
            document: columns.text("document", row)?,
            digest: columns.text("digest", row)?,
            order: columns.number("order", row)?,
            page: columns.number("page", row)?,
            kind: columns.text("kind", row)?,
            text: columns.text("text", row)?,
            html: columns.text_opt("html", row)?,
        })
    })
}

/// Opens the store of another run for the answers in it (`[questions] answers_from`).
///
/// # Errors
/// It cannot be reached from here, or holds no run, or no answer.
pub async fn open_answers(url: &str) -> Result<Store> {
    let store = Store::open(url).map_err(|e| no_answers(url, &e))?;
    match store.get_opt(&layout::journal_entry(1)).await {
        Ok(Some(_)) => match store.has_any(layout::ANSWERS).await {
            Ok(true) => Ok(store),
            Ok(false) => Err(Error::Spec(format!(
                "questions.answers_from: no answer of a language model lies in {url}, so all would be paid for anew; name the store of the run that has \
                 them, or leave the key out"
            ))),
            Err(e) => Err(no_answers(url, &e)),
        },
        Ok(None) => Err(Error::Spec(format!(
            "questions.answers_from: no run lies in {url}; name the store of a run (a folder has to be there on every worker's machine, a bucket is \
             reached from all), or leave the key out"
        ))),
        Err(e) => Err(no_answers(url, &e)),
    }
}

/// The other run's store does not answer.
pub fn no_answers(url: &str, error: &Error) -> Error {
    Error::Store(format!(
        "questions.answers_from: the answers in {url} cannot be read: {error}; see that this machine reaches that store, or leave the key out and pay anew"
    ))
}

/// What a run knows of its documents before its data set exists: the journal's records, added up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MakingState {
    /// The list of sources.
    pub sources: ObjectRef,
    /// What the list was made for ([`crate::spec::RunSpec::making_digest`]).
    pub settings: Digest,
    /// Documents in it.
    pub documents: u64,
    /// The base model's manifest; missing where the model is made of the pairs.
    pub model: Option<ObjectRef>,
    /// Documents that were read.
    pub read: Vec<ReadRecord>,
    /// Chunks that were asked about.
    pub asked: Vec<AskedRecord>,
    /// Requests that may have been made, and millionths of a dollar that may have been spent, at the most.
    pub reserved: (u64, u64),
    /// What the base model was asked about the pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mining: Option<MiningState>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: rows survive the store, missing values too. Method: write, read, compare; damaged bytes are an error.
    #[test]
    fn round_trips() {
        let chunk = ChunkRow {
            document: "a.pdf".into(),
            chunk: 3,
            text: "Wörter\n".into(),
            first_page: 1,
            section: Some("S".into()),
            ..ChunkRow::default()
        };
        let chunks = [chunk.clone(), ChunkRow { section: None, ..chunk }];
        assert_eq!(decode_chunks(encode_chunks(&chunks).unwrap()).unwrap(), chunks);
        let pair =
            PairRow { document: "a.pdf".into(), question: Some("q".into()), answer: Some("a".into()), ..PairRow::default() };
        let failed = PairRow { question: None, answer: None, failure: Some("refused".into()), ..pair.clone() };
        let pairs = [pair, failed];
        let bytes = encode_pairs(&pairs).unwrap();
        assert_eq!(decode_pairs(bytes.clone()).unwrap(), pairs);
        assert!(decode_pairs(bytes.slice(..bytes.len() / 2)).is_err());
        assert!(decode_chunks(bytes.clone()).is_err());
        // scores are a column of their own, which older shards have not
        let [pair, failed] = pairs;
        let judged = [PairRow { score: Some(4), ..pair }, failed];
        let with_scores = encode_pairs(&judged).unwrap();
        assert_eq!(decode_pairs(with_scores.clone()).unwrap(), judged);
        assert!(with_scores.len() > bytes.len());
        let element =
            ElementRow { document: "a.pdf".into(), kind: "Title".into(), html: Some("<table>".into()), ..ElementRow::default() };
        assert_eq!(decode_elements(encode_elements(std::slice::from_ref(&element)).unwrap()).unwrap(), [element]);
        assert_eq!(decode_pairs(encode_pairs(&[]).unwrap()).unwrap(), []);
    }
}
