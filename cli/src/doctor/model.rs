//! The model: whether Artel computes it, its shape, and how fast it is here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use artel_common::clock;
use artel_common::exit::Exit;
use artel_trainer::encoder::Encoder;
use artel_trainer::model::{ModelFolder, Prompt, Tokenizer};
use artel_trainer::packed::{PackedBatch, SampleKey};
use artel_trainer::{speed, state};
use serde::Serialize;

use super::machine::rounded;
use crate::failure::Failure;
use crate::output;

/// How long the tokenizer works.
const TOKENISED: Duration = Duration::from_millis(300);
/// How long the encoder works, and the tokens that a thread encodes at once.
const ENCODED: Duration = Duration::from_secs(1);
const BATCH_TOKENS: usize = 512;
/// Sentences that the sample's texts are made of, some short, some long, as passages are.
const SAMPLE: [&str; 8] = [
    "The ferry leaves at half past seven, unless the harbour master has closed the inner basin.",
    "Who signs for the spare keys of the wheelhouse?",
    "A passenger who has lost a ticket may buy a replacement at the counter for a third of the fare, and is refunded if the first one is found within fourteen days.",
    "Lifejackets are counted before every crossing; the count is written into the log, together with the name of whoever counted.",
    "Fog: half speed, two lookouts, one long blast every two minutes.",
    "In the winter timetable, which begins on the last Sunday of October, the late crossing on Fridays is run by the smaller vessel and takes no lorries above 7.5 tonnes.",
    "Refunds are paid out by the office on the quay.",
    "The engineer on duty checks oil pressure, bilge level and coolant temperature hourly, and reports to the bridge whatever lies outside of the ranges given in annex 4 (see also circular 12/b).",
];

/// What a model folder holds.
#[derive(Debug, Serialize)]
pub struct Model {
    pub path: PathBuf,
    /// Why Artel cannot use it, and what to do.
    pub error: Option<String>,
    #[serde(flatten)]
    pub facts: Option<Facts>,
    /// The exit code that says so.
    #[serde(skip)]
    pub exit: Exit,
}

/// The shape of a model that Artel computes, and its speed.
#[derive(Debug, Serialize)]
pub struct Facts {
    pub num_parameters: usize,
    pub num_layers: usize,
    pub num_heads: usize,
    pub hidden_size: usize,
    pub vocab_size: usize,
    pub max_seq_length: usize,
    pub pooling: &'static str,
    pub normalize: bool,
    /// On one thread.
    pub tokenize_tokens_per_s: f64,
    /// On all threads.
    pub encode_tokens_per_s: f64,
}

impl Model {
    /// Opens it and works with it for about a second and a half.
    pub fn examine(path: &Path, threads: usize) -> Self {
        let of = |error, facts, exit| Self { path: path.to_path_buf(), error, facts, exit };
        match facts(path, threads) {
            Ok(facts) => of(None, Some(facts), Exit::Done),
            Err(Failure { message, exit }) => of(message, None, exit),
        }
    }
}

fn facts(path: &Path, threads: usize) -> Result<Facts, Failure> {
    let folder = ModelFolder::open(path)?;
    for warning in &folder.warnings {
        output::talk(&format!("warning: {warning}"));
    }
    let tokenizer = folder.tokenizer(folder.max_seq_length)?;
    let texts = sample();
    let (tokens, tokenize_rate) = tokenize(&tokenizer, &texts)?;
    let encoder = Encoder::new(folder.config.clone(), folder.pooling, folder.layout.clone())?;
    let params = state::tensor(folder.load_params()?)?;
    let encode_rate = speed::encoded_per_second(&encoder, &params, &batches(&tokens), threads, ENCODED)?;
    let config = &folder.config;
    Ok(Facts {
        num_parameters: folder.layout.total,
        num_layers: config.num_hidden_layers,
        num_heads: config.num_attention_heads,
        hidden_size: config.hidden_size,
        vocab_size: config.vocab_size,
        max_seq_length: folder.max_seq_length,
        pooling: folder.pooling.mode.name(),
        normalize: folder.pooling.normalize,
        tokenize_tokens_per_s: rounded(tokenize_rate),
        encode_tokens_per_s: rounded(encode_rate),
    })
}

/// Texts of one to eight sentences, each beginning with another one.
fn sample() -> Vec<String> {
    let text = |first: usize, len: usize| SAMPLE.iter().cycle().skip(first).take(len).copied().collect::<Vec<_>>().join(" ");
    (0..SAMPLE.len()).flat_map(|first| [text(first, 1 + first), text(first, SAMPLE.len() - first)]).collect()
}

/// The tokens of the texts, and tokens a second over all tries.
fn tokenize(tokenizer: &Tokenizer, texts: &[String]) -> Result<(Vec<Vec<u32>>, f64), Failure> {
    let all = || texts.iter().map(|text| tokenizer.encode(text, &Prompt::none())).collect::<Result<Vec<_>, _>>();
    let tokens = all()?;
    let (began, mut count) = (clock::now(), 0);
    loop {
        count += all()?.iter().map(Vec::len).sum::<usize>();
        let passed = clock::now() - began;
        if passed >= TOKENISED {
            return Ok((tokens, count as f64 / passed.as_secs_f64()));
        }
    }
}

/// Batches of up to [`BATCH_TOKENS`]; a longer text stands alone.
fn batches(tokens: &[Vec<u32>]) -> Vec<PackedBatch> {
    let mut batches: Vec<PackedBatch> = Vec::new();
    for (sample, ids) in (0..).zip(tokens) {
        let fits = batches.last().is_some_and(|batch| batch.num_tokens() + ids.len() <= BATCH_TOKENS);
        if !fits {
            batches.push(PackedBatch::new());
        }
        if let Some(batch) = batches.last_mut() {
            batch.push(SampleKey { sample, column: 0 }, ids, 0);
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the sample is cut into batches that lose nothing. Method: texts of several lengths, one longer than a batch.
    #[test]
    fn batches_hold_every_text() {
        let tokens: Vec<Vec<u32>> = [200, 300, 20, 600, 1].map(|len| vec![7; len]).to_vec();
        let sizes: Vec<_> = batches(&tokens).iter().map(|batch| (batch.num_sequences(), batch.num_tokens())).collect();
        assert_eq!(sizes, [(2, 500), (1, 20), (1, 600), (1, 1)]);
        let words: Vec<_> = sample().iter().map(|text| text.split(' ').count()).collect();
        assert!(words.len() == 16 && words.iter().any(|len| *len < 20) && words.iter().any(|len| *len > 120), "{words:?}");
    }
}
