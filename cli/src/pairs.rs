//! Retrieval sets for `artel evaluate`: JSON Lines of questions and passages, and which passage answers which question.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::failure::Failure;

/// Questions, documents, and which of them belong together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetrievalSet {
    /// Each question's id.
    pub query_ids: Vec<String>,
    /// Each question.
    pub queries: Vec<String>,
    /// Each document's id.
    pub document_ids: Vec<String>,
    /// Each document, no passage of the pairs twice.
    pub documents: Vec<String>,
    /// The line (from 0; the corpus's lines after those of the pairs) that each document first stood on.
    pub document_lines: Vec<usize>,
    /// For each question the index of the document that answers it.
    pub relevant: Vec<usize>,
    /// Lines of both files together.
    pub num_lines: usize,
}

impl RetrievalSet {
    /// Reads pairs and, if there is one, a file of further documents.
    ///
    /// # Errors
    /// A file cannot be read, or a line of it is wrong: the file, the line and the reason.
    pub fn read(pairs: &Path, corpus: Option<&Path>) -> Result<Self, Failure> {
        let mut set = Self::default();
        set.add_pairs(pairs)?;
        if let Some(corpus) = corpus {
            set.add_corpus(corpus)?;
        }
        Ok(set)
    }

    /// Each line is a question and the passage that answers it; equal passages are one document.
    fn add_pairs(&mut self, path: &Path) -> Result<(), Failure> {
        let mut by_text: HashMap<String, usize> = HashMap::new();
        let mut taken = HashMap::new();
        for_each_object(path, |row, object| {
            let id = id_of_its_own(id_of(object, row)?, &mut taken);
            let query = text_of(object, &["anchor", "question", "query"])?;
            let passage = text_of(object, &["positive", "answer", "passage"])?;
            let document = *by_text.entry(passage.to_owned()).or_insert(self.documents.len());
            if document == self.documents.len() {
                self.push_document(id.clone(), passage, row);
            }
            self.query_ids.push(id);
            self.queries.push(query.to_owned());
            self.relevant.push(document);
            Ok(())
        })?;
        self.num_lines = self.queries.len();
        if self.queries.is_empty() {
            return Err(Failure::data(format!(
                "{} has no rows; each line must be a JSON object with \"anchor\" and \"positive\"",
                path.display()
            )));
        }
        Ok(())
    }

    /// Each line is a document more; `x0`, `x1`, ... are their ids, in the file's order.
    fn add_corpus(&mut self, path: &Path) -> Result<(), Failure> {
        let first = self.num_lines;
        for_each_object(path, |row, object| {
            let text = text_of(object, &["positive", "text"])?;
            self.push_document(format!("x{row}"), text, first + row);
            self.num_lines += 1;
            Ok(())
        })
    }

    fn push_document(&mut self, id: String, text: &str, line: usize) {
        self.document_ids.push(id);
        self.documents.push(text.to_owned());
        self.document_lines.push(line);
    }
}

/// Calls `take` with each line's number (from 0) and object; empty lines may stand at the end alone.
fn for_each_object(path: &Path, mut take: impl FnMut(usize, &Map<String, Value>) -> Result<(), String>) -> Result<(), Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure::data(format!("{}: {e}", path.display())))?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes).trim_ascii_end();
    if bytes.is_empty() {
        return Ok(());
    }
    for (row, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let object = match serde_json::from_slice(line) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err("not a JSON object".to_owned()),
            Err(_) if line.trim_ascii().is_empty() => Err("empty".to_owned()),
            Err(e) => Err(format!("not JSON: {e}")),
        };
        let taken = object.and_then(|object| take(row, &object));
        taken.map_err(|reason| Failure::data(format!("{}:{}: {reason}", path.display(), row + 1)))?;
    }
    Ok(())
}

/// The `id` column, else the row's number.
fn id_of(object: &Map<String, Value>, row: usize) -> Result<String, String> {
    match object.get("id") {
        None | Some(Value::Null) => Ok(row.to_string()),
        Some(Value::String(id)) => Ok(id.clone()),
        Some(Value::Number(id)) => Ok(id.to_string()),
        Some(_) => Err("\"id\" is neither a text nor a number".to_owned()),
    }
}

/// The id, or `ID#2`, `ID#3`, ... where an earlier row has it, as in a run; `taken` has each id's next number.
fn id_of_its_own(id: String, taken: &mut HashMap<String, u64>) -> String {
    let Some(mut number) = taken.get(&id).copied() else {
        taken.insert(id.clone(), 2);
        return id;
    };
    let mut own = format!("{id}#{number}");
    while taken.contains_key(&own) {
        number += 1;
        own = format!("{id}#{number}");
    }
    taken.insert(id, number + 1);
    taken.insert(own.clone(), 2);
    own
}

/// The first of these columns, upper or lower case, that the object has.
fn text_of<'a>(object: &'a Map<String, Value>, names: &[&str]) -> Result<&'a str, String> {
    let found = names.iter().find_map(|name| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)));
    match found {
        Some((name, Value::String(text))) if text.trim().is_empty() => Err(format!("{name:?} is empty")),
        Some((_, Value::String(text))) => Ok(text),
        Some((name, _)) => Err(format!("{name:?} is not a text")),
        None => Err(format!("no column {:?} (or {})", names[0], names[1..].join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &str, corpus: Option<&str>) -> Result<RetrievalSet, Failure> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a scratch file");
            path
        };
        let corpus = corpus.map(|text| write("corpus.jsonl", text));
        RetrievalSet::read(&write("pairs.jsonl", pairs), corpus.as_deref())
    }

    /// Goal: equal passages are one document, relevant to all their questions, under the first one's id; the corpus
    /// comes after. Method: a set of four questions on three passages, numbers and texts as ids, one id missing, one repeated.
    #[test]
    fn equal_passages_are_one_document() {
        let pairs = "{\"id\": \"b\", \"anchor\": \"q1\", \"positive\": \"p\"}\r\n{\"anchor\": \"q2\", \"positive\": \"r\"}\n{\"id\": 7, \"anchor\": \"q3\", \"positive\": \"p\"}\n{\"id\": 7, \"anchor\": \"q4\", \"positive\": \"t\"}\n\n";
        let set = read(pairs, Some("{\"text\": \"r\"}\n{\"positive\": \"s\", \"id\": \"b\"}")).expect("a good set");
        assert_eq!(set.query_ids, ["b", "1", "7", "7#2"]);
        assert_eq!(set.documents, ["p", "r", "t", "r", "s"]);
        assert_eq!(set.document_ids, ["b", "1", "7#2", "x0", "x1"]);
        assert_eq!(set.document_lines, [0, 1, 3, 4, 5]);
        assert_eq!(set.relevant, [0, 1, 0, 2]);
        assert_eq!(set.num_lines, 6);
    }

    /// Goal: a bad line is named with its reason. Method: one of each kind, on line 2.
    #[test]
    fn bad_lines() {
        let good = "{\"id\": \"a\", \"anchor\": \"q\", \"positive\": \"p\"}";
        for (bad, reason) in [
            ("{\"anchor\": \"q\"", "not JSON"),
            ("[1]", "not a JSON object"),
            ("", "empty"),
            ("{\"anchor\": \"q\"}", "no column \"positive\""),
            ("{\"anchor\": \"q\", \"positive\": \" \"}", "\"positive\" is empty"),
            ("{\"anchor\": 1, \"positive\": \"p\"}", "\"anchor\" is not a text"),
            ("{\"id\": [], \"anchor\": \"q\", \"positive\": \"p\"}", "\"id\" is neither"),
        ] {
            let failure = read(&format!("{good}\n{bad}\n{good}"), None).expect_err("a bad line");
            let message = failure.message.expect("a message");
            assert!(message.contains("pairs.jsonl:2: ") && message.contains(reason), "{message} should say {reason}");
            assert_eq!(failure.exit, artel_common::exit::Exit::Data);
        }
        let message = read("\n", None).expect_err("an empty file").message.expect("a message");
        assert!(message.contains("has no rows"), "{message}");
    }
}
