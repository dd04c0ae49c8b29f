//! How token vectors become one embedding: `1_Pooling/config.json` in both of its spellings.

use serde_json::Value;

use super::json::JsonFile;
use crate::{Error, Result};

/// The modes of sentence-transformers: the old boolean key and the new name.
const MODES: [(&str, &str); 6] = [
    ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_max_tokens", "max"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    ("pooling_mode_weightedmean_tokens", "weightedmean"),
    ("pooling_mode_lasttoken", "lasttoken"),
];

/// Which token vectors the embedding is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolingMode {
    /// The first token's vector.
    Cls,
    /// The mean over the tokens.
    Mean,
    /// The maximum over the tokens, feature by feature.
    Max,
}

/// The steps after the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooling {
    /// Which token vectors count.
    pub mode: PoolingMode,
    /// Whether the embedding is divided by its Euclidean norm.
    pub normalize: bool,
    /// Whether a prompt's tokens count. If not, pooling sees the tokens after it alone: the mean and
    /// the maximum are taken over those, and `cls` takes the first of them, as sentence-transformers does.
    pub include_prompt: bool,
}

impl PoolingMode {
    /// The name in the new layout: `cls`, `mean` or `max`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::Mean => "mean",
            Self::Max => "max",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Cls, Self::Mean, Self::Max].into_iter().find(|mode| mode.name() == name)
    }
}

impl Pooling {
    /// Mean pooling without normalisation: what sentence-transformers makes of a folder without modules.json.
    pub fn mean() -> Self {
        Self { mode: PoolingMode::Mean, normalize: false, include_prompt: true }
    }

    /// Reads a pooling module's config.json, of either layout. `normalize` is left false: it is a module of its own.
    ///
    /// # Errors
    /// Several modes at once, an unknown mode, or a width other than the encoder's `hidden_size`.
    pub fn from_json(file: &JsonFile, hidden_size: usize) -> Result<Self> {
        for key in ["embedding_dimension", "word_embedding_dimension"] {
            if let Some(width) = file.count(key)?.filter(|&width| width != hidden_size) {
                let path = file.path.display();
                return Err(Error::input(format!("{path}: {key} is {width}, but the encoder's hidden_size is {hidden_size}")));
            }
        }
        let names = active_modes(file)?;
        let [name] = names.as_slice() else {
            return Err(Error::input(format!(
                "{}: several poolings at once ({}) are not supported; choose a base model with one of cls, mean, max",
                file.path.display(),
                names.join(", ")
            )));
        };
        let mode = PoolingMode::from_name(name).ok_or_else(|| {
            Error::input(format!(
                "{}: pooling {name:?} is not supported; choose a base model with one of cls, mean, max",
                file.path.display()
            ))
        })?;
        Ok(Self { mode, normalize: false, include_prompt: file.flag("include_prompt")?.unwrap_or(true) })
    }

    /// The config.json of the pooling module in the old layout, every key written.
    pub fn to_json(self, hidden_size: usize) -> Value {
        let mut map = serde_json::Map::new();
        map.insert("word_embedding_dimension".to_owned(), hidden_size.into());
        for (key, name) in MODES {
            map.insert(key.to_owned(), (name == self.mode.name()).into());
        }
        map.insert("include_prompt".to_owned(), self.include_prompt.into());
        Value::Object(map)
    }
}

/// The names of the modes that are on; mean where the file names none, as sentence-transformers does.
fn active_modes(file: &JsonFile) -> Result<Vec<String>> {
    if let Some(value) = file.get("pooling_mode") {
        return match value {
            Value::String(name) => Ok(vec![name.clone()]),
            Value::Array(names) if !names.is_empty() && names.iter().all(Value::is_string) => {
                Ok(names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            other => Err(file.wrong("pooling_mode", "the name of a mode", other)),
        };
    }
    if let Some(key) = file.map.keys().find(|key| key.starts_with("pooling_mode_") && MODES.iter().all(|(old, _)| old != key)) {
        return Err(Error::input(format!("{}: unknown key {key:?}; Artel knows cls, mean and max", file.path.display())));
    }
    let mut names = Vec::new();
    for (key, name) in MODES {
        if file.flag(key)? == Some(true) {
            names.push(name.to_owned());
        }
    }
    Ok(if names.is_empty() { vec!["mean".to_owned()] } else { names })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: Value) -> JsonFile {
        let Value::Object(map) = value else { panic!("not an object") };
        JsonFile { path: "1_Pooling/config.json".into(), map }
    }

    /// Goal: both spellings give the same pooling, and what is written is read back. Method: old, new, round trip.
    #[test]
    fn both_layouts_are_read() {
        let old = json(serde_json::json!({"word_embedding_dimension": 12, "pooling_mode_cls_token": true,
            "pooling_mode_mean_tokens": false}));
        let new = json(serde_json::json!({"embedding_dimension": 12, "pooling_mode": "cls", "include_prompt": true}));
        let pooling = Pooling::from_json(&old, 12).unwrap();
        assert_eq!(pooling, Pooling { mode: PoolingMode::Cls, normalize: false, include_prompt: true });
        assert_eq!(pooling, Pooling::from_json(&new, 12).unwrap());
        assert_eq!(pooling, Pooling::from_json(&json(pooling.to_json(12)), 12).unwrap());
        assert_eq!(Pooling::mean(), Pooling::from_json(&json(serde_json::json!({})), 12).unwrap());
    }

    /// Goal: what Artel cannot pool is refused by name. Method: one wrong file each.
    #[test]
    fn other_poolings_are_refused() {
        let cases = [
            (serde_json::json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}), "cls, mean"),
            (serde_json::json!({"pooling_mode": ["mean", "max"]}), "mean, max"),
            (serde_json::json!({"pooling_mode": "lasttoken"}), "lasttoken"),
            (serde_json::json!({"pooling_mode_weightedmean_tokens": true}), "weightedmean"),
            (serde_json::json!({"pooling_mode_new_tokens": true}), "pooling_mode_new_tokens"),
            (serde_json::json!({"pooling_mode": 3}), "pooling_mode"),
            (serde_json::json!({"embedding_dimension": 24, "pooling_mode": "mean"}), "24"),
        ];
        for (value, expected) in cases {
            let error = Pooling::from_json(&json(value), 12).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
