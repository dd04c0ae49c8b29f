//! Writing a model folder (OUT-1): the layout before sentence-transformers 5.4, which newer readers accept and many need.
//!
//! Everything that is not trained comes from the base model's own files. The folder appears whole or not at all.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::folder::{MODULES_FILE, ModelFolder, SETTINGS_FILE, TRANSFORMER_FILE};
use super::tokenizer_files::SPECIAL_TOKENS;
use super::{safetensors, weights};
use crate::{Error, Result};

/// The sentence-transformers version whose layout is written.
const LAYOUT_VERSION: &str = "5.0.0";

/// What an export adds to the base model's files.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// Widths at which the embeddings were trained to be cut; empty without Matryoshka.
    pub matryoshka_dims: Vec<usize>,
    /// The limit in tokens that the model was trained with.
    pub max_seq_length: usize,
    /// Put before queries; empty for none.
    pub query_prompt: String,
    /// Put before passages; empty for none.
    pub passage_prompt: String,
    /// The model card, README.md.
    pub card: String,
    /// Replace a model folder that is already there; otherwise only an empty folder may be.
    pub replace: bool,
}

/// Writes a folder with these parameters, in the order of the base folder's layout.
///
/// # Errors
/// The options do not fit the model, a parameter is not finite, something is in the way, or a file cannot be written.
pub fn write(folder: &ModelFolder, params: &[f32], to: &Path, options: &ExportOptions) -> Result<()> {
    check(folder, params, options)?;
    let texts = text_files(folder, options)?;
    let tensors = folder.weights.export(&folder.layout, params)?;
    let place = Place::prepare(to, options.replace)?;
    for (name, bytes) in texts {
        write_file(&place.partial.join(name), &bytes)?;
    }
    safetensors::write(&place.partial.join(weights::WEIGHTS_FILE), &tensors)?;
    place.commit()
}

/// What must hold before anything is written.
fn check(folder: &ModelFolder, params: &[f32], options: &ExportOptions) -> Result<()> {
    if params.len() != folder.layout.total {
        return Err(Error::Internal(format!("{} parameters, the layout has {}", params.len(), folder.layout.total)));
    }
    if let Some(entry) = folder.layout.entries.iter().find(|entry| !params[entry.range()].iter().all(|value| value.is_finite())) {
        return Err(Error::NotFinite(format!("parameter {} is not finite; nothing was exported", entry.name)));
    }
    let width = folder.config.hidden_size;
    if let Some(dim) = options.matryoshka_dims.iter().find(|&&dim| dim == 0 || dim > width) {
        return Err(Error::input(format!("the matryoshka dimension {dim} does not lie between 1 and the model's {width}")));
    }
    folder.tokenizer(options.max_seq_length).map(|_| ())
}

/// Every file but the weights.
fn text_files(folder: &ModelFolder, options: &ExportOptions) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut files = vec![
        (MODULES_FILE, pretty(&modules(folder.pooling.normalize))),
        ("1_Pooling/config.json", pretty(&folder.pooling.to_json(folder.config.hidden_size))),
        (TRANSFORMER_FILE, pretty(&json!({"max_seq_length": options.max_seq_length, "do_lower_case": folder.lower_case}))),
        (SETTINGS_FILE, pretty(&settings(folder, options))),
        ("config.json", pretty(&config(folder, options))),
        ("tokenizer.json", pretty(&folder.tokenizer_files.effective)),
        ("tokenizer_config.json", pretty(&tokenizer_config(folder, options)?)),
        ("special_tokens_map.json", pretty(&special_tokens_map(folder))),
        ("README.md", options.card.clone().into_bytes()),
    ];
    if folder.pooling.normalize {
        files.push(("2_Normalize/config.json", pretty(&json!({}))));
    }
    if let Some(bytes) = vocab_txt(folder)? {
        files.push(("vocab.txt", bytes));
    }
    Ok(files)
}

fn modules(normalize: bool) -> Value {
    let all = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")];
    let kept = all.into_iter().take(if normalize { 3 } else { 2 }).enumerate();
    let entry = |(idx, (class, path)): (usize, (&str, &str))| json!({"idx": idx, "name": idx.to_string(), "path": path, "type": format!("sentence_transformers.models.{class}")});
    Value::Array(kept.map(entry).collect())
}

fn settings(folder: &ModelFolder, options: &ExportOptions) -> Value {
    json!({
        "model_type": "SentenceTransformer",
        "__version__": {"sentence_transformers": LAYOUT_VERSION, "artel": env!("CARGO_PKG_VERSION")},
        "prompts": folder.prompts.with(&options.query_prompt, &options.passage_prompt),
        "default_prompt_name": folder.prompts.default_name,
        "similarity_fn_name": "cosine",
    })
}

/// The base model's config.json, told what the weights now are: f32, a bare encoder, cut at these widths.
fn config(folder: &ModelFolder, options: &ExportOptions) -> Value {
    let mut map = folder.config_file.map.clone();
    map.insert("architectures".to_owned(), json!(["BertModel"]));
    for key in ["torch_dtype", "dtype"] {
        if map.contains_key(key) {
            map.insert(key.to_owned(), "float32".into());
        }
    }
    map.shift_remove("matryoshka_dimensions");
    if !options.matryoshka_dims.is_empty() {
        map.insert("matryoshka_dimensions".to_owned(), json!(options.matryoshka_dims));
    }
    Value::Object(map)
}

/// The base model's tokenizer_config.json with the training's limit; what a BertTokenizer reads from it is spelled out.
fn tokenizer_config(folder: &ModelFolder, options: &ExportOptions) -> Result<Value> {
    let files = &folder.tokenizer_files;
    let mut map = files.config.as_ref().map(|file| file.map.clone()).unwrap_or_default();
    // The class that transformers 5 writes is unknown to transformers 4, which has the same under its older name.
    if map.get("tokenizer_class").is_some_and(|class| class == "TokenizersBackend") {
        map.insert("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into());
    }
    if files.is_bert() {
        for (key, token) in SPECIAL_TOKENS.map(|(key, _)| (key, files.special_token(key))) {
            map.entry(key).or_insert_with(|| token.into());
        }
        let lower = files.flag("do_lower_case")?.unwrap_or(true);
        let chinese = files.flag("tokenize_chinese_chars")?.unwrap_or(true);
        map.insert("do_lower_case".to_owned(), lower.into());
        map.insert("tokenize_chinese_chars".to_owned(), chinese.into());
        map.entry("strip_accents").or_insert(Value::Null);
        map.insert("tokenizer_class".to_owned(), "BertTokenizer".into());
    }
    map.insert("model_max_length".to_owned(), options.max_seq_length.into());
    Ok(Value::Object(map))
}

fn special_tokens_map(folder: &ModelFolder) -> Value {
    let files = &folder.tokenizer_files;
    if let Some(file) = &files.special_tokens_map {
        return Value::Object(file.map.clone());
    }
    if files.is_bert() {
        return SPECIAL_TOKENS.map(|(key, _)| (key.to_owned(), Value::String(files.special_token(key)))).into_iter().collect();
    }
    let keys = ["bos_token", "eos_token"].into_iter().chain(SPECIAL_TOKENS.map(|(key, _)| key));
    let found = keys.filter_map(|key| Some((key.to_owned(), files.config.as_ref()?.get(key)?.clone())));
    Value::Object(found.collect::<Map<_, _>>())
}

/// The base model's vocab.txt, or one made from its tokenizer.json; none for other kinds of vocabulary.
fn vocab_txt(folder: &ModelFolder) -> Result<Option<Vec<u8>>> {
    if let Some(path) = &folder.tokenizer_files.vocab_path {
        return std::fs::read(path).map(Some).map_err(|source| Error::io(path, source));
    }
    Ok(folder.tokenizer_files.vocabulary().map(|tokens| (tokens.join("\n") + "\n").into_bytes()))
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file = std::fs::File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| Error::io(path, source))
}

/// A folder in the making beside its place; gone when dropped before [`Place::commit`].
struct Place {
    to: PathBuf,
    partial: PathBuf,
    replace: bool,
}

impl Place {
    fn prepare(to: &Path, replace: bool) -> Result<Self> {
        let refuse = |what: &str| Err(Error::input(format!("{} {what}; choose another folder or remove it", to.display())));
        let Some(name) = to.file_name() else { return refuse("is no place for a model folder") };
        if to.exists() {
            if !to.is_dir() {
                return refuse("is a file");
            }
            let mut entries = std::fs::read_dir(to).map_err(|source| Error::io(to, source))?;
            let replaceable = entries.next().is_none() || (replace && to.join(MODULES_FILE).is_file());
            if !replaceable {
                return refuse("is not empty");
            }
        }
        let beside = |what: &str| to.with_file_name(format!(".{}.{what}-{}", name.to_string_lossy(), std::process::id()));
        let partial = beside("partial");
        let _ = std::fs::remove_dir_all(&partial);
        std::fs::create_dir_all(&partial).map_err(|source| Error::io(&partial, source))?;
        Ok(Self { to: to.to_path_buf(), partial, replace })
    }

    fn commit(self) -> Result<()> {
        let rename = |from: &Path, to: &Path| std::fs::rename(from, to).map_err(|source| Error::io(to, source));
        if !(self.replace && self.to.exists()) {
            return rename(&self.partial, &self.to);
        }
        let old = self.partial.with_extension(format!("old-{}", std::process::id()));
        rename(&self.to, &old)?;
        if let Err(error) = rename(&self.partial, &self.to) {
            rename(&old, &self.to)?;
            return Err(error);
        }
        std::fs::remove_dir_all(&old).map_err(|source| Error::io(&old, source))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.partial);
    }
}

#[cfg(test)]
mod tests;
