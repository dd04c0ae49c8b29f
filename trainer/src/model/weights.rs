//! A model folder's weights: which stored tensor is which parameter, and which are kept aside.
//!
//! Stored names may carry a prefix (`bert.`, `0.model.`) and BERT's first spelling of LayerNorm (`gamma`, `beta`);
//! both are remembered, so that an export has the base model's names.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::json::JsonFile;
use super::layout::ParamLayout;
use super::safetensors::{NewData, NewTensor, SafeTensorsFile, TensorInfo};
use crate::{Error, Result};

/// The file of a model that is not split.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The table of a model that is.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// A model is split into at most this many files.
const MAX_FILES: usize = 1000;
/// The tensor that every BERT has once; what stands before it is the prefix.
const LANDMARK: &str = "embeddings.word_embeddings.weight";

/// A tensor in one of the files.
#[derive(Debug, Clone)]
struct StoredTensor {
    file: usize,
    name: String,
}

/// The weights of a model folder, found and checked but not yet read.
#[derive(Debug, Clone)]
pub struct WeightFiles {
    files: Vec<SafeTensorsFile>,
    /// One per layout entry, in the layout's order.
    params: Vec<StoredTensor>,
    /// The pooler and integer buffers: exported as they came.
    aside: Vec<StoredTensor>,
    /// Tensors of other tasks' heads, which are left out.
    left_out: Vec<String>,
}

impl WeightFiles {
    /// Finds a folder's weights and matches them with the layout by name and shape.
    ///
    /// # Errors
    /// There is no safetensors file, one is damaged, or a tensor is missing, has another shape or type, or is not part of a BERT.
    pub fn open(dir: &Path, layout: &ParamLayout) -> Result<Self> {
        let files = open_files(dir)?;
        let mut stored: HashMap<&str, usize> = HashMap::new();
        for (index, file) in files.iter().enumerate() {
            for name in file.tensors().keys() {
                if stored.insert(name, index).is_some() {
                    return Err(Error::input(format!("{}: tensor {name} lies in two files", file.path().display())));
                }
            }
        }
        let prefix = find_prefix(dir, &stored)?;
        let mut params = Vec::with_capacity(layout.entries.len());
        let mut taken = BTreeSet::new();
        for entry in &layout.entries {
            let (file, name) = find_param(&stored, &prefix, &entry.name).ok_or_else(|| {
                Error::input(format!(
                    "{} lacks tensor {prefix}{}, which its config.json asks for; fetch the model's files again",
                    dir.display(),
                    entry.name
                ))
            })?;
            check_param(&files[file], &name, &entry.shape)?;
            taken.insert(name.clone());
            params.push(StoredTensor { file, name });
        }
        let (mut aside, mut left_out) = (Vec::new(), Vec::new());
        for (index, file) in files.iter().enumerate() {
            for (name, info) in file.tensors().iter().filter(|(name, _)| !taken.contains(*name)) {
                match place_of(name, &prefix, info) {
                    Place::Aside => aside.push(StoredTensor { file: index, name: name.clone() }),
                    Place::LeftOut => left_out.push(name.clone()),
                    Place::Unknown => return Err(unknown_tensor(file, name)),
                }
            }
        }
        Ok(Self { files, params, aside, left_out })
    }

    /// The files, in no particular order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(SafeTensorsFile::path)
    }

    /// Names of tensors that belong to other tasks' heads and are neither trained nor exported.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Reads all parameters into one flat vector.
    ///
    /// # Errors
    /// A file cannot be read, or a parameter holds a NaN or an infinity.
    pub fn load(&self, layout: &ParamLayout) -> Result<Vec<f32>> {
        let mut flat = vec![0.0; layout.total];
        for (entry, stored) in layout.entries.iter().zip(&self.params) {
            self.files[stored.file].read_f32(&stored.name, &mut flat[entry.range()])?;
        }
        Ok(flat)
    }

    /// All tensors of an export: these parameters under the base model's names, and what was kept aside, floats as f32.
    /// Integers come first, then floats, each in byte order of names.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn export<'a>(&self, layout: &ParamLayout, params: &'a [f32]) -> Result<Vec<NewTensor<'a>>> {
        let mut tensors = Vec::with_capacity(self.params.len() + self.aside.len());
        for (entry, stored) in layout.entries.iter().zip(&self.params) {
            let data = NewData::F32(params[entry.range()].into());
            tensors.push(NewTensor { name: stored.name.clone(), shape: entry.shape.clone(), data });
        }
        for stored in &self.aside {
            let file = &self.files[stored.file];
            let info = &file.tensors()[&stored.name];
            let data = if info.is_float() {
                let mut values = vec![0.0; info.num_elements()];
                file.read_f32(&stored.name, &mut values)?;
                NewData::F32(values.into())
            } else {
                NewData::Raw(info.dtype.clone(), file.read_raw(&stored.name)?)
            };
            tensors.push(NewTensor { name: stored.name.clone(), shape: info.shape.clone(), data });
        }
        tensors.sort_by(|a, b| (a.is_f32(), &a.name).cmp(&(b.is_f32(), &b.name)));
        Ok(tensors)
    }
}

impl NewTensor<'_> {
    /// Whether its values are f32.
    pub fn is_f32(&self) -> bool {
        matches!(self.data, NewData::F32(_))
    }
}

/// Opens `model.safetensors`, or the files that its index names.
fn open_files(dir: &Path) -> Result<Vec<SafeTensorsFile>> {
    let single = dir.join(WEIGHTS_FILE);
    if single.is_file() {
        return Ok(vec![SafeTensorsFile::open(&single)?]);
    }
    let index_path = dir.join(INDEX_FILE);
    let Some(index) = JsonFile::read_if_present(&index_path)? else { return Err(no_weights(dir)) };
    let map = index.get("weight_map").and_then(|map| map.as_object());
    let map = map.ok_or_else(|| Error::input(format!("{} has no weight_map; fetch it again", index_path.display())))?;
    let mut names = BTreeSet::new();
    for value in map.values() {
        let name = value.as_str().filter(|name| !name.is_empty() && !name.contains(['/', '\\']) && *name != "..");
        names.insert(name.ok_or_else(|| index.wrong("weight_map", "a map to file names", value))?.to_owned());
    }
    if names.is_empty() || names.len() > MAX_FILES {
        return Err(Error::input(format!(
            "{} names {} files; between 1 and {MAX_FILES} can be",
            index_path.display(),
            names.len()
        )));
    }
    names.iter().map(|name| SafeTensorsFile::open(&dir.join(name))).collect()
}

/// What to do about a folder without safetensors.
fn no_weights(dir: &Path) -> Error {
    let pickled = std::fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("pytorch_model") && (name.ends_with(".bin") || name.ends_with(".bin.index.json"))
    });
    let dir = dir.display();
    if pickled {
        return Error::input(format!(
            "{dir} has its weights as a pickle (pytorch_model.bin) alone, which can run code when it is read and is therefore not; \
             choose a revision with {WEIGHTS_FILE}, or convert it where you trust it: \
             python -c \"from transformers import AutoModel; AutoModel.from_pretrained('{dir}').save_pretrained('{dir}')\""
        ));
    }
    Error::input(format!("{dir} has no {WEIGHTS_FILE}; give the folder of a whole model"))
}

/// What stands before BERT's own names in this file.
fn find_prefix(dir: &Path, stored: &HashMap<&str, usize>) -> Result<String> {
    let mut prefixes: Vec<&str> = stored.keys().filter_map(|name| name.strip_suffix(LANDMARK)).collect();
    prefixes.sort_unstable();
    match prefixes.as_slice() {
        [prefix] => Ok((*prefix).to_owned()),
        [] => Err(Error::input(format!("{} lacks tensor {LANDMARK}; it is not a BERT's weights", dir.display()))),
        [first, second, ..] => Err(Error::input(format!(
            "{} holds two encoders, {first:?} and {second:?}; only models with one are supported",
            dir.display()
        ))),
    }
}

/// The stored name of a parameter: today's, or BERT's first spelling of LayerNorm.
fn find_param(stored: &HashMap<&str, usize>, prefix: &str, bare: &str) -> Option<(usize, String)> {
    let today = format!("{prefix}{bare}");
    let first = today.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
    [today, first].into_iter().find_map(|name| stored.get(name.as_str()).map(|&file| (file, name.clone())))
}

/// Checks a parameter's shape and type.
fn check_param(file: &SafeTensorsFile, name: &str, shape: &[usize]) -> Result<()> {
    let info = &file.tensors()[name];
    let path: PathBuf = file.path().to_path_buf();
    let path = path.display();
    if info.shape != shape {
        return Err(Error::input(format!(
            "{path}: tensor {name} has the shape {:?}, but config.json makes it {shape:?}; the two do not belong together",
            info.shape
        )));
    }
    if !info.is_float() {
        return Err(Error::input(format!("{path}: tensor {name} is {}; only F32, F16 and BF16 are read", info.dtype)));
    }
    Ok(())
}

/// What becomes of a tensor that is no parameter.
enum Place {
    Aside,
    LeftOut,
    Unknown,
}

/// Poolers and integer buffers are kept; heads of other tasks lie outside the encoder; anything else would change what it computes.
fn place_of(name: &str, prefix: &str, info: &TensorInfo) -> Place {
    let Some(bare) = name.strip_prefix(prefix) else { return Place::LeftOut };
    let in_encoder = bare.starts_with("embeddings.") || bare.starts_with("encoder.");
    match bare {
        _ if bare.starts_with("pooler.dense.") && info.is_float() => Place::Aside,
        _ if in_encoder && matches!(info.dtype.as_str(), "I64" | "I32") => Place::Aside,
        _ if in_encoder => Place::Unknown,
        _ => Place::LeftOut,
    }
}

fn unknown_tensor(file: &SafeTensorsFile, name: &str) -> Error {
    Error::input(format!(
        "{}: tensor {name} is no part of the BERT that config.json describes; choose a base model without additions to the encoder",
        file.path().display()
    ))
}
