//! Pairs in, a split data set out: readers, cleaning, split, manifest, batch plan.

mod clean;
mod cleaning;
mod columns;
mod commit;
mod components;
mod csv;
mod ids;
mod jsonl;
mod near;
mod overlap;
mod pairs;
mod parquet;
mod plan;
mod read;
mod row;
mod source;
mod split;
mod texts;
mod union;
mod words;

use artel_common::making::MadeReport;
use artel_common::records::{ImportReport, Pair};

pub use cleaning::{
    COPIES_PROMPT, CleanSettings, Cleaned, EXACT_DUPLICATE, Filtered, FilteredExample, GeneratedPair, HAS_SECRET, JUDGE,
    MAX_EXAMPLE_CHARS, MAX_EXAMPLES, NEAR_DUPLICATE, NOT_SUPPORTED, QUESTION_ELSEWHERE, QUESTION_IS_ANSWER, REFERS_TO_TEXT,
    TOO_SHORT, WRONG_LANGUAGE, clean, deduplicate,
};
pub use columns::Purpose;
pub use commit::commit;
pub(crate) use ids::make_unique as make_ids_unique;
pub use plan::{TextIds, plan_epoch, plan_rows};
pub(crate) use read::read_rows_if_any;
pub use read::{Progress, local_files, read_rows};
pub use source::digest_file;
pub use split::split;

/// What the files hold, before it is split.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Rows of `data.pairs`.
    pub train: Vec<Pair>,
    /// Rows of the test file, if there is one.
    pub test: Option<Vec<Pair>>,
    /// What was counted so far.
    pub report: ImportReport,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// What is trained on and what is measured on.
#[derive(Debug, Clone)]
pub struct Split {
    /// Rows to train on.
    pub train: Vec<Pair>,
    /// Rows to measure on; the training rows again where `test_is_train`.
    pub test: Vec<Pair>,
    /// The spec said `test = "train"`.
    pub test_is_train: bool,
    /// What was counted.
    pub report: ImportReport,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Where pairs were made from documents: what came of them.
    pub made: Option<MadeReport>,
}

#[cfg(test)]
mod tests;
