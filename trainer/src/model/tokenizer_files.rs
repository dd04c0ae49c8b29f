//! A model folder's tokenizer as files: the one `tokenizer.json` that is in effect, made from what the folder has.
//!
//! transformers builds a `BertTokenizer` from the vocabulary and tokenizer_config.json, whatever normaliser tokenizer.json
//! names; other classes take tokenizer.json as it stands. So does this, and says so where the two files disagree.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::json::{JsonFile, read_bounded};
use crate::{Error, Result};

/// No tokenizer file is longer than this.
const TOKENIZER_LIMIT_BYTES: u64 = 256 << 20;
/// The special tokens of a BERT: the key in tokenizer_config.json and the usual token.
pub const SPECIAL_TOKENS: [(&str, &str); 5] =
    [("unk_token", "[UNK]"), ("sep_token", "[SEP]"), ("pad_token", "[PAD]"), ("cls_token", "[CLS]"), ("mask_token", "[MASK]")];
/// WordPiece gives up on words with more characters, as BERT does.
const MAX_WORD_CHARS: u64 = 100;

/// The tokenizer that a folder describes.
#[derive(Debug, Clone)]
pub struct TokenizerFiles {
    /// The tokenizer.json in effect, without truncation and padding.
    pub effective: Value,
    /// tokenizer_config.json as the folder has it, if it does.
    pub config: Option<JsonFile>,
    /// special_tokens_map.json as the folder has it, if it does.
    pub special_tokens_map: Option<JsonFile>,
    /// vocab.txt, if the folder has one.
    pub vocab_path: Option<PathBuf>,
    /// Whether long texts lose their beginning instead of their end.
    pub truncate_left: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl TokenizerFiles {
    /// Reads a folder's tokenizer. `lower_case` is sentence_bert_config.json's `do_lower_case`: lower-case before anything else.
    ///
    /// # Errors
    /// There is neither tokenizer.json nor vocab.txt, or one of the files makes no sense.
    pub fn read(dir: &Path, lower_case: bool) -> Result<Self> {
        let vocab_path = Some(dir.join("vocab.txt")).filter(|path| path.is_file());
        let mut files = Self {
            effective: Value::Null,
            config: JsonFile::read_if_present(&dir.join("tokenizer_config.json"))?,
            special_tokens_map: JsonFile::read_if_present(&dir.join("special_tokens_map.json"))?,
            vocab_path,
            truncate_left: false,
            warnings: Vec::new(),
        };
        let json_path = dir.join("tokenizer.json");
        let mut tokenizer = match (json_path.is_file(), &files.vocab_path) {
            (true, _) => files.read_json(&json_path, lower_case)?,
            (false, Some(vocab)) if files.is_bert() => files.built_from(&read_vocab(vocab)?)?,
            (false, Some(_)) => return Err(files.other_class(dir)),
            (false, None) => {
                let dir = dir.display();
                return Err(Error::input(format!(
                    "{dir} has no tokenizer (tokenizer.json or vocab.txt); give the folder of a whole model"
                )));
            }
        };
        files.truncate_left = files.truncates_left(&tokenizer)?;
        for key in ["truncation", "padding"] {
            tokenizer.insert(key.to_owned(), Value::Null);
        }
        if lower_case {
            lower_case_first(&mut tokenizer);
        }
        files.effective = Value::Object(tokenizer);
        files.check_added_tokens()?;
        Ok(files)
    }

    /// Whether transformers would build a BertTokenizer from these files.
    pub fn is_bert(&self) -> bool {
        let class = self.config.as_ref().and_then(|config| config.get("tokenizer_class")).and_then(Value::as_str);
        class.is_none_or(|class| matches!(class, "BertTokenizer" | "BertTokenizerFast"))
    }

    /// A special token by its key (`cls_token`): from tokenizer_config.json, special_tokens_map.json, or the usual one.
    pub fn special_token(&self, key: &str) -> String {
        let files = [&self.config, &self.special_tokens_map];
        let found = files.into_iter().flatten().find_map(|file| token_text(file.get(key)?));
        let usual = || SPECIAL_TOKENS.iter().find(|(name, _)| *name == key).map_or("", |(_, usual)| usual).to_owned();
        found.unwrap_or_else(usual)
    }

    /// A setting of tokenizer_config.json that BertTokenizer takes.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.config.as_ref().map_or(Ok(None), |config| config.flag(key))
    }

    /// The vocabulary in order of ids, for a vocab.txt; `None` where the tokenizer is no WordPiece or leaves ids out.
    pub fn vocabulary(&self) -> Option<Vec<String>> {
        let model = self.effective.get("model")?;
        if model.get("type").is_some_and(|kind| kind != "WordPiece") {
            return None;
        }
        let vocab = model.get("vocab")?.as_object()?;
        let mut tokens = vec![None; vocab.len()];
        for (token, id) in vocab {
            let id = usize::try_from(id.as_u64()?).ok()?;
            *tokens.get_mut(id)? = Some(token.clone());
        }
        tokens.into_iter().collect()
    }

    /// tokenizer.json, with the parts rebuilt that transformers rebuilds for a BertTokenizer.
    fn read_json(&mut self, path: &Path, lower_case: bool) -> Result<Map<String, Value>> {
        let bytes = read_bounded(path, TOKENIZER_LIMIT_BYTES)?;
        let parsed = serde_json::from_slice(&bytes);
        let parsed = parsed.map_err(|e| Error::input(format!("{} is not valid JSON ({e}); fetch it again", path.display())))?;
        let Value::Object(mut tokenizer) = parsed else {
            return Err(Error::input(format!("{}: expected a JSON object; fetch it again", path.display())));
        };
        let vocab = tokenizer.get("model").and_then(|model| model.get("vocab")).and_then(Value::as_object);
        let wordpiece = tokenizer.get("model").and_then(|model| model.get("type")).is_none_or(|kind| kind == "WordPiece");
        let (true, true, Some(vocab)) = (self.is_bert(), wordpiece, vocab) else { return Ok(tokenizer) };
        let rebuilt = self.bert_parts(vocab)?;
        let mut lowered = rebuilt.clone();
        if lower_case {
            lower_case_first(&mut lowered);
        }
        if [&rebuilt, &lowered].iter().all(|parts| parts.get("normalizer") != tokenizer.get("normalizer")) {
            let path = path.display();
            self.warnings.push(format!(
                "{path} and its tokenizer_config.json normalise texts differently; tokenizer_config.json is followed, as transformers does"
            ));
        }
        for (key, value) in rebuilt {
            tokenizer.insert(key, value);
        }
        Ok(tokenizer)
    }

    /// A whole tokenizer.json from a vocabulary.
    fn built_from(&self, vocab: &Map<String, Value>) -> Result<Map<String, Value>> {
        let mut added: Vec<(u64, Value)> = Vec::new();
        for (key, _) in SPECIAL_TOKENS {
            let token = self.special_token(key);
            let id = self.token_id(vocab, key)?;
            let flags = json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true});
            added.push((id, flags));
        }
        added.sort_by_key(|(id, _)| *id);
        added.dedup_by_key(|(id, _)| *id);
        let mut tokenizer = Map::new();
        tokenizer.insert("version".to_owned(), "1.0".into());
        tokenizer.insert("added_tokens".to_owned(), added.into_iter().map(|(_, flags)| flags).collect());
        tokenizer.extend(self.bert_parts(vocab)?);
        Ok(tokenizer)
    }

    /// The parts that a BertTokenizer always builds itself.
    fn bert_parts(&self, vocab: &Map<String, Value>) -> Result<Map<String, Value>> {
        let (cls, sep, unk) = (self.special_token("cls_token"), self.special_token("sep_token"), self.special_token("unk_token"));
        let (cls_id, sep_id) = (self.token_id(vocab, "cls_token")?, self.token_id(vocab, "sep_token")?);
        self.token_id(vocab, "unk_token")?;
        let special = |token: &str| json!({"SpecialToken": {"id": token, "type_id": 0}});
        let sequence = |name: &str, type_id: u32| json!({"Sequence": {"id": name, "type_id": type_id}});
        let parts = json!({
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": true,
                "handle_chinese_chars": self.flag("tokenize_chinese_chars")?.unwrap_or(true),
                "strip_accents": self.flag("strip_accents")?,
                "lowercase": self.flag("do_lower_case")?.unwrap_or(true),
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [special(&cls), sequence("A", 0), special(&sep)],
                "pair": [special(&cls), sequence("A", 0), special(&sep), sequence("B", 1),
                    {"SpecialToken": {"id": sep, "type_id": 1}}],
                "special_tokens": {
                    cls.as_str(): {"id": cls, "ids": [cls_id], "tokens": [cls]},
                    sep.as_str(): {"id": sep, "ids": [sep_id], "tokens": [sep]},
                },
            },
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
            "model": {
                "type": "WordPiece",
                "unk_token": unk,
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": MAX_WORD_CHARS,
                "vocab": vocab,
            },
        });
        let Value::Object(parts) = parts else { unreachable!("json! of braces is an object") };
        Ok(parts)
    }

    fn token_id(&self, vocab: &Map<String, Value>, key: &str) -> Result<u64> {
        let token = self.special_token(key);
        vocab.get(&token).and_then(Value::as_u64).ok_or_else(|| {
            Error::input(format!(
                "the tokenizer's vocabulary lacks its {key} {token:?}; vocabulary and tokenizer_config.json do not match"
            ))
        })
    }

    fn truncates_left(&self, tokenizer: &Map<String, Value>) -> Result<bool> {
        if let Some(side) = self.config.as_ref().map_or(Ok(None), |config| config.text("truncation_side"))? {
            return Ok(side == "left");
        }
        let direction = tokenizer.get("truncation").and_then(|truncation| truncation.get("direction"));
        Ok(direction.is_some_and(|direction| direction == "Left"))
    }

    /// Refuses tokens that tokenizer_config.json adds and tokenizer.json does not know: they would be split silently.
    fn check_added_tokens(&self) -> Result<()> {
        let Some(config) = &self.config else { return Ok(()) };
        let Some(decoder) = config.get("added_tokens_decoder").and_then(Value::as_object) else { return Ok(()) };
        let vocab = self.effective.get("model").and_then(|model| model.get("vocab")).and_then(Value::as_object);
        let added = self.effective.get("added_tokens").and_then(Value::as_array);
        for token in decoder.values().filter_map(token_text) {
            let in_vocab = vocab.is_none_or(|vocab| vocab.contains_key(&token));
            let in_added = added.is_some_and(|added| added.iter().any(|entry| entry.get("content") == Some(&json!(token))));
            if !in_vocab && !in_added {
                let path = config.path.display();
                return Err(Error::input(format!(
                    "{path} adds the token {token:?}, which the tokenizer's vocabulary lacks; save the tokenizer anew with transformers"
                )));
            }
        }
        Ok(())
    }

    fn other_class(&self, dir: &Path) -> Error {
        let class = self.config.as_ref().and_then(|config| config.get("tokenizer_class")).cloned().unwrap_or_default();
        Error::input(format!(
            "{} has the tokenizer class {class} and no tokenizer.json; only BertTokenizer can be made from vocab.txt, \
             save the tokenizer with transformers to get a tokenizer.json",
            dir.display()
        ))
    }
}

/// A token given as a string or as an object with its content.
fn token_text(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

/// Reads vocab.txt: a token a line, its number the id; of equal lines the last counts, as in transformers.
fn read_vocab(path: &Path) -> Result<Map<String, Value>> {
    let bytes = read_bounded(path, TOKENIZER_LIMIT_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::input(format!("{} is not UTF-8; fetch it again", path.display())))?;
    let lines = text.strip_suffix('\n').unwrap_or(&text).split('\n');
    let vocab: Map<String, Value> =
        lines.enumerate().map(|(id, line)| (line.strip_suffix('\r').unwrap_or(line).to_owned(), json!(id))).collect();
    Ok(vocab)
}

/// Puts a lower-casing step before the normaliser, unless it has one already.
fn lower_case_first(tokenizer: &mut Map<String, Value>) {
    let lower = json!({"type": "Lowercase"});
    let present = tokenizer.remove("normalizer").unwrap_or(Value::Null);
    let steps = match &present {
        Value::Null => vec![lower],
        value if value.get("type") == Some(&json!("Lowercase")) => vec![present],
        value => match value.get("normalizers").and_then(Value::as_array) {
            Some(steps) if steps.iter().any(|step| step.get("type") == Some(&json!("Lowercase"))) => steps.clone(),
            Some(steps) => std::iter::once(lower).chain(steps.iter().cloned()).collect(),
            None => vec![lower, present],
        },
    };
    tokenizer.insert("normalizer".to_owned(), json!({"type": "Sequence", "normalizers": steps}));
}
