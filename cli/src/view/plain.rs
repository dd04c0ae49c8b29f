//! Plain lines for pipes and log files: each stage's beginning and end, and what happens in between now and then.

use std::collections::HashMap;
use std::time::Duration;

use artel_common::event::{Event, Stage};
use artel_common::records::Metrics;

use super::title;
use crate::rate::Pace;
use crate::{table, text};

/// Least time between two lines about the same stage.
const QUIET: Duration = Duration::from_secs(5);

/// What has been said.
pub struct Plain {
    began: Duration,
    paces: HashMap<Stage, Pace>,
    last_progress: Option<Duration>,
    last_step: Option<Duration>,
}

impl Plain {
    /// A run that begins now.
    pub fn new(now: Duration) -> Self {
        Self { began: now, paces: HashMap::new(), last_progress: None, last_step: None }
    }

    /// What there is to say about an event.
    pub fn line(&mut self, event: &Event, now: Duration) -> Option<String> {
        let words = match event {
            Event::StageStarted { stage } => self.start(*stage, now)?,
            Event::Progress { stage, done, total, unit, detail } => {
                let words = self.progress(*stage, *done, *total, unit, now)?;
                if detail.is_empty() { words } else { format!("{words}; {detail}") }
            }
            Event::Step { step, total, .. } => self.step(event, *step, *total, now)?,
            // Steps and evaluations have told of these already, and they come by turns.
            Event::StageFinished { stage: Stage::Train | Stage::Evaluate, note, .. } if note.is_empty() => return None,
            other => words(other)?,
        };
        Some(format!("[{:>7.1} s] {words}", now.saturating_sub(self.began).as_secs_f64()))
    }

    /// Training and evaluation come by turns: only the first time of each is told.
    fn start(&mut self, stage: Stage, now: Duration) -> Option<String> {
        self.last_progress = Some(now);
        if let Some(pace) = self.paces.get_mut(&stage) {
            pace.resume(now);
            return None;
        }
        self.paces.insert(stage, Pace::new(now));
        Some(format!("{}: started", title(stage)))
    }

    fn progress(&mut self, stage: Stage, done: u64, total: u64, unit: &str, now: Duration) -> Option<String> {
        let pace = self.paces.get_mut(&stage)?;
        pace.note(now, done);
        if quiet(self.last_progress, now) || (stage == Stage::Train && self.last_step.is_some()) {
            return None;
        }
        self.last_progress = Some(now);
        let of = if total > 0 { format!(" of {}", text::count(total)) } else { String::new() };
        Some(format!("{}: {}{of} {unit}{}", title(stage), text::count(done), pace_words(pace, unit, total)))
    }

    fn step(&mut self, event: &Event, step: u64, total: u64, now: Duration) -> Option<String> {
        let left = self.paces.get_mut(&Stage::Train).and_then(|pace| {
            pace.note(now, step);
            pace.seconds_left(total)
        });
        if quiet(self.last_step, now) && step != total {
            return None;
        }
        self.last_step = Some(now);
        let left = left.map_or(String::new(), |left| format!(", {} left", text::duration(left)));
        Some(format!("{}{left}", step_words(event)?))
    }
}

fn quiet(last: Option<Duration>, now: Duration) -> bool {
    last.is_some_and(|last| now.saturating_sub(last) < QUIET)
}

/// `, 12.3 rows/s, 4 s left`, as far as it is known.
pub(super) fn pace_words(pace: &Pace, unit: &str, total: u64) -> String {
    let rate = pace.per_second().map_or(String::new(), |rate| format!(", {} {unit}/s", text::rate(rate)));
    let left = pace.seconds_left(total).filter(|_| total > 0);
    format!("{rate}{}", left.map_or(String::new(), |left| format!(", {} left", text::duration(left))))
}

/// `step 10 of 64: loss 0.4321, ...`.
pub(super) fn step_words(event: &Event) -> Option<String> {
    let Event::Step { step, total, loss, grad_norm, learning_rate, pairs_per_second, .. } = event else { return None };
    let rate = text::rate(*pairs_per_second);
    Some(format!(
        "step {step} of {total}: loss {loss:.4}, gradient norm {grad_norm:.3}, learning rate {learning_rate:.3e}, {rate} pairs/s"
    ))
}

/// What is said of an event at once and always; `None` for those that others say, or that are shown otherwise.
pub(super) fn words(event: &Event) -> Option<String> {
    match event {
        Event::Listening { url } => Some(format!("coordinator: listening at {url}")),
        Event::WorkerJoined { worker, present, wanted } => Some(format!("worker {worker} joined ({present} of {wanted})")),
        Event::World { generation, workers, plan } => Some(format!("world {generation}: {workers} workers, {plan}")),
        Event::StageFinished { stage, wall_s, note } => {
            let note = if note.is_empty() { String::new() } else { format!(": {note}") };
            Some(format!("{}: done in {}{note}", title(*stage), text::duration(*wall_s)))
        }
        Event::Evaluation { step, metrics, .. } => Some(format!("after step {step}: ndcg@10 {}", ndcg(metrics))),
        Event::Warning { message } => Some(format!("warning: {message}")),
        Event::Resumed { from_step, attempt } => Some(match from_step {
            0 => format!("resuming the run in this store, attempt {attempt}"),
            _ => format!("resuming the run in this store after step {from_step}, attempt {attempt}"),
        }),
        Event::AlreadyDone {} => Some("the run in this store is done already".to_owned()),
        Event::Checkpoint { step, bytes, stall_s, .. } => {
            Some(format!("checkpoint of step {step}: {}, training stood still for {:.0} ms", text::bytes(*bytes), stall_s * 1e3))
        }
        Event::Leaving { reason } => Some(format!("leaving: {reason}; what is done is being saved")),
        Event::Restarting { restart, message } => Some(format!("{message}; starting again (restart {restart})")),
        Event::StageStarted { .. } | Event::Progress { .. } | Event::Step { .. } | Event::Done { .. } | Event::Failed { .. } => {
            None
        }
    }
}

/// `0.8436 (384), 0.8332 (64)`.
fn ndcg(metrics: &Metrics) -> String {
    let shown = |dim: usize| Some(format!("{:.4} ({dim})", table::value(metrics, dim, "ndcg@10")?));
    table::dims(metrics).into_iter().filter_map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> Event {
        Event::Step { step, total: 40, loss: 0.5, grad_norm: 2.0, learning_rate: 1e-5, epoch: 0.1, pairs_per_second: 12.34 }
    }

    /// Goal: a pipe gets few lines, each with what matters, and the last step always. Method: a step a second of 40.
    #[test]
    fn throttled() {
        let second = Duration::from_secs;
        let mut plain = Plain::new(second(0));
        assert_eq!(
            plain.line(&Event::StageStarted { stage: Stage::Train }, second(0)).as_deref(),
            Some("[    0.0 s] train: started")
        );
        let said: Vec<_> = (1..=40).filter_map(|n| plain.line(&step(n), second(n))).collect();
        assert_eq!(said.len(), 9, "{said:?}");
        let expected =
            "[    6.0 s] step 6 of 40: loss 0.5000, gradient norm 2.000, learning rate 1.000e-5, 12.3 pairs/s, 34 s left";
        assert_eq!(said[1], expected);
        assert!(said[8].contains("step 40 of 40"), "{said:?}");
    }

    /// Goal: a stage's progress has rate and time left. Method: 100 rows a second of 1,000, seen after 5 s.
    #[test]
    fn progress_of_a_stage() {
        let second = Duration::from_secs;
        let mut plain = Plain::new(second(0));
        plain.line(&Event::StageStarted { stage: Stage::Tokenise }, second(0));
        let at =
            |done| Event::Progress { stage: Stage::Tokenise, done, total: 1000, unit: "rows".to_owned(), detail: String::new() };
        assert_eq!(plain.line(&at(100), second(1)), None);
        let line = plain.line(&at(500), second(5));
        assert_eq!(line.as_deref(), Some("[    5.0 s] tokenise: 500 of 1,000 rows, 100 rows/s, 5.0 s left"));
    }
}
