//! A piece of asking: pairs of some chunks. An answer lies in the store before it counts, and one that lies there is not asked for again.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use artel_common::digest::Digest;
use artel_common::layout;
use artel_common::making::{ChunkRow, Ledger, PairRow, decode_chunks, encode_pairs, open_answers};
use artel_common::spec::{ProviderKind, QueryStyle, QuestionsSection};
use artel_common::store::Store;
use artel_documents::sentences::sentences;
use artel_proto::v1::FailureKind;
use artel_proto::{convert, v1};
use artel_questions::budget::Budget;
use artel_questions::price::Price;
use artel_questions::settings::{Patience, Provider, QuestionSettings, Style};
use artel_questions::{Asker, Gate, Judge, JudgeSettings, NoLimits, QaPair, Secret, offline};
use futures::stream::StreamExt as _;

use super::answers::{Answer, Got};
use super::gate::CoordinatorGate;
use super::{Maker, left};
use crate::session::{TaskError, TaskResult};

/// Units of a price in a millionth of a dollar.
const UNITS_PER_MICRO: u128 = 1_000_000;
/// Chunks that offline pairs are made of at once.
const OFFLINE_AT_ONCE: usize = 8;

/// Who writes the pairs.
pub(super) struct Writer {
    asker: Option<Asker>,
    judge: Option<Judge>,
    /// Another run's store, whose answers are taken.
    elsewhere: Option<Store>,
    /// Where something limits the requests of the whole run.
    gate: Option<Arc<CoordinatorGate>>,
    price: Option<Price>,
    judge_price: Option<Price>,
    count: u32,
    at_once: usize,
}

/// What of `[questions]` can be known before a run: the warning is of a key that is not to be had here.
///
/// # Errors
/// A setting that no run can begin with.
pub fn check_questions(section: &QuestionsSection) -> Result<Option<String>, String> {
    if section.provider == ProviderKind::Offline {
        return Ok(None);
    }
    let price = Price::of(&section.model, section.price_in, section.price_out);
    Budget::new(section.max_requests, section.max_cost, price).map_err(|what| format!("questions.{what}"))?;
    if let Some(problem) = settings(section).problems().into_iter().next() {
        return Err(format!("questions.{problem}"));
    }
    let here = "; workers need it where they run";
    Ok(match secret(section) {
        Err(missing) => Some(format!("{}{here}", missing.message)),
        Ok(None) if section.base_url.is_none() => {
            Some(format!("questions.api_key_env names no variable, and {} answers nobody without a key{here}", section.model))
        }
        Ok(_) => None,
    })
}

/// A chunk's rows, and what they took.
struct Asked {
    rows: Vec<PairRow>,
    ledger: Ledger,
}

impl Maker {
    /// Makes the pairs of a piece and puts them into the store.
    pub(super) async fn ask(&self, task: &v1::Ask) -> TaskResult<v1::AskDone> {
        let writer = self.asker.get_or_try_init(|| self.writer()).await?;
        let object = convert::object(task.chunks.clone()).map_err(TaskError::internal)?;
        let chunks = decode_chunks(self.store.get_verified(&object).await?)?;
        let from = task.from as usize;
        let chunks = chunks.get(from..from + task.count as usize);
        let chunks = chunks.ok_or_else(|| TaskError::internal("a piece of asking lies beyond its shard"))?;
        let work = futures::stream::iter(chunks.to_vec())
            .map(|chunk| async move { self.ask_one(writer, &chunk).await })
            .buffered(writer.at_once);
        // the others are waited for whatever becomes of one: what is under way is paid for
        let asked: Vec<TaskResult<Asked>> = tokio::select! {
            asked = work.collect() => asked,
            () = self.given_up() => {
                self.counted.lock().unwrap_or_else(PoisonError::into_inner).clear();
                return Err(left());
            }
        };
        if let Some(gate) = &writer.gate {
            gate.flush().await;
        }
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, turn| Arc::strong_count(turn) > 1);
        let (mut rows, mut ledger) = (Vec::new(), Ledger::default());
        if asked.iter().any(Result::is_err) {
            // what this piece counted is lost with it
            self.counted.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        for asked in asked {
            let asked = asked?;
            rows.extend(asked.rows);
            ledger.add(&asked.ledger);
        }
        let bytes = encode_pairs(&rows)?;
        let key = layout::pair_shard(task.shard, task.from, Digest::of(&bytes).as_str());
        let pairs = self.store.put(&key, bytes).await?;
        Ok(v1::AskDone { pairs: Some((&pairs).into()), ledger: Some((&ledger).into()) })
    }

    async fn ask_one(&self, writer: &Writer, chunk: &ChunkRow) -> TaskResult<Asked> {
        if self.interrupt.is_leaving() {
            return Err(left());
        }
        let Some(asker) = &writer.asker else { return Ok(self.offline(writer, chunk)) };
        let ask = async { asker.ask(&chunk.text).await.map(Answer::of) };
        let got = self.answer(&asker.request_id(&chunk.text), writer.elsewhere.as_ref(), ask).await?;
        let mut asked = writer.asked(chunk, &got);
        if let (Some(judge), Ok(Answer { reply: Some(reply), .. })) = (&writer.judge, &got.answer) {
            let judged = futures::stream::iter(reply.pairs.clone())
                .map(|pair| async move { self.judge_one(writer, judge, chunk, &pair).await })
                .buffered(writer.at_once);
            // as with chunks: the others are waited for whatever becomes of one
            let judged: Vec<TaskResult<(Option<u64>, Ledger)>> = judged.collect().await;
            for (row, judged) in asked.rows.iter_mut().zip(judged) {
                let (score, ledger) = judged?;
                row.score = score;
                asked.ledger.add(&ledger);
            }
        }
        Ok(asked)
    }

    /// A pair's score, or none where it cannot be had, and what it took.
    async fn judge_one(
        &self,
        writer: &Writer,
        judge: &Judge,
        chunk: &ChunkRow,
        pair: &QaPair,
    ) -> TaskResult<(Option<u64>, Ledger)> {
        if self.interrupt.is_leaving() {
            return Err(left());
        }
        let ask = async { judge.judge(&chunk.text, pair).await.map(Answer::judged) };
        let got = self.answer(&judge.request_id(&chunk.text, pair), writer.elsewhere.as_ref(), ask).await?;
        let score = got.answer.as_ref().ok().and_then(|answer| Some(answer.judgement.as_ref()?.score.into()));
        if score.is_none() {
            let why = match &got.answer {
                Ok(answer) => answer.failure.as_ref().map(|failure| failure.reason.as_str()).unwrap_or_default(),
                Err(failed) => failed.reason.as_str(),
            };
            tracing::debug!(document = %chunk.document, chunk = chunk.chunk, %why, "a pair could not be judged and is kept");
        }
        Ok((score, ledger(&got, writer.judge_price)))
    }

    /// Inverse cloze: no request, no cost.
    fn offline(&self, writer: &Writer, chunk: &ChunkRow) -> Asked {
        let sentences: Vec<&str> = sentences(&chunk.text).into_iter().map(|range| &chunk.text[range]).collect();
        let pairs = offline::pairs(&sentences, writer.count, self.spec.train.seed);
        if pairs.is_empty() {
            let reason = "too few sentences for a question and its answer".to_owned();
            return without(chunk, reason, Ledger::default());
        }
        with(chunk, &pairs, Ledger::default())
    }

    async fn writer(&self) -> TaskResult<Writer> {
        let section = self.spec.questions.as_ref().ok_or_else(|| TaskError::internal("the spec asks no questions"))?;
        let price = Price::of(&section.model, section.price_in, section.price_out);
        let count = section.pairs_per_chunk;
        if section.provider == ProviderKind::Offline {
            let (asker, judge, elsewhere, gate) = (None, None, None, None);
            return Ok(Writer { asker, judge, elsewhere, gate, price, judge_price: None, count, at_once: OFFLINE_AT_ONCE });
        }
        let is_limited = section.max_cost.is_some()
            || section.max_requests.is_some()
            || section.requests_per_minute.is_some()
            || section.tokens_per_minute.is_some();
        let gate = is_limited.then(|| CoordinatorGate::new(self.client.clone(), self.worker_id.clone()));
        let through: Arc<dyn Gate> = match &gate {
            Some(gate) => gate.clone(),
            None => Arc::new(NoLimits),
        };
        let defaults = Patience::default();
        let patience = Patience {
            max_in_flight: section.max_in_flight,
            start_in_flight: defaults.start_in_flight.min(section.max_in_flight),
            timeout_seconds: section.timeout as f64,
            ..defaults
        };
        let provider = |message: String| TaskError { kind: FailureKind::Provider, message };
        let asker =
            Asker::new(settings(section), patience, secret(section)?, through).map_err(|e| provider(format!("questions.{e}")))?;
        let judge = section.judge().map(|(model, _)| {
            let (model, template) = (model.to_owned(), section.judge_prompt.clone());
            asker.judge(&JudgeSettings { model, template }).map_err(|e| provider(format!("questions.{e}")))
        });
        let judge_price =
            section.judge().and_then(|(judge, _)| Price::of_judge(judge, &section.model, section.price_in, section.price_out));
        let elsewhere = match &section.answers_from {
            Some(url) => Some(open_answers(url).await?),
            None => None,
        };
        let at_once = section.max_in_flight as usize;
        Ok(Writer { asker: Some(asker), judge: judge.transpose()?, elsewhere, gate, price, judge_price, count, at_once })
    }
}

impl Writer {
    fn asked(&self, chunk: &ChunkRow, got: &Got) -> Asked {
        let ledger = ledger(got, self.price);
        match &got.answer {
            Ok(Answer { reply: Some(reply), .. }) => with(chunk, &reply.pairs, ledger),
            Ok(answer) => {
                let reason = answer.failure.as_ref().map_or("no answer", |failure| failure.reason.as_str());
                without(chunk, reason.to_owned(), ledger)
            }
            Err(failed) => without(chunk, format!("{}: {}", failed.kind.name(), failed.reason), ledger),
        }
    }
}

/// What an answer took, at a price.
fn ledger(got: &Got, price: Option<Price>) -> Ledger {
    let usage = got.usage();
    let cost = price.map_or(0, |price| price.spent(usage).0.div_ceil(UNITS_PER_MICRO));
    Ledger {
        requests: usage.requests,
        cache_hits: got.is_hit.into(),
        tokens_in: usage.tokens_in,
        tokens_out: usage.tokens_out,
        cost_micros: u64::try_from(cost).unwrap_or(u64::MAX),
        ..Ledger::default()
    }
}

fn row(chunk: &ChunkRow) -> PairRow {
    PairRow { document: chunk.document.clone(), chunk: chunk.chunk, text: chunk.text.clone(), ..PairRow::default() }
}

fn with(chunk: &ChunkRow, pairs: &[QaPair], ledger: Ledger) -> Asked {
    let rows = pairs.iter().map(|pair| PairRow {
        question: Some(pair.question.clone()),
        answer: Some(pair.answer.clone()),
        ..row(chunk)
    });
    Asked { rows: rows.collect(), ledger: Ledger { chunks: 1, pairs: pairs.len() as u64, ..ledger } }
}

fn without(chunk: &ChunkRow, reason: String, ledger: Ledger) -> Asked {
    let rows = vec![PairRow { failure: Some(reason), ..row(chunk) }];
    Asked { rows, ledger: Ledger { chunks: 1, failed_chunks: 1, ..ledger } }
}

fn secret(section: &QuestionsSection) -> TaskResult<Option<Secret>> {
    let found = match (&section.api_key_env, &section.api_key_file) {
        (Some(name), _) => Secret::from_env(name),
        (None, Some(path)) => Secret::from_file(Path::new(path)),
        (None, None) => return Ok(None),
    };
    found.map(Some).map_err(|e| TaskError { kind: FailureKind::Provider, message: e.to_string() })
}

fn settings(section: &QuestionsSection) -> QuestionSettings {
    let style = |style: &QueryStyle| match style {
        QueryStyle::Natural => Style::Natural,
        QueryStyle::Keyword => Style::Keyword,
        QueryStyle::MultiSentence => Style::MultiSentence,
    };
    QuestionSettings {
        provider: match section.provider {
            ProviderKind::Gemini => Provider::Gemini,
            ProviderKind::Openai => Provider::OpenAi,
            ProviderKind::Offline => Provider::Offline,
        },
        model: section.model.clone(),
        base_url: section.base_url.clone(),
        temperature: section.temperature,
        pairs_per_chunk: section.pairs_per_chunk,
        styles: section.styles.iter().map(style).collect(),
        template: section.prompt.clone(),
        max_output_tokens: section.max_output_tokens,
        json: section.json,
        json_pattern: None,
    }
}
