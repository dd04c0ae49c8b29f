//! The safetensors format: a length, a JSON header, the tensors' bytes. Read tensor by tensor and bounded, written in one pass.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// No header is longer than this; the format's own bound.
const HEADER_LIMIT_BYTES: u64 = 100_000_000;
/// Tensors are converted this many bytes at a time.
const PIECE_BYTES: usize = 1 << 20;
/// The header's own length field.
const LENGTH_BYTES: u64 = 8;

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The format's name of the element type: `F32`, `BF16`, `I64`, ...
    pub dtype: String,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// First byte, counted from the end of the header.
    begin: u64,
    /// Length in bytes.
    len: u64,
}

/// A file whose header has been read and checked.
#[derive(Debug, Clone)]
pub struct SafeTensorsFile {
    path: PathBuf,
    data_start: u64,
    tensors: BTreeMap<String, TensorInfo>,
}

/// The values of a tensor to write.
pub enum NewData<'a> {
    /// f32 values.
    F32(std::borrow::Cow<'a, [f32]>),
    /// Bytes of another type, as they stand.
    Raw(String, Vec<u8>),
}

/// A tensor to write.
pub struct NewTensor<'a> {
    /// Its name in the file.
    pub name: String,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// Its values.
    pub data: NewData<'a>,
}

impl TensorInfo {
    /// The number of elements.
    pub fn num_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether [`SafeTensorsFile::read_f32`] can read it.
    pub fn is_float(&self) -> bool {
        matches!(self.dtype.as_str(), "F32" | "F16" | "BF16")
    }
}

impl SafeTensorsFile {
    /// Reads and checks the header: every tensor's bytes lie inside the file, without gap or overlap, as many as its shape needs.
    ///
    /// # Errors
    /// The file cannot be read or breaks one of these rules.
    pub fn open(path: &Path) -> Result<Self> {
        let damaged =
            |what: String| Error::input(format!("{} is not a sound safetensors file: {what}; fetch it again", path.display()));
        let mut file = File::open(path).map_err(|source| Error::io(path, source))?;
        let file_len = file.metadata().map_err(|source| Error::io(path, source))?.len();
        if file_len < LENGTH_BYTES {
            return Err(damaged(format!("it has {file_len} bytes")));
        }
        let mut length = [0; LENGTH_BYTES as usize];
        file.read_exact(&mut length).map_err(|source| Error::io(path, source))?;
        let header_len = u64::from_le_bytes(length);
        if header_len > HEADER_LIMIT_BYTES || header_len > file_len - LENGTH_BYTES {
            return Err(damaged(format!("its header would have {header_len} bytes, the file has {file_len}")));
        }
        let mut header = vec![0; header_len as usize];
        file.read_exact(&mut header).map_err(|source| Error::io(path, source))?;
        let header: Value = serde_json::from_slice(&header).map_err(|e| damaged(format!("its header is not JSON ({e})")))?;
        let Value::Object(header) = header else { return Err(damaged("its header is not a JSON object".to_owned())) };
        let data_start = LENGTH_BYTES + header_len;
        let tensors = parse_header(&header, file_len - data_start).map_err(damaged)?;
        Ok(Self { path: path.to_path_buf(), data_start, tensors })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its tensors by name, in byte order of the names.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// Reads a tensor of f32, f16 or bf16 into `out`; every value must be finite.
    ///
    /// # Errors
    /// There is no such tensor, it has another type or number of elements, or holds a NaN or an infinity.
    pub fn read_f32(&self, name: &str, out: &mut [f32]) -> Result<()> {
        let info = self.find(name)?;
        if !info.is_float() || info.num_elements() != out.len() {
            return Err(Error::input(format!(
                "{}: tensor {name} is {} {:?}; only F32, F16 and BF16 are read",
                self.path.display(),
                info.dtype,
                info.shape
            )));
        }
        let width = if info.dtype == "F32" { 4 } else { 2 };
        let mut file = self.at(info)?;
        let mut bytes = vec![0; PIECE_BYTES.min(out.len() * width)];
        let mut done = 0;
        for piece in out.chunks_mut(PIECE_BYTES / width) {
            let bytes = &mut bytes[..piece.len() * width];
            file.read_exact(bytes).map_err(|source| Error::io(&self.path, source))?;
            decode(&info.dtype, bytes, piece);
            if let Some(at) = piece.iter().position(|value| !value.is_finite()) {
                return Err(Error::input(format!(
                    "{}: tensor {name} holds {} at element {}; the file is damaged or its training diverged, \
                     fetch it again or choose another model",
                    self.path.display(),
                    piece[at],
                    done + at
                )));
            }
            done += piece.len();
        }
        Ok(())
    }

    /// A tensor's bytes, whatever its type.
    ///
    /// # Errors
    /// There is no such tensor, or the file cannot be read.
    pub fn read_raw(&self, name: &str) -> Result<Vec<u8>> {
        let info = self.find(name)?;
        let mut bytes = Vec::new();
        self.at(info)?.take(info.len).read_to_end(&mut bytes).map_err(|source| Error::io(&self.path, source))?;
        if bytes.len() as u64 != info.len {
            return Err(Error::io(&self.path, std::io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }

    fn find(&self, name: &str) -> Result<&TensorInfo> {
        self.tensors.get(name).ok_or_else(|| Error::input(format!("{} has no tensor {name}", self.path.display())))
    }

    fn at(&self, info: &TensorInfo) -> Result<File> {
        let mut file = File::open(&self.path).map_err(|source| Error::io(&self.path, source))?;
        file.seek(SeekFrom::Start(self.data_start + info.begin)).map_err(|source| Error::io(&self.path, source))?;
        Ok(file)
    }
}

/// Writes tensors in the order given, with the metadata that transformers asks for, and syncs the file.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, tensors: &[NewTensor<'_>]) -> Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), serde_json::json!({"format": "pt"}));
    let mut end = 0;
    for tensor in tensors {
        let (dtype, len) = match &tensor.data {
            NewData::F32(values) => ("F32", values.len() * 4),
            NewData::Raw(dtype, bytes) => (dtype.as_str(), bytes.len()),
        };
        let offsets = [end, end + len];
        end += len;
        header.insert(tensor.name.clone(), serde_json::json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": offsets}));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let write_all = || -> std::io::Result<()> {
        let mut out = BufWriter::with_capacity(PIECE_BYTES, File::create(path)?);
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for tensor in tensors {
            match &tensor.data {
                NewData::F32(values) => values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))?,
                NewData::Raw(_, bytes) => out.write_all(bytes)?,
            }
        }
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    };
    write_all().map_err(|source| Error::io(path, source))
}

/// The tensors that a header lists, checked against the `data_len` bytes behind it.
fn parse_header(header: &Map<String, Value>, data_len: u64) -> Result<BTreeMap<String, TensorInfo>, String> {
    let mut tensors = BTreeMap::new();
    for (name, value) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let info = parse_tensor(value).ok_or_else(|| format!("the header's entry of {name:?} makes no sense"))?;
        tensors.insert(name.clone(), info);
    }
    let mut order: Vec<(&String, &TensorInfo)> = tensors.iter().collect();
    order.sort_by_key(|(_, info)| (info.begin, info.len));
    let mut end = 0;
    for (name, info) in order {
        if info.begin != end {
            return Err(format!("tensor {name:?} begins at byte {}, not at {end}", info.begin));
        }
        end = info.begin.checked_add(info.len).ok_or_else(|| format!("tensor {name:?} is too long"))?;
    }
    if end != data_len {
        return Err(format!("its tensors need {end} bytes and it holds {data_len}"));
    }
    Ok(tensors)
}

/// One entry of a header; `None` where it is malformed or its shape does not fit its bytes.
fn parse_tensor(value: &Value) -> Option<TensorInfo> {
    let dtype = value.get("dtype")?.as_str()?;
    let sizes = value.get("shape")?.as_array()?.iter();
    let shape: Vec<usize> = sizes.map(|size| size.as_u64().and_then(|size| usize::try_from(size).ok())).collect::<Option<_>>()?;
    let offsets = value.get("data_offsets")?.as_array()?;
    let [begin, end] = offsets.as_slice() else { return None };
    let (begin, end) = (begin.as_u64()?, end.as_u64()?);
    let len = end.checked_sub(begin)?;
    let elements = shape.iter().try_fold(1_u64, |product, &size| product.checked_mul(size as u64))?;
    let fits = element_bytes(dtype).is_none_or(|width| elements.checked_mul(width) == Some(len));
    fits.then(|| TensorInfo { dtype: dtype.to_owned(), shape, begin, len })
}

/// Bytes of an element; `None` for types narrower than a byte or unknown here.
fn element_bytes(dtype: &str) -> Option<u64> {
    match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" => Some(1),
        "F16" | "BF16" | "I16" | "U16" => Some(2),
        "F32" | "I32" | "U32" => Some(4),
        "F64" | "I64" | "U64" => Some(8),
        _ => None,
    }
}

/// Little-endian bytes of F32, F16 or BF16 as f32.
fn decode(dtype: &str, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        "F32" => {
            for (value, raw) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*raw);
            }
        }
        "F16" => {
            for (value, raw) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = f16::from_le_bytes(*raw).to_f32();
            }
        }
        _ => {
            for (value, raw) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = bf16::from_le_bytes(*raw).to_f32();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is written is what the safetensors crate reads, and is read back. Method: one float and one integer tensor.
    #[test]
    fn written_files_are_read_by_the_reference() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let values = [1.5_f32, -2.0, 3.25];
        let raw = vec![7, 0, 0, 0, 0, 0, 0, 0];
        let tensors = [
            NewTensor { name: "ids".into(), shape: vec![1], data: NewData::Raw("I64".into(), raw.clone()) },
            NewTensor { name: "w".into(), shape: vec![1, 3], data: NewData::F32(values.as_slice().into()) },
        ];
        write(&path, &tensors).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let reference = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(reference.tensor("w").unwrap().shape(), [1, 3]);
        assert_eq!(reference.tensor("ids").unwrap().data(), raw);
        let file = SafeTensorsFile::open(&path).unwrap();
        let mut out = [0.0; 3];
        file.read_f32("w", &mut out).unwrap();
        assert_eq!(out, values);
        assert_eq!(file.read_raw("ids").unwrap(), raw);
    }

    /// Goal: no damaged file is taken for a sound one, and none makes the reader panic or allocate without bound.
    /// Method: wrong lengths, headers and offsets, and a sound file cut at every length.
    #[test]
    fn damaged_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let headers = [
            "[]",
            "{",
            r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
            r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
            r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
            r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            r#"{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#,
            r#"{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}}"#,
        ];
        for header in headers {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(&[0; 8]);
            std::fs::write(&path, &bytes).unwrap();
            assert!(SafeTensorsFile::open(&path).is_err(), "{header}");
        }
        std::fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
        assert!(SafeTensorsFile::open(&path).unwrap_err().to_string().contains("header"));
        let tensor = NewTensor { name: "w".into(), shape: vec![3], data: NewData::F32(vec![0.5; 3].into()) };
        write(&path, &[tensor]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(SafeTensorsFile::open(&path).is_err(), "{len}");
        }
    }

    /// Goal: the half types keep their values. Method: values that all three hold exactly.
    #[test]
    fn half_types_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let values = [0.5_f32, -3.0, 1024.0];
        let f16s = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        let bf16s = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
        let tensors = [
            NewTensor { name: "a".into(), shape: vec![3], data: NewData::Raw("F16".into(), f16s) },
            NewTensor { name: "b".into(), shape: vec![3], data: NewData::Raw("BF16".into(), bf16s) },
        ];
        write(&path, &tensors).unwrap();
        let file = SafeTensorsFile::open(&path).unwrap();
        for name in ["a", "b"] {
            let mut out = [0.0; 3];
            file.read_f32(name, &mut out).unwrap();
            assert_eq!(out, values);
        }
    }
}
