//! Retrieval sets for `artel evaluate`: JSON Lines of questions and passages, and which passage answers which question.

use std::collections::HashMap;
use std::path::Path;

use artel_trainer::evaluate::EvalTexts;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// Reads pairs and, if there is one, a file of further documents; the lines of both files together are counted too.
///
/// Each line of the pairs is a question and the passage that answers it; equal passages are one document, under the first
/// one's id. Each line of the corpus is a document more, whatever its text; their ids are `x0`, `x1`, ... in the file's order.
///
/// # Errors
/// A file cannot be read, or a line of it is wrong: the file, the line and the reason.
pub fn read_texts(pairs: &Path, corpus: Option<&Path>) -> Result<(EvalTexts, usize), Failure> {
    let mut texts = EvalTexts::default();
    add_pairs(&mut texts, pairs)?;
    let mut num_lines = texts.queries.len();
    if let Some(corpus) = corpus {
        let first = num_lines;
        for_each_object(corpus, |row, object| {
            let text = text_of(object, &["positive", "text"])?;
            add_document(&mut texts, format!("x{row}"), text, first + row);
            num_lines += 1;
            Ok(())
        })?;
    }
    Ok((texts, num_lines))
}

fn add_pairs(texts: &mut EvalTexts, path: &Path) -> Result<(), Failure> {
    let mut by_text: HashMap<String, usize> = HashMap::new();
    let mut taken = HashMap::new();
    for_each_object(path, |row, object| {
        let id = id_of_its_own(id_of(object, row)?, &mut taken);
        let query = text_of(object, &["anchor", "question", "query"])?;
        let passage = text_of(object, &["positive", "answer", "passage"])?;
        let document = *by_text.entry(passage.to_owned()).or_insert(texts.corpus.len());
        if document == texts.corpus.len() {
            add_document(texts, id, passage, row);
        }
        texts.queries.push(query.to_owned());
        texts.relevant.push(vec![u32::try_from(document).map_err(|_| "beyond 2^32 documents".to_owned())?]);
        Ok(())
    })?;
    if texts.queries.is_empty() {
        let what = "has no rows; each line must be a JSON object with \"anchor\" and \"positive\"";
        return Err(Failure::data(format!("{} {what}", path.display())));
    }
    Ok(())
}

fn add_document(texts: &mut EvalTexts, id: String, text: &str, line: usize) {
    texts.corpus_ids.push(id);
    texts.corpus.push(text.to_owned());
    texts.corpus_rows.push(line);
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

    fn read(pairs: &str, corpus: Option<&str>) -> Result<(EvalTexts, usize), Failure> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a scratch file");
            path
        };
        let corpus = corpus.map(|text| write("corpus.jsonl", text));
        read_texts(&write("pairs.jsonl", pairs), corpus.as_deref())
    }

    /// Goal: equal passages are one document, relevant to all their questions, under the first one's id; the corpus
    /// comes after. Method: a set of four questions on three passages, numbers and texts as ids, one id missing, one repeated.
    #[test]
    fn equal_passages_are_one_document() {
        let pairs = "{\"id\": \"b\", \"anchor\": \"q1\", \"positive\": \"p\"}\r\n{\"anchor\": \"q2\", \"positive\": \"r\"}\n{\"id\": 7, \"anchor\": \"q3\", \"positive\": \"p\"}\n{\"id\": 7, \"anchor\": \"q4\", \"positive\": \"t\"}\n\n";
        let corpus = "{\"text\": \"r\"}\n{\"positive\": \"s\", \"id\": \"b\"}";
        let (texts, num_lines) = read(pairs, Some(corpus)).expect("a good set");
        assert_eq!(texts.queries, ["q1", "q2", "q3", "q4"]);
        assert_eq!(texts.corpus, ["p", "r", "t", "r", "s"]);
        assert_eq!(texts.corpus_ids, ["b", "1", "7#2", "x0", "x1"]);
        assert_eq!(texts.corpus_rows, [0, 1, 3, 4, 5]);
        assert_eq!(texts.relevant, [[0], [1], [0], [2]]);
        assert_eq!(num_lines, 6);
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
