//! JSON Lines: one object a line, blank lines skipped.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};

use artel_common::{Error, Result};
use serde_json::{Map, Value};

use super::row::{Cell, RawRow, RowReader};

/// Bytes of one line at most.
const MAX_LINE_BYTES: usize = 16 << 20;
/// Rows looked at for the names of the columns, at most.
const MAX_PEEKED_ROWS: usize = 1000;
/// Bytes looked at for them, at most but for the last row.
const MAX_PEEKED_BYTES: u64 = 4 << 20;

type Object = Map<String, Value>;

/// A JSON Lines file being read.
pub(super) struct JsonlReader {
    input: BufReader<Box<dyn Read + Send>>,
    file: String,
    columns: Vec<String>,
    selected: Vec<usize>,
    peeked: VecDeque<(u64, Result<Object, String>)>,
    line: u64,
    bytes_done: u64,
    buffer: Vec<u8>,
}

impl JsonlReader {
    /// Opens a file and looks at its first rows for the names of its columns.
    ///
    /// # Errors
    /// It cannot be read, or is a JSON array.
    pub(super) fn open(input: Box<dyn Read + Send>, file: &str) -> Result<Self> {
        let mut reader = Self {
            input: BufReader::with_capacity(1 << 16, input),
            file: file.to_owned(),
            columns: Vec::new(),
            selected: Vec::new(),
            peeked: VecDeque::new(),
            line: 0,
            bytes_done: 0,
            buffer: Vec::new(),
        };
        while reader.peeked.len() < MAX_PEEKED_ROWS && (reader.bytes_done < MAX_PEEKED_BYTES || reader.columns.is_empty()) {
            let Some((line, object)) = reader.read_object()? else { break };
            if reader.peeked.is_empty() && reader.buffer.trim_ascii_start().starts_with(b"[") {
                return Err(Error::Data(format!("{file} is a JSON array; write JSON Lines, one object a line")));
            }
            for name in object.iter().flat_map(Map::keys) {
                if !reader.columns.contains(name) {
                    reader.columns.push(name.clone());
                }
            }
            reader.peeked.push_back((line, object));
        }
        Ok(reader)
    }

    /// Reads a line into the buffer; whether it was whole, or `None` at the end of the file.
    fn read_line(&mut self) -> Result<Option<bool>> {
        self.buffer.clear();
        let mut num_bytes = 0;
        loop {
            let chunk = self.input.fill_buf().map_err(|e| Error::io(&self.file, e))?;
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let used = end.map_or(chunk.len(), |at| at + 1);
            let kept = used.min(MAX_LINE_BYTES.saturating_sub(self.buffer.len()));
            self.buffer.extend_from_slice(&chunk[..kept]);
            self.input.consume(used);
            num_bytes += used;
            if end.is_some() || used == 0 {
                break;
            }
        }
        self.bytes_done += num_bytes as u64;
        self.line += 1;
        Ok((num_bytes > 0).then_some(num_bytes == self.buffer.len()))
    }

    /// The next line that is not blank, as an object.
    fn read_object(&mut self) -> Result<Option<(u64, Result<Object, String>)>> {
        loop {
            let Some(whole) = self.read_line()? else { return Ok(None) };
            let bytes = self.buffer.strip_prefix(b"\xEF\xBB\xBF").filter(|_| self.line == 1).unwrap_or(&self.buffer);
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            let object = if whole { parse(bytes) } else { Err("the line is longer than 16 MiB".to_owned()) };
            return Ok(Some((self.line, object)));
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Object, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the line is not UTF-8".to_owned())?;
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(format!("the line is {}, not an object", kind(&other))),
        Err(e) => Err(format!("the line is not JSON: {}", e.to_string().replace(" at line 1", ""))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn cell(value: Value) -> Cell {
    match value {
        Value::Null => Cell::Missing,
        Value::String(text) => Cell::Text(text),
        Value::Number(number) if !number.is_f64() => Cell::Integer(number.to_string()),
        Value::Array(values) => Cell::List(values.into_iter().map(cell).collect()),
        other => Cell::Other(kind(&other)),
    }
}

impl RowReader for JsonlReader {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn select(&mut self, columns: &[usize]) -> Result<()> {
        self.selected = columns.to_vec();
        Ok(())
    }

    fn next_row(&mut self) -> Result<Option<RawRow>> {
        let next = match self.peeked.pop_front() {
            Some(peeked) => Some(peeked),
            None => self.read_object()?,
        };
        let Some((line, object)) = next else { return Ok(None) };
        let take = |mut object: Object| -> Vec<Cell> {
            let names = self.selected.iter().map(|&index| &self.columns[index]);
            names.map(|name| object.get_mut(name).map_or(Cell::Missing, |value| cell(value.take()))).collect()
        };
        Ok(Some(RawRow { line, cells: object.map(take) }))
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
        let mut reader = JsonlReader::open(Box::new(std::io::Cursor::new(text.to_vec())), "f.jsonl")?;
        let columns = reader.columns().to_vec();
        reader.select(&(0..columns.len()).collect::<Vec<_>>())?;
        let mut rows = Vec::new();
        while let Some(row) = reader.next_row()? {
            rows.push(row);
        }
        Ok((columns, rows))
    }

    /// Goal: rows and bad rows come with their lines. Method: one of each kind, a BOM, a blank line, no newline at the end.
    #[test]
    fn kinds() {
        let text =
            "\u{feff}{\"a\": \"x\\u00e9\", \"b\": 7}\n\n{\"a\": 1.5, \"b\": [\"p\", null]}\r\n[1]\n{\"a\": }\n{\"c\": true}";
        let (columns, rows) = read(text.as_bytes()).unwrap();
        assert_eq!(columns, ["a", "b", "c"]);
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3, 4, 5, 6]);
        assert_eq!(rows[0].cells, Ok(vec![Cell::Text("xé".into()), Cell::Integer("7".into()), Cell::Missing]));
        let list = Cell::List(vec![Cell::Text("p".into()), Cell::Missing]);
        assert_eq!(rows[1].cells, Ok(vec![Cell::Other("a number"), list, Cell::Missing]));
        assert_eq!(rows[2].cells, Err("the line is a list, not an object".into()));
        assert_eq!(rows[3].cells, Err("the line is not JSON: expected value column 7".into()));
        assert_eq!(rows[4].cells, Ok(vec![Cell::Missing, Cell::Missing, Cell::Other("a boolean")]));
    }

    /// Goal: an array, bytes that are no text and a line without end are said plainly. Method: one file each.
    #[test]
    fn bad_files() {
        assert!(read(b"[{\"a\": 1},\n{}]").unwrap_err().to_string().contains("f.jsonl is a JSON array"));
        assert_eq!(read(b"{\"a\": \"\xff\"}").unwrap().1[0].cells, Err("the line is not UTF-8".into()));
        let mut long = vec![b'x'; MAX_LINE_BYTES + 10];
        long.extend_from_slice(b"\n{\"a\": \"b\"}\n");
        let rows = read(&long).unwrap().1;
        assert_eq!(rows[0].cells, Err("the line is longer than 16 MiB".into()));
        assert_eq!(rows[1], RawRow { line: 2, cells: Ok(vec![Cell::Text("b".into())]) });
        assert_eq!(read(b"").unwrap(), (vec![], vec![]));
    }

    proptest! {
        /// Goal: no bytes make the reader panic. Method: random bytes rich in JSON's own.
        #[test]
        fn never_panics(bytes in prop::collection::vec(prop::sample::select(&b"{}[]\":,a1\\\n\xff"[..]), 0..64)) {
            let _ = read(&bytes);
        }
    }
}
