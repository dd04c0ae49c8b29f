//! `[documents]`, `[chunks]`, `[questions]`: how pairs are made where the user has documents and no pairs.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::store::absolute_url;

use super::RunSpec;
use super::reader::Reader;

/// Which pages of a PDF are read by OCR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadStrategy {
    /// Those without text.
    Auto,
    /// None.
    Fast,
    /// All.
    OcrOnly,
}

/// `[documents]`: what is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DocumentsSection {
    /// Files, folders, globs, URLs of bucket prefixes. Relative to the spec's folder.
    pub sources: Vec<String>,
    /// Which pages are read by OCR.
    pub strategy: ReadStrategy,
    /// Tesseract's names of languages.
    pub languages: Vec<String>,
    /// A document of more pages is refused.
    pub max_pages: u32,
    /// Bytes of memory that reading one document may take.
    pub max_memory: u64,
    /// Seconds that reading one document may take.
    pub max_seconds: u64,
}

/// What `chunk_size` and `overlap` count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkUnit {
    /// Characters.
    Characters,
    /// Tokens of the base model.
    Tokens,
}

/// `[chunks]`: how texts are cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChunksSection {
    /// The most that a chunk holds.
    pub chunk_size: usize,
    /// How much of a chunk's end the next one begins with; counts towards its size.
    pub overlap: usize,
    /// What both count.
    pub unit: ChunkUnit,
    /// A title begins a chunk.
    pub by_title: bool,
}

/// Who writes questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// Google's Gemini, by its REST API.
    Gemini,
    /// Any server of OpenAI's API: vLLM, llama.cpp, ...
    Openai,
    /// Nobody: a sentence of the chunk asks for the rest of it (inverse cloze).
    Offline,
}

/// How a question is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryStyle {
    /// As a person asks.
    Natural,
    /// As words are typed into a search box.
    Keyword,
    /// In several sentences.
    MultiSentence,
}

/// `[questions]`: who asks, how, and for how much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuestionsSection {
    /// Who writes them.
    pub provider: ProviderKind,
    /// Which model; empty offline.
    #[serde(default)]
    pub model: String,
    /// The server; the provider's own where it is not said.
    pub base_url: Option<String>,
    /// The environment variable that has the key.
    pub api_key_env: Option<String>,
    /// A file that has the key.
    pub api_key_file: Option<String>,
    /// Randomness of the answers.
    pub temperature: f64,
    /// Pairs asked for, by chunk.
    pub pairs_per_chunk: u32,
    /// How questions are put; one after another over the chunks.
    pub styles: Vec<QueryStyle>,
    /// A prompt of the user's, with `{text}`, and `{count}` and `{style}` if it wants them.
    pub prompt: Option<String>,
    /// Whether a JSON schema is asked for where the server has it.
    pub json: bool,
    /// Tokens that an answer may have.
    pub max_output_tokens: u32,
    /// Seconds that an answer may take.
    pub timeout: u64,
    /// Requests in flight at once, by worker.
    pub max_in_flight: u32,
    /// Over all workers.
    pub requests_per_minute: Option<u64>,
    /// Over all workers, in and out.
    pub tokens_per_minute: Option<u64>,
    /// Dollars that the run may spend.
    pub max_cost: Option<f64>,
    /// Requests that the run may make, retries counted.
    pub max_requests: Option<u64>,
    /// Dollars for a million tokens in, where the price table does not know the model.
    pub price_in: Option<f64>,
    /// Dollars for a million tokens out.
    pub price_out: Option<f64>,
    /// The least score, 1 to 5, that a judge must give a pair; no judge is asked where it is not said.
    pub judge_threshold: Option<u64>,
    /// The judge's model; `model` where it is not said.
    pub judge_model: Option<String>,
    /// The judge's prompt, with `{question}`, `{answer}` and `{text}`.
    pub judge_prompt: Option<String>,
    /// The store of another run, whose answers are taken where they are to what is asked. A loaded spec's folder is absolute.
    pub answers_from: Option<String>,
}

impl QuestionsSection {
    /// The judge's model and the least score, where one is asked.
    pub fn judge(&self) -> Option<(&str, u64)> {
        let threshold = self.judge_threshold.filter(|_| self.provider != ProviderKind::Offline)?;
        Some((self.judge_model.as_deref().unwrap_or(&self.model), threshold))
    }
}

/// What is the positive of a pair that was made from a chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positive {
    /// The answer that was written.
    #[default]
    Answer,
    /// The chunk that it was written from.
    Chunk,
}

impl Positive {
    /// The default, which a spec need not write.
    pub(super) fn is_answer(&self) -> bool {
        *self == Self::Answer
    }
}

impl RunSpec {
    /// The three sections, where the run makes its pairs from documents.
    pub fn making(&self) -> Option<(&DocumentsSection, &ChunksSection, &QuestionsSection)> {
        Some((self.documents.as_ref()?, self.chunks.as_ref()?, self.questions.as_ref()?))
    }

    /// Everything that changes which pairs are made, and nothing else: no limits, no addresses, no keys.
    pub(super) fn making_settings(&self) -> Value {
        let Some((documents, chunks, questions)) = self.making() else { return Value::Null };
        let mut settings = json!({
            "documents": { "sources": documents.sources, "strategy": documents.strategy, "languages": documents.languages },
            "chunks": chunks,
            "questions": {
                "provider": questions.provider,
                "model": questions.model,
                "temperature": questions.temperature,
                "pairs_per_chunk": questions.pairs_per_chunk,
                "styles": questions.styles,
                "prompt": questions.prompt,
                "json": questions.json,
                "max_output_tokens": questions.max_output_tokens,
            },
        });
        // without a judge the settings are what they were before there were judges
        if let Some((model, threshold)) = questions.judge() {
            let into = &mut settings["questions"];
            into["judge_threshold"] = json!(threshold);
            into["judge_model"] = json!(model);
            into["judge_prompt"] = json!(questions.judge_prompt);
        }
        settings
    }

    /// What the documents' part of the run is known by: its settings, and the model whose tokens chunks may be counted in.
    pub fn making_digest(&self) -> Option<Digest> {
        self.making()?;
        let model = json!({ "base": self.model.base, "revision": self.model.revision });
        let mut making = self.making_settings();
        // it is held against the scores when all are there
        if let Some(questions) = making["questions"].as_object_mut() {
            questions.remove("judge_threshold");
        }
        Some(Digest::of(json!({ "making": making, "model": model }).to_string().as_bytes()))
    }
}

const READ_STRATEGIES: &[(&str, ReadStrategy)] =
    &[("auto", ReadStrategy::Auto), ("fast", ReadStrategy::Fast), ("ocr_only", ReadStrategy::OcrOnly)];
const UNITS: &[(&str, ChunkUnit)] = &[("characters", ChunkUnit::Characters), ("tokens", ChunkUnit::Tokens)];
const PROVIDERS: &[(&str, ProviderKind)] =
    &[("gemini", ProviderKind::Gemini), ("openai", ProviderKind::Openai), ("offline", ProviderKind::Offline)];
const STYLES: &[(&str, QueryStyle)] =
    &[("natural", QueryStyle::Natural), ("keyword", QueryStyle::Keyword), ("multi_sentence", QueryStyle::MultiSentence)];
pub(super) const POSITIVES: &[(&str, Positive)] = &[("answer", Positive::Answer), ("chunk", Positive::Chunk)];
/// What the prompt of questions may have in it.
const PROMPT_NAMES: [&str; 3] = ["{text}", "{count}", "{style}"];
/// What a judge's prompt has to have in it.
const JUDGE_NAMES: [&str; 3] = ["{question}", "{answer}", "{text}"];
/// Keys of `[questions]` that mean something to a language model alone.
const OF_SERVERS: [&str; 21] = [
    "model",
    "base_url",
    "api_key_env",
    "api_key_file",
    "temperature",
    "styles",
    "prompt",
    "json",
    "max_output_tokens",
    "timeout",
    "max_in_flight",
    "requests_per_minute",
    "tokens_per_minute",
    "max_cost",
    "max_requests",
    "price_in",
    "price_out",
    "judge_threshold",
    "judge_model",
    "judge_prompt",
    "answers_from",
];
/// Less memory than this reads no PDF.
const LEAST_READ_MEMORY: u64 = 64_000_000;

/// `[documents]`, if it is there.
pub(super) fn documents(reader: &mut Reader<'_, '_>) -> Option<DocumentsSection> {
    const S: &str = "documents";
    if !reader.has("", S) {
        return None;
    }
    if !reader.has(S, "sources") {
        reader.problem(S, "sources", "is missing; name files, folders, globs or bucket prefixes: sources = [\"docs/**/*.pdf\"]");
    }
    let sources = reader.strings(S, "sources");
    if sources.as_ref().is_some_and(Vec::is_empty) {
        reader.problem(S, "sources", "names none; name files, folders, globs or bucket prefixes");
    }
    let languages = reader.strings(S, "languages").unwrap_or_else(|| vec!["eng".to_owned()]);
    if languages.is_empty() {
        reader.problem(S, "languages", "names none; write languages = [\"eng\"], or leave it out");
    }
    Some(DocumentsSection {
        sources: sources.unwrap_or_default(),
        strategy: reader.choice(S, "strategy", READ_STRATEGIES).unwrap_or(ReadStrategy::Auto),
        languages,
        max_pages: reader.integer(S, "max_pages", 1..=1_000_000).unwrap_or(2_000) as u32,
        max_memory: reader.bytes(S, "max_memory", LEAST_READ_MEMORY).unwrap_or(2_000_000_000),
        max_seconds: reader.integer(S, "max_seconds", 1..=86_400).unwrap_or(600),
    })
}

/// `[chunks]`, with or without being written.
pub(super) fn chunks(reader: &mut Reader<'_, '_>) -> ChunksSection {
    const S: &str = "chunks";
    let unit = reader.choice(S, "unit", UNITS).unwrap_or(ChunkUnit::Characters);
    let default = if unit == ChunkUnit::Tokens { 256 } else { 2048 };
    let chunk_size = reader.integer(S, "chunk_size", 16..=1 << 20).unwrap_or(default) as usize;
    let overlap = reader.integer(S, "overlap", 0..=1 << 20).unwrap_or(0) as usize;
    if overlap * 2 > chunk_size {
        let what = format!("{overlap} is more than half of chunk_size = {chunk_size}: little new would be in a chunk; lower it");
        reader.problem(S, "overlap", what);
    }
    ChunksSection { chunk_size, overlap, unit, by_title: reader.boolean(S, "by_title").unwrap_or(false) }
}

/// `[questions]`, if it is there.
pub(super) fn questions(reader: &mut Reader<'_, '_>) -> Option<QuestionsSection> {
    const S: &str = "questions";
    if !reader.has("", S) {
        return None;
    }
    if !reader.has(S, "provider") {
        reader.problem(S, "provider", "is missing; write \"gemini\", \"openai\" (any server of its API) or \"offline\" (no LLM)");
    }
    let provider = reader.choice(S, "provider", PROVIDERS).unwrap_or(ProviderKind::Offline);
    let price = |price: f64| price >= 0.0;
    let styles = reader.strings(S, "styles").unwrap_or_else(|| vec!["natural".to_owned()]);
    if styles.is_empty() {
        reader.problem(S, "styles", "names none; there are natural, keyword and multi_sentence");
    }
    let styles = styles.iter().filter_map(|style| match STYLES.iter().find(|(name, _)| name == style) {
        Some((_, style)) => Some(*style),
        None => {
            reader.problem(S, "styles", format_args!("{style:?} is no style; there are natural, keyword and multi_sentence"));
            None
        }
    });
    let styles = styles.collect();
    Some(QuestionsSection {
        provider,
        model: reader.string(S, "model").unwrap_or_default(),
        base_url: reader.string(S, "base_url"),
        api_key_env: reader.string(S, "api_key_env"),
        api_key_file: reader.string(S, "api_key_file"),
        temperature: reader.float(S, "temperature", "a number from 0 to 2", |t| (0.0..=2.0).contains(&t)).unwrap_or(0.7),
        pairs_per_chunk: reader.integer(S, "pairs_per_chunk", 1..=50).unwrap_or(1) as u32,
        styles,
        prompt: reader.string(S, "prompt"),
        json: reader.boolean(S, "json").unwrap_or(true),
        max_output_tokens: reader.integer(S, "max_output_tokens", 16..=65_536).unwrap_or(1_024) as u32,
        timeout: reader.integer(S, "timeout", 1..=3_600).unwrap_or(60),
        max_in_flight: reader.integer(S, "max_in_flight", 1..=4_096).unwrap_or(32) as u32,
        requests_per_minute: reader.integer(S, "requests_per_minute", 1..=10_000_000),
        tokens_per_minute: reader.integer(S, "tokens_per_minute", 1..=10_000_000_000),
        max_cost: reader.float(S, "max_cost", "a number of dollars above 0", |cost| cost > 0.0),
        max_requests: reader.integer(S, "max_requests", 1..=i64::MAX as u64),
        price_in: reader.float(S, "price_in", "dollars for a million tokens, 0 or more,", price),
        price_out: reader.float(S, "price_out", "dollars for a million tokens, 0 or more,", price),
        judge_threshold: reader.integer(S, "judge_threshold", 1..=5),
        judge_model: reader.string(S, "judge_model"),
        judge_prompt: reader.string(S, "judge_prompt"),
        answers_from: reader.string(S, "answers_from"),
    })
}

/// What the three sections need of one another.
pub(super) fn check(reader: &mut Reader<'_, '_>, spec: &RunSpec) {
    let (has_documents, has_questions) = (reader.has("", "documents"), reader.has("", "questions"));
    if has_documents && !has_questions {
        let what = "is missing: documents become pairs by questions; write provider = \"offline\" in it to begin with";
        reader.problem("questions", "provider", what);
    }
    if !has_documents {
        for section in ["chunks", "questions"] {
            if reader.has("", section) {
                reader.warn("", section, "has no effect without [documents]");
            }
        }
        if reader.has("data", "positive") {
            reader.warn("data", "positive", "has no effect without [documents]: columns says which column is the positive");
        }
        return;
    }
    if spec.model.base == "artel:toy" && spec.chunks.as_ref().is_some_and(|chunks| chunks.unit == ChunkUnit::Tokens) {
        let what = "\"tokens\": the toy is made of the pairs, so it has no tokens before; count in characters";
        reader.problem("chunks", "unit", what);
    }
    let Some(questions) = &spec.questions else { return };
    check_server(reader, questions);
    check_judge(reader, questions);
    if let Some(url) = &questions.answers_from {
        match absolute_url(url, Path::new("/")) {
            Err(e) => reader.problem("questions", "answers_from", e),
            Ok(url) if url.starts_with("http") => {
                let what = format!("{url:?} is a server and no store of a run; name a folder, or s3://BUCKET/PREFIX");
                reader.problem("questions", "answers_from", what);
            }
            Ok(_) => {}
        }
    }
    if questions.provider == ProviderKind::Offline {
        if spec.data.positive == Positive::Chunk {
            let what = "\"chunk\": offline a question is a sentence of its chunk, which is found by these very words; the measures say little";
            reader.warn("data", "positive", what);
        }
        for name in OF_SERVERS {
            if reader.has("questions", name) {
                reader.warn("questions", name, "has no effect offline: no language model is asked");
            }
        }
    }
}

/// Where questions are asked.
fn check_server(reader: &mut Reader<'_, '_>, questions: &QuestionsSection) {
    // a value that was refused already must not be called missing too
    if questions.provider != ProviderKind::Offline && questions.model.is_empty() && !reader.has("questions", "model") {
        let example = match questions.provider {
            ProviderKind::Openai => "as its server does (BASE_URL/models lists them): model = \"Qwen/Qwen2.5-7B-Instruct\"",
            _ => "as Google does: model = \"gemini-1.5-flash\"",
        };
        reader.problem("questions", "model", format_args!("is missing; name the model that writes the questions, {example}"));
    }
    if questions.provider == ProviderKind::Openai && questions.base_url.is_none() {
        let what = "is missing; name the server: base_url = \"http://127.0.0.1:8000/v1\", or \"https://api.openai.com/v1\"";
        reader.problem("questions", "base_url", what);
    }
    if let Some(url) = &questions.base_url
        && !(url.starts_with("http://") || url.starts_with("https://"))
    {
        reader.problem("questions", "base_url", format_args!("{url:?} is no http:// or https:// URL; write http://HOST:PORT/v1"));
    } else if questions.base_url.as_ref().is_some_and(|url| url.contains(['@', '?'])) {
        let what =
            "has a user, password or query in it: keys never stand in a spec; put it in a variable and name that in api_key_env";
        reader.problem("questions", "base_url", what);
    }
    if questions.prompt.as_ref().is_some_and(|prompt| !prompt.contains("{text}")) {
        reader.problem("questions", "prompt", "has no {text}: the chunk has to stand somewhere in it");
    }
    if let Some(prompt) = &questions.prompt {
        check_names(reader, "prompt", prompt, &PROMPT_NAMES);
    }
    if questions.api_key_env.is_some() && questions.api_key_file.is_some() {
        reader.warn("questions", "api_key_file", "has no effect beside api_key_env, which the key comes from");
    }
    if questions.api_key_env.as_deref().is_some_and(looks_like_a_key) {
        let what =
            "looks like a key: name the environment variable that has it, and change the key, since it stands in a file now";
        reader.problem("questions", "api_key_env", what);
    }
}

/// Who judges pairs.
fn check_judge(reader: &mut Reader<'_, '_>, questions: &QuestionsSection) {
    if let Some(prompt) = &questions.judge_prompt {
        let missing: Vec<&str> = JUDGE_NAMES.into_iter().filter(|name| !prompt.contains(name)).collect();
        if !missing.is_empty() {
            let what = format!("has no {}: question, answer and chunk have to stand somewhere in it", missing.join(" and no "));
            reader.problem("questions", "judge_prompt", what);
        }
        check_names(reader, "judge_prompt", prompt, &JUDGE_NAMES);
    }
    // offline it is told of anyway
    let is_asked = reader.has("questions", "judge_threshold") || questions.provider == ProviderKind::Offline;
    for name in ["judge_model", "judge_prompt"] {
        if !is_asked && reader.has("questions", name) {
            let what = "has no effect without judge_threshold, the least score that a pair is kept with: judge_threshold = 4";
            reader.warn("questions", name, what);
        }
    }
}

/// A word in braces that is no name of a prompt was most likely meant to be one.
fn check_names(reader: &mut Reader<'_, '_>, key: &str, prompt: &str, names: &[&str]) {
    for part in prompt.split('{').skip(1) {
        let Some((word, _)) = part.split_once('}') else { continue };
        let is_word = !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let name = format!("{{{word}}}");
        if is_word && !names.contains(&name.as_str()) {
            reader.warn("questions", key, format_args!("has {name} in it, which stays as it is; there are {}", names.join(", ")));
        }
    }
}

/// Names of variables have capitals, digits and underscores.
fn looks_like_a_key(text: &str) -> bool {
    !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        || (text.len() > 24 && text.chars().any(|c| c.is_ascii_lowercase()))
}
