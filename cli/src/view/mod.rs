//! How a run shows itself while it goes on: JSON lines on stdout, or talk on stderr — live on a terminal, plain in a pipe.

mod counter;
mod live;
mod plain;

use std::io::IsTerminal as _;

use artel_common::clock;
use artel_common::event::{Event, Stage};

pub use self::counter::Counter;
use self::live::Live;
use self::plain::Plain;
use crate::failure::Failure;

/// A run's face.
pub enum View {
    /// Every event, a JSON object a line, at once.
    Json,
    /// Bars on a terminal.
    Live(Box<Live>),
    /// Lines now and then.
    Plain(Box<Plain>),
}

impl View {
    /// The one that suits the flag and stderr.
    pub fn new(json: bool) -> Self {
        if json {
            Self::Json
        } else if std::io::stderr().is_terminal() {
            Self::Live(Box::new(Live::new()))
        } else {
            Self::Plain(Box::new(Plain::new(clock::now())))
        }
    }

    /// Shows an event; `line` is its JSON.
    ///
    /// # Errors
    /// stdout cannot be written.
    pub fn event(&mut self, event: &Event, line: &str) -> Result<(), Failure> {
        match self {
            Self::Json => return crate::output::data(line),
            Self::Live(live) => live.event(event, clock::now()),
            Self::Plain(plain) => {
                if let Some(line) = plain.line(event, clock::now()) {
                    crate::output::talk(&line);
                }
            }
        }
        Ok(())
    }

    /// Shows an event of this process.
    ///
    /// # Errors
    /// stdout cannot be written.
    pub fn own_event(&mut self, event: &Event) -> Result<(), Failure> {
        let line = serde_json::to_string(event).map_err(|e| Failure::internal(format!("cannot write an event: {e}")))?;
        self.event(event, &line)
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        if let Self::Live(live) = self {
            live.tick();
        }
    }

    /// The run is over: bars stay where they are.
    pub fn finish(&mut self) {
        if let Self::Live(live) = self {
            live.finish();
        }
    }

    /// Whether stdout is for events alone.
    pub fn is_json(&self) -> bool {
        matches!(self, Self::Json)
    }
}

/// A stage's name for people.
fn title(stage: Stage) -> &'static str {
    match stage {
        Stage::EvaluateBase => "evaluate base",
        other => other.name(),
    }
}
