//! Which files make a model, in either layout of sentence-transformers, and whether they are what they should be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use artel_common::model_files::is_safe;
use artel_common::{Error, Result};
use serde_json::Value;

use super::Progress;
use super::origin::Origin;

/// Beside `config.json` and the weights, in the Transformer's folder; each may be missing.
const OPTIONAL: [&str; 6] = [
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "added_tokens.json",
];
/// Weights in formats that can run code when they are read, or that Artel does not read.
const REFUSED: [&str; 5] =
    ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.ckpt.index", "tf_model.h5", "flax_model.msgpack"];
/// JSON files beyond this are no settings.
const MOST_JSON_BYTES: u64 = 64 << 20;
/// A model of more modules than this is not one.
const MOST_MODULES: usize = 32;
/// Weights in more shards than this are not those of a BERT.
const MOST_SHARDS: usize = 256;

/// A file of the model on this machine.
pub struct Found {
    /// Its path within the model.
    pub path: String,
    /// Where it lies.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// Files found so far.
struct Collection<'a> {
    origin: &'a mut Origin,
    progress: Progress<'a>,
    found: Vec<Found>,
}

/// Every file that the model needs, on this machine, and what people should know.
pub async fn collect(origin: &mut Origin, progress: Progress<'_>) -> Result<(Vec<Found>, Vec<String>)> {
    let mut warnings = Vec::new();
    let mut all = Collection { origin, progress, found: Vec::new() };
    let modules = all.modules().await?;
    let root = modules
        .as_ref()
        .and_then(|modules| modules.iter().find(|module| module.is_transformer))
        .map_or("", |module| &module.path);
    all.config(root).await?;
    if modules.is_none() {
        warnings.push(format!(
            "{} has no modules.json, which says how its vectors are pooled: mean pooling is assumed, as sentence-transformers does",
            all.name()
        ));
    }
    all.take("config_sentence_transformers.json").await?;
    for module in modules.iter().flatten().filter(|module| !module.path.is_empty() && module.path != root) {
        all.take(&format!("{}/config.json", module.path)).await?;
    }
    for name in OPTIONAL {
        all.take(&below(root, name)).await?;
    }
    if !["tokenizer.json", "vocab.txt"].iter().any(|name| all.has_taken(&below(root, name))) {
        return Err(
            all.refuse("has no tokenizer: tokenizer.json and vocab.txt are both missing; save the tokenizer beside the model")
        );
    }
    all.weights(root).await?;
    Ok((all.found, warnings))
}

/// An entry of `modules.json`.
struct Module {
    path: String,
    is_transformer: bool,
}

impl Collection<'_> {
    fn name(&self) -> String {
        self.origin.name().to_owned()
    }

    fn refuse(&self, what: impl std::fmt::Display) -> Error {
        Error::Model(format!("the model {} {what}", self.name()))
    }

    fn has_taken(&self, path: &str) -> bool {
        self.found.iter().any(|found| found.path == path)
    }

    /// Takes a file if the model has it.
    async fn take(&mut self, path: &str) -> Result<Option<PathBuf>> {
        if !is_safe(path) {
            return Err(self.refuse(format_args!("names {path:?}, which leaves its folder")));
        }
        if let Some(found) = self.found.iter().find(|found| found.path == path) {
            return Ok(Some(found.file.clone()));
        }
        let before: u64 = self.found.iter().map(|found| found.bytes).sum();
        let (progress, last) = (self.progress, AtomicU64::new(0));
        let moved = |done: u64, total: u64| {
            if last.swap(done, Ordering::Relaxed) != done {
                progress(before + done, 2 * (before + total.max(done)));
            }
        };
        let Some(file) = self.origin.fetch(path, &moved).await? else { return Ok(None) };
        let bytes = std::fs::metadata(&file).map_err(|e| Error::io(&file, e))?.len();
        if is_pointer(&file, bytes)? {
            return Err(self.refuse(format_args!("has a Git LFS pointer in place of {path}; run `git lfs pull` in its folder")));
        }
        self.found.push(Found { path: path.to_owned(), file: file.clone(), bytes });
        Ok(Some(file))
    }

    /// Takes a JSON file and reads it.
    async fn take_json(&mut self, path: &str) -> Result<Option<Value>> {
        let Some(file) = self.take(path).await? else { return Ok(None) };
        let bytes = std::fs::metadata(&file).map_err(|e| Error::io(&file, e))?.len();
        if bytes > MOST_JSON_BYTES {
            return Err(self.refuse(format_args!("has {bytes} bytes in {path}, which is no settings file")));
        }
        let text = std::fs::read(&file).map_err(|e| Error::io(&file, e))?;
        let value = serde_json::from_slice(&text);
        value.map(Some).map_err(|e| self.refuse(format_args!("is damaged: {path} is not JSON ({e}); fetch it again")))
    }

    async fn config(&mut self, root: &str) -> Result<()> {
        let path = below(root, "config.json");
        match self.take_json(&path).await? {
            Some(Value::Object(_)) => Ok(()),
            Some(_) => Err(self.refuse(format_args!("is damaged: {path} is not a JSON object; fetch it again"))),
            None => Err(self.refuse(format_args!("has no {path}: this is not a model folder as transformers saves it"))),
        }
    }

    /// The modules, or `None` where the model has no list of them.
    async fn modules(&mut self) -> Result<Option<Vec<Module>>> {
        let Some(value) = self.take_json("modules.json").await? else { return Ok(None) };
        let read = |module: &Value| {
            let class = module.get("type")?.as_str()?;
            let path = module.get("path")?.as_str()?.trim_end_matches('/').to_owned();
            Some(Module { path, is_transformer: class.rsplit('.').next() == Some("Transformer") })
        };
        let modules = value
            .as_array()
            .filter(|list| list.len() <= MOST_MODULES)
            .and_then(|list| list.iter().map(read).collect::<Option<Vec<_>>>());
        let modules = modules
            .ok_or_else(|| self.refuse("is damaged: modules.json is no list of modules with type and path; fetch it again"))?;
        match modules.iter().find(|module| !module.path.is_empty() && !is_safe(&module.path)) {
            Some(module) => Err(self.refuse(format_args!("names {:?} in modules.json, which leaves its folder", module.path))),
            None => Ok(Some(modules)),
        }
    }

    async fn weights(&mut self, root: &str) -> Result<()> {
        if self.take(&below(root, "model.safetensors")).await?.is_some() {
            return Ok(());
        }
        let index = below(root, "model.safetensors.index.json");
        let Some(value) = self.take_json(&index).await? else { return Err(self.no_weights(root).await?) };
        let shards: Option<BTreeSet<String>> = value
            .get("weight_map")
            .and_then(Value::as_object)
            .and_then(|map| map.values().map(|v| v.as_str().map(str::to_owned)).collect());
        let shards = shards.filter(|shards| (1..=MOST_SHARDS).contains(&shards.len()));
        let shards =
            shards.ok_or_else(|| self.refuse(format_args!("is damaged: {index} has no weight_map of files; fetch it again")))?;
        for shard in shards {
            if !shard.ends_with(".safetensors") {
                return Err(self.refuse(format_args!("names {shard:?} in {index}, which is no safetensors file")));
            }
            if self.take(&below(root, &shard)).await?.is_none() {
                return Err(self.refuse(format_args!("lacks {shard}, which {index} names; fetch it again")));
            }
        }
        Ok(())
    }

    async fn no_weights(&mut self, root: &str) -> Result<Error> {
        for name in REFUSED {
            let path = below(root, name);
            if self.origin.has(&path).await? {
                return Ok(self.refuse(format_args!(
                    "has its weights in {path} alone; Artel reads safetensors only, since a pickle can run code: load it with transformers, call save_pretrained(\"FOLDER\", safe_serialization=True), and name that folder"
                )));
            }
        }
        Ok(self.refuse("has no weights: model.safetensors is missing"))
    }
}

fn below(root: &str, name: &str) -> String {
    if root.is_empty() { name.to_owned() } else { format!("{root}/{name}") }
}

/// Whether a clone without Git LFS left a pointer in place of the file.
fn is_pointer(file: &Path, bytes: u64) -> Result<bool> {
    if bytes > 1024 {
        return Ok(false);
    }
    let text = std::fs::read(file).map_err(|e| Error::io(file, e))?;
    Ok(text.starts_with(b"version https://git-lfs"))
}
