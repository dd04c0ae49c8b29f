use serde_json::json;

use super::*;

fn settings(provider: Provider) -> QuestionSettings {
    QuestionSettings { provider, model: "m-1".into(), ..QuestionSettings::default() }
}

fn body(call: &Call) -> Value {
    serde_json::from_slice(&call.body).unwrap()
}

fn secret() -> Secret {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "sk-0123456789abcdef").unwrap();
    Secret::from_file(&path).unwrap()
}

/// Goal: a request is what Google's API documents. Method: address, header and body of one, with and without a schema.
#[test]
fn gemini_requests() {
    let dialect = Dialect::new(&settings(Provider::Gemini), Purpose::Questions).unwrap();
    let call = dialect.call("hello", Form::Json, Some(&secret()));
    assert_eq!(call.url, "https://generativelanguage.googleapis.com/v1beta/models/m-1:generateContent");
    let (name, value) = call.key.clone().unwrap();
    assert_eq!((name.as_str(), value.as_bytes()), ("x-goog-api-key", &b"sk-0123456789abcdef"[..]));
    assert!(!format!("{call:?}").contains("0123456789"));
    let sent = body(&call);
    assert_eq!(sent["contents"], json!([{"role": "user", "parts": [{"text": "hello"}]}]));
    let config = &sent["generationConfig"];
    assert_eq!((&config["temperature"], &config["maxOutputTokens"]), (&json!(0.7), &json!(1024)));
    assert_eq!(config["responseMimeType"], "application/json");
    assert_eq!(config["responseSchema"]["required"], json!(["question", "answer"]));
    assert!(config.get("thinkingConfig").is_none());
    let sent = body(&dialect.call("hello", Form::Text, None));
    assert_eq!(sent["generationConfig"], json!({"temperature": 0.7, "maxOutputTokens": 1024}));

    let own = QuestionSettings {
        base_url: Some("http://127.0.0.1:1/v1beta/".into()),
        model: "models/gemini-2.5-flash".into(),
        pairs_per_chunk: 3,
        ..settings(Provider::Gemini)
    };
    let call = Dialect::new(&own, Purpose::Questions).unwrap().call("hello", Form::Json, None);
    assert_eq!(call.url, "http://127.0.0.1:1/v1beta/models/gemini-2.5-flash:generateContent");
    assert_eq!(body(&call)["generationConfig"]["thinkingConfig"]["thinkingBudget"], 0);
    assert_eq!(body(&call)["generationConfig"]["responseSchema"]["properties"]["pairs"]["type"], "ARRAY");
}

/// Goal: a request is what OpenAI's API documents. Method: address, header and body, at OpenAI and elsewhere.
#[test]
fn openai_requests() {
    let call = Dialect::new(&settings(Provider::OpenAi), Purpose::Questions).unwrap().call("hello", Form::Json, Some(&secret()));
    assert_eq!(call.url, "https://api.openai.com/v1/chat/completions");
    let (name, value) = call.key.clone().unwrap();
    assert_eq!((name.as_str(), value.as_bytes()), ("authorization", &b"Bearer sk-0123456789abcdef"[..]));
    let sent = body(&call);
    assert_eq!(sent["messages"], json!([{"role": "user", "content": "hello"}]));
    assert_eq!((&sent["model"], &sent["max_completion_tokens"]), (&json!("m-1"), &json!(1024)));
    let schema = &sent["response_format"]["json_schema"]["schema"];
    assert_eq!((&schema["type"], &schema["additionalProperties"]), (&json!("object"), &json!(false)));
    assert!(schema["properties"]["answer"].get("pattern").is_none());

    let own = QuestionSettings {
        base_url: Some("http://h:8000/v1/".into()),
        json_pattern: Some("^[ -~]+$".into()),
        pairs_per_chunk: 2,
        ..settings(Provider::OpenAi)
    };
    let dialect = Dialect::new(&own, Purpose::Questions).unwrap();
    let call = dialect.call("hello", Form::Json, None);
    assert_eq!(call.url, "http://h:8000/v1/chat/completions");
    assert!(call.key.is_none());
    assert_eq!(body(&call)["max_tokens"], 1024);
    let items = &body(&call)["response_format"]["json_schema"]["schema"]["properties"]["pairs"]["items"];
    assert_eq!(items["properties"]["answer"]["pattern"], "^[ -~]+$");
    assert!(body(&dialect.call("hello", Form::Text, None)).get("response_format").is_none());
    assert_eq!(Dialect::new(&settings(Provider::Offline), Purpose::Questions).unwrap_err().key, "provider");
}

/// Goal: Gemini's answers are understood: text, thoughts, tokens, cut, blocked. Method: one answer of each kind.
#[test]
fn gemini_answers() {
    let dialect = Dialect::new(&settings(Provider::Gemini), Purpose::Questions).unwrap();
    let read = |value: Value| dialect.completion(value.to_string().as_bytes());
    let parts = json!([{"text": "hm", "thought": true}, {"text": "Question: a?"}, {"text": " Answer: b"}]);
    let usage = json!({"promptTokenCount": 7, "candidatesTokenCount": 5, "thoughtsTokenCount": 3, "totalTokenCount": 15});
    let full = json!({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}], "usageMetadata": usage});
    let wanted = Completion { text: "Question: a? Answer: b".into(), tokens_in: Some(7), tokens_out: Some(8), end: End::Done };
    assert_eq!(read(full), Ok(wanted));
    let cut = read(json!({"candidates": [{"finishReason": "MAX_TOKENS"}], "usageMetadata": {"promptTokenCount": 7}})).unwrap();
    assert_eq!((cut.end, cut.tokens_out, cut.text.as_str()), (End::Cut, Some(0), ""));
    let blocked = read(json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})).unwrap();
    assert_eq!(blocked.end, End::Refused("the prompt was blocked: PROHIBITED_CONTENT".into()));
    let stopped = read(json!({"candidates": [{"finishReason": "SAFETY"}]})).unwrap();
    assert_eq!(stopped.end, End::Refused("the answer was stopped: SAFETY".into()));
    assert_eq!(stopped.tokens_in, None);
    for odd in ["", "null", "[]", "{}", "{\"candidates\": 3}", "<html>", "{\"candidates\": []}"] {
        assert!(dialect.completion(odd.as_bytes()).is_err(), "{odd}");
    }
}

/// Goal: OpenAI's answers are understood: text, parts, tokens, cut, refused, errors with status 200. Method: one of each kind.
#[test]
fn openai_answers() {
    let dialect = Dialect::new(&settings(Provider::OpenAi), Purpose::Questions).unwrap();
    let read = |value: Value| dialect.completion(value.to_string().as_bytes());
    let choice = |message: Value, reason: &str| json!({"choices": [{"message": message, "finish_reason": reason}]});
    let mut full = choice(json!({"role": "assistant", "content": "a", "refusal": null}), "stop");
    full["usage"] = json!({"prompt_tokens": 7, "completion_tokens": 8});
    assert_eq!(read(full), Ok(Completion { text: "a".into(), tokens_in: Some(7), tokens_out: Some(8), end: End::Done }));
    let parts = read(choice(json!({"content": [{"type": "text", "text": "a"}, {"text": "b"}]}), "length")).unwrap();
    assert_eq!((parts.text.as_str(), parts.end, parts.tokens_in), ("ab", End::Cut, None));
    let refused = read(choice(json!({"content": null, "refusal": "I will not"}), "stop")).unwrap();
    assert_eq!(refused.end, End::Refused("the model says: I will not".into()));
    let filtered = read(choice(json!({"content": ""}), "content_filter")).unwrap();
    assert_eq!(filtered.end, End::Refused("the answer was stopped by a content filter".into()));
    assert_eq!(read(json!({"error": {"message": "upstream"}})).unwrap_err(), "the answer is an error: upstream");
    for odd in ["", "null", "[]", "{}", "{\"choices\": []}", "{\"choices\": [{\"message\": 1}]}"] {
        assert!(dialect.completion(odd.as_bytes()).is_err(), "{odd}");
    }
}

/// Goal: each status leads to the right reaction. Method: a table of statuses and bodies that servers send.
#[test]
fn verdicts() {
    let schema = r#"{"error": {"message": "Unknown name \"responseSchema\" at 'generation_config'"}}"#;
    let vllm = r#"{"object":"error","message":"response_format is not supported","code":400}"#;
    let quota = r#"{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}"#;
    let key = r#"[{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "details": [{"reason": "API_KEY_INVALID"}]}}]"#;
    for (status, body, form, wanted) in [
        (429, "", Form::Json, Verdict::Busy),
        (429, "You exceeded your current quota, please check your plan", Form::Json, Verdict::Busy),
        (429, quota, Form::Json, Verdict::Fatal),
        (503, "", Form::Json, Verdict::Busy),
        (529, "", Form::Json, Verdict::Busy),
        (500, "", Form::Json, Verdict::Broken),
        (502, "", Form::Json, Verdict::Broken),
        (599, "", Form::Json, Verdict::Broken),
        (408, "", Form::Json, Verdict::Broken),
        (400, schema, Form::Json, Verdict::NoSchema),
        (400, vllm, Form::Json, Verdict::NoSchema),
        (500, "failed to parse grammar", Form::Json, Verdict::NoSchema),
        (400, vllm, Form::Text, Verdict::Permanent),
        (500, "failed to parse grammar", Form::Text, Verdict::Broken),
        (400, key, Form::Json, Verdict::Fatal),
        (400, "context length exceeded", Form::Json, Verdict::Permanent),
        (413, "", Form::Json, Verdict::Permanent),
        (422, "", Form::Json, Verdict::Permanent),
        (401, "", Form::Json, Verdict::Fatal),
        (402, "", Form::Json, Verdict::Fatal),
        (403, "", Form::Json, Verdict::Fatal),
        (404, "", Form::Json, Verdict::Fatal),
        (301, "", Form::Json, Verdict::Fatal),
        (100, "", Form::Json, Verdict::Permanent),
    ] {
        let answer = Answer { status, body: body.into(), ..Answer::default() };
        assert_eq!(verdict_of(&answer, form).0, wanted, "{status} {body}");
    }
}

/// Goal: the server's own words are found and kept short. Method: the shapes of errors.
#[test]
fn words_of_errors() {
    for body in [
        r#"{"error": {"message": "too  long"}}"#,
        r#"[{"error": {"message": "too long"}}]"#,
        r#"{"error": "too long"}"#,
        r#"{"message": "too long"}"#,
        r#"{"detail": "too long"}"#,
        "too\nlong",
    ] {
        let answer = Answer { status: 400, body: body.into(), ..Answer::default() };
        assert_eq!(verdict_of(&answer, Form::Text).1, "too long", "{body}");
    }
    assert_eq!(shorten(&"\u{fc}".repeat(1000)).chars().count(), MOST_WORDS + 3);
    let moved = Answer { status: 301, location: Some("http://b/".into()), ..Answer::default() };
    assert_eq!(verdict_of(&moved, Form::Text).1, "redirects to http://b/; set base_url to where it leads");
    let delay = br#"{"error": {"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]}}"#;
    assert_eq!(gemini::retry_delay(delay), Some(34.5));
    assert_eq!(gemini::retry_delay(b"{}"), None);
}
