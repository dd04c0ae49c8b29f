//! The dialects of the providers: a prompt to a request, an answer to a completion, a status to what it means.

pub(crate) mod gemini;
pub(crate) mod openai;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::http::{Answer, Call};
use crate::prompt::Form;
use crate::secret::Secret;
use crate::settings::{Provider, QuestionSettings, SettingsError};

/// Characters of a server's own words that an error keeps.
const MOST_WORDS: usize = 300;
/// Characters of a server's words that are looked at.
const MOST_LOOKED_AT: usize = 16 * 1024;

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The model was done.
    Done,
    /// At the limit of tokens.
    Cut,
    /// The model or a filter would not answer; why.
    Refused(String),
}

/// A model's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) text: String,
    /// As the server counts; `None` where it does not say.
    pub(crate) tokens_in: Option<u64>,
    pub(crate) tokens_out: Option<u64>,
    pub(crate) end: End,
}

/// What a status other than success means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Too many requests at once: slower, then again.
    Busy,
    /// The server's trouble: again.
    Broken,
    /// The server does not take the schema: as text.
    NoSchema,
    /// This request will never be answered.
    Permanent,
    /// No request will ever be answered: wrong key, wrong model, no credit.
    Fatal,
}

/// What a model is asked for, and so which schema its reply has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Questions and their answers.
    Questions,
    /// The score of a pair.
    Judgement,
}

/// One provider's way of speaking.
#[derive(Debug, Clone)]
pub(crate) enum Dialect {
    Gemini(gemini::Gemini),
    OpenAi(openai::OpenAi),
}

impl Dialect {
    pub(crate) fn new(settings: &QuestionSettings, purpose: Purpose) -> Result<Self, SettingsError> {
        let base = settings.base().map_err(|what| SettingsError { key: "base_url", what })?;
        match settings.provider {
            Provider::Gemini => Ok(Self::Gemini(gemini::Gemini::new(settings, purpose, &base))),
            Provider::OpenAi => Ok(Self::OpenAi(openai::OpenAi::new(settings, purpose, &base))),
            Provider::Offline => Err(SettingsError {
                key: "provider",
                what: "is offline, which asks no server; use the pairs of `offline`".into(),
            }),
        }
    }

    pub(crate) fn call(&self, prompt: &str, form: Form, secret: Option<&Secret>) -> Call {
        match self {
            Self::Gemini(gemini) => gemini.call(prompt, form, secret),
            Self::OpenAi(openai) => openai.call(prompt, form, secret),
        }
    }

    /// Reads a successful answer.
    ///
    /// # Errors
    /// It is not what this provider answers.
    pub(crate) fn completion(&self, body: &[u8]) -> Result<Completion, String> {
        let value: Value = serde_json::from_slice(body).map_err(|e| format!("the answer is not JSON ({e})"))?;
        match self {
            Self::Gemini(_) => gemini::completion(&value),
            Self::OpenAi(_) => openai::completion(&value),
        }
    }
}

/// What a status means, and the server's words about it, not scrubbed yet.
pub(crate) fn verdict_of(answer: &Answer, form: Form) -> (Verdict, String) {
    let body = String::from_utf8_lossy(&answer.body[..answer.body.len().min(MOST_LOOKED_AT)]).into_owned();
    let lower = body.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let schema = [
        "response_format",
        "responseformat",
        "json_schema",
        "response_schema",
        "responseschema",
        "response_mime_type",
        "responsemimetype",
        "guided",
        "grammar",
        "structured output",
        "json mode",
        "json_validate_failed",
    ];
    let verdict = match answer.status {
        400 | 415 | 422 | 500 | 501 if form == Form::Json && says(&schema) => Verdict::NoSchema,
        400 if says(&["api_key_invalid", "api key not valid", "api key expired", "invalid api key"]) => Verdict::Fatal,
        400 if says(&["model_not_found", "location is not supported"]) => Verdict::Fatal,
        429 if says(&["insufficient_quota"]) => Verdict::Fatal,
        300..=399 | 401..=404 | 405 | 407 | 410 => Verdict::Fatal,
        429 | 503 | 529 => Verdict::Busy,
        408 | 409 | 425 | 500.. => Verdict::Broken,
        _ => Verdict::Permanent,
    };
    let words = match &answer.location {
        Some(place) => format!("redirects to {place}; set base_url to where it leads"),
        None => words(&body),
    };
    (verdict, words)
}

/// The message in a server's error, or the beginning of what it sent.
fn words(body: &str) -> String {
    let value: Option<Value> = serde_json::from_str(body).ok();
    let first = value.as_ref().map(|value| value.get(0).unwrap_or(value));
    let message = first
        .and_then(|value| ["/error/message", "/error", "/message", "/detail"].iter().find_map(|at| value.pointer(at)?.as_str()));
    message.unwrap_or(body).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most `MOST_WORDS` characters of a text that was scrubbed before.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(MOST_WORDS) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// Joins a base address and a path.
fn join(base: &str, ending: &str) -> String {
    if base.ends_with(ending) { base.to_owned() } else { format!("{base}{ending}") }
}
