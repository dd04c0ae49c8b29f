//! Retrieval metrics of a retrieval set's vectors, by the trainer's own evaluation.

use artel_common::records::Metrics;
use artel_trainer::collective::Solo;
use artel_trainer::evaluate::{self, EvalTexts};

use crate::engine::Vectors;
use crate::failure::Failure;
use crate::pairs::RetrievalSet;

/// The metrics at each width, under sentence-transformers' keys; the same for any number of threads.
///
/// # Errors
/// A score is not finite.
pub fn measure(set: &RetrievalSet, vectors: &Vectors, dims: &[usize], threads: usize) -> Result<Metrics, Failure> {
    let texts = EvalTexts {
        queries: set.queries.clone(),
        corpus: set.documents.clone(),
        corpus_ids: set.document_ids.clone(),
        corpus_rows: set.document_lines.clone(),
        relevant: set.relevant.iter().map(|document| vec![*document as u32]).collect(),
    };
    let given = evaluate::Vectors { hidden: vectors.dim, queries: &vectors.queries, corpus: &vectors.documents };
    Ok(evaluate::measure(&texts, &given, dims, &Solo::new(), threads)?)
}
