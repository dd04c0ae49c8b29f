//! What makes two runs the same: everything that changes the weights, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};

use super::{RunSpec, Strategy};

/// Keys of `[train]` that say when something is written, never what.
const NOT_WEIGHTS: [&str; 4] = ["logging_steps", "save_strategy", "save_steps", "save_total_limit"];
/// Keys of `[train]` that matter only where evaluations choose the exported weights.
const CHOICE: [&str; 3] = ["eval_strategy", "eval_steps", "load_best_model_at_end"];

impl RunSpec {
    /// The run's identity: the data set's and the model's digests and every setting that changes the weights. `[workers]`, the store,
    /// the name, logging and save limits are not in it, and neither are paths: what lies there is in the digests.
    ///
    /// # Errors
    /// Never for a spec that was loaded.
    pub fn identity(&self, dataset_digest: &Digest, model_digest: &Digest) -> Result<Digest> {
        let mut hasher = Hasher::default();
        hasher.field(dataset_digest.as_str().as_bytes());
        hasher.field(model_digest.as_str().as_bytes());
        hasher.field(self.weight_settings()?.to_string().as_bytes());
        Ok(hasher.finish())
    }

    /// Every setting that changes the weights.
    fn weight_settings(&self) -> Result<Value> {
        let mut train = self.section(&self.train)?;
        let chosen = self.train.load_best_model_at_end && self.train.eval_strategy != Strategy::No;
        if let Value::Object(map) = &mut train {
            map.retain(|key, _| !NOT_WEIGHTS.contains(&key.as_str()) && (chosen || !CHOICE.contains(&key.as_str())));
        }
        let evaluate = if chosen { self.section(&self.evaluate)? } else { Value::Null };
        Ok(json!({
            "format": 1,
            "max_seq_length": self.model.max_seq_length,
            "query_prompt": self.model.query_prompt,
            "passage_prompt": self.model.passage_prompt,
            "train": train,
            "evaluate": evaluate,
        }))
    }

    /// Settings of the run's identity that differ from those that it began with, as `train.seed was 42 and is 43`. What the files of data
    /// and model hold is for the caller to compare: their paths may change.
    ///
    /// # Errors
    /// Never for a spec that was loaded.
    pub fn changes_since(&self, began: &Self) -> Result<Vec<String>> {
        let (mut before, mut now) = (BTreeMap::new(), BTreeMap::new());
        for (spec, into) in [(began, &mut before), (self, &mut now)] {
            let data = &spec.data;
            let test = match data.test.as_deref() {
                None => json!({ "test_fraction": data.test_fraction }),
                Some("train") => json!("train"),
                Some(_) => json!("a file"),
            };
            flatten("", &spec.weight_settings()?, into);
            into.remove("format");
            flatten("", &spec.making_settings(), into);
            flatten("cleaning", &spec.mining_settings(), into);
            if spec.documents.is_some() {
                flatten("data.positive", &json!(data.positive), into);
            }
            flatten("data.columns", &self.section(&data.columns)?, into);
            flatten("data.limit", &json!(data.limit), into);
            flatten("data.test", &test, into);
            flatten("data.drop_leaks", &json!(data.drop_leaks), into);
            flatten("data.near_duplicate_threshold", &json!(data.near_duplicate_threshold), into);
        }
        let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        let shown = |value: Option<&String>| value.cloned().unwrap_or_else(|| "not set".to_owned());
        let differs = keys.into_iter().filter(|key| before.get(*key) != now.get(*key));
        Ok(differs.map(|key| format!("{key} was {} and is {}", shown(before.get(key)), shown(now.get(key)))).collect())
    }

    fn section<T: serde::Serialize>(&self, section: &T) -> Result<Value> {
        serde_json::to_value(section).map_err(|e| Error::Internal(format!("cannot write the spec as JSON: {e}")))
    }

    /// The whole spec as JSON, defaults filled in.
    ///
    /// # Errors
    /// Never for a spec that was loaded.
    pub fn to_json(&self) -> Result<Value> {
        self.section(self)
    }

    /// The whole spec as TOML, defaults filled in; it reads back as the same spec, with the device written that was found.
    ///
    /// # Errors
    /// Never for a spec that was loaded.
    pub fn effective_toml(&self) -> Result<String> {
        let mut spec = self.clone();
        spec.workers.device_found = false;
        toml::to_string(&spec).map_err(|e| Error::Internal(format!("cannot write the spec as TOML: {e}")))
    }
}

/// A value's leaves by their paths; lists are leaves.
fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Null => {}
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, into);
            }
        }
        leaf => {
            into.insert(path.to_owned(), leaf.to_string());
        }
    }
}
