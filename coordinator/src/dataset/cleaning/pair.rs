//! A generated pair: a question, its answer, and the chunk of a document that both were made from.

use std::sync::Arc;

use artel_common::records::Pair;
use artel_common::spec::Positive;
use serde::{Deserialize, Serialize};

/// A question and its answer as a generator gave them, with where they come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneratedPair {
    /// The pair's id.
    pub id: String,
    /// The question.
    pub question: String,
    /// Its answer.
    pub answer: String,
    /// The text that both were made from; the pairs of a chunk share it.
    pub chunk: Arc<str>,
    /// The document that the chunk is part of.
    pub document: Arc<str>,
    /// What a judge gave it, 1 to 5, where one did.
    pub score: Option<u64>,
}

impl GeneratedPair {
    /// The row of a data set that this pair becomes; its group is the document, so that a split keeps documents whole.
    pub fn into_pair(self, positive: Positive) -> Pair {
        let positive = match positive {
            Positive::Answer => self.answer,
            Positive::Chunk => self.chunk.to_string(),
        };
        Pair { id: self.id, anchor: self.question, positive, negatives: Vec::new(), group: Some(self.document.to_string()) }
    }
}
