//! Prompts of a model folder: what is put before queries and passages.

use serde_json::{Map, Value};

use super::json::JsonFile;
use crate::{Error, Result};

/// Names under which sentence-transformers looks for the passages' prompt, in its order.
const PASSAGE_NAMES: [&str; 3] = ["document", "passage", "corpus"];

/// The prompts of config_sentence_transformers.json.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompts {
    /// Name and text, in the file's order.
    pub entries: Vec<(String, String)>,
    /// The prompt used where none is named.
    pub default_name: Option<String>,
}

impl Prompts {
    /// Reads `prompts` and `default_prompt_name`.
    ///
    /// # Errors
    /// They are not texts, or the default is not among them.
    pub fn from_json(file: &JsonFile) -> Result<Self> {
        let mut prompts = Self { entries: Vec::new(), default_name: file.text("default_prompt_name")?.map(str::to_owned) };
        match file.get("prompts") {
            None => {}
            Some(Value::Object(map)) => {
                for (name, text) in map {
                    let text = text.as_str().ok_or_else(|| file.wrong("prompts", "a map of texts", text))?;
                    prompts.entries.push((name.clone(), text.to_owned()));
                }
            }
            Some(other) => return Err(file.wrong("prompts", "a map of texts", other)),
        }
        if let Some(name) = prompts.default_name.as_deref().filter(|name| prompts.get(name).is_none()) {
            let path = file.path.display();
            return Err(Error::input(format!("{path}: default_prompt_name {name:?} is not among its prompts")));
        }
        Ok(prompts)
    }

    /// The prompt of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().find(|(found, _)| found == name).map(|(_, text)| text.as_str())
    }

    /// The queries' prompt, as `encode_query` chooses it; empty if there is none.
    pub fn query(&self) -> &str {
        self.get("query").unwrap_or_else(|| self.fallback())
    }

    /// The passages' prompt, as `encode_document` chooses it; empty if there is none.
    pub fn passage(&self) -> &str {
        PASSAGE_NAMES.into_iter().find_map(|name| self.get(name)).unwrap_or_else(|| self.fallback())
    }

    /// The same prompts with these texts for queries and passages, as a map for config_sentence_transformers.json.
    pub fn with(&self, query: &str, passage: &str) -> Map<String, Value> {
        let mut map: Map<String, Value> = self.entries.iter().map(|(name, text)| (name.clone(), text.as_str().into())).collect();
        map.insert("query".to_owned(), query.into());
        for name in PASSAGE_NAMES {
            if name == "document" || map.contains_key(name) {
                map.insert(name.to_owned(), passage.into());
            }
        }
        map
    }

    fn fallback(&self) -> &str {
        self.default_name.as_deref().and_then(|name| self.get(name)).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: Value) -> JsonFile {
        let Value::Object(map) = value else { panic!("not an object") };
        JsonFile { path: "config_sentence_transformers.json".into(), map }
    }

    /// Goal: prompts are chosen as encode_query and encode_document choose them. Method: named, default and absent ones.
    #[test]
    fn prompts_are_chosen_as_upstream_does() {
        let file = json(serde_json::json!({"prompts": {"query": "Q: ", "passage": "P: ", "x": "X"}, "default_prompt_name": "x"}));
        let prompts = Prompts::from_json(&file).unwrap();
        assert_eq!((prompts.query(), prompts.passage()), ("Q: ", "P: "));
        let file = json(serde_json::json!({"prompts": {"x": "X"}, "default_prompt_name": "x"}));
        let prompts = Prompts::from_json(&file).unwrap();
        assert_eq!((prompts.query(), prompts.passage()), ("X", "X"));
        assert_eq!((Prompts::default().query(), Prompts::default().passage()), ("", ""));
        let written = prompts.with("q", "p");
        assert_eq!(serde_json::json!(written), serde_json::json!({"x": "X", "query": "q", "document": "p"}));
    }

    /// Goal: prompts that make no sense are refused. Method: wrong types and an unknown default.
    #[test]
    fn senseless_prompts_are_refused() {
        for value in [
            serde_json::json!({"prompts": ["q"]}),
            serde_json::json!({"prompts": {"query": 3}}),
            serde_json::json!({"default_prompt_name": "query"}),
        ] {
            assert!(Prompts::from_json(&json(value)).is_err());
        }
    }
}
