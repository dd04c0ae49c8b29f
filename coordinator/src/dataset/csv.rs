//! CSV as pandas writes it: a header, quotes around fields with commas, quotes or newlines, quotes inside doubled.
//!
//! A broken quote makes every row boundary after it a guess, so it ends the reading with its line; a row of too many or
//! too few fields is only a bad row. Other readers guess on, and train on the guesses.

use std::io::{BufRead as _, BufReader, Read};

use artel_common::{Error, Result};

use super::row::{Cell, RawRow, RowReader};

/// Bytes of one record at most: beyond it a quote was never closed.
const MAX_RECORD_BYTES: usize = 16 << 20;

/// A CSV file being read.
pub(super) struct CsvReader {
    input: BufReader<Box<dyn Read + Send>>,
    file: String,
    delimiter: u8,
    header: Vec<String>,
    selected: Vec<usize>,
    line: u64,
    bytes_done: u64,
    record: Record,
}

/// The fields of a record, end to end.
#[derive(Default)]
struct Record {
    text: Vec<u8>,
    ends: Vec<usize>,
    /// A quote stood somewhere, so an empty record is not a blank line.
    quoted: bool,
}

impl Record {
    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.quoted = false;
    }

    fn field(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }

    fn is_blank(&self) -> bool {
        self.ends.len() == 1 && self.text.is_empty() && !self.quoted
    }
}

/// Where in a record the next byte stands.
enum State {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote within quotes: it closes the field, or is the first of two.
    QuoteInQuotes,
}

impl CsvReader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// It is empty, not UTF-8, or its header is broken.
    pub(super) fn open(input: Box<dyn Read + Send>, file: &str, delimiter: u8) -> Result<Self> {
        let mut reader = Self {
            input: BufReader::with_capacity(1 << 16, input),
            file: file.to_owned(),
            delimiter,
            header: Vec::new(),
            selected: Vec::new(),
            line: 1,
            bytes_done: 0,
            record: Record::default(),
        };
        reader.skip_byte_order_mark()?;
        if reader.read_record()?.is_none() {
            return Err(Error::Data(format!("{file} is empty; it needs a header line and rows")));
        }
        for index in 0..reader.record.ends.len() {
            let name = std::str::from_utf8(reader.record.field(index))
                .map_err(|_| Error::Data(format!("{file}: the header is not UTF-8; save the file as UTF-8")))?;
            reader.header.push(name.trim().to_owned());
        }
        Ok(reader)
    }

    fn fail(&self, error: std::io::Error) -> Error {
        Error::io(&self.file, error)
    }

    fn skip_byte_order_mark(&mut self) -> Result<()> {
        let start = self.input.fill_buf().map_err(|e| Error::io(&self.file, e))?;
        if start.starts_with(&[0xFF, 0xFE]) || start.starts_with(&[0xFE, 0xFF]) {
            return Err(Error::Data(format!("{} is UTF-16; save it as UTF-8", self.file)));
        }
        if start.starts_with(&[0xEF, 0xBB, 0xBF]) {
            self.input.consume(3);
            self.bytes_done += 3;
        }
        Ok(())
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        match self.input.fill_buf() {
            Ok(buffer) => Ok(buffer.first().copied()),
            Err(e) => Err(self.fail(e)),
        }
    }

    fn advance(&mut self) {
        self.input.consume(1);
        self.bytes_done += 1;
    }

    /// Consumes a line's end whose first byte was `first`.
    fn end_line(&mut self, first: u8) -> Result<()> {
        if first == b'\r' && self.peek()? == Some(b'\n') {
            self.advance();
        }
        self.line += 1;
        Ok(())
    }

    fn broken_quote(&self, line: u64, what: &str) -> Error {
        Error::Data(format!(
            "{} line {line}: {what}; rows cannot be told apart after that. Mend the line: a field with quotes stands in quotes, and quotes inside it are doubled",
            self.file
        ))
    }

    /// Reads the next record that is no blank line into `self.record`; its first line, or `None` at the end.
    fn read_record(&mut self) -> Result<Option<u64>> {
        loop {
            let first_line = self.line;
            if !self.read_any_record()? {
                return Ok(None);
            }
            if !self.record.is_blank() {
                return Ok(Some(first_line));
            }
        }
    }

    fn read_any_record(&mut self) -> Result<bool> {
        self.record.clear();
        if self.peek()?.is_none() {
            return Ok(false);
        }
        let mut state = State::FieldStart;
        let mut quote_line = self.line;
        loop {
            let next = self.peek()?;
            if self.record.text.len() > MAX_RECORD_BYTES {
                return Err(
                    self.broken_quote(quote_line, "a record that begins here is longer than 16 MiB, so a quote is never closed")
                );
            }
            let Some(byte) = next else {
                if matches!(state, State::Quoted) {
                    return Err(self.broken_quote(quote_line, "a quote is opened here and never closed"));
                }
                self.record.ends.push(self.record.text.len());
                return Ok(true);
            };
            self.advance();
            let ends_line = byte == b'\n' || byte == b'\r';
            state = match state {
                State::Quoted if byte == b'"' => State::QuoteInQuotes,
                State::Quoted => {
                    self.line += u64::from(byte == b'\n');
                    self.record.text.push(byte);
                    State::Quoted
                }
                _ if byte == self.delimiter => {
                    self.record.ends.push(self.record.text.len());
                    State::FieldStart
                }
                _ if ends_line => {
                    self.record.ends.push(self.record.text.len());
                    self.end_line(byte)?;
                    return Ok(true);
                }
                State::FieldStart if byte == b'"' => {
                    quote_line = self.line;
                    self.record.quoted = true;
                    State::Quoted
                }
                State::QuoteInQuotes if byte == b'"' => {
                    self.record.text.push(byte);
                    State::Quoted
                }
                State::QuoteInQuotes => {
                    return Err(self.broken_quote(self.line, "a quoted field goes on after its closing quote"));
                }
                State::FieldStart | State::Unquoted => {
                    self.record.text.push(byte);
                    State::Unquoted
                }
            };
        }
    }

    fn cells(&self) -> Result<Vec<Cell>, String> {
        let (found, wanted) = (self.record.ends.len(), self.header.len());
        if found != wanted {
            return Err(format!("the row has {found} fields and the header {wanted}"));
        }
        let cell = |&index: &usize| match std::str::from_utf8(self.record.field(index)) {
            Ok(text) => Ok(Cell::Text(text.to_owned())),
            Err(_) => Err(format!("column '{}' is not UTF-8", self.header[index])),
        };
        self.selected.iter().map(cell).collect()
    }
}

impl RowReader for CsvReader {
    fn columns(&self) -> &[String] {
        &self.header
    }

    fn select(&mut self, columns: &[usize]) -> Result<()> {
        self.selected = columns.to_vec();
        Ok(())
    }

    fn next_row(&mut self) -> Result<Option<RawRow>> {
        let Some(line) = self.read_record()? else { return Ok(None) };
        Ok(Some(RawRow { line, cells: self.cells() }))
    }

    fn bytes_done(&self) -> u64 {
        self.bytes_done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &[u8]) -> Result<(Vec<String>, Vec<RawRow>)> {
        let mut reader = CsvReader::open(Box::new(std::io::Cursor::new(text.to_vec())), "f.csv", b',')?;
        let columns = reader.columns().to_vec();
        reader.select(&(0..columns.len()).collect::<Vec<_>>())?;
        let mut rows = Vec::new();
        while let Some(row) = reader.next_row()? {
            rows.push(row);
        }
        Ok((columns, rows))
    }

    fn row(line: u64, texts: &[&str]) -> RawRow {
        RawRow { line, cells: Ok(texts.iter().map(|t| Cell::Text((*t).to_owned())).collect()) }
    }

    /// Goal: files as pandas and spreadsheets write them are read. Method: BOM, index column, newlines and doubled quotes
    /// in quotes, CRLF, blank lines, no newline at the end; lines are those of the file.
    #[test]
    fn well_formed() {
        let text = "\u{feff},Question,Answer\r\n0,\"a \"\"b\"\"\n\nc\",\"x, y\"\r\n\r\n1,5\" disk,\n2,,\"\"";
        let (columns, rows) = read(text.as_bytes()).unwrap();
        assert_eq!(columns, ["", "Question", "Answer"]);
        assert_eq!(rows, [row(2, &["0", "a \"b\"\n\nc", "x, y"]), row(6, &["1", "5\" disk", ""]), row(7, &["2", "", ""])]);
    }

    /// Goal: what cannot be a row is said with its line, and the next row is read. Method: a field more, a field less, Latin-1.
    #[test]
    fn bad_rows() {
        let (_, rows) = read(b"a,b\n1,2,3\n1\nx,caf\xe9\nx,y\n").unwrap();
        assert_eq!(rows[0].cells, Err("the row has 3 fields and the header 2".into()));
        assert_eq!(rows[1], RawRow { line: 3, cells: Err("the row has 1 fields and the header 2".into()) });
        assert_eq!(rows[2].cells, Err("column 'b' is not UTF-8".into()));
        assert_eq!(rows[3], row(5, &["x", "y"]));
    }

    /// Goal: broken quotes end the reading with file, line and reason. Method: never closed, and text after the closing one.
    #[test]
    fn broken_quotes() {
        let open = read(b"a,b\n1,2\n\"what is,that\n3,4\n").unwrap_err().to_string();
        assert!(open.starts_with("f.csv line 3: a quote is opened here and never closed"), "{open}");
        let after = read(b"a,b\n\"he said \"hello\" to me\",4\n").unwrap_err().to_string();
        assert!(after.starts_with("f.csv line 2: a quoted field goes on"), "{after}");
        assert!(read(b"").unwrap_err().to_string().contains("f.csv is empty"));
        assert!(read(b"\xff\xfea\0").unwrap_err().to_string().contains("UTF-16"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Goal: whatever a correct writer writes is read back. Method: random fields, quoted where RFC 4180 asks for it.
        #[test]
        fn round_trip(fields in prop::collection::vec(prop::collection::vec("[a\",\n\r é]{0,6}", 3), 1..6)) {
            let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let mut text = String::from("a,b,c\n");
            for fields in &fields {
                text += &(fields.iter().map(|f| quote(f)).collect::<Vec<_>>().join(",") + "\n");
            }
            let (_, rows) = read(text.as_bytes()).unwrap();
            let read: Vec<_> = rows.into_iter().map(|r| r.cells.unwrap()).collect();
            let written: Vec<Vec<_>> = fields.iter().map(|f| f.iter().map(|t| Cell::Text(t.clone())).collect()).collect();
            prop_assert_eq!(read, written);
        }

        /// Goal: no bytes make the reader panic or run on. Method: random bytes rich in quotes and line ends.
        #[test]
        fn never_panics(bytes in prop::collection::vec(prop::sample::select(&b"a,\"\n\r\xff"[..]), 0..64)) {
            let _ = read(&bytes);
        }
    }
}
