//! A model that turns texts into vectors, on the threads of this process.

use std::path::Path;

use artel_trainer::collective::Solo;
use artel_trainer::encode::{Encoding, TokenTexts};
use artel_trainer::encoder::Encoder;
use artel_trainer::model::{ModelFolder, Prompt, Tokenizer};
use artel_trainer::parallel::map_ordered;
use artel_trainer::state::tensor;
use candle_core::Tensor;

use crate::failure::Failure;
use crate::pairs::RetrievalSet;

/// Tokens of a micro-batch: the default of a run, so that a run's vectors and these have the same bits.
const MICRO_BATCH_TOKENS: usize = 1_024;
/// Texts that a thread tokenises at a time.
const BLOCK: usize = 64;

/// Embeddings of a retrieval set, `[n, dim]` each.
pub struct Vectors {
    /// Of the questions.
    pub queries: Vec<f32>,
    /// Of the documents.
    pub documents: Vec<f32>,
    /// Their width.
    pub dim: usize,
}

/// A model that encodes.
pub struct Embedder {
    encoder: Encoder,
    params: Tensor,
    tokenizer: Tokenizer,
    query: Prompt,
    passage: Prompt,
    threads: usize,
}

impl Embedder {
    /// Opens a model folder; what a person should know of it is said on stderr.
    ///
    /// # Errors
    /// The folder is not a model that Artel computes.
    pub fn open(model: &Path, max_seq_length: Option<usize>, threads: Option<usize>) -> Result<Self, Failure> {
        let folder = ModelFolder::open(model)?;
        folder.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let tokenizer = folder.tokenizer(max_seq_length.unwrap_or(folder.max_seq_length))?;
        Ok(Self {
            encoder: Encoder::new(folder.config.clone(), folder.pooling, folder.layout.clone())?,
            params: tensor(folder.load_params()?)?,
            query: tokenizer.prompt(folder.prompts.query())?,
            passage: tokenizer.prompt(folder.prompts.passage())?,
            tokenizer,
            threads: threads.unwrap_or_else(crate::commands::cores),
        })
    }

    /// Width of its vectors.
    pub fn dim(&self) -> usize {
        self.encoder.config().hidden_size
    }

    /// Vectors of texts without any prompt, `[n, dim]`, as sentence-transformers' `encode` gives them.
    ///
    /// # Errors
    /// A text cannot be tokenised, or a vector is not finite.
    pub fn encode(&self, texts: &[&str]) -> Result<Vec<f32>, Failure> {
        self.vectors(texts, &Prompt::none())
    }

    /// Vectors of questions and documents, each behind the model's own prompt for its kind.
    ///
    /// # Errors
    /// As [`Embedder::encode`].
    pub fn encode_set(&self, set: &RetrievalSet) -> Result<Vectors, Failure> {
        let texts = |texts: &[String], prompt| self.vectors(&texts.iter().map(String::as_str).collect::<Vec<_>>(), prompt);
        Ok(Vectors { queries: texts(&set.queries, &self.query)?, documents: texts(&set.documents, &self.passage)?, dim: self.dim() })
    }

    fn vectors(&self, texts: &[&str], prompt: &Prompt) -> Result<Vec<f32>, Failure> {
        let blocks = map_ordered(texts.len().div_ceil(BLOCK), self.threads, |block| {
            texts.iter().skip(block * BLOCK).take(BLOCK).map(|text| self.tokenizer.encode(text, prompt)).collect::<Result<Vec<_>, _>>()
        })?;
        let input = TokenTexts { texts: blocks.concat(), prompt_len: prompt.num_tokens() };
        let encoding = Encoding {
            encoder: &self.encoder,
            params: &self.params,
            collective: &Solo::new(),
            threads: self.threads,
            micro_batch_tokens: MICRO_BATCH_TOKENS,
        };
        Ok(encoding.encode(&input, &|_| {})?)
    }
}
