//! What a reader of any format yields: rows of cells, each with its line.

use artel_common::Result;

/// A value of a row, before it is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    /// Null, or not there.
    Missing,
    /// A text, perhaps empty.
    Text(String),
    /// An integer, in digits: good for an id or a group, not for a text.
    Integer(String),
    /// Several values.
    List(Vec<Cell>),
    /// Something else, in words: "a boolean".
    Other(&'static str),
}

/// A row as its file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawRow {
    /// Line where it begins (CSV, JSON Lines) or its number (Parquet), from 1.
    pub(super) line: u64,
    /// The selected columns in the order of the selection, or why the row cannot be read.
    pub(super) cells: Result<Vec<Cell>, String>,
}

/// A file being read.
pub(super) trait RowReader: Send {
    /// Names of its columns.
    fn columns(&self) -> &[String];

    /// Says which columns (numbers into [`RowReader::columns`]) the rows shall have.
    ///
    /// # Errors
    /// The file cannot be read on.
    fn select(&mut self, columns: &[usize]) -> Result<()>;

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read on; a row that is merely bad is no error.
    fn next_row(&mut self) -> Result<Option<RawRow>>;

    /// Bytes of the file that are done with, about.
    fn bytes_done(&self) -> u64;
}
