//! Bars on a terminal: one for each stage, with rate and time left.

use std::time::Duration;

use artel_common::event::{Event, Stage};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::plain::{step_words, words};
use super::title;
use crate::rate::Pace;
use crate::text::{self, printable};

/// The bars.
pub struct Live {
    bars: MultiProgress,
    current: Option<Current>,
}

/// The stage that goes on.
struct Current {
    stage: Stage,
    bar: ProgressBar,
    pace: Pace,
    last_step: Option<String>,
}

impl Live {
    /// No bar yet.
    pub fn new() -> Self {
        Self { bars: MultiProgress::new(), current: None }
    }

    /// Shows an event.
    pub fn event(&mut self, event: &Event, now: Duration) {
        match event {
            Event::StageStarted { stage } => self.start(*stage, now),
            Event::Progress { stage, done, total, unit } => self.progress(*stage, *done, *total, unit, now),
            Event::Step { step, total, .. } => {
                if let Some(current) = &mut self.current {
                    current.last_step = step_words(event);
                }
                self.progress(Stage::Train, *step, *total, "steps", now);
            }
            Event::StageFinished { stage, wall_s, note } => self.end(*stage, *wall_s, note),
            Event::Listening { .. } => {}
            other => {
                if let Some(words) = words(other) {
                    self.say(&words);
                }
            }
        }
    }

    /// Spinners turn.
    pub fn tick(&mut self) {
        if let Some(current) = &self.current {
            current.bar.tick();
        }
    }

    /// Leaves what is on the screen.
    pub fn finish(&mut self) {
        if let Some(current) = self.current.take() {
            current.bar.abandon();
        }
    }

    fn start(&mut self, stage: Stage, now: Duration) {
        self.finish();
        let bar = self.bars.add(ProgressBar::no_length().with_style(style("{prefix:14} {spinner} {msg}")));
        bar.set_prefix(title(stage));
        self.current = Some(Current { stage, bar, pace: Pace::new(now), last_step: None });
    }

    fn progress(&mut self, stage: Stage, done: u64, total: u64, unit: &str, now: Duration) {
        let Some(current) = self.current.as_mut().filter(|current| current.stage == stage) else { return };
        current.pace.note(now, done);
        if total > 0 && current.bar.length() != Some(total) {
            current.bar.set_style(style("{prefix:14} {bar:24} {percent:>3}% {wide_msg}"));
            current.bar.set_length(total);
        }
        current.bar.set_position(done);
        let unit = printable(unit);
        let rate = current.pace.per_second().map_or(String::new(), |rate| format!(", {} {unit}/s", text::rate(rate)));
        let left = current.pace.seconds_left(total).map_or(String::new(), |left| format!(", {} left", text::duration(left)));
        let step = current
            .last_step
            .as_deref()
            .and_then(|words| words.split_once(": "))
            .map_or(String::new(), |(_, w)| format!(", {w}"));
        current.bar.set_message(format!("{}/{} {unit}{rate}{left}{step}", text::count(done), text::count(total)));
    }

    fn end(&mut self, stage: Stage, wall_s: f64, note: &str) {
        let Some(current) = self.current.take_if(|current| current.stage == stage) else { return };
        let words = format!("{:14} {:>9}  {}", title(stage), text::duration(wall_s), printable(note));
        current.bar.set_style(style("{wide_msg}"));
        current.bar.finish_with_message(words);
    }

    fn say(&self, words: &str) {
        // A terminal that went away hears nothing.
        let _unheard = self.bars.println(printable(words));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are well formed").progress_chars("━╸─")
}
