//! A base model that embeds questions and passages, each behind its prompt, outside of any training.

use candle_core::Tensor;

use crate::collective::Solo;
use crate::encode::{Encoding, TokenTexts};
use crate::encoder::{Encoder, Workspaces};
use crate::error::Result;
use crate::gpu::{self, DeviceEncoder, Precision};
use crate::interrupt::Interrupt;
use crate::model::{ModelFolder, Prompt, Tokenizer};
use crate::parallel::map_ordered;
use crate::state;

/// Texts that a thread tokenises at a time.
const TOKENISED_AT_ONCE: usize = 32;

/// How texts are embedded; what is missing is the model's own.
#[derive(Debug, Clone, Default)]
pub struct EmbedSettings {
    /// Longest text in tokens.
    pub max_seq_length: Option<usize>,
    /// Put before each question.
    pub query_prompt: Option<String>,
    /// Put before each passage.
    pub passage_prompt: Option<String>,
    /// Tokens that go through the encoder together on the CPU.
    pub micro_batch_tokens: usize,
    /// The GPU that computes, and in what precision, if it is not the CPU.
    pub gpu: Option<(usize, Precision)>,
}

/// A model ready to embed.
pub struct PairEmbedder {
    encoder: Encoder,
    params: Tensor,
    tokenizer: Tokenizer,
    query: Prompt,
    passage: Prompt,
    workspaces: Workspaces,
    device: Option<DeviceEncoder>,
    micro_batch_tokens: usize,
}

impl PairEmbedder {
    /// Reads a model folder, which is not needed afterwards.
    ///
    /// # Errors
    /// Its weights or its tokenizer are damaged, a prompt is too long, or there is no such GPU.
    pub fn new(folder: &ModelFolder, settings: &EmbedSettings) -> Result<Self> {
        let tokenizer = folder.tokenizer(settings.max_seq_length.unwrap_or(folder.max_seq_length))?;
        let query = tokenizer.prompt(settings.query_prompt.as_deref().unwrap_or_else(|| folder.prompts.query()))?;
        let passage = tokenizer.prompt(settings.passage_prompt.as_deref().unwrap_or_else(|| folder.prompts.passage()))?;
        let encoder = Encoder::new(folder.config.clone(), folder.pooling, folder.layout.clone())?;
        let params = state::tensor(folder.load_params()?)?;
        let device = match settings.gpu {
            None => None,
            Some((number, precision)) => Some(DeviceEncoder::new(gpu::open(number, precision)?, encoder.clone(), &params)?),
        };
        let (workspaces, micro_batch_tokens) = (Workspaces::default(), settings.micro_batch_tokens);
        Ok(Self { encoder, params, tokenizer, query, passage, workspaces, device, micro_batch_tokens })
    }

    /// Width of the vectors.
    pub fn hidden(&self) -> usize {
        self.encoder.config().hidden_size
    }

    /// Vectors of questions, or else of passages, f32 [n, h]. On the CPU the same texts in the same order give the same bits, on any number of threads.
    ///
    /// # Errors
    /// A vector is not finite, or the work was interrupted.
    pub fn encode(&self, texts: &[String], are_questions: bool, threads: usize, interrupt: &Interrupt) -> Result<Vec<f32>> {
        let prompt = if are_questions { &self.query } else { &self.passage };
        let groups: Vec<&[String]> = texts.chunks(TOKENISED_AT_ONCE).collect();
        let tokens: Vec<Vec<Vec<u32>>> = map_ordered(groups.len(), threads, |index| {
            groups[index].iter().map(|text| self.tokenizer.encode(text, prompt)).collect()
        })?;
        let tokens = TokenTexts { texts: tokens.into_iter().flatten().collect(), prompt_len: prompt.num_tokens() };
        let encoding = Encoding {
            encoder: &self.encoder,
            params: &self.params,
            collective: &Solo::new(),
            threads,
            micro_batch_tokens: self.micro_batch_tokens,
            workspaces: &self.workspaces,
            interrupt,
            device: self.device.as_ref().map(|device| device as _),
        };
        encoding.encode(&tokens, &|_| {})
    }
}
