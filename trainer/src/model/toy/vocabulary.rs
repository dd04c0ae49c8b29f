//! The toy's WordPiece vocabulary: frequent words whole, frequent word endings, and single characters for the rest.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use crate::error::{Error, Result};

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// A word stands in the vocabulary when it occurs so often ...
const MIN_WORD_COUNT: usize = 2;
/// ... and is among so many most frequent ones.
const MAX_WORDS: usize = 8_000;
/// An ending stands in it when so many different words have it.
const MIN_ENDING_WORDS: usize = 5;
const MAX_ENDINGS: usize = 500;
const ENDING_CHARS: std::ops::RangeInclusive<usize> = 2..=4;
/// Single characters (and each as a continuation) kept, most frequent first.
const MAX_CHARS: usize = 2_000;
/// Longer words become `[UNK]`, as BERT's do.
const MAX_WORD_CHARS: usize = 100;

/// Pieces in order of their ids.
#[derive(Debug)]
pub(super) struct Vocabulary {
    pieces: Vec<String>,
}

impl Vocabulary {
    /// The vocabulary of these texts, lower-cased and split as BERT does.
    pub(super) fn of_texts(texts: &[String]) -> Result<Self> {
        let mut word_counts: BTreeMap<String, usize> = BTreeMap::new();
        for text in texts {
            count_words(text, &mut word_counts)?;
        }
        if word_counts.is_empty() {
            return Err(Error::input("cannot make a toy model: the texts have no word; give it some pairs"));
        }
        let mut char_counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut ending_counts: BTreeMap<String, usize> = BTreeMap::new();
        for (word, count) in &word_counts {
            let chars: Vec<char> = word.chars().collect();
            for c in &chars {
                *char_counts.entry(c.to_string()).or_default() += count;
            }
            for len in ENDING_CHARS.filter(|&len| len < chars.len()) {
                let ending: String = chars[chars.len() - len..].iter().collect();
                *ending_counts.entry(ending).or_default() += 1;
            }
        }
        // so that a question typed in later is spelled out, not unknown
        for c in ('a'..='z').chain('0'..='9').chain(".,;:!?'\"()-/&%$".chars()) {
            char_counts.entry(c.to_string()).or_default();
        }
        let chars = most_frequent(char_counts, 0, MAX_CHARS);
        let words = most_frequent(word_counts, MIN_WORD_COUNT, MAX_WORDS);
        let endings = most_frequent(ending_counts, MIN_ENDING_WORDS, MAX_ENDINGS);

        let mut pieces: Vec<String> = SPECIAL.iter().map(|&piece| piece.to_owned()).collect();
        let mut known: BTreeSet<String> = pieces.iter().cloned().collect();
        let continued = chars.iter().chain(&endings).map(|piece| format!("##{piece}"));
        for piece in chars.iter().cloned().chain(continued).chain(words) {
            if known.insert(piece.clone()) {
                pieces.push(piece);
            }
        }
        Ok(Self { pieces })
    }

    /// How many pieces.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// One piece a line, in order of ids.
    pub(super) fn vocab_txt(&self) -> String {
        self.pieces.iter().map(|piece| format!("{piece}\n")).collect()
    }

    /// The fast tokenizer's file.
    pub(super) fn tokenizer_json(&self) -> Value {
        let vocab: Map<String, Value> = self.pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), json!(id))).collect();
        let added: Vec<Value> = SPECIAL
            .iter()
            .enumerate()
            .map(|(id, piece)| {
                json!({"id": id, "content": piece, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": true})
            })
            .collect();
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                           "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": MAX_WORD_CHARS, "vocab": vocab}
        })
    }
}

/// Adds a text's words, normalised and split as the tokenizer will.
fn count_words(text: &str, counts: &mut BTreeMap<String, usize>) -> Result<()> {
    let unusable = |error| Error::Internal(format!("split a text for the toy's vocabulary: {error}"));
    let mut normalized = NormalizedString::from(text);
    BertNormalizer::default().normalize(&mut normalized).map_err(unusable)?;
    let mut split = PreTokenizedString::from(normalized);
    BertPreTokenizer.pre_tokenize(&mut split).map_err(unusable)?;
    for (word, _, _) in split.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
        if !word.is_empty() && word.chars().count() <= MAX_WORD_CHARS {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
    }
    Ok(())
}

/// The keys that occur at least `min_count` times, most frequent first, equal counts by name, at most `limit`.
fn most_frequent(counts: BTreeMap<String, usize>, min_count: usize, limit: usize) -> Vec<String> {
    let mut entries: Vec<(String, usize)> = counts.into_iter().filter(|&(_, count)| count >= min_count).collect();
    entries.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
    entries.truncate(limit);
    entries.into_iter().map(|(key, _)| key).collect()
}
