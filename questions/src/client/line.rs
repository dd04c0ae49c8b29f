//! The line to one server: every request goes through it, for whatever model and purpose, and is tried until it comes to an end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use url::Url;

use super::flow::{Flow, Slot};
use super::model::Model;
use super::state::State;
use crate::backoff;
use crate::failed::{Failed, FailedKind};
use crate::gate::{Estimate, Gate, Held, Usage};
use crate::http::{Answer, Transport};
use crate::parse::Malformed;
use crate::prompt::Form;
use crate::provider::{Completion, End, Verdict, gemini, shorten, verdict_of};
use crate::secret::Secret;
use crate::settings::Patience;

/// Tokens that a server's template puts around a prompt, at most.
const FRAME_TOKENS: u64 = 64;
/// A busy server is asked this many times as often as a broken one before a chunk is given up: the chunk is not at fault.
const BUSY_FACTOR: u32 = 4;

/// What was read from an answer, and what it took.
pub(super) struct Read<T> {
    pub value: T,
    /// The answer itself; holds no key.
    pub raw: String,
    /// Whether it ended at the limit of tokens.
    pub cut: bool,
    /// Tokens of all prompts and of all answers, and how many requests they were.
    pub tokens_in: u64,
    pub tokens_out: u64,
    pub attempts: u32,
}

/// One server, and how it is treated.
pub(super) struct Line {
    patience: Patience,
    secret: Option<Secret>,
    host: String,
    transport: Box<dyn Transport>,
    gate: Arc<dyn Gate>,
    flow: Flow,
    /// An answer came without a count of tokens, which was told of.
    is_unmetered: AtomicBool,
}

/// What one request came to.
enum Once {
    Completed(Completion),
    Trouble { verdict: Verdict, reason: String, may_be_schema: bool },
}

/// What was done for one chunk so far.
#[derive(Default)]
struct Tally {
    attempts: u32,
    spent: Usage,
    /// Requests that a broken server, and that a busy one, did not answer; answers that could not be read.
    broken: u32,
    busy: u32,
    malformed: u32,
    /// JSON did not work for this chunk: with an error that names the schema, or with an error 500.
    schema_refused: bool,
    schema_doubted: bool,
}

impl Tally {
    fn failed(&self, kind: FailedKind, reason: String, raw: Option<String>) -> Failed {
        Failed { kind, reason, attempts: self.attempts, spent: self.spent, raw }
    }
}

impl Line {
    /// A line over a transport to the server at `base`.
    pub(super) fn new(
        transport: Box<dyn Transport>,
        base: &str,
        patience: Patience,
        secret: Option<Secret>,
        gate: Arc<dyn Gate>,
    ) -> Self {
        let host = Url::parse(base).ok().and_then(|url| url.host_str().map(|host| (host.to_owned(), url.port())));
        let host = host.map_or(base.to_owned(), |(host, port)| port.map_or(host.clone(), |port| format!("{host}:{port}")));
        let flow = Flow::new(&patience);
        Self { patience, secret, host, transport, gate, flow, is_unmetered: AtomicBool::new(false) }
    }

    /// How it goes.
    pub(super) fn state(&self, json: bool) -> State {
        self.flow.state(json)
    }

    /// Asks until an answer can be read by `parse` or no more is tried; `render` gives the prompt in a form.
    ///
    /// # Errors
    /// There is no such answer, and asking again now would not help; `kind` says what to do.
    pub(super) async fn ask<T>(
        &self,
        model: &Model,
        render: impl Fn(Form) -> String + Send + Sync,
        parse: impl Fn(&str, bool) -> Result<T, Malformed> + Send + Sync,
    ) -> Result<Read<T>, Failed> {
        let mut tally = Tally::default();
        loop {
            let plain = tally.schema_refused || tally.schema_doubted || !model.asks_json();
            let form = if plain { Form::Text } else { Form::Json };
            match self.once(model, &render(form), form, &mut tally).await? {
                Once::Completed(completion) => {
                    if model.learn(form, tally.schema_refused, tally.schema_doubted) {
                        tracing::warn!(host = %self.host, "the server answers no request with a JSON schema; asking for text from now on");
                    }
                    match self.read(completion, &parse, &mut tally) {
                        Ok(read) => return Ok(read),
                        Err(failed) if failed.kind != FailedKind::Malformed => return Err(failed),
                        Err(failed) if tally.malformed > self.patience.malformed_retries => return Err(failed),
                        Err(failed) => {
                            tracing::debug!(reason = %failed.reason, "asking again for an answer that could not be read")
                        }
                    }
                }
                Once::Trouble { verdict: Verdict::NoSchema, reason, .. } => {
                    tracing::debug!(%reason, "asking again without a schema");
                    tally.schema_refused = true;
                }
                Once::Trouble { verdict: Verdict::Permanent, reason, .. } => {
                    return Err(tally.failed(FailedKind::Permanent, reason, None));
                }
                Once::Trouble { verdict: Verdict::Fatal, reason, .. } => {
                    return Err(tally.failed(FailedKind::Fatal, reason, None));
                }
                Once::Trouble { verdict: verdict @ (Verdict::Busy | Verdict::Broken), reason, may_be_schema } => {
                    tally.busy += u32::from(verdict == Verdict::Busy);
                    tally.broken += u32::from(verdict == Verdict::Broken);
                    tally.schema_doubted |= may_be_schema;
                    self.before_retry(&tally, reason).await?;
                }
            }
        }
    }

    /// Waits before a chunk's next attempt, if it has one.
    async fn before_retry(&self, tally: &Tally, reason: String) -> Result<(), Failed> {
        let (failures, most) = (tally.broken + tally.busy, self.patience.max_attempts);
        if tally.broken >= most || failures >= most.saturating_mul(BUSY_FACTOR) {
            let reason = format!("{failures} attempts failed, the last with {reason}");
            return Err(tally.failed(FailedKind::Unavailable, reason, None));
        }
        tracing::debug!(%reason, attempt = tally.attempts, "asking again");
        let waited = self.flow.before_retry(failures).await;
        waited.map_err(|reason| tally.failed(FailedKind::Fatal, reason, None))
    }

    /// One request: a slot, a permit, the sending, the settling.
    async fn once(&self, model: &Model, prompt: &str, form: Form, tally: &mut Tally) -> Result<Once, Failed> {
        let call = model.dialect.call(prompt, form, self.secret.as_ref());
        // no tokenizer makes more than one token of a byte; the schema counts as prompt with some servers
        let tokens_in = call.body.len() as u64 + FRAME_TOKENS;
        let tokens_out_max = u64::from(model.max_output_tokens);
        let estimate = Estimate { tokens_in, tokens_out_max, is_judgement: model.is_judge() };
        let (mut slot, mut held) = self.enter(estimate, tally).await?;
        slot.sent();
        held.sent();
        tally.attempts += 1;
        let answer = tokio::time::timeout(self.patience.timeout(), self.transport.post(call)).await;
        let from = |what: &str| shorten(&self.scrub(&format!("{what} (from {})", self.host)));
        let answer = match answer {
            Err(_) => {
                let reason = from(&format!("no answer within {} s", self.patience.timeout_seconds));
                self.settle(held, None, tally);
                return Ok(self.trouble(slot, Verdict::Broken, reason, None, true));
            }
            Ok(Err(error)) => {
                let nothing = (!error.sent).then(Usage::default);
                self.settle(held, nothing, tally);
                return Ok(self.trouble(slot, Verdict::Broken, from(&error.what), None, false));
            }
            Ok(Ok(answer)) => answer,
        };
        if !(200..300).contains(&answer.status) {
            self.settle(held, Some(Usage { requests: 1, ..Usage::default() }), tally);
            return Ok(self.not_answered(slot, &answer, form, &model.name));
        }
        match model.dialect.completion(&answer.body) {
            Ok(completion) => {
                let unknown = held.unknown();
                if completion.tokens_in.and(completion.tokens_out).is_none() && !self.is_unmetered.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        host = %self.host, "the server does not say what an answer took (no usage): tokens and cost are counted as the most that it can be"
                    );
                }
                let tokens_in = completion.tokens_in.unwrap_or(unknown.tokens_in);
                let tokens_out = completion.tokens_out.unwrap_or(unknown.tokens_out);
                self.settle(held, Some(Usage { requests: 1, tokens_in, tokens_out }), tally);
                slot.answered();
                Ok(Once::Completed(completion))
            }
            Err(what) => {
                self.settle(held, None, tally);
                Ok(self.trouble(slot, Verdict::Broken, from(&what), None, false))
            }
        }
    }

    /// Waits for a slot and a permit, until both are there and nothing has paused meanwhile.
    async fn enter(&self, estimate: Estimate, tally: &Tally) -> Result<(Slot<'_>, Held<'_>), Failed> {
        loop {
            let fatal = |reason| tally.failed(FailedKind::Fatal, reason, None);
            let slot = self.flow.enter().await.map_err(fatal)?;
            let permit = tokio::select! {
                // a permit that is there is taken, and given back as unused
                biased;
                permit = self.gate.permit(estimate) => permit,
                reason = self.flow.fatal() => return Err(fatal(reason)),
            };
            let permit = permit.map_err(|stopped| tally.failed(FailedKind::Stopped, stopped.0, None))?;
            let held = Held::new(&*self.gate, permit);
            if slot.may_still_go() {
                return Ok((slot, held));
            }
        }
    }

    fn settle(&self, held: Held<'_>, spent: Option<Usage>, tally: &mut Tally) {
        let spent = spent.unwrap_or_else(|| held.unknown());
        tally.spent += spent;
        held.settle(spent);
    }

    /// A status that is no success.
    fn not_answered(&self, slot: Slot<'_>, answer: &Answer, form: Form, model: &str) -> Once {
        let (verdict, words) = verdict_of(answer, form);
        let mut reason = shorten(&self.scrub(&format!("HTTP {} from {}: {words}", answer.status, self.host)));
        if verdict == Verdict::Fatal {
            reason += &match answer.status {
                402 | 429 => "; no credit or quota is left: see to it at the provider, then run again; what was answered is kept"
                    .to_owned(),
                _ => format!("; check the key, the model ({model}) and base_url"),
            };
        }
        let most = Duration::from_secs_f64(self.patience.max_retry_after_seconds);
        let told = answer.retry_after.as_deref().and_then(|text| backoff::retry_after(text, SystemTime::now(), most));
        let told = told.or_else(|| gemini::retry_delay(&answer.body).and_then(|s| backoff::seconds_up_to(s, most)));
        let may_be_schema = answer.status == 500 && form == Form::Json;
        match self.trouble(slot, verdict, reason, told, false) {
            Once::Trouble { verdict, reason, .. } => Once::Trouble { verdict, reason, may_be_schema },
            completed => completed,
        }
    }

    /// Tells the flow what a failure means, and what it became.
    fn trouble(&self, slot: Slot<'_>, verdict: Verdict, reason: String, told: Option<Duration>, timed_out: bool) -> Once {
        let fatal = match verdict {
            Verdict::Busy => slot.busy(&reason, told),
            Verdict::Broken => slot.broken(&reason, told, timed_out),
            Verdict::NoSchema => slot.refused_schema(),
            Verdict::Permanent => slot.permanent(&reason),
            Verdict::Fatal => slot.fatal(&reason),
        };
        match fatal {
            Some(reason) => Once::Trouble { verdict: Verdict::Fatal, reason, may_be_schema: false },
            None => Once::Trouble { verdict, reason, may_be_schema: false },
        }
    }

    /// What an answer says.
    fn read<T>(
        &self,
        completion: Completion,
        parse: &(impl Fn(&str, bool) -> Result<T, Malformed> + Send + Sync),
        tally: &mut Tally,
    ) -> Result<Read<T>, Failed> {
        let raw = self.secret.as_ref().map_or(completion.text.clone(), |secret| secret.scrub_whole(&completion.text));
        if let End::Refused(why) = completion.end {
            return Err(tally.failed(FailedKind::Refused, shorten(&self.scrub(&why)), Some(raw)));
        }
        let cut = completion.end == End::Cut;
        match parse(&raw, cut) {
            Ok(value) => {
                let Usage { tokens_in, tokens_out, .. } = tally.spent;
                Ok(Read { value, raw, cut, tokens_in, tokens_out, attempts: tally.attempts })
            }
            Err(why) => {
                tally.malformed += 1;
                let hint = if cut { "; the answer reached max_output_tokens" } else { "" };
                Err(tally.failed(FailedKind::Malformed, format!("{why}{hint}"), Some(raw)))
            }
        }
    }

    fn scrub(&self, text: &str) -> String {
        self.secret.as_ref().map_or_else(|| text.to_owned(), |secret| secret.scrub(text))
    }
}
