//! Where the rows come from: local files and objects in buckets, named one by one or by globs.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use artel_common::digest::{Digest, Hasher};
use artel_common::records::ObjectRef;
use artel_common::store::{Store, local_folder};
use artel_common::{Error, Result};
use parquet::file::reader::ChunkReader;

use super::csv::CsvReader;
use super::jsonl::JsonlReader;
use super::parquet::ParquetReader;
use super::row::RowReader;

/// A file of rows that exists.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Its name in messages and in the report: as the spec has it where that is one file.
    pub(super) name: String,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Local(PathBuf),
    Remote { store: Store, key: String },
}

/// A file whose content is at hand.
pub(super) struct Opened {
    /// Name, size and digest.
    pub(super) object: ObjectRef,
    pub(super) reader: Box<dyn RowReader>,
}

enum Format {
    Csv(u8),
    Jsonl,
    Parquet,
}

/// The files that the patterns name, each once: patterns in their order, a glob's files by name.
///
/// # Errors
/// A file or a bucket is missing, a glob matches nothing, or a name tells no format.
pub(super) async fn find(patterns: &[String], spec_dir: &Path, setting: &str) -> Result<Vec<Source>> {
    let mut sources: Vec<Source> = Vec::new();
    for pattern in patterns {
        let found = match local_folder(pattern) {
            Some(path) => find_local(&path, spec_dir, setting)?,
            None => find_remote(pattern, setting).await?,
        };
        for source in found {
            format_of(&source.name)?;
            if !sources.iter().any(|other| other.name == source.name) {
                sources.push(source);
            }
        }
    }
    Ok(sources)
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

fn find_local(path: &Path, spec_dir: &Path, setting: &str) -> Result<Vec<Source>> {
    let whole = spec_dir.join(path);
    if whole.is_dir() {
        return Err(Error::Data(format!("{setting}: {} is a folder; name its files, such as {0}/*.jsonl", path.display())));
    }
    if whole.exists() {
        return Ok(vec![Source { name: path.display().to_string(), place: Place::Local(whole) }]);
    }
    let Some(text) = path.to_str().filter(|text| is_glob(text)) else {
        return Err(Error::Data(format!(
            "{setting}: {} does not exist; paths are relative to the spec's folder",
            whole.display()
        )));
    };
    let base = if path.is_absolute() { String::new() } else { glob::Pattern::escape(&spec_dir.display().to_string()) };
    let pattern = if base.is_empty() { text.to_owned() } else { format!("{base}/{text}") };
    let paths = glob::glob(&pattern).map_err(|e| Error::Data(format!("{setting}: {text} is not a glob: {e}")))?;
    let mut sources = Vec::new();
    for found in paths {
        let found = found.map_err(|e| Error::io(e.path(), std::io::Error::other(e.to_string())))?;
        if found.is_file() {
            let shown = if path.is_absolute() { &found } else { found.strip_prefix(spec_dir).unwrap_or(&found) };
            sources.push(Source { name: shown.display().to_string(), place: Place::Local(found.clone()) });
        }
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    if sources.is_empty() {
        return Err(Error::Data(format!("{setting}: no file matches {text} in {}", spec_dir.display())));
    }
    Ok(sources)
}

async fn find_remote(url: &str, setting: &str) -> Result<Vec<Source>> {
    let folder_end = |text: &str| text.rfind('/').filter(|&at| !text[..at].ends_with('/') && !text[..at].ends_with(':'));
    let fixed = url.find(['*', '?', '[']).unwrap_or(url.len());
    let Some(at) = folder_end(&url[..fixed]) else {
        return Err(Error::Data(format!("{setting}: {url} names no object; use s3://BUCKET/PATH/FILE.jsonl")));
    };
    let (folder, rest) = (&url[..at], &url[at + 1..]);
    let store = Store::open(folder)?;
    if !is_glob(rest) {
        return Ok(vec![Source { name: url.to_owned(), place: Place::Remote { store, key: rest.to_owned() } }]);
    }
    let pattern = glob::Pattern::new(rest).map_err(|e| Error::Data(format!("{setting}: {url} is not a glob: {e}")))?;
    let options = glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let mut keys = store.list().await?;
    keys.retain(|key| pattern.matches_with(key, options));
    keys.sort();
    if keys.is_empty() {
        return Err(Error::Data(format!("{setting}: no object matches {url}")));
    }
    let source = |key: String| Source { name: format!("{folder}/{key}"), place: Place::Remote { store: store.clone(), key } };
    Ok(keys.into_iter().map(source).collect())
}

fn format_of(name: &str) -> Result<Format> {
    let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    match extension.as_str() {
        "csv" => Ok(Format::Csv(b',')),
        "tsv" => Ok(Format::Csv(b'\t')),
        "jsonl" | "ndjson" | "json" => Ok(Format::Jsonl),
        "parquet" | "pq" => Ok(Format::Parquet),
        _ => Err(Error::Data(format!("{name}: its name tells no format; use .csv, .tsv, .jsonl or .parquet (not compressed)"))),
    }
}

impl Source {
    /// Bytes of a local file; what a bucket holds is known when it is opened.
    pub(super) fn local_bytes(&self) -> u64 {
        match &self.place {
            Place::Local(path) => path.metadata().map_or(0, |metadata| metadata.len()),
            Place::Remote { .. } => 0,
        }
    }

    /// Where it lies, if on this machine.
    pub(super) fn local_path(&self) -> Option<&Path> {
        match &self.place {
            Place::Local(path) => Some(path),
            Place::Remote { .. } => None,
        }
    }

    /// Takes the file's digest and opens it.
    ///
    /// # Errors
    /// It cannot be read, or its head is not of its format.
    pub(super) async fn open(&self) -> Result<Opened> {
        let format = format_of(&self.name)?;
        match &self.place {
            Place::Local(path) => {
                let object = digest_file(path, &self.name)?;
                let file = File::open(path).map_err(|e| Error::io(path, e))?;
                let reader = reader_of(&format, file, &self.name)?;
                Ok(Opened { object, reader })
            }
            Place::Remote { store, key } => {
                let bytes = store.get_opt(key).await?;
                let bytes = bytes.ok_or_else(|| Error::Data(format!("{} does not exist", self.name)))?;
                let object = ObjectRef { key: self.name.clone(), bytes: bytes.len() as u64, sha256: Digest::of(&bytes) };
                let reader = reader_of(&format, bytes, &self.name)?;
                Ok(Opened { object, reader })
            }
        }
    }
}

fn reader_of<R>(format: &Format, content: R, name: &str) -> Result<Box<dyn RowReader>>
where
    R: ChunkReader + 'static,
    R::T: Send + 'static,
{
    let start = || content.get_read(0).map_err(|e| Error::Data(format!("{name} cannot be read: {e}")));
    match format {
        Format::Csv(delimiter) => Ok(Box::new(CsvReader::open(Box::new(start()?), name, *delimiter)?)),
        Format::Jsonl => Ok(Box::new(JsonlReader::open(Box::new(start()?), name)?)),
        Format::Parquet => Ok(Box::new(ParquetReader::open(content, name)?)),
    }
}

/// Size and digest of a local file, under this name.
///
/// # Errors
/// It cannot be read.
pub fn digest_file(path: &Path, name: &str) -> Result<ObjectRef> {
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let length = file.read(&mut buffer).map_err(|e| Error::io(path, e))?;
        if length == 0 {
            return Ok(ObjectRef { key: name.to_owned(), bytes, sha256: hasher.finish() });
        }
        hasher.update(&buffer[..length]);
        bytes += length as u64;
    }
}
