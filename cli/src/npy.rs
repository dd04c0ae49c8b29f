//! NumPy's `.npy` files: a matrix of floats, as `numpy.save` writes it (format 1.0; 2.0 and 3.0 are read too).
//! Read: little-endian f32 or f64 in C order. Written: little-endian f32 in C order.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Bytes before the data: a multiple of 64, as NumPy aligns it, with room for any number of rows.
const HEADER_BYTES: usize = 128;
/// Longest header that is read: NumPy's own limit.
const MAX_HEADER_BYTES: usize = 10_000;

/// A matrix, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// Its values, `rows * columns` of them.
    pub values: Vec<f32>,
    /// How many rows.
    pub rows: usize,
    /// How many columns.
    pub columns: usize,
}

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    double: bool,
    rows: usize,
    columns: usize,
}

/// Reads a matrix.
///
/// # Errors
/// The file cannot be read, is not a `.npy` file, holds something else than a matrix of f32 or f64, is longer or
/// shorter than its header says, or holds a value that is not finite.
pub fn read(path: &Path) -> Result<Matrix, Failure> {
    let wrong = |reason: String| Failure::data(format!("{}: {reason}", path.display()));
    let mut file = BufReader::new(File::open(path).map_err(|e| wrong(e.to_string()))?);
    let header = read_header(&mut file).map_err(wrong)?;
    let width = if header.double { 8 } else { 4 };
    let expected = (header.rows as u64).checked_mul(header.columns as u64).and_then(|n| n.checked_mul(width));
    let left = data_bytes(&mut file).map_err(|e| wrong(e.to_string()))?;
    if expected != Some(left) {
        let shape = format!("{} x {}", header.rows, header.columns);
        return Err(wrong(format!("the header says {shape} values of {width} bytes, but {left} bytes follow it")));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| wrong(e.to_string()))?;
    let values: Vec<f32> = if header.double {
        bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()
    } else {
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        return Err(wrong(format!(
            "row {}, column {} is {}, not a finite number",
            at / header.columns,
            at % header.columns,
            values[at]
        )));
    }
    Ok(Matrix { values, rows: header.rows, columns: header.columns })
}

/// Bytes from here to the end of the file.
fn data_bytes(file: &mut BufReader<File>) -> std::io::Result<u64> {
    use std::io::Seek as _;
    let here = file.stream_position()?;
    Ok(file.get_ref().metadata()?.len().saturating_sub(here))
}

/// Reads up to the data; says what is wrong.
fn read_header(file: &mut impl std::io::Read) -> Result<Header, String> {
    let mut start = [0u8; 8];
    file.read_exact(&mut start).map_err(|_| "not a .npy file: too short".to_owned())?;
    if start[..6] != MAGIC[..] {
        return Err("not a .npy file: it does not begin as one; write it with numpy.save".to_owned());
    }
    let length_bytes = match start[6] {
        1 => 2,
        2 | 3 => 4,
        major => return Err(format!("a .npy file of format {major}.{}, which is not known", start[7])),
    };
    let mut length = [0u8; 4];
    file.read_exact(&mut length[..length_bytes]).map_err(|_| "the header is cut off".to_owned())?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEADER_BYTES {
        return Err(format!("a header of {length} bytes; at most {MAX_HEADER_BYTES} are read"));
    }
    let mut text = vec![0u8; length];
    file.read_exact(&mut text).map_err(|_| "the header is cut off".to_owned())?;
    parse_header(&String::from_utf8_lossy(&text))
}

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse_header(text: &str) -> Result<Header, String> {
    let after = |key: &str| {
        let quoted = [format!("'{key}'"), format!("\"{key}\"")];
        let found = quoted.iter().find_map(|q| text.split_once(q.as_str()));
        let value = found.and_then(|(_, rest)| rest.trim_start().strip_prefix(':'));
        value.map(str::trim_start).ok_or_else(|| format!("the header has no '{key}'"))
    };
    let descr: String =
        after("descr")?.chars().take_while(|c| !matches!(c, ',' | '}')).filter(|c| !matches!(c, '\'' | '"')).collect();
    let double = match descr.trim() {
        "<f4" => false,
        "<f8" => true,
        other => return Err(format!("values of type {other}; save them as float32 (or float64), little-endian")),
    };
    if !after("fortran_order")?.starts_with("False") {
        return Err("in Fortran order; save numpy.ascontiguousarray(x)".to_owned());
    }
    let inside = after("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(inside, _)| inside);
    let sizes: Option<Vec<usize>> = inside
        .map(|inside| inside.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect())
        .ok_or("the header's shape is not one")?;
    match sizes.as_deref() {
        Some([_, 0]) => Err("a matrix of width 0".to_owned()),
        Some([rows, columns]) => Ok(Header { double, rows: *rows, columns: *columns }),
        Some(other) => Err(format!("{} dimensions; a matrix with a row for each text is wanted", other.len())),
        None => Err("the header's shape is not one".to_owned()),
    }
}

/// The bytes before the data of an f32 matrix; equally many for every size.
fn header_bytes(rows: u64, columns: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let before = MAGIC.len() + 4;
    let spaces = (HEADER_BYTES - 1).checked_sub(before + text.len()).expect("two sizes of at most 20 digits fit");
    text.extend(std::iter::repeat_n(' ', spaces));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend(u16::try_from(text.len()).expect("the header is short").to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// Writes rows as they come, into a file beside the target that takes its name when it is whole. How many rows there
/// are is told last.
pub struct Writer {
    file: BufWriter<File>,
    partial: tempfile::TempPath,
    path: PathBuf,
    rows: u64,
    columns: usize,
}

impl Writer {
    /// A matrix of this width, without rows yet.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn create(path: &Path, columns: usize) -> Result<Self, Failure> {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let fail = |e: std::io::Error| cannot_write(path, &e);
        let usual = std::fs::Permissions::from_mode(0o666);
        let partial =
            tempfile::Builder::new().prefix(".artel-").suffix(".npy").permissions(usual).tempfile_in(folder).map_err(fail)?;
        let (file, partial) = partial.into_parts();
        let mut file = BufWriter::new(file);
        file.write_all(&header_bytes(0, columns)).map_err(fail)?;
        Ok(Self { file, partial, path: path.to_path_buf(), rows: 0, columns })
    }

    /// Adds whole rows, one after the other.
    ///
    /// # Errors
    /// The disk is full, or the like.
    pub fn push(&mut self, values: &[f32]) -> Result<(), Failure> {
        assert!(values.len().is_multiple_of(self.columns), "whole rows");
        self.rows += (values.len() / self.columns) as u64;
        for value in values {
            self.file.write_all(&value.to_le_bytes()).map_err(|e| cannot_write(&self.path, &e))?;
        }
        Ok(())
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// As [`Writer::push`].
    pub fn finish(self) -> Result<(), Failure> {
        let file = self.file.into_inner().map_err(|e| cannot_write(&self.path, e.error()))?;
        let header = header_bytes(self.rows, self.columns);
        file.write_all_at(&header, 0).and_then(|()| file.sync_all()).map_err(|e| cannot_write(&self.path, &e))?;
        self.partial.persist(&self.path).map_err(|e| cannot_write(&self.path, &e.error))
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    // The error's own text may name the partial file, of which nobody knows.
    Failure::data(format!("cannot write {}: {}", path.display(), error.kind()))
}

#[cfg(test)]
mod tests;
