//! Small JSON files of a model folder: bounded reading and typed keys, with the file named in every error.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::{Error, Result};

/// No configuration file of a model is longer than this many bytes.
const CONFIG_LIMIT_BYTES: u64 = 16 << 20;

/// A JSON object and the file it came from.
#[derive(Debug, Clone)]
pub struct JsonFile {
    /// The file.
    pub path: PathBuf,
    /// Its keys, in the file's order.
    pub map: Map<String, Value>,
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// The file cannot be read, or is longer.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(|source| Error::io(path, source))?;
    let mut bytes = Vec::new();
    let taken = file.take(limit + 1).read_to_end(&mut bytes).map_err(|source| Error::io(path, source))?;
    if taken as u64 > limit {
        return Err(Error::input(format!("{} is longer than {limit} bytes; is it the right file?", path.display())));
    }
    Ok(bytes)
}

/// Reads a file as JSON of any kind.
///
/// # Errors
/// The file cannot be read or is not JSON.
pub fn read_value(path: &Path) -> Result<Value> {
    let bytes = read_bounded(path, CONFIG_LIMIT_BYTES)?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::input(format!("{} is not valid JSON ({e}); fetch the model's files again", path.display())))
}

impl JsonFile {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// The file cannot be read, is not JSON, or is not an object.
    pub fn read(path: &Path) -> Result<Self> {
        match read_value(path)? {
            Value::Object(map) => Ok(Self { path: path.to_path_buf(), map }),
            other => Err(Error::input(format!("{}: expected a JSON object, found {}", path.display(), kind_of(&other)))),
        }
    }

    /// Like [`JsonFile::read`]; `None` where there is no such file.
    ///
    /// # Errors
    /// The file exists but cannot be read, is not JSON, or is not an object.
    pub fn read_if_present(path: &Path) -> Result<Option<Self>> {
        if path.is_file() { Self::read(path).map(Some) } else { Ok(None) }
    }

    /// The value of a key; a JSON null counts as absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// A non-negative integer, if the key is there.
    ///
    /// # Errors
    /// It is something else.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let count = value.as_u64().and_then(|n| usize::try_from(n).ok());
        count.map(Some).ok_or_else(|| self.wrong(key, "a non-negative integer", value))
    }

    /// A non-negative integer that has to be there.
    ///
    /// # Errors
    /// It is absent or something else.
    pub fn required_count(&self, key: &str) -> Result<usize> {
        let missing = || Error::input(format!("{} has no {key}; fetch the model's files again", self.path.display()));
        self.count(key)?.ok_or_else(missing)
    }

    /// A number, if the key is there.
    ///
    /// # Errors
    /// It is something else.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.wrong(key, "a number", value))
    }

    /// A boolean, if the key is there.
    ///
    /// # Errors
    /// It is something else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(key, "true or false", value))
    }

    /// A string, if the key is there.
    ///
    /// # Errors
    /// It is something else.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(key, "a string", value))
    }

    /// "FILE: KEY must be WHAT, found VALUE".
    pub fn wrong(&self, key: &str, what: &str, found: &Value) -> Error {
        Error::input(format!("{}: {key} must be {what}, found {}", self.path.display(), shorten(found)))
    }
}

/// What kind of JSON value this is, for messages.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A value as a message shows it: whole if short, else its kind.
fn shorten(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= 60 { text } else { kind_of(value).to_owned() }
}
