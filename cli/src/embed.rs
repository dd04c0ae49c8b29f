//! A model folder that encodes texts, for `artel encode` and `artel evaluate`.

use std::path::Path;

use artel_trainer::collective::Solo;
use artel_trainer::encode::{Encoding, TokenTexts};
use artel_trainer::encoder::Encoder;
use artel_trainer::interrupt::Interrupt;
use artel_trainer::model::folder::ModelFolder;
use artel_trainer::model::tokenizer::Tokenizer;
use artel_trainer::parallel::map_ordered;
use artel_trainer::state;
use candle_core::Tensor;

use crate::failure::Failure;
use crate::output;
use crate::view::Counter;

/// Tokens of a micro-batch, as in a run whose spec says nothing.
const MICRO_BATCH_TOKENS: usize = 1024;
/// Texts that one thread tokenises at a time.
const TOKENISED_AT_ONCE: usize = 64;

/// What a text is, and so which of the model's prompts stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Neither is said: the model's default prompt, if it has one.
    Text,
    /// A question.
    Query,
    /// A passage.
    Passage,
}

/// A model that encodes.
pub struct Embedder {
    folder: ModelFolder,
    encoder: Encoder,
    params: Tensor,
    tokenizer: Tokenizer,
    threads: usize,
}

impl Embedder {
    /// Reads a model folder; `max_seq_length` counts in tokens, the folder's own where it is not said.
    ///
    /// # Errors
    /// The folder is not one of a model that Artel computes, or its weights are damaged.
    pub fn open(path: &Path, max_seq_length: Option<usize>, threads: usize) -> Result<Self, Failure> {
        let folder = ModelFolder::open(path)?;
        for warning in &folder.warnings {
            output::talk(&format!("warning: {warning}"));
        }
        let tokenizer = folder.tokenizer(max_seq_length.unwrap_or(folder.max_seq_length))?;
        let encoder = Encoder::new(folder.config.clone(), folder.pooling, folder.layout.clone())?;
        let params = state::tensor(folder.load_params()?)?;
        Ok(Self { folder, encoder, params, tokenizer, threads })
    }

    /// Width of the embeddings.
    pub fn dim(&self) -> usize {
        self.folder.config.hidden_size
    }

    /// Embeddings of the texts, `[n, dim]` row by row; `title` names the work on stderr.
    ///
    /// # Errors
    /// A text cannot be tokenised, or an embedding is not finite.
    pub fn encode<T: AsRef<str> + Sync>(&self, title: &str, kind: Kind, texts: &[T]) -> Result<Vec<f32>, Failure> {
        let counter = Counter::new(title, "texts", texts.len() as u64);
        let encoding = Encoding {
            encoder: &self.encoder,
            params: &self.params,
            collective: &Solo::new(),
            threads: self.threads,
            micro_batch_tokens: MICRO_BATCH_TOKENS,
            interrupt: &Interrupt::default(),
        };
        let vectors = encoding.encode(&self.tokens(kind, texts)?, &|done| counter.at(done as u64))?;
        counter.finish();
        Ok(vectors)
    }

    fn tokens<T: AsRef<str> + Sync>(&self, kind: Kind, texts: &[T]) -> Result<TokenTexts, Failure> {
        let prompts = &self.folder.prompts;
        let prompt = self.tokenizer.prompt(match kind {
            Kind::Text => prompts.default_name.as_deref().and_then(|name| prompts.get(name)).unwrap_or_default(),
            Kind::Query => prompts.query(),
            Kind::Passage => prompts.passage(),
        })?;
        let groups: Vec<&[T]> = texts.chunks(TOKENISED_AT_ONCE).collect();
        let some = |index: usize| groups[index].iter().map(|text| self.tokenizer.encode(text.as_ref(), &prompt)).collect();
        let tokens: Vec<Vec<Vec<u32>>> = map_ordered(groups.len(), self.threads, some)?;
        Ok(TokenTexts { texts: tokens.concat(), prompt_len: prompt.num_tokens() })
    }
}
