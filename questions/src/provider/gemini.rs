//! Google's REST API: `POST {base}/v1beta/models/{model}:generateContent`, with a response schema in OpenAPI's subset.

use reqwest::header::HeaderName;
use serde_json::{Value, json};

use super::{Completion, End, Purpose, join};
use crate::http::Call;
use crate::prompt::Form;
use crate::secret::Secret;
use crate::settings::QuestionSettings;

/// Names of finishReason and blockReason that mean: the same text will not be answered.
const REFUSALS: [&str; 9] = [
    "SAFETY",
    "RECITATION",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "LANGUAGE",
    "IMAGE_SAFETY",
    "OTHER",
    "BLOCK_REASON_UNSPECIFIED",
];

/// What of the settings a request needs.
#[derive(Debug, Clone)]
pub(crate) struct Gemini {
    url: String,
    text: Value,
    json: Value,
}

impl Gemini {
    pub(crate) fn new(settings: &QuestionSettings, purpose: Purpose, base: &str) -> Self {
        let model = settings.model.as_str();
        let path = if model.contains('/') { model.to_owned() } else { format!("models/{model}") };
        let url = format!("{}/{path}:generateContent", join(base, "/v1beta"));
        let mut text = json!({"temperature": settings.temperature, "maxOutputTokens": settings.max_output_tokens});
        if model.trim_start_matches("models/").starts_with("gemini-2.5-flash") {
            // its thoughts are paid for and use up maxOutputTokens; only the flash models can do without
            text["thinkingConfig"] = json!({"thinkingBudget": 0});
        }
        let mut with_schema = text.clone();
        with_schema["responseMimeType"] = json!("application/json");
        with_schema["responseSchema"] = match purpose {
            Purpose::Questions => schema(settings),
            Purpose::Judgement => {
                json!({"type": "OBJECT", "properties": {"score": {"type": "INTEGER"}}, "required": ["score"]})
            }
        };
        Self { url, text, json: with_schema }
    }

    pub(crate) fn call(&self, prompt: &str, form: Form, secret: Option<&Secret>) -> Call {
        let config = if form == Form::Json { &self.json } else { &self.text };
        let body = json!({"contents": [{"role": "user", "parts": [{"text": prompt}]}], "generationConfig": config});
        let key = secret.and_then(|secret| secret.header("")).map(|value| (HeaderName::from_static("x-goog-api-key"), value));
        Call { url: self.url.clone(), key, body: body.to_string().into_bytes() }
    }
}

fn schema(settings: &QuestionSettings) -> Value {
    let mut text = json!({"type": "STRING"});
    if let Some(pattern) = &settings.json_pattern {
        text["pattern"] = json!(pattern);
    }
    let pair = json!({
        "type": "OBJECT",
        "properties": {"question": text, "answer": text},
        "required": ["question", "answer"],
        "propertyOrdering": ["question", "answer"],
    });
    if settings.pairs_per_chunk == 1 {
        return pair;
    }
    json!({"type": "OBJECT", "properties": {"pairs": {"type": "ARRAY", "items": pair}}, "required": ["pairs"]})
}

/// Reads a GenerateContentResponse.
pub(crate) fn completion(value: &Value) -> Result<Completion, String> {
    let usage = &value["usageMetadata"];
    let count = |key: &str| usage[key].as_u64();
    // thoughts are billed as output
    let tokens_out = count("candidatesTokenCount").or(count("thoughtsTokenCount").map(|_| 0));
    let tokens_out = tokens_out.or(count("promptTokenCount").map(|_| 0)).map(|n| n + count("thoughtsTokenCount").unwrap_or(0));
    let mut out = Completion { text: String::new(), tokens_in: count("promptTokenCount"), tokens_out, end: End::Done };
    if let Some(reason) = value["promptFeedback"]["blockReason"].as_str() {
        out.end = End::Refused(format!("the prompt was blocked: {reason}"));
        return Ok(out);
    }
    let candidate = &value["candidates"][0];
    if !candidate.is_object() {
        return Err("the answer has no candidates".into());
    }
    if let Some(parts) = candidate["content"]["parts"].as_array() {
        let said = parts.iter().filter(|part| part["thought"] != true);
        out.text = said.filter_map(|part| part["text"].as_str()).collect();
    }
    match candidate["finishReason"].as_str() {
        Some("MAX_TOKENS") => out.end = End::Cut,
        Some(reason) if REFUSALS.contains(&reason) => out.end = End::Refused(format!("the answer was stopped: {reason}")),
        _ => {}
    }
    Ok(out)
}

/// The delay that an error of Google's APIs names in its details, in seconds.
pub(crate) fn retry_delay(body: &[u8]) -> Option<f64> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let details = value.pointer("/error/details").or_else(|| value.pointer("/0/error/details"))?.as_array()?;
    let delay = details.iter().find_map(|detail| detail["retryDelay"].as_str())?;
    delay.strip_suffix('s')?.parse().ok()
}
