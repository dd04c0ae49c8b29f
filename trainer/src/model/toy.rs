//! The toy: a small BERT that Artel makes itself, so that a first run needs no download.
//!
//! Nobody has trained it: its weights are random and its vocabulary comes from the texts at hand. Untrained it is
//! a bag of words, since small layers leave each word's own vector in the mean; it shows that training works, no more.
//! Equal texts (in equal order or not) and an equal seed give equal files, byte by byte.

mod vocabulary;

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use super::config::{Activation, BertConfig};
use super::layout::ParamLayout;
use crate::error::{Error, Result};
use vocabulary::Vocabulary;

/// Width of the toy's embeddings.
pub const HIDDEN_SIZE: usize = 128;
/// Longest text of the toy, in tokens.
pub const MAX_POSITIONS: usize = 128;

const NUM_LAYERS: usize = 2;
const NUM_HEADS: usize = 4;
const FFN_SIZE: usize = 256;
const NUM_TYPES: usize = 2;
/// Standard deviation of word embeddings and matrices, as BERT's own.
const STD: f32 = 0.02;
/// That of position and type embeddings: small beside the words', so that words weigh more than places.
const POSITION_STD: f32 = 0.005;

/// Writes a complete model folder (config, weights, tokenizer, pooling) to `to`, which is made if it is missing.
///
/// `texts` give the vocabulary; none of them is trained on.
///
/// # Errors
/// No word in the texts, or a file that cannot be written.
pub fn make(texts: &[String], seed: u64, to: &Path) -> Result<()> {
    let vocabulary = Vocabulary::of_texts(texts)?;
    let config = config(vocabulary.len());
    let files = [
        ("config.json", config_json(&config)),
        ("tokenizer.json", vocabulary.tokenizer_json()),
        ("tokenizer_config.json", tokenizer_config_json()),
        ("special_tokens_map.json", special_tokens_json()),
        ("modules.json", modules_json()),
        ("sentence_bert_config.json", json!({"max_seq_length": MAX_POSITIONS, "do_lower_case": false})),
        ("config_sentence_transformers.json", sentence_transformers_json()),
        ("1_Pooling/config.json", pooling_json()),
        ("2_Normalize/config.json", json!({})),
    ];
    for folder in [to.to_path_buf(), to.join("1_Pooling"), to.join("2_Normalize")] {
        std::fs::create_dir_all(&folder).map_err(|source| Error::io(&folder, source))?;
    }
    for (name, value) in files {
        write(&to.join(name), format!("{value:#}\n").as_bytes())?;
    }
    write(&to.join("vocab.txt"), vocabulary.vocab_txt().as_bytes())?;
    write(&to.join("model.safetensors"), &weights_file(&ParamLayout::bert(&config), seed)?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|source| Error::io(path, source))
}

fn config(vocab_size: usize) -> BertConfig {
    BertConfig {
        vocab_size,
        hidden_size: HIDDEN_SIZE,
        num_hidden_layers: NUM_LAYERS,
        num_attention_heads: NUM_HEADS,
        intermediate_size: FFN_SIZE,
        hidden_act: Activation::Gelu,
        layer_norm_eps: 1e-12,
        max_position_embeddings: MAX_POSITIONS,
        type_vocab_size: NUM_TYPES,
        hidden_dropout_prob: 0.1,
        attention_probs_dropout_prob: 0.1,
        pad_token_id: 0,
    }
}

/// All weights as a safetensors file; the pooler too, which no embedding needs but readers of BERT folders ask for.
fn weights_file(layout: &ParamLayout, seed: u64) -> Result<Vec<u8>> {
    let mut tensors: Vec<(&str, Vec<usize>)> =
        layout.entries.iter().map(|entry| (entry.name.as_str(), entry.shape.clone())).collect();
    tensors.push(("pooler.dense.weight", vec![HIDDEN_SIZE, HIDDEN_SIZE]));
    tensors.push(("pooler.dense.bias", vec![HIDDEN_SIZE]));
    let buffers: Vec<Vec<u8>> = tensors.iter().map(|(name, shape)| values_of(name, shape.iter().product(), seed)).collect();
    let mut views = Vec::with_capacity(buffers.len());
    for ((name, shape), bytes) in tensors.into_iter().zip(&buffers) {
        let view =
            TensorView::new(Dtype::F32, shape, bytes).map_err(|error| Error::Internal(format!("toy tensor {name}: {error}")))?;
        views.push((name, view));
    }
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).map_err(|error| Error::Internal(format!("toy weights: {error}")))
}

/// One tensor's first values, little-endian: LayerNorm 1 and 0, biases 0, the rest drawn by (seed, name, index).
fn values_of(name: &str, len: usize, seed: u64) -> Vec<u8> {
    let stream = seed ^ fnv1a64(name.as_bytes());
    let value = |index: usize| match name {
        name if name.ends_with("LayerNorm.weight") => 1.0,
        name if name.ends_with("bias") => 0.0,
        "embeddings.position_embeddings.weight" | "embeddings.token_type_embeddings.weight" => {
            POSITION_STD * near_normal(stream, index)
        }
        _ => STD * near_normal(stream, index),
    };
    (0..len).flat_map(|index| value(index).to_le_bytes()).collect()
}

/// A number of mean 0 and deviation 1, near enough to normal: the scaled sum of the four 16-bit parts of a mixed
/// counter. Only exact operations, so every machine draws the same.
fn near_normal(stream: u64, index: usize) -> f32 {
    let mixed = splitmix64(stream.wrapping_add((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let sum: i64 = (0..4).map(|part| (mixed >> (16 * part)) as i64 & 0xffff).sum();
    // each part is uniform in 0..65536, so the sum has mean 2 * 65535 and variance 4 * 65536^2 / 12
    (sum - 2 * 65535) as f32 * (1.732_050_8 / 65536.0)
}

/// The finaliser of splitmix64.
fn splitmix64(value: u64) -> u64 {
    let first = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let second = (first ^ (first >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    second ^ (second >> 31)
}

/// 64-bit FNV-1a.
fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn config_json(config: &BertConfig) -> Value {
    json!({
        "_name_or_path": "artel:toy",
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "hidden_act": "gelu",
        "layer_norm_eps": config.layer_norm_eps,
        "max_position_embeddings": config.max_position_embeddings,
        "type_vocab_size": config.type_vocab_size,
        "hidden_dropout_prob": config.hidden_dropout_prob,
        "attention_probs_dropout_prob": config.attention_probs_dropout_prob,
        "pad_token_id": config.pad_token_id,
        "position_embedding_type": "absolute",
        "initializer_range": 0.02,
        "torch_dtype": "float32"
    })
}

fn tokenizer_config_json() -> Value {
    json!({
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": true,
        "do_basic_tokenize": true,
        "strip_accents": null,
        "tokenize_chinese_chars": true,
        "model_max_length": MAX_POSITIONS,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]"
    })
}

fn special_tokens_json() -> Value {
    json!({
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]"
    })
}

fn modules_json() -> Value {
    json!([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
    ])
}

fn pooling_json() -> Value {
    json!({
        "word_embedding_dimension": HIDDEN_SIZE,
        "pooling_mode_cls_token": false,
        "pooling_mode_mean_tokens": true,
        "pooling_mode_max_tokens": false,
        "pooling_mode_mean_sqrt_len_tokens": false,
        "pooling_mode_weightedmean_tokens": false,
        "pooling_mode_lasttoken": false,
        "include_prompt": true
    })
}

fn sentence_transformers_json() -> Value {
    json!({
        "model_type": "SentenceTransformer",
        "prompts": {},
        "default_prompt_name": null,
        "similarity_fn_name": "cosine"
    })
}

#[cfg(test)]
mod tests;
