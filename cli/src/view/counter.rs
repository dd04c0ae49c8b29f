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
    total: Total,
    bar: Option<ProgressBar>,
    state: Mutex<State>,
}

/// What there is to do in all.
#[derive(Clone, Copy)]
enum Total {
    /// So many units.
    Units(u64),
    /// A stream whose units nobody has counted, and its bytes, where they are known.
    Bytes(Option<u64>),
}

struct State {
    pace: Pace,
    done: u64,
    last_said: Duration,
}

impl Counter {
    /// Nothing of `total` is done yet.
    pub fn new(title: &str, unit: &str, total: u64) -> Self {
        Self::of(title, unit, Total::Units(total))
    }

    /// Nothing is done yet of a stream of `bytes`, where they are known.
    pub fn of_stream(title: &str, unit: &str, bytes: Option<u64>) -> Self {
        Self::of(title, unit, Total::Bytes(bytes))
    }

    fn of(title: &str, unit: &str, total: Total) -> Self {
        let now = clock::now();
        let (length, template) = match total {
            Total::Units(length) | Total::Bytes(Some(length)) => (Some(length), "{prefix} {bar:24} {percent:>3}% {wide_msg}"),
            Total::Bytes(None) => (None, "{prefix} {spinner} {wide_msg}"),
        };
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(template).expect("the template is well formed").progress_chars("━╸─");
            let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
            bar.with_style(style).with_prefix(title.to_owned())
        });
        let state = Mutex::new(State { pace: Pace::new(now), done: 0, last_said: now });
        Self { title: title.to_owned(), unit: unit.to_owned(), total, bar, state }
    }

    /// So many are done; an older count that comes late is not shown.
    pub fn at(&self, done: u64) {
        self.show(done, done, 0);
    }

    /// So many of a stream are done, and so many of its bytes; as [`Counter::at`].
    pub fn at_bytes(&self, done: u64, bytes: u64) {
        self.show(done, bytes, bytes);
    }

    fn show(&self, done: u64, position: u64, bytes: u64) {
        let now = clock::now();
        let mut state = self.state.lock().expect("no thread panics while it shows a count");
        if done <= state.done {
            return;
        }
        state.done = done;
        state.pace.note(now, done);
        if let Some(bar) = &self.bar {
            bar.set_position(position);
            bar.set_message(words(&state.pace, &self.unit, self.total, done, bytes));
        } else if now.saturating_sub(state.last_said) >= QUIET {
            output::talk(&format!("{}: {}", self.title, words(&state.pace, &self.unit, self.total, done, bytes)));
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

/// `1,200 texts, 25% of 8.1 MB, 30.0 texts/s, 2 min 00 s left`: the time left is that of as many bytes a unit as so far.
fn words(pace: &Pace, unit: &str, total: Total, done: u64, bytes: u64) -> String {
    let count = text::count(done);
    match total {
        Total::Units(total) => format!("{count} of {} {unit}{}", text::count(total), pace_words(pace, unit, total)),
        Total::Bytes(None) => format!("{count} {unit}, {}{}", text::bytes(bytes), pace_words(pace, unit, 0)),
        Total::Bytes(Some(size)) => {
            // a file may grow while it is read
            let share = (bytes as f64 / size.max(1) as f64).min(1.0);
            let expected = if share > 0.0 { (done as f64 / share) as u64 } else { 0 };
            let (percent, size) = ((share * 100.0) as u64, text::bytes(size));
            format!("{count} {unit}, {percent}% of {size}{}", pace_words(pace, unit, expected))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is known of the total is told, and nothing else. Method: 300 texts after 10 s: of 1,200, of a quarter of a
    /// file, of a stream of unknown size, and of a file that has grown.
    #[test]
    fn totals_as_far_as_known() {
        let mut pace = Pace::new(Duration::ZERO);
        pace.note(Duration::from_secs(10), 300);
        let said = |total, bytes| words(&pace, "texts", total, 300, bytes);
        assert_eq!(said(Total::Units(1200), 0), "300 of 1,200 texts, 30.0 texts/s, 30 s left");
        assert_eq!(said(Total::Bytes(Some(8_000_000)), 2_000_000), "300 texts, 25% of 8.0 MB, 30.0 texts/s, 30 s left");
        assert_eq!(said(Total::Bytes(None), 2_000_000), "300 texts, 2.0 MB, 30.0 texts/s");
        assert_eq!(said(Total::Bytes(Some(100)), 200), "300 texts, 100% of 100 B, 30.0 texts/s, 0.0 s left");
    }
}
