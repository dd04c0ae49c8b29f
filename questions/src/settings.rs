//! What to ask and whom (`QuestionSettings`), and how hard to try (`Patience`).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

/// Pairs that one request may ask for.
const MOST_PAIRS: u32 = 50;
/// Bytes of a custom template.
pub(crate) const MOST_TEMPLATE_BYTES: usize = 64 * 1024;

/// Who writes the pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Google's REST API, `generateContent`.
    Gemini,
    /// Any server with OpenAI's `/chat/completions`: vLLM, llama.cpp, OpenAI itself, ...
    OpenAi,
    /// No LLM: inverse cloze, a sentence asks for the passage it was taken from.
    Offline,
}

impl Provider {
    /// Its name in a spec.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gemini => "gemini",
            Self::OpenAi => "openai",
            Self::Offline => "offline",
        }
    }
}

/// How a question is worded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// A few search words.
    Keyword,
    /// A question as a person would ask it.
    Natural,
    /// Two or three sentences: the situation, then the question.
    MultiSentence,
}

/// What is asked and whom; everything here except `base_url` is part of a request's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuestionSettings {
    /// Who answers.
    pub provider: Provider,
    /// The model's name, as its provider spells it; empty for `offline`.
    pub model: String,
    /// Where the server is; `None` is the provider's own address. For `openai` it ends in `/v1` or the like.
    pub base_url: Option<String>,
    /// Sampling temperature, 0 to 2.
    pub temperature: f64,
    /// Pairs asked for per chunk, 1 to 50.
    pub pairs_per_chunk: u32,
    /// Styles of the questions, dealt over the pairs of a chunk in turn, beginning at a style that the chunk's text chooses.
    pub styles: Vec<Style>,
    /// A prompt of one's own, with `{text}`, and `{count}` and `{style}` if wanted; `None` is the default prompt.
    pub template: Option<String>,
    /// Tokens that an answer may have, per request.
    pub max_output_tokens: u32,
    /// Whether JSON by a schema is asked for; a server that cannot is asked for text.
    pub json: bool,
    /// A regular expression for the schema's texts. Some servers need one (llama.cpp with a model that writes broken UTF-8:
    /// `^[ -~]+$`); without one any language can be written, and servers that know no `pattern` accept the schema.
    pub json_pattern: Option<String>,
}

impl Default for QuestionSettings {
    fn default() -> Self {
        Self {
            provider: Provider::Gemini,
            model: String::new(),
            base_url: None,
            temperature: 0.7,
            pairs_per_chunk: 1,
            styles: vec![Style::Natural],
            template: None,
            max_output_tokens: 1024,
            json: true,
            json_pattern: None,
        }
    }
}

impl QuestionSettings {
    /// Every problem of these settings, each with the key it belongs to; empty when they can be used.
    pub fn problems(&self) -> Vec<SettingsError> {
        let mut found = Vec::new();
        let mut complain = |key: &'static str, what: String| found.push(SettingsError { key, what });
        if self.model.trim().is_empty() && self.provider != Provider::Offline {
            complain("model", format!("is empty; name a model of {}", self.provider.name()));
        }
        if self.model.chars().any(|c| c.is_control() || c.is_whitespace()) {
            complain("model", "has blanks or control characters; write the name as the provider spells it".into());
        }
        if !(0.0..=2.0).contains(&self.temperature) {
            complain("temperature", format!("is {}; it lies between 0 and 2", self.temperature));
        }
        if !(1..=MOST_PAIRS).contains(&self.pairs_per_chunk) {
            complain("pairs_per_chunk", format!("is {}; it lies between 1 and {MOST_PAIRS}", self.pairs_per_chunk));
        }
        if self.styles.is_empty() {
            complain("styles", "is empty; name keyword, natural or multi_sentence".into());
        }
        if self.max_output_tokens == 0 {
            complain("max_output_tokens", "is 0; an answer needs about 100 tokens a pair".into());
        }
        if let Some(template) = &self.template {
            if !template.contains("{text}") {
                complain("template", "has no {text}; write {text} where the chunk belongs".into());
            }
            if template.len() > MOST_TEMPLATE_BYTES {
                complain("template", format!("has {} bytes, at most {MOST_TEMPLATE_BYTES}", template.len()));
            }
        }
        if let Err(what) = self.base() {
            complain("base_url", what);
        }
        found
    }

    /// The server's address without a slash at its end.
    ///
    /// # Errors
    /// What is wrong with `base_url`, for a person.
    pub(crate) fn base(&self) -> Result<String, String> {
        let own = match self.provider {
            Provider::Gemini => "https://generativelanguage.googleapis.com",
            Provider::OpenAi => "https://api.openai.com/v1",
            Provider::Offline => return Ok(String::new()),
        };
        let text = self.base_url.as_deref().unwrap_or(own).trim();
        let url = Url::parse(text).map_err(|e| format!("is no URL ({e}); write for example http://127.0.0.1:8000/v1"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("is neither http:// nor https:// with a host; write for example http://127.0.0.1:8000/v1".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a user or password; give keys by the environment or a file".into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("holds a query or fragment; write scheme, host and path only".into());
        }
        Ok(text.trim_end_matches('/').to_owned())
    }
}

/// How hard to try; no part of a request's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patience {
    /// Requests in flight at most.
    pub max_in_flight: u32,
    /// Requests in flight at first; doubled each round while all goes well.
    pub start_in_flight: u32,
    /// Seconds to open a connection.
    pub connect_seconds: f64,
    /// Seconds until a request must be answered in full.
    pub timeout_seconds: f64,
    /// Requests for one chunk that a broken server (5xx, broken connections, time-outs) may leave unanswered; four times as many for a
    /// busy one (429, 503), as the chunk is not at fault.
    pub max_attempts: u32,
    /// How often an answer that cannot be read is asked for anew; each is paid for.
    pub malformed_retries: u32,
    /// Retries that each success allows to all chunks together.
    pub retry_share: f64,
    /// Longest wait that a server's Retry-After is granted, in seconds.
    pub max_retry_after_seconds: f64,
    /// Failures in a row, over all chunks, after which everything pauses.
    pub breaker_failures: u32,
    /// The first pause in seconds; doubled after each probe that fails.
    pub breaker_pause_seconds: f64,
    /// The longest pause in seconds.
    pub breaker_max_pause_seconds: f64,
    /// Seconds without one success, from the first failure of the row, after which everything stops.
    pub max_outage_seconds: f64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            max_in_flight: 64,
            start_in_flight: 32,
            connect_seconds: 10.0,
            timeout_seconds: 120.0,
            max_attempts: 6,
            malformed_retries: 1,
            retry_share: 0.2,
            max_retry_after_seconds: 60.0,
            breaker_failures: 12,
            breaker_pause_seconds: 1.0,
            breaker_max_pause_seconds: 60.0,
            max_outage_seconds: 900.0,
        }
    }
}

impl Patience {
    /// Every problem of these settings, each with the key it belongs to.
    pub fn problems(&self) -> Vec<SettingsError> {
        let counts = [
            ("max_in_flight", self.max_in_flight),
            ("start_in_flight", self.start_in_flight),
            ("max_attempts", self.max_attempts),
            ("breaker_failures", self.breaker_failures),
        ];
        let seconds = [
            ("connect_seconds", self.connect_seconds),
            ("timeout_seconds", self.timeout_seconds),
            ("max_retry_after_seconds", self.max_retry_after_seconds),
            ("breaker_pause_seconds", self.breaker_pause_seconds),
            ("breaker_max_pause_seconds", self.breaker_max_pause_seconds),
            ("max_outage_seconds", self.max_outage_seconds),
        ];
        let zero = counts.iter().filter(|(_, n)| *n == 0).map(|(key, _)| (*key, "is 0; at least 1".to_owned()));
        let odd = seconds.iter().filter(|(_, s)| !(0.001..=1e6).contains(s));
        let odd = odd.map(|(key, s)| (*key, format!("is {s}; it lies between 0.001 and 1000000 seconds")));
        let share = Some(self.retry_share).filter(|share| !(0.0..=10.0).contains(share));
        let share = share.map(|share| ("retry_share", format!("is {share}; it lies between 0 and 10")));
        zero.chain(odd).chain(share).map(|(key, what)| SettingsError { key, what }).collect()
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout_seconds)
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {what}")]
pub struct SettingsError {
    /// The setting's name.
    pub key: &'static str,
    /// What is wrong and what to write instead.
    pub what: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> QuestionSettings {
        QuestionSettings { model: "gemini-1.5-flash".into(), ..QuestionSettings::default() }
    }

    /// Goal: each setting that cannot work is named, all at once. Method: one bad value of each kind, and good settings.
    #[test]
    fn every_problem_is_named() {
        assert_eq!(good().problems(), []);
        assert_eq!(Patience::default().problems(), []);
        let bad = QuestionSettings {
            model: " ".into(),
            temperature: f64::NAN,
            pairs_per_chunk: 0,
            styles: vec![],
            max_output_tokens: 0,
            template: Some("nothing".into()),
            base_url: Some("ftp://x".into()),
            ..good()
        };
        let keys: Vec<&str> = bad.problems().iter().map(|p| p.key).collect();
        let all = ["model", "model", "temperature", "pairs_per_chunk", "styles", "max_output_tokens", "template", "base_url"];
        assert_eq!(keys, all);
        let bad = Patience { max_in_flight: 0, timeout_seconds: -1.0, retry_share: f64::NAN, ..Patience::default() };
        let keys: Vec<&str> = bad.problems().iter().map(|p| p.key).collect();
        assert_eq!(keys, ["max_in_flight", "timeout_seconds", "retry_share"]);
    }

    /// Goal: an address holds no secrets and is used as written. Method: good and bad addresses.
    #[test]
    fn addresses() {
        let base = |url: &str| QuestionSettings { base_url: Some(url.into()), ..good() }.base();
        assert_eq!(base("http://127.0.0.1:8000/v1/"), Ok("http://127.0.0.1:8000/v1".into()));
        assert_eq!(good().base(), Ok("https://generativelanguage.googleapis.com".into()));
        for bad in ["", "localhost:8000/v1", "http://u:p@h/v1", "http://h/v1?key=1", "http://h/#x", "file:///etc"] {
            assert!(base(bad).is_err(), "{bad}");
        }
    }

    /// Goal: settings are written as people write them, and a typing error is refused. Method: JSON there and back.
    #[test]
    fn settings_as_text() {
        let text = r#"{"provider":"openai","model":"m","styles":["keyword","multi_sentence"]}"#;
        let read: QuestionSettings = serde_json::from_str(text).unwrap();
        assert_eq!(read.provider, Provider::OpenAi);
        assert_eq!(read.styles, [Style::Keyword, Style::MultiSentence]);
        assert!(serde_json::from_str::<QuestionSettings>(r#"{"modle":"m"}"#).is_err());
        assert!(serde_json::from_str::<Patience>(r#"{"attempts":3}"#).is_err());
    }
}
