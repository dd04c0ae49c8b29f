//! Texts to token ids: prompt and text joined, `[CLS]` to `[SEP]`, cut to the model's length.

use std::path::Path;

use tokenizers::{TruncationDirection, TruncationParams, TruncationStrategy};

use super::tokenizer_files::TokenizerFiles;
use crate::{Error, Result};

/// A prompt (or query instruction), measured once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompt {
    text: String,
    num_tokens: u32,
}

/// A tokenizer cut to one sequence length; shared by threads.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    max_seq_length: usize,
}

impl Prompt {
    /// No prompt at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// What is put before every text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Tokens of a sequence that are the prompt's, `[CLS]` among them; 0 without a prompt. Where pooling excludes the
    /// prompt, this many tokens are left out (sentence-transformers' `prompt_length`).
    pub fn num_tokens(&self) -> u32 {
        self.num_tokens
    }
}

impl Tokenizer {
    /// Builds the tokenizer that these files describe, for an encoder with `vocab_size` words. `dir` is named in errors.
    ///
    /// # Errors
    /// The files make no tokenizer, it knows ids outside the encoder's vocabulary, or `max_seq_length` leaves no room for text.
    pub fn build(files: &TokenizerFiles, dir: &Path, vocab_size: usize, max_seq_length: usize) -> Result<Self> {
        let bad = |what: String| Error::input(format!("{}: {what}", dir.display()));
        let mut inner: tokenizers::Tokenizer = serde_json::from_value(files.effective.clone())
            .map_err(|e| bad(format!("its tokenizer cannot be read ({e}); fetch it again")))?;
        inner.with_truncation(None).map_err(|e| bad(format!("its tokenizer cannot be used ({e})")))?;
        inner.with_padding(None);
        let largest = inner.get_vocab(true).into_iter().max_by_key(|(_, id)| *id);
        match largest {
            None => return Err(bad("its tokenizer has an empty vocabulary; fetch it again".to_owned())),
            Some((token, id)) if id as usize >= vocab_size => {
                return Err(bad(format!(
                    "its tokenizer gives {token:?} the id {id}, but the encoder has {vocab_size} words; the two do not belong together"
                )));
            }
            Some(_) => {}
        }
        let empty = inner.encode_fast("", true).map_err(|e| bad(format!("its tokenizer fails on an empty text ({e})")))?;
        if empty.is_empty() {
            return Err(bad("its tokenizer adds no [CLS] and [SEP], so an empty text would have no tokens; \
                            save the tokenizer anew with transformers"
                .to_owned()));
        }
        if max_seq_length <= empty.len() {
            return Err(bad(format!(
                "max_seq_length {max_seq_length} leaves no room for text; give at least {}",
                empty.len() + 1
            )));
        }
        let direction = if files.truncate_left { TruncationDirection::Left } else { TruncationDirection::Right };
        let truncation =
            TruncationParams { direction, max_length: max_seq_length, strategy: TruncationStrategy::LongestFirst, stride: 0 };
        inner
            .with_truncation(Some(truncation))
            .map_err(|e| bad(format!("its tokenizer cannot be cut to {max_seq_length} tokens ({e})")))?;
        Ok(Self { inner, max_seq_length })
    }

    /// The longest sequence, in tokens, with `[CLS]` and `[SEP]`.
    pub fn max_seq_length(&self) -> usize {
        self.max_seq_length
    }

    /// Measures a prompt.
    ///
    /// # Errors
    /// It cannot be tokenised.
    pub fn prompt(&self, text: &str) -> Result<Prompt> {
        if text.is_empty() {
            return Ok(Prompt::none());
        }
        let encoding = self.inner.encode_fast(text, true).map_err(|e| failed(text, &*e))?;
        let ends_specially = encoding.get_special_tokens_mask().last() == Some(&1);
        let num_tokens = encoding.len() - usize::from(ends_specially);
        Ok(Prompt {
            text: text.to_owned(),
            num_tokens: u32::try_from(num_tokens).expect("a sequence has at most max_seq_length tokens"),
        })
    }

    /// The token ids of prompt and text together, at most `max_seq_length`, never empty.
    ///
    /// # Errors
    /// The tokenizer's model fails on the text.
    pub fn encode(&self, text: &str, prompt: &Prompt) -> Result<Vec<u32>> {
        let joined;
        let input = if prompt.text.is_empty() {
            text
        } else {
            joined = format!("{}{text}", prompt.text);
            joined.as_str()
        };
        let encoding = self.inner.encode_fast(input, true).map_err(|e| failed(text, &*e))?;
        Ok(encoding.get_ids().to_vec())
    }
}

fn failed(text: &str, cause: &(dyn std::error::Error + Send + Sync)) -> Error {
    let start: String = text.chars().take(40).collect();
    Error::input(format!("the tokenizer fails on the text that begins with {start:?}: {cause}"))
}

#[cfg(test)]
mod tests;
