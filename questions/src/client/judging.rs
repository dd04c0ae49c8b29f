//! `Judge`: the same server is asked how good a pair is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Asker;
use super::line::{Line, Read};
use super::model::Model;
use crate::failed::Failed;
use crate::judge::{JudgePrompt, JudgeSettings, judgement_id, parse_score};
use crate::parse::QaPair;
use crate::provider::Purpose;
use crate::settings::{QuestionSettings, SettingsError};

/// What a pair was judged to be worth, and what that cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// 1 to 5.
    pub score: u8,
    /// The answer that it was read from; holds no key.
    pub raw: String,
    /// Tokens of all prompts sent for the pair, as the server counts.
    pub tokens_in: u64,
    /// Tokens of all answers, likewise.
    pub tokens_out: u64,
    /// Requests sent for it.
    pub attempts: u32,
}

/// Asks a model of an [`Asker`]'s server to judge pairs; slots, pauses and retries are those of the asker.
pub struct Judge {
    settings: QuestionSettings,
    prompt: JudgePrompt,
    model: Model,
    line: Arc<Line>,
}

impl Asker {
    /// A judge at the same server.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn judge(&self, settings: &JudgeSettings) -> Result<Judge, SettingsError> {
        if let Some(problem) = settings.problems().into_iter().next() {
            return Err(problem);
        }
        let prompt = JudgePrompt::new(settings);
        // the same pair gets the same score, as far as a server can
        let settings = QuestionSettings { model: settings.model.clone(), temperature: 0.0, ..self.settings.clone() };
        let model = Model::new(&settings, Purpose::Judgement)?;
        Ok(Judge { settings, prompt, model, line: self.line.clone() })
    }
}

impl Judge {
    /// The id under which the judgement of a chunk's pair is kept.
    pub fn request_id(&self, chunk: &str, pair: &QaPair) -> String {
        judgement_id(&self.settings, &self.prompt, chunk, pair)
    }

    /// The score of a chunk's pair. May be dropped at any time, as [`Asker::ask`].
    ///
    /// # Errors
    /// There is none, and asking again now would not help; `kind` says what to do.
    pub async fn judge(&self, chunk: &str, pair: &QaPair) -> Result<Judgement, Failed> {
        let read = self.line.ask(&self.model, |form| self.prompt.render(chunk, pair, form), |raw, _| parse_score(raw)).await?;
        let Read { value: score, raw, tokens_in, tokens_out, attempts, .. } = read;
        Ok(Judgement { score, raw, tokens_in, tokens_out, attempts })
    }
}
