//! How documents are read, and why some cannot be.

use serde::{Deserialize, Serialize};

/// Which pages of a PDF are read by OCR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Those without text.
    #[default]
    Auto,
    /// None.
    Fast,
    /// All.
    OcrOnly,
}

/// How to read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadOptions {
    /// Which pages are read by OCR.
    pub strategy: Strategy,
    /// Tesseract's names of languages: `eng`, `deu`, ...
    pub languages: Vec<String>,
    /// A document of more pages is refused.
    pub max_pages: u32,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { strategy: Strategy::Auto, languages: vec!["eng".into()], max_pages: 2000 }
    }
}

/// Why a document could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is encrypted and opens with a password alone.
    Password,
    /// It is damaged, or not what its name says.
    Broken,
    /// There is no text in it.
    Empty,
    /// It takes more pages, memory or time than it may.
    Limit,
    /// No reader knows the format.
    Unsupported,
    /// Its pages are pictures, and tesseract is not here.
    NeedsOcr,
    /// The file cannot be opened.
    Missing,
}

/// A document that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Unreadable {
    /// Why, for counting.
    pub reason: Reason,
    /// Why, for people: what happened and what to do.
    pub message: String,
}
