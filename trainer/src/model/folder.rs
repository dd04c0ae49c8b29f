//! A model folder as sentence-transformers saves them, in the old layout and the new: what it says, found and checked.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::config::BertConfig;
use super::json::{JsonFile, read_value};
use super::layout::ParamLayout;
use super::pooling::Pooling;
use super::prompts::Prompts;
use super::tokenizer::Tokenizer;
use super::tokenizer_files::TokenizerFiles;
use super::weights::WeightFiles;
use crate::{Error, Result};

/// The module list of a folder.
pub const MODULES_FILE: &str = "modules.json";
/// The folder's own settings.
pub const SETTINGS_FILE: &str = "config_sentence_transformers.json";
/// The transformer module's settings.
pub const TRANSFORMER_FILE: &str = "sentence_bert_config.json";

/// Settings of the transformer module that would change the vectors and that Artel does not apply.
const REFUSED_SETTINGS: [&str; 4] = ["processing_kwargs", "query_expansion", "query_length", "document_length"];

/// A model that can be trained, exported and encoded with: everything but the weights is in memory.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// The folder.
    pub path: PathBuf,
    /// The encoder's shape.
    pub config: BertConfig,
    /// The steps after the encoder.
    pub pooling: Pooling,
    /// The folder's own limit in tokens, never above the encoder's positions.
    pub max_seq_length: usize,
    /// Where each parameter lies in the flat vector.
    pub layout: ParamLayout,
    /// The folder's prompts.
    pub prompts: Prompts,
    /// What the user should know about how the folder was understood.
    pub warnings: Vec<String>,
    /// config.json, as it stands.
    pub(super) config_file: JsonFile,
    /// `do_lower_case` of sentence_bert_config.json.
    pub(super) lower_case: bool,
    pub(super) tokenizer_files: TokenizerFiles,
    pub(super) weights: WeightFiles,
}

/// What modules.json says, once everything else is refused.
struct Modules {
    /// The transformer's folder, relative to the model's.
    transformer: PathBuf,
    /// The pooling module's folder; none where there is no modules.json.
    pooling: Option<PathBuf>,
    normalize: bool,
}

impl ModelFolder {
    /// Opens a folder: reads its settings and its tokenizer, and finds and checks its weights without reading them.
    ///
    /// # Errors
    /// Something is missing, damaged, or not what Artel computes; the message names it and says what to do.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(Error::input(format!("{} is not a folder; give the folder of a model", path.display())));
        }
        let mut warnings = Vec::new();
        let modules = Modules::read(path, &mut warnings)?;
        let transformer = path.join(&modules.transformer);
        let config_file = BertConfig::file(&transformer.join("config.json"))?;
        let config = BertConfig::from_json(&config_file)?;
        let mut pooling = match &modules.pooling {
            Some(dir) => Pooling::from_json(&JsonFile::read(&path.join(dir).join("config.json"))?, config.hidden_size)?,
            None => Pooling::mean(),
        };
        pooling.normalize = modules.normalize;
        let transformer_settings = JsonFile::read_if_present(&transformer.join(TRANSFORMER_FILE))?;
        let settings = JsonFile::read_if_present(&path.join(SETTINGS_FILE))?;
        let lower_case = check_transformer_settings(transformer_settings.as_ref())?;
        let prompts = match &settings {
            Some(file) => Prompts::from_json(file)?,
            None => Prompts::default(),
        };
        warn_about_similarity(settings.as_ref(), &mut warnings)?;
        let tokenizer_files = TokenizerFiles::read(&transformer, lower_case)?;
        warnings.extend(tokenizer_files.warnings.iter().cloned());
        let layout = ParamLayout::bert(&config);
        let weights = WeightFiles::open(&transformer, &layout)?;
        if let [first, ..] = weights.left_out() {
            let count = weights.left_out().len();
            warnings.push(format!(
                "{count} tensors of other tasks' heads are left out ({first}, ...); they take no part in an embedding"
            ));
        }
        let max_seq_length = own_limit(transformer_settings.as_ref(), tokenizer_files.config.as_ref(), &config)?;
        let folder = Self {
            path: path.to_path_buf(),
            config,
            pooling,
            max_seq_length,
            layout,
            prompts,
            warnings,
            config_file,
            lower_case,
            tokenizer_files,
            weights,
        };
        folder.tokenizer(folder.max_seq_length)?;
        Ok(folder)
    }

    /// Reads all parameters into one flat vector, in the order of `layout`.
    ///
    /// # Errors
    /// A file cannot be read, or a weight is NaN or infinite.
    pub fn load_params(&self) -> Result<Vec<f32>> {
        self.weights.load(&self.layout)
    }

    /// The folder's tokenizer, cutting at this many tokens.
    ///
    /// # Errors
    /// The limit leaves no room for text or exceeds the encoder's positions.
    pub fn tokenizer(&self, max_seq_length: usize) -> Result<Tokenizer> {
        let most = self.config.max_position_embeddings;
        if max_seq_length > most {
            return Err(Error::input(format!(
                "max_seq_length {max_seq_length} exceeds the {most} positions of {}; give at most {most}",
                self.path.display()
            )));
        }
        Tokenizer::build(&self.tokenizer_files, &self.path, self.config.vocab_size, max_seq_length)
    }

    /// SHA-256 of the tokenizer in effect: two models with the same one make the same tokens.
    pub fn tokenizer_digest(&self) -> artel_common::digest::Digest {
        artel_common::digest::Digest::of(self.tokenizer_files.effective.to_string().as_bytes())
    }
}

impl Modules {
    fn read(path: &Path, warnings: &mut Vec<String>) -> Result<Self> {
        let list_path = path.join(MODULES_FILE);
        if !list_path.is_file() {
            warnings.push(format!(
                "{} has no {MODULES_FILE}, so nothing says how its token vectors are pooled: mean pooling without normalisation \
                 is assumed, as sentence-transformers does",
                path.display()
            ));
            return Ok(Self { transformer: PathBuf::new(), pooling: None, normalize: false });
        }
        let refuse = |what: String| Error::input(format!("{}: {what}", list_path.display()));
        let list = read_value(&list_path)?;
        let Value::Array(list) = list else { return Err(refuse("expected a list of modules".to_owned())) };
        let mut kinds = Vec::new();
        for module in &list {
            let text = |key: &str| module.get(key).and_then(Value::as_str);
            let (Some(class), Some(dir)) = (text("type"), text("path")) else {
                return Err(refuse("a module without type or path".to_owned()));
            };
            let dir = PathBuf::from(dir);
            if !dir.components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(refuse(format!("the path {} leads out of the model's folder", dir.display())));
            }
            let kind = class.strip_prefix("sentence_transformers.").and_then(|rest| rest.rsplit('.').next()).unwrap_or(class);
            kinds.push((kind.to_owned(), class.to_owned(), dir));
        }
        let known = ["Transformer", "Pooling", "Normalize"];
        if let Some((_, class, _)) = kinds.iter().find(|(kind, ..)| !known.contains(&kind.as_str())) {
            return Err(refuse(format!(
                "the module {class} is not supported; choose a base model of Transformer, Pooling and, if need be, Normalize"
            )));
        }
        let names: Vec<&str> = kinds.iter().map(|(kind, ..)| kind.as_str()).collect();
        let normalize = match names.as_slice() {
            ["Transformer", "Pooling"] => false,
            ["Transformer", "Pooling", "Normalize"] => true,
            other => {
                return Err(refuse(format!(
                    "the modules {other:?} in this order are not supported, only Transformer, Pooling, Normalize are"
                )));
            }
        };
        if normalize {
            check_normalize(&path.join(&kinds[2].2))?;
        }
        Ok(Self { transformer: kinds[0].2.clone(), pooling: Some(kinds[1].2.clone()), normalize })
    }
}

/// The normalising module of the new layout may be pointed elsewhere.
fn check_normalize(dir: &Path) -> Result<()> {
    let Some(file) = JsonFile::read_if_present(&dir.join("config.json"))? else { return Ok(()) };
    for key in ["module_input_name", "module_output_name"] {
        if let Some(name) = file.text(key)?.filter(|name| *name != "sentence_embedding") {
            let path = file.path.display();
            return Err(Error::input(format!("{path}: {key} {name:?} is not supported, only \"sentence_embedding\" is")));
        }
    }
    Ok(())
}

/// Refuses settings of the transformer module that would change its vectors; returns `do_lower_case`.
fn check_transformer_settings(file: Option<&JsonFile>) -> Result<bool> {
    let Some(file) = file else { return Ok(false) };
    let refuse =
        |what: String| Err(Error::input(format!("{}: {what} is not supported; choose another base model", file.path.display())));
    for (key, expected) in [("transformer_task", "feature-extraction"), ("module_output_name", "token_embeddings")] {
        if let Some(found) = file.text(key)?.filter(|found| *found != expected) {
            return refuse(format!("{key} {found:?}"));
        }
    }
    let text = file.get("modality_config").and_then(|config| config.get("text"));
    if let Some(output) = text.and_then(|text| text.get("method_output_name")).filter(|output| **output != "last_hidden_state") {
        return refuse(format!("method_output_name {output}"));
    }
    let empty = |value: &Value| value.as_object().is_some_and(|map| map.is_empty());
    if let Some(key) = REFUSED_SETTINGS.into_iter().find(|key| file.get(key).is_some_and(|value| !empty(value))) {
        return refuse(key.to_owned());
    }
    Ok(file.flag("do_lower_case")?.unwrap_or(false))
}

/// Artel trains and measures cosines; a folder that asks for another similarity is told so.
fn warn_about_similarity(settings: Option<&JsonFile>, warnings: &mut Vec<String>) -> Result<()> {
    let Some(file) = settings else { return Ok(()) };
    if let Some(kind) = file.text("model_type")?.filter(|kind| *kind != "SentenceTransformer") {
        let path = file.path.display();
        return Err(Error::input(format!("{path}: a {kind} is not supported; choose a SentenceTransformer")));
    }
    if let Some(name) = file.text("similarity_fn_name")?.filter(|name| *name != "cosine") {
        let path = file.path.display();
        warnings.push(format!("{path} asks for {name} similarity; training, evaluation and the exported model use cosine"));
    }
    Ok(())
}

/// sentence_bert_config.json's max_seq_length, else tokenizer_config.json's model_max_length, capped by the positions.
fn own_limit(transformer: Option<&JsonFile>, tokenizer: Option<&JsonFile>, config: &BertConfig) -> Result<usize> {
    let most = config.max_position_embeddings;
    if let Some(limit) = transformer.map_or(Ok(None), |file| file.count("max_seq_length"))? {
        return Ok(limit.min(most));
    }
    // "No limit" is written as 1e30 there, which is no integer.
    let limit = tokenizer.map_or(Ok(None), |file| file.number("model_max_length"))?;
    Ok(limit.map_or(most, |limit| if limit < most as f64 { limit as usize } else { most }))
}

#[cfg(test)]
mod tests;
