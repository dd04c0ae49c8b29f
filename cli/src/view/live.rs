//! Bars on a terminal: one for each stage, with rate and time left.

use std::collections::HashMap;
use std::time::Duration;

use artel_common::event::{Event, Stage};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::plain::{pace_words, step_words, words};
use super::title;
use crate::rate::Pace;
use crate::text::{self, printable};

/// The bars, one a stage, in the order in which the stages began.
pub struct Live {
    bars: MultiProgress,
    stages: HashMap<Stage, Bar>,
    current: Option<Stage>,
}

/// A stage; training and evaluation come by turns, and each keeps its bar.
struct Bar {
    bar: ProgressBar,
    pace: Pace,
    wall_s: f64,
    last_words: Option<String>,
}

impl Live {
    /// No bar yet.
    pub fn new() -> Self {
        Self { bars: MultiProgress::new(), stages: HashMap::new(), current: None }
    }

    /// Shows an event.
    pub fn event(&mut self, event: &Event, now: Duration) {
        match event {
            Event::StageStarted { stage } => self.start(*stage, now),
            Event::Progress { stage, done, total, unit, detail } => {
                if let Some(bar) = self.stages.get_mut(stage).filter(|_| !detail.is_empty()) {
                    bar.last_words = Some(detail.clone());
                }
                self.progress(*stage, *done, *total, unit, now);
            }
            Event::Step { step, total, .. } => {
                if let Some(bar) = self.stages.get_mut(&Stage::Train) {
                    bar.last_words = step_words(event).and_then(|words| Some(words.split_once(": ")?.1.to_owned()));
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
        if let Some(bar) = self.current.and_then(|stage| self.stages.get(&stage)) {
            bar.bar.tick();
        }
    }

    /// Leaves what is on the screen.
    pub fn finish(&mut self) {
        self.current = None;
        self.stages.drain().filter(|(_, bar)| !bar.bar.is_finished()).for_each(|(_, bar)| bar.bar.abandon());
    }

    fn start(&mut self, stage: Stage, now: Duration) {
        self.current = Some(stage);
        if let Some(bar) = self.stages.get_mut(&stage) {
            bar.pace.resume(now);
            return;
        }
        let bar = self.bars.add(ProgressBar::no_length().with_style(style("{prefix:14} {spinner} {msg}")));
        bar.set_prefix(title(stage));
        self.stages.insert(stage, Bar { bar, pace: Pace::new(now), wall_s: 0.0, last_words: None });
    }

    fn progress(&mut self, stage: Stage, done: u64, total: u64, unit: &str, now: Duration) {
        let Some(Bar { bar, pace, last_words, .. }) = self.stages.get_mut(&stage) else { return };
        pace.note(now, done);
        let step = last_words.as_ref().map_or(String::new(), |words| format!(", {words}"));
        let (shown, speed) = (printable(unit), pace_words(pace, unit, total));
        // the words first: a bar is drawn whenever a part of it changes
        bar.set_message(format!("{} of {} {shown}{}{step}", text::count(done), text::count(total), printable(&speed)));
        bar.set_position(done);
        if total > 0 {
            bar.set_length(total);
            bar.set_style(style("{prefix:14} {bar:16} {percent:>3}% {wide_msg}"));
        }
    }

    fn end(&mut self, stage: Stage, wall_s: f64, note: &str) {
        let Some(bar) = self.stages.get_mut(&stage) else { return };
        bar.wall_s += wall_s;
        if note.is_empty() && bar.bar.length().is_some_and(|length| bar.bar.position() < length) {
            // it comes by turns with another stage, and goes on
            return;
        }
        let last_words = bar.last_words.as_deref().filter(|_| note.is_empty());
        let words = printable(last_words.unwrap_or(note));
        bar.bar.set_style(style("{wide_msg}"));
        bar.bar.set_message(format!("{:14} {:>9}  {words}", title(stage), text::duration(bar.wall_s)));
        bar.bar.tick();
    }

    fn say(&self, words: &str) {
        // A terminal that went away hears nothing.
        let _unheard = self.bars.println(printable(words));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are well formed").progress_chars("━╸─")
}
