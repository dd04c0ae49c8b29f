//! Whether a run whose processes were lost is started again: bounded tries, counted anew whenever it got further.

use std::time::Duration;

use artel_common::event::Event;
use artel_common::exit::Exit;

use crate::failure::Failure;

/// Restarts in a row that get no further.
const IN_A_ROW: u32 = 3;
/// Pause before the first of them; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The restarts of a run.
#[derive(Debug, Default)]
pub struct Restarts {
    /// All of them.
    pub made: u32,
    in_a_row: u32,
    got_further: bool,
}

impl Restarts {
    /// Takes note of what the run does: what has become durable will not be done again.
    pub fn note(&mut self, event: &Event) {
        self.got_further |= matches!(event, Event::Checkpoint { .. } | Event::Evaluation { .. } | Event::StageFinished { .. });
    }

    /// How long to wait before a restart; `None` where this failure is not for a restart to mend.
    pub fn after(&mut self, failure: &Failure) -> Option<Duration> {
        if !matches!(failure.exit, Exit::WorkerLost | Exit::CoordinatorLost) {
            return None;
        }
        if std::mem::take(&mut self.got_further) {
            self.in_a_row = 0;
        }
        if self.in_a_row >= IN_A_ROW {
            return None;
        }
        self.in_a_row += 1;
        self.made += 1;
        Some(FIRST_PAUSE * 2u32.pow(self.in_a_row - 1))
    }
}

#[cfg(test)]
mod tests {
    use artel_common::event::Stage;

    use super::*;

    /// Goal: lost processes are replaced, but not for ever, and nothing else is. Method: deaths with and without progress between them.
    #[test]
    fn bounded() {
        let lost = Failure::new(Exit::WorkerLost, "worker 1 is gone");
        let mut restarts = Restarts::default();
        let pauses: Vec<_> = (0..4).map(|_| restarts.after(&lost).map(|pause| pause.as_millis())).collect();
        assert_eq!(pauses, [Some(500), Some(1000), Some(2000), None]);
        restarts.note(&Event::Listening { url: String::new() });
        assert_eq!(restarts.after(&lost), None, "that is no progress");
        restarts.note(&Event::StageFinished { stage: Stage::Tokenise, wall_s: 1.0, note: String::new() });
        assert!(restarts.after(&lost).is_some());
        assert_eq!(restarts.made, 4);
        assert_eq!(Restarts::default().after(&Failure::new(Exit::NotFinite, "the loss is NaN")), None);
    }
}
