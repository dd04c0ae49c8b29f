//! OpenAI's `/chat/completions`, as vLLM, llama.cpp and many others speak it.

use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};
use url::Url;

use super::{Completion, End, Purpose, join};
use crate::http::Call;
use crate::prompt::Form;
use crate::secret::Secret;
use crate::settings::QuestionSettings;

/// What of the settings a request needs.
#[derive(Debug, Clone)]
pub(crate) struct OpenAi {
    url: String,
    frame: Value,
    response_format: Value,
}

impl OpenAi {
    pub(crate) fn new(settings: &QuestionSettings, purpose: Purpose, base: &str) -> Self {
        // OpenAI's newer models refuse max_tokens, other servers may not know its successor
        let host = Url::parse(base).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        let own = host == "api.openai.com" || host.ends_with(".openai.azure.com");
        let limit = if own { "max_completion_tokens" } else { "max_tokens" };
        let mut frame = json!({"model": settings.model, "temperature": settings.temperature});
        frame[limit] = json!(settings.max_output_tokens);
        let (name, schema) = match purpose {
            Purpose::Questions => ("pairs", schema(settings)),
            Purpose::Judgement => {
                ("judgement", object(json!({"score": {"type": "integer", "enum": [1, 2, 3, 4, 5]}}), json!(["score"])))
            }
        };
        let schema = json!({"name": name, "strict": true, "schema": schema});
        let response_format = json!({"type": "json_schema", "json_schema": schema});
        Self { url: join(base, "/chat/completions"), frame, response_format }
    }

    pub(crate) fn call(&self, prompt: &str, form: Form, secret: Option<&Secret>) -> Call {
        let mut body = self.frame.clone();
        // one message: some models' templates know no system role
        body["messages"] = json!([{"role": "user", "content": prompt}]);
        if form == Form::Json {
            body["response_format"] = self.response_format.clone();
        }
        let key = secret.and_then(|secret| secret.header("Bearer ")).map(|value| (AUTHORIZATION, value));
        Call { url: self.url.clone(), key, body: body.to_string().into_bytes() }
    }
}

fn schema(settings: &QuestionSettings) -> Value {
    let mut text = json!({"type": "string"});
    if let Some(pattern) = &settings.json_pattern {
        text["pattern"] = json!(pattern);
    }
    let pair = object(json!({"question": text, "answer": text}), json!(["question", "answer"]));
    if settings.pairs_per_chunk == 1 {
        return pair;
    }
    object(json!({"pairs": {"type": "array", "items": pair}}), json!(["pairs"]))
}

fn object(properties: Value, required: Value) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// Reads a chat completion.
pub(crate) fn completion(value: &Value) -> Result<Completion, String> {
    let usage = &value["usage"];
    let (tokens_in, tokens_out) = (usage["prompt_tokens"].as_u64(), usage["completion_tokens"].as_u64());
    let choice = &value["choices"][0];
    let message = &choice["message"];
    if !message.is_object() {
        let error = value.pointer("/error/message").or(value.get("error")).and_then(Value::as_str);
        return Err(error.map_or("the answer has no choices".into(), |error| format!("the answer is an error: {error}")));
    }
    let text = match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    };
    let end = match (message["refusal"].as_str(), choice["finish_reason"].as_str()) {
        (Some(refusal), _) if !refusal.is_empty() => End::Refused(format!("the model says: {refusal}")),
        (_, Some("content_filter")) => End::Refused("the answer was stopped by a content filter".into()),
        (_, Some("length")) => End::Cut,
        _ => End::Done,
    };
    Ok(Completion { text, tokens_in, tokens_out, end })
}
