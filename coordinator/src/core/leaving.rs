//! Leaving (SIGTERM, Ctrl-C): the step ends or is given up, the state is saved, every process of the run ends.

use std::time::Duration;

use artel_common::event::Event;
use artel_common::exit::Exit;

use super::{Core, Effect, Phase};

/// From the order to leave to the end, whatever the store does.
const LEAVE_DEADLINE: Duration = Duration::from_secs(16);

/// The run was told to leave.
#[derive(Debug)]
pub(super) struct Leaving {
    since: Duration,
    reason: String,
}

impl Core {
    /// Whether workers are to end what they are at.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// The run is to leave: at once where nothing would be lost, else when its state is saved.
    pub(super) fn leave(&mut self, reason: String, now: Duration, effects: &mut Vec<Effect>) {
        if self.leaving.is_some() {
            return;
        }
        effects.push(Effect::Emit(Event::Leaving { reason: reason.clone() }));
        self.leaving = Some(Leaving { since: now, reason });
        let idle = match self.phase {
            Phase::Making => self.nothing_is_made(),
            Phase::Preparing | Phase::RecordingPrepared | Phase::Gathering | Phase::Tokenising | Phase::CommittingTokens => true,
            Phase::Opening | Phase::Joining => true,
            Phase::EvaluatingBase | Phase::Evaluating | Phase::Recording | Phase::Exporting => self.step == 0 || self.is_saved(),
            Phase::Training | Phase::Saving | Phase::Reporting | Phase::Over => false,
        };
        if idle {
            self.left(effects);
        }
    }

    /// Every rank is idle and the run is leaving: what is not saved is saved, then it ends.
    pub(super) fn leave_or_save(&mut self, effects: &mut Vec<Effect>) {
        if self.step == 0 || self.is_saved() {
            self.left(effects);
        } else {
            self.save(effects);
        }
    }

    /// The end of a run that leaves.
    pub(super) fn left(&mut self, effects: &mut Vec<Effect>) {
        let Some(leaving) = &self.leaving else { return };
        let total = self.schedule().map_or(0, |schedule| schedule.total());
        let kept = match self.run.last_checkpoint() {
            Some(last) if last.step == self.step => format!("the state after step {} of {total} is saved", last.step),
            Some(last) => format!("the state after step {} of {total} is saved, later steps will be redone", last.step),
            None if self.phase == Phase::Making => "what was read and answered is kept".to_owned(),
            None if self.step > 0 => format!("no state was saved yet, {} steps will be redone", self.step),
            None if self.run.making.is_some() => "what was read and answered is kept, no step was made yet".to_owned(),
            None => "no step was made yet".to_owned(),
        };
        let message = format!("{}: {kept}", leaving.reason);
        self.finish(Exit::Preempted, message, effects);
    }

    pub(super) fn leave_in_time(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.leaving.as_ref().is_some_and(|leaving| now.saturating_sub(leaving.since) > LEAVE_DEADLINE) {
            self.left(effects);
        }
    }
}
