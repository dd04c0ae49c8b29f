//! Rows judged: each becomes a pair, or is counted as not available, or as bad with its reason.

use artel_common::digest::Digest;
use artel_common::records::{BadRow, ImportReport, Pair};

use super::columns::{FileColumns, Purpose};
use super::row::{Cell, RawRow};

/// Bad rows that the report lists; all are counted.
pub(super) const MAX_LISTED_BAD_ROWS: usize = 100;
/// Bytes of one text at most.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// Why a row is no pair.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// A question generator marked a failure.
    NotAvailable,
    /// The row cannot be used.
    Bad(String),
}

/// Pairs of any number of files, and what was counted on the way.
pub(super) struct Collector {
    purpose: Purpose,
    pub(super) pairs: Vec<Pair>,
    /// Rows seen, over all files.
    pub(super) num_rows: u64,
    /// How many negatives each row has, from the first pair on.
    num_negatives: Option<usize>,
}

impl Collector {
    pub(super) fn new(purpose: Purpose) -> Self {
        Self { purpose, pairs: Vec::new(), num_rows: 0, num_negatives: None }
    }

    /// Takes a row of a file, or counts why not.
    pub(super) fn take(&mut self, file: &str, columns: &FileColumns, row: RawRow, report: &mut ImportReport) {
        let number = self.num_rows;
        self.num_rows += 1;
        report.rows_read += 1;
        match row.cells.map_err(Refusal::Bad).and_then(|cells| self.judge(columns, cells, number)) {
            Ok(pair) => {
                self.num_negatives = Some(pair.negatives.len());
                self.pairs.push(pair);
            }
            Err(Refusal::NotAvailable) => report.rows_not_available += 1,
            Err(Refusal::Bad(reason)) => {
                report.rows_bad += 1;
                if report.bad_rows.len() < MAX_LISTED_BAD_ROWS {
                    report.bad_rows.push(BadRow { file: file.to_owned(), line: row.line, reason });
                }
            }
        }
    }

    fn judge(&self, columns: &FileColumns, cells: Vec<Cell>, number: u64) -> Result<Pair, Refusal> {
        let mut cells = cells.into_iter();
        let mut next = || cells.next().unwrap_or(Cell::Missing);
        let (anchor, positive) = (next(), next());
        let id = columns.id.map(|_| next());
        let group = columns.group.map(|_| next());
        let chunk = columns.chunk.map(|_| next());
        if is_not_available(&anchor) || is_not_available(&positive) {
            return Err(Refusal::NotAvailable);
        }
        // A generated file that went through pandas once more has lost its N/A: both fields are empty.
        if chunk.as_ref().and_then(label).is_some() && is_empty(&anchor) && is_empty(&positive) {
            return Err(Refusal::NotAvailable);
        }
        let anchor = text(anchor, "anchor")?;
        let positive = text(positive, "positive")?;
        let negatives = self.negatives(cells.collect())?;
        let pair = Pair {
            id: id.as_ref().and_then(label).unwrap_or_else(|| number.to_string()),
            anchor,
            positive,
            negatives,
            group: group.as_ref().and_then(label).or_else(|| chunk.as_ref().and_then(label).map(|text| chunk_group(&text))),
        };
        match self.purpose {
            Purpose::Train => check_own_texts(&pair).map(|()| pair),
            Purpose::Test => Ok(pair),
        }
    }

    fn negatives(&self, cells: Vec<Cell>) -> Result<Vec<String>, Refusal> {
        let mut negatives = Vec::with_capacity(cells.len());
        for cell in cells {
            match cell {
                Cell::List(values) => {
                    for value in values {
                        negatives.push(text(value, &format!("negative {}", negatives.len() + 1))?);
                    }
                }
                single => negatives.push(text(single, &format!("negative {}", negatives.len() + 1))?),
            }
        }
        match self.num_negatives {
            Some(wanted) if wanted != negatives.len() => Err(Refusal::Bad(format!(
                "it has {} negatives and the rows before it {wanted}; every row needs equally many",
                negatives.len()
            ))),
            _ => Ok(negatives),
        }
    }
}

/// Two equal texts within a row would be both right and wrong answers in its batch (DUP-1).
fn check_own_texts(pair: &Pair) -> Result<(), Refusal> {
    let columns: Vec<_> = pair.columns().collect();
    let name = |index: usize| match index {
        0 => "anchor".to_owned(),
        1 => "positive".to_owned(),
        n => format!("negative {}", n - 1),
    };
    for later in 1..columns.len() {
        if let Some(earlier) = columns[..later].iter().position(|text| *text == columns[later]) {
            return Err(Refusal::Bad(format!("the {} is the same text as the {}", name(later), name(earlier))));
        }
    }
    Ok(())
}

fn is_not_available(cell: &Cell) -> bool {
    matches!(cell, Cell::Text(text) if text.trim().eq_ignore_ascii_case("n/a"))
}

fn is_empty(cell: &Cell) -> bool {
    matches!(cell, Cell::Missing) || matches!(cell, Cell::Text(text) if text.trim().is_empty())
}

/// A text that can be trained on, as it stands.
fn text(cell: Cell, role: &str) -> Result<String, Refusal> {
    let reason = match cell {
        Cell::Text(text) if text.len() > MAX_TEXT_BYTES => format!("the {role} has {} bytes; a text may have 1 MiB", text.len()),
        Cell::Text(text) if text.trim().is_empty() => format!("the {role} is empty"),
        Cell::Text(text) => return Ok(text),
        Cell::Missing => format!("the {role} is missing"),
        Cell::Integer(_) => format!("the {role} is a number, not a string"),
        Cell::List(_) => format!("the {role} is a list, not a string"),
        Cell::Other(kind) => format!("the {role} is {kind}, not a string"),
    };
    Err(Refusal::Bad(reason))
}

/// An id or a group, where there is one.
fn label(cell: &Cell) -> Option<String> {
    match cell {
        Cell::Text(text) | Cell::Integer(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Cell::Missing | Cell::List(_) | Cell::Other(_) => None,
    }
}

/// The group of the rows that were generated from one chunk.
fn chunk_group(chunk: &str) -> String {
    format!("chunk {}", &Digest::of(chunk.as_bytes()).as_str()[..16])
}
