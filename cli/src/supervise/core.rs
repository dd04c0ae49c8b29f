//! What a supervisor decides: `(state, what was seen, now) -> orders`. No process, clock or pipe in here.
//!
//! The bounds: after a death everything has ended within 10 s (`GRACE` + `MERCY`), after Ctrl-C or SIGTERM within `LEAVING`.

use std::time::Duration;

use artel_common::event::Event;
use artel_common::exit::Exit;

use crate::failure::Failure;
use crate::signals::{Asked, LOSES_WORK};

/// How long the coordinator may take to make the base model ready and listen.
const LISTENING: Duration = Duration::from_secs(900);
/// How long a coordinator may go on after a worker died, and workers after their coordinator ended.
const GRACE: Duration = Duration::from_secs(5);
/// How long from SIGTERM to SIGKILL after a death.
const MERCY: Duration = Duration::from_secs(2);
/// How long the run may take to save its state and leave.
const LEAVING: Duration = Duration::from_secs(19);

/// A child process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The coordinator.
    Coordinator,
    /// A worker, counted from 0.
    Worker(usize),
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Coordinator => f.write_str("coordinator"),
            Self::Worker(index) => write!(f, "worker {index}"),
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with exit code {code}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

/// What the supervisor sees.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// A child said something.
    Event(Event),
    /// A child's error message, from its stderr.
    LastWords(Who, String),
    /// A child ended, all it wrote having been read.
    Exited { who: Who, pid: u32, ended: Ended },
    /// A signal asks for the end.
    Asked(Asked),
    /// Time has passed.
    Tick,
}

/// What the supervisor does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Start the workers, with this coordinator.
    StartWorkers(String),
    /// SIGTERM to the coordinator, which ends the run in order.
    Leave,
    /// SIGTERM to everyone who still lives.
    Terminate,
    /// SIGKILL to everyone who still lives.
    Kill,
    /// Everyone is gone: this is how the run ends.
    End(Result<(), Failure>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The run goes on.
    Running,
    /// Somebody ended: the others have until the deadline to end by themselves.
    Ending,
    /// The run was told to leave.
    Leaving,
    /// SIGTERM was sent.
    Terminated,
    /// SIGKILL was sent.
    Killed,
}

/// A coordinator that ended.
#[derive(Debug, Clone, Copy)]
struct Gone {
    pid: u32,
    ended: Ended,
    /// By a signal that this supervisor did not send.
    killed: bool,
}

/// The state of a supervision.
#[derive(Debug)]
pub struct Supervision {
    phase: Phase,
    deadline: Option<Duration>,
    wanted: usize,
    started: usize,
    living_workers: usize,
    coordinator: Option<Gone>,
    first_death: Option<(Who, u32, Ended)>,
    last_words: Vec<(Who, String)>,
    failed: Option<(String, u8)>,
    asked: Option<Asked>,
    /// It was asked twice.
    at_once: bool,
}

impl Supervision {
    /// The coordinator was started now; `wanted` workers follow once it listens.
    pub fn new(wanted: usize, now: Duration) -> Self {
        Self {
            phase: Phase::Running,
            deadline: Some(now + LISTENING),
            wanted,
            started: 0,
            living_workers: 0,
            coordinator: None,
            first_death: None,
            last_words: Vec::new(),
            failed: None,
            asked: None,
            at_once: false,
        }
    }

    /// Takes note of what was seen and says what to do.
    pub fn on(&mut self, seen: Seen, now: Duration) -> Vec<Order> {
        let mut orders = match seen {
            Seen::Event(event) => self.on_event(event),
            Seen::LastWords(who, words) => {
                self.last_words.push((who, words));
                Vec::new()
            }
            Seen::Exited { who, pid, ended } => self.on_exit(who, pid, ended, now),
            Seen::Asked(asked) => self.on_asked(asked, now),
            Seen::Tick => Vec::new(),
        };
        orders.extend(self.on_time(now));
        if self.coordinator.is_some() && self.living_workers == 0 {
            orders.push(Order::End(self.outcome()));
        }
        orders
    }

    fn on_event(&mut self, event: Event) -> Vec<Order> {
        match event {
            Event::Listening { url } if self.started == 0 && self.phase == Phase::Running => {
                self.started = self.wanted;
                self.living_workers = self.wanted;
                self.deadline = None;
                vec![Order::StartWorkers(url)]
            }
            Event::Failed { message, exit_code } => {
                self.failed.get_or_insert((message, exit_code));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn on_exit(&mut self, who: Who, pid: u32, ended: Ended, now: Duration) -> Vec<Order> {
        let undisturbed = matches!(self.phase, Phase::Running | Phase::Ending);
        let killed = who == Who::Coordinator && undisturbed && matches!(ended, Ended::Signal(_));
        match who {
            Who::Coordinator => self.coordinator = Some(Gone { pid, ended, killed }),
            Who::Worker(_) => self.living_workers -= 1,
        }
        let told = self.asked.is_some() || self.phase == Phase::Killed;
        if who == Who::Coordinator && self.living_workers > 0 && !told {
            // those that it knew have heard that the run is over; those that look for it would look for long
            self.first_death = self.first_death.or((!matches!(ended, Ended::Code(0))).then_some((who, pid, ended)));
            self.phase = Phase::Terminated;
            self.deadline = Some(now + MERCY);
            return vec![Order::Terminate];
        }
        if self.phase == Phase::Running && who != Who::Coordinator && matches!(ended, Ended::Signal(_)) {
            // nobody knows more of such a death, and nothing can go on without it: the others need not find out one by one
            self.first_death = Some((who, pid, ended));
            self.phase = Phase::Killed;
            self.deadline = None;
            return vec![Order::Kill];
        }
        // A worker that was told to go ends with 0 while the coordinator still writes the report.
        let at_peace = ended == Ended::Code(0);
        if self.phase == Phase::Running && (who == Who::Coordinator || !at_peace) {
            self.first_death = (!at_peace).then_some((who, pid, ended));
            self.phase = Phase::Ending;
            self.deadline = Some(now + GRACE);
        }
        Vec::new()
    }

    fn on_asked(&mut self, asked: Asked, now: Duration) -> Vec<Order> {
        if self.asked.replace(asked).is_some() {
            self.at_once = true;
            self.phase = Phase::Killed;
            self.deadline = None;
            return vec![Order::Kill];
        }
        self.phase = Phase::Leaving;
        self.deadline = Some(now + LEAVING);
        vec![Order::Leave]
    }

    fn on_time(&mut self, now: Duration) -> Option<Order> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return None;
        }
        match self.phase {
            Phase::Running | Phase::Ending => {
                if self.phase == Phase::Running {
                    let waited = LISTENING.as_secs();
                    let message =
                        format!("the coordinator did not listen within {waited} s; start again with ARTEL_LOG=debug to see why");
                    self.failed.get_or_insert((message, Exit::CoordinatorLost.code()));
                }
                self.phase = Phase::Terminated;
                self.deadline = Some(now + MERCY);
                Some(Order::Terminate)
            }
            Phase::Leaving | Phase::Terminated => {
                self.phase = Phase::Killed;
                self.deadline = None;
                Some(Order::Kill)
            }
            Phase::Killed => None,
        }
    }

    /// One message, from whoever knows it best: a signal's sender, the coordinator, the child that died first.
    fn outcome(&self) -> Result<(), Failure> {
        let coordinator = self.coordinator.expect("the outcome is asked for when the coordinator is gone");
        if let Some(asked) = self.asked {
            return self.left(asked, coordinator);
        }
        if let Some((message, code)) = &self.failed {
            let exit = Exit::from_code(*code).unwrap_or(Exit::Internal);
            return Err(Failure::new(exit, format!("{message}{}", self.seen_dying(exit))));
        }
        if coordinator.ended == Ended::Code(0) {
            return Ok(());
        }
        Err(self.unexplained(coordinator))
    }

    /// How a run ends that was told to leave: by what the coordinator says of it.
    fn left(&self, asked: Asked, coordinator: Gone) -> Result<(), Failure> {
        match &self.failed {
            _ if self.at_once => Err(Failure::new(asked.exit_at_once(), format!("left at once: {LOSES_WORK}"))),
            None if coordinator.ended == Ended::Code(0) => Ok(()),
            Some((message, _)) => Err(Failure::new(Exit::Preempted, message)),
            None => Err(Failure::new(Exit::Preempted, format!("told to leave: {LOSES_WORK}"))),
        }
    }

    /// What this process saw of the worker that the coordinator lost.
    fn seen_dying(&self, exit: Exit) -> String {
        let Some((who @ Who::Worker(_), pid, ended)) = self.first_death else { return String::new() };
        if exit != Exit::WorkerLost {
            return String::new();
        }
        match self.words_of(who) {
            Some(words) => format!(" ({who}, pid {pid}, {ended}: {words})"),
            None => format!(" ({who}, pid {pid}, {ended})"),
        }
    }

    /// The coordinator ended without saying why.
    fn unexplained(&self, coordinator: Gone) -> Failure {
        let retry = "if it happens again, look for a lack of memory";
        if let (false, Some((who @ Who::Worker(_), pid, ended))) = (coordinator.killed, self.first_death) {
            let exit = match ended {
                Ended::Code(code) => Exit::from_code(code).unwrap_or(Exit::WorkerLost),
                Ended::Signal(_) => Exit::WorkerLost,
            };
            let words = self.words_of(who).unwrap_or(retry);
            let hung = if matches!(ended, Ended::Code(_)) { ", and the coordinator did not end the run" } else { "" };
            return Failure::new(exit, format!("{who} (pid {pid}) {ended}{hung}: {words}"));
        }
        let Gone { pid, ended, .. } = coordinator;
        match (ended, self.words_of(Who::Coordinator)) {
            (Ended::Code(code), Some(words)) => Failure::new(Exit::from_code(code).unwrap_or(Exit::Internal), words),
            (ended, words) => {
                let words = words.unwrap_or(retry);
                Failure::new(Exit::CoordinatorLost, format!("the coordinator died: it (pid {pid}) {ended}: {words}"))
            }
        }
    }

    fn words_of(&self, who: Who) -> Option<&str> {
        self.last_words.iter().find(|(whose, _)| *whose == who).map(|(_, words)| words.as_str())
    }
}

#[cfg(test)]
mod tests;
