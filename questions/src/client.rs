//! `Asker`: a chunk in, its pairs or the reason why not out; `Judge`: a pair in, its score out. Every request passes the caller's gate.
//!
//! Whoever asks waits in their own future: there is no queue but the asks that the caller has begun.

mod flow;
mod judging;
mod line;
mod model;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::failed::Failed;
use crate::gate::Gate;
use crate::http::{Http, Transport};
use crate::parse::{self, QaPair};
use crate::prompt::{Prompt, request_id};
use crate::provider::Purpose;
use crate::secret::Secret;
use crate::settings::{Patience, QuestionSettings, SettingsError};
pub use judging::{Judge, Judgement};
use line::{Line, Read};
use model::Model;
pub use state::State;

/// Pairs of a chunk and what they cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// At least one, at most `pairs_per_chunk`.
    pub pairs: Vec<QaPair>,
    /// The answer that they were read from; holds no key. `parse::parse` reads it again, with `cut`.
    pub raw: String,
    /// Whether it ended at the limit of tokens.
    pub cut: bool,
    /// Tokens of all prompts sent for the chunk, as the server counts; the upper bound for requests of which it did not say.
    pub tokens_in: u64,
    /// Tokens of all answers to it, likewise.
    pub tokens_out: u64,
    /// Requests sent for it.
    pub attempts: u32,
}

/// Asks one provider's model for the pairs of chunks, as many at once as its caller likes.
pub struct Asker {
    settings: QuestionSettings,
    prompt: Prompt,
    model: Model,
    line: Arc<Line>,
}

impl Asker {
    /// An asker over real sockets.
    ///
    /// # Errors
    /// A setting cannot be used, the provider is `offline`, a provider's own address is asked without a key, or https finds no
    /// certificates to trust.
    pub fn new(
        settings: QuestionSettings,
        patience: Patience,
        secret: Option<Secret>,
        gate: Arc<dyn Gate>,
    ) -> Result<Self, SettingsError> {
        let base = settings.base().map_err(|what| SettingsError { key: "base_url", what })?;
        if settings.base_url.is_none() && secret.is_none() {
            let what = format!("is not set; {} answers nobody without a key", settings.provider.name());
            return Err(SettingsError { key: "api_key_env", what });
        }
        let transport = Http::new(&base, &patience)?;
        Self::over(Box::new(transport), settings, patience, secret, gate)
    }

    /// An asker over a transport of one's own.
    ///
    /// # Errors
    /// A setting cannot be used, or the provider is `offline`.
    pub fn over(
        transport: Box<dyn Transport>,
        settings: QuestionSettings,
        patience: Patience,
        secret: Option<Secret>,
        gate: Arc<dyn Gate>,
    ) -> Result<Self, SettingsError> {
        if let Some(problem) = settings.problems().into_iter().chain(patience.problems()).next() {
            return Err(problem);
        }
        let model = Model::new(&settings, Purpose::Questions)?;
        let base = settings.base().map_err(|what| SettingsError { key: "base_url", what })?;
        let line = Arc::new(Line::new(transport, &base, patience, secret, gate));
        let prompt = Prompt::new(&settings);
        Ok(Self { settings, prompt, model, line })
    }

    /// The id under which the answer to a chunk is kept.
    pub fn request_id(&self, chunk: &str) -> String {
        request_id(&self.settings, &self.prompt, chunk)
    }

    /// How it goes.
    pub fn state(&self) -> State {
        self.line.state(self.model.asks_json())
    }

    /// The pairs of a chunk. May be dropped at any time: the permit is then given back, a request that is under way as fully used.
    ///
    /// # Errors
    /// There are none, and asking again now would not help; `kind` says what to do.
    pub async fn ask(&self, chunk: &str) -> Result<Reply, Failed> {
        let read = self.line.ask(&self.model, |form| self.prompt.render(chunk, form), parse::parse).await?;
        let Read { value: mut pairs, raw, cut, tokens_in, tokens_out, attempts } = read;
        pairs.truncate(self.settings.pairs_per_chunk as usize);
        Ok(Reply { pairs, raw, cut, tokens_in, tokens_out, attempts })
    }
}
