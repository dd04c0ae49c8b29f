//! A model folder that encodes texts, for `artel encode` and `artel evaluate`.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use artel_common::exit::Exit;
use artel_trainer::collective::Solo;
use artel_trainer::encode::{Encoding, TokenTexts};
use artel_trainer::encoder::{Encoder, Workspaces};
use artel_trainer::gpu::{self, DeviceEncoder, Precision};
use artel_trainer::interrupt::Interrupt;
use artel_trainer::model::folder::ModelFolder;
use artel_trainer::model::tokenizer::{Prompt, Tokenizer};
use artel_trainer::parallel::map_ordered;
use artel_trainer::state;
use candle_core::Tensor;

use crate::ahead::Ahead;
use crate::blocks::Blocks;
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
    tokenizer: Arc<Tokenizer>,
    threads: usize,
    workspaces: Workspaces,
    /// The GPU that computes, if it is not the CPU.
    device: Option<DeviceEncoder>,
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Device {
    /// The CPU, in f32
    Cpu,
    /// An NVIDIA GPU, in bf16
    Cuda,
}

/// What turns texts of one kind into tokens.
struct Tokeniser {
    tokenizer: Arc<Tokenizer>,
    prompt: Prompt,
    threads: usize,
}

/// A block as tokens.
struct TokenBlock {
    tokens: TokenTexts,
    first_line: u64,
    end: u64,
}

impl Embedder {
    /// Reads a model folder; `max_seq_length` counts in tokens, the folder's own where it is not said. A GPU is the first of those that CUDA_VISIBLE_DEVICES leaves.
    ///
    /// # Errors
    /// The folder is not one of a model that Artel computes, its weights are damaged, or there is no such device.
    pub fn open(path: &Path, max_seq_length: Option<usize>, threads: usize, device: Device) -> Result<Self, Failure> {
        let folder = ModelFolder::open(path)?;
        for warning in &folder.warnings {
            output::talk(&format!("warning: {warning}"));
        }
        let tokenizer = Arc::new(folder.tokenizer(max_seq_length.unwrap_or(folder.max_seq_length))?);
        let encoder = Encoder::new(folder.config.clone(), folder.pooling, folder.layout.clone())?;
        let params = state::tensor(folder.load_params()?)?;
        let device = match device {
            Device::Cpu => None,
            Device::Cuda => Some(DeviceEncoder::new(gpu::open(0, Precision::Bf16)?, encoder.clone(), &params)?),
        };
        Ok(Self { folder, encoder, params, tokenizer, threads, workspaces: Workspaces::default(), device })
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
        let tokens = self.tokeniser(kind)?.tokens(texts)?;
        let vectors = self.vectors(&tokens, &Interrupt::default(), &|done| counter.at(done as u64))?;
        counter.finish();
        Ok(vectors)
    }

    /// Hands over the embeddings of each block's texts, `[n, dim]` row by row, block after block. Each block is encoded by
    /// itself, while the next ones are read and tokenised.
    ///
    /// # Errors
    /// A block cannot be read, as [`Embedder::encode`], what `each` says, or the work is to end.
    pub fn encode_blocks<R: BufRead + Send + 'static>(
        &self,
        kind: Kind,
        mut blocks: Blocks<R>,
        interrupt: &Interrupt,
        counter: &Counter,
        mut each: impl FnMut(&[f32]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let tokeniser = self.tokeniser(kind)?;
        let ahead = Ahead::start(move || {
            let Some(block) = blocks.next()? else { return Ok(None) };
            let tokens = tokeniser.tokens(&block.texts())?;
            Ok(Some(TokenBlock { tokens, first_line: block.first_line, end: block.end }))
        })?;
        let mut begin = 0;
        while let Some(TokenBlock { tokens, first_line, end }) = ahead.next(interrupt)? {
            let num_texts = tokens.texts.len() as u64;
            let progress = |done: usize| {
                let share = (end - begin) as f64 * done as f64 / num_texts as f64;
                counter.at_bytes(first_line - 1 + done as u64, begin + share as u64);
            };
            let vectors = self.vectors(&tokens, interrupt, &progress).map_err(|e| match (e.exit, e.message) {
                (Exit::NotFinite, Some(message)) => {
                    let last_line = first_line - 1 + num_texts;
                    Failure::new(Exit::NotFinite, format!("among lines {first_line} to {last_line}: {message}"))
                }
                (exit, message) => Failure { exit, message },
            })?;
            each(&vectors)?;
            begin = end;
        }
        Ok(())
    }

    fn vectors(
        &self,
        tokens: &TokenTexts,
        interrupt: &Interrupt,
        progress: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<f32>, Failure> {
        let encoding = Encoding {
            encoder: &self.encoder,
            params: &self.params,
            collective: &Solo::new(),
            threads: self.threads,
            micro_batch_tokens: MICRO_BATCH_TOKENS,
            workspaces: &self.workspaces,
            interrupt,
            device: self.device.as_ref().map(|device| device as _),
        };
        Ok(encoding.encode(tokens, progress)?)
    }

    fn tokeniser(&self, kind: Kind) -> Result<Tokeniser, Failure> {
        let prompts = &self.folder.prompts;
        let prompt = self.tokenizer.prompt(match kind {
            Kind::Text => prompts.default_name.as_deref().and_then(|name| prompts.get(name)).unwrap_or_default(),
            Kind::Query => prompts.query(),
            Kind::Passage => prompts.passage(),
        })?;
        Ok(Tokeniser { tokenizer: Arc::clone(&self.tokenizer), prompt, threads: self.threads })
    }
}

impl Tokeniser {
    fn tokens<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<TokenTexts, Failure> {
        let groups: Vec<&[T]> = texts.chunks(TOKENISED_AT_ONCE).collect();
        let some = |index: usize| groups[index].iter().map(|text| self.tokenizer.encode(text.as_ref(), &self.prompt)).collect();
        let tokens: Vec<Vec<Vec<u32>>> = map_ordered(groups.len(), self.threads, some)?;
        Ok(TokenTexts { texts: tokens.into_iter().flatten().collect(), prompt_len: self.prompt.num_tokens() })
    }
}

#[cfg(test)]
mod tests;
