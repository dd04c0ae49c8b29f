//! `config.json` of a BERT: the sizes of the encoder, and a refusal by name of everything that is not one.

use std::path::Path;

use serde_json::Value;

use super::json::JsonFile;
use crate::{Error, Result};

/// Bounds on the sizes a config.json may ask for; they keep every product of two of them inside 64 bits.
const MAX_WIDTH: usize = 1 << 16;
const MAX_LAYERS: usize = 1 << 10;
const MAX_ROWS: usize = 1 << 24;

/// The feed-forward activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x Phi(x) with the error function, exactly: `gelu`.
    Gelu,
    /// The tanh approximation of GELU: `gelu_new`, `gelu_fast`, `gelu_pytorch_tanh`.
    GeluTanh,
    /// max(x, 0): `relu`.
    Relu,
    /// x sigmoid(x): `silu`, `swish`.
    Silu,
}

/// The shape of a BERT encoder, as its config.json gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct BertConfig {
    /// Rows of the word embedding table.
    pub vocab_size: usize,
    /// Width h of a token's vector; also the width of the embedding.
    pub hidden_size: usize,
    /// Encoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads; they divide `hidden_size`.
    pub num_attention_heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// The feed-forward activation.
    pub hidden_act: Activation,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f64,
    /// Rows of the position embedding table: the longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Rows of the token type embedding table.
    pub type_vocab_size: usize,
    /// The model's own dropout on embeddings and on both outputs of a layer, in [0, 1).
    pub hidden_dropout_prob: f64,
    /// The model's own dropout on attention probabilities, in [0, 1).
    pub attention_probs_dropout_prob: f64,
    /// The token that fills padded places.
    pub pad_token_id: u32,
}

impl Activation {
    /// The activation that transformers calls by this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "gelu" | "gelu_python" => Some(Self::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Some(Self::GeluTanh),
            "relu" => Some(Self::Relu),
            "silu" | "swish" => Some(Self::Silu),
            _ => None,
        }
    }
}

impl BertConfig {
    /// A BERT of so many layers and features as BGE, E5 and MiniLM have it: 12 heads, a feed-forward of four times the width, 30,522 words, 512 positions. BGE-base is
    /// (12, 768), MiniLM-L6 (6, 384).
    pub fn bert(num_hidden_layers: usize, hidden_size: usize) -> Self {
        Self {
            vocab_size: 30_522,
            hidden_size,
            num_hidden_layers,
            num_attention_heads: 12,
            intermediate_size: 4 * hidden_size,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-12,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            pad_token_id: 0,
        }
    }

    /// Reads a config.json.
    ///
    /// # Errors
    /// There is no such file, it lacks a size, or describes a model that is not a BERT encoder.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_json(&Self::file(path)?)
    }

    /// The keys of a config.json.
    ///
    /// # Errors
    /// There is no such file, it cannot be read, or is no JSON object.
    pub fn file(path: &Path) -> Result<JsonFile> {
        JsonFile::read(path).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Error::input(format!(
                "{} is not there: a model folder as transformers saves it has one; name such a folder",
                path.display()
            )),
            error => error,
        })
    }

    /// The configuration in a config.json already read.
    ///
    /// # Errors
    /// It lacks a size, or describes a model that is not a BERT encoder.
    pub fn from_json(file: &JsonFile) -> Result<Self> {
        refuse_other_models(file)?;
        let config = Self {
            vocab_size: file.required_count("vocab_size")?,
            hidden_size: file.required_count("hidden_size")?,
            num_hidden_layers: file.required_count("num_hidden_layers")?,
            num_attention_heads: file.required_count("num_attention_heads")?,
            intermediate_size: file.required_count("intermediate_size")?,
            hidden_act: read_activation(file)?,
            layer_norm_eps: file.number("layer_norm_eps")?.unwrap_or(1e-12),
            max_position_embeddings: file.required_count("max_position_embeddings")?,
            type_vocab_size: file.count("type_vocab_size")?.unwrap_or(2),
            hidden_dropout_prob: file.number("hidden_dropout_prob")?.unwrap_or(0.1),
            attention_probs_dropout_prob: file.number("attention_probs_dropout_prob")?.unwrap_or(0.1),
            pad_token_id: u32::try_from(file.count("pad_token_id")?.unwrap_or(0)).unwrap_or(u32::MAX),
        };
        config.validate().map_err(|problem| Error::input(format!("{}: {problem}", file.path.display())))?;
        Ok(config)
    }

    /// Checks every size against its bounds and against the others.
    ///
    /// # Errors
    /// The first problem, in words.
    pub fn validate(&self) -> Result<(), String> {
        let bounded = [
            ("vocab_size", self.vocab_size, MAX_ROWS),
            ("hidden_size", self.hidden_size, MAX_WIDTH),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MAX_WIDTH),
            ("intermediate_size", self.intermediate_size, MAX_WIDTH),
            ("max_position_embeddings", self.max_position_embeddings, MAX_ROWS),
            ("type_vocab_size", self.type_vocab_size, MAX_ROWS),
        ];
        for (name, value, most) in bounded {
            if value == 0 || value > most {
                return Err(format!("{name} must lie between 1 and {most}, found {value}"));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        for (name, value) in [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            ("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
        ] {
            if !(0.0..1.0).contains(&value) {
                return Err(format!("{name} must lie in [0, 1), found {value}"));
            }
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps >= 0.0) {
            return Err(format!("layer_norm_eps must be finite and not negative, found {}", self.layer_norm_eps));
        }
        if self.pad_token_id as usize >= self.vocab_size {
            return Err(format!("pad_token_id {} lies outside the vocabulary of {}", self.pad_token_id, self.vocab_size));
        }
        Ok(())
    }

    /// Width of one attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}

/// Refuses what Artel does not compute: other architectures, relative positions, decoders, code of the model's own.
fn refuse_other_models(file: &JsonFile) -> Result<()> {
    let advice = "choose a base model of the BERT family with absolute positions, such as BAAI/bge-base-en-v1.5";
    let refuse = |what: String| Err(Error::input(format!("{}: {what}; {advice}", file.path.display())));
    match file.text("model_type")? {
        Some("bert") => {}
        Some(other) => return refuse(format!("model_type {other:?} is not supported, only \"bert\" is")),
        None => return refuse("no model_type, so this is not known to be a BERT".to_owned()),
    }
    if let Some(Value::Array(names)) = file.get("architectures")
        && let Some(other) = names.iter().filter_map(Value::as_str).find(|name| !name.starts_with("Bert"))
    {
        return refuse(format!("architecture {other:?} is not supported, only BERT's are"));
    }
    if file.get("auto_map").and_then(|map| map.get("AutoModel")).is_some() {
        return refuse("auto_map names code of the model's own, which is not run".to_owned());
    }
    if let Some(kind) = file.text("position_embedding_type")?.filter(|kind| *kind != "absolute") {
        return refuse(format!("position_embedding_type {kind:?} is not supported, only \"absolute\" is"));
    }
    for key in ["is_decoder", "add_cross_attention"] {
        if file.flag(key)? == Some(true) {
            return refuse(format!("{key} is true, and only encoders are supported"));
        }
    }
    if file.get("quantization_config").is_some() {
        return refuse("the weights are quantised (quantization_config), and only f32, f16 and bf16 are read".to_owned());
    }
    if file.get("pruned_heads").and_then(Value::as_object).is_some_and(|heads| !heads.is_empty()) {
        return refuse("pruned_heads is not empty, and every layer must have the same heads".to_owned());
    }
    Ok(())
}

/// `hidden_act`, GELU where the file is silent.
fn read_activation(file: &JsonFile) -> Result<Activation> {
    let name = file.text("hidden_act")?.unwrap_or("gelu");
    Activation::from_name(name).ok_or_else(|| {
        Error::input(format!(
            "{}: hidden_act {name:?} is not supported; models with gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu, silu or swish are",
            file.path.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> JsonFile {
        let text = r#"{"model_type": "bert", "vocab_size": 100, "hidden_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 3, "intermediate_size": 20, "max_position_embeddings": 16}"#;
        let mut map = match serde_json::from_str(text) {
            Ok(Value::Object(map)) => map,
            other => panic!("{other:?}"),
        };
        change(&mut map);
        JsonFile { path: "config.json".into(), map }
    }

    /// Goal: what the file leaves out has transformers' defaults. Method: read a minimal file.
    #[test]
    fn defaults_are_berts() {
        let config = BertConfig::from_json(&json(|_| ())).unwrap();
        assert_eq!(config.hidden_act, Activation::Gelu);
        assert_eq!((config.type_vocab_size, config.pad_token_id, config.head_size()), (2, 0, 4));
        assert_eq!((config.layer_norm_eps, config.hidden_dropout_prob), (1e-12, 0.1));
    }

    /// Goal: every model that is not a BERT encoder is refused by name. Method: change one key at a time.
    #[test]
    fn other_models_are_refused_by_name() {
        let cases: [(&str, Value, &str); 13] = [
            ("model_type", "roberta".into(), "\"roberta\""),
            ("model_type", Value::Null, "no model_type"),
            ("architectures", serde_json::json!(["JinaBertModel"]), "JinaBertModel"),
            ("auto_map", serde_json::json!({"AutoModel": "x.Y"}), "auto_map"),
            ("position_embedding_type", "relative_key".into(), "relative_key"),
            ("is_decoder", true.into(), "is_decoder"),
            ("quantization_config", serde_json::json!({"bits": 4}), "quantization_config"),
            ("pruned_heads", serde_json::json!({"0": [1]}), "pruned_heads"),
            ("hidden_act", "mish".into(), "\"mish\""),
            ("hidden_size", Value::Null, "has no hidden_size"),
            ("hidden_size", 13.into(), "num_attention_heads"),
            ("vocab_size", u64::MAX.into(), "vocab_size"),
            ("hidden_dropout_prob", 1.0.into(), "hidden_dropout_prob"),
        ];
        for (key, value, expected) in cases {
            let file = json(|map| {
                map.insert(key.to_owned(), value.clone());
            });
            let error = BertConfig::from_json(&file).unwrap_err().to_string();
            assert!(error.contains(expected), "{key}={value}: {error}");
        }
    }
}
