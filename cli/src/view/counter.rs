//! One count that goes up: a bar on a terminal, a line now and then in a pipe, nothing for short work.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::Duration;

use artel_common::clock;
use indicatif::{ProgressBar, ProgressStyle};

use super::plain::pace_words;
use crate::rate::Pace;
use crate::{output, text};

/// Least time between two lines, and before the first.
const QUIET: Duration = Duration::from_secs(5);

/// The count; threads share it.
pub struct Counter {
    title: String,
    unit: String,
    total: u64,
    bar: Option<ProgressBar>,
    state: Mutex<State>,
}

struct State {
    pace: Pace,
    done: u64,
    last_said: Duration,
}

impl Counter {
    /// Nothing of `total` is done yet.
    pub fn new(title: &str, unit: &str, total: u64) -> Self {
        let now = clock::now();
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:24} {percent:>3}% {wide_msg}");
            let style = style.expect("the template is well formed").progress_chars("━╸─");
            ProgressBar::new(total).with_style(style).with_prefix(title.to_owned())
        });
        let state = Mutex::new(State { pace: Pace::new(now), done: 0, last_said: now });
        Self { title: title.to_owned(), unit: unit.to_owned(), total, bar, state }
    }

    /// So many are done; an older count that comes late is not shown.
    pub fn at(&self, done: u64) {
        let now = clock::now();
        let mut state = self.state.lock().expect("no thread panics while it shows a count");
        if done <= state.done {
            return;
        }
        state.done = done;
        state.pace.note(now, done);
        let words = || {
            format!(
                "{} of {} {}{}",
                text::count(done),
                text::count(self.total),
                self.unit,
                pace_words(&state.pace, &self.unit, self.total)
            )
        };
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(words());
        } else if now.saturating_sub(state.last_said) >= QUIET {
            output::talk(&format!("{}: {}", self.title, words()));
            state.last_said = now;
        }
    }

    /// The work is done: the bar goes.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
