//! The exit codes of the binary: documented in docs/reference/exit-codes.md, never renumbered.

use crate::ErrorKind;

/// How a process of Artel ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything that was asked for is done.
    Done = 0,
    /// A defect of Artel itself.
    Internal = 1,
    /// The command line or the spec is wrong.
    Usage = 2,
    /// A data file is not usable.
    Data = 3,
    /// A model is not usable.
    Model = 4,
    /// The object store refused, or an object is missing or damaged.
    Store = 5,
    /// The store already holds another run.
    Conflict = 6,
    /// A worker was lost, or never came.
    WorkerLost = 7,
    /// The coordinator was lost, or never answered.
    CoordinatorLost = 8,
    /// The training diverged: a loss, gradient or weight is not finite.
    NotFinite = 9,
    /// Coordinator and worker do not fit together (version, kernel path, token).
    Refused = 10,
    /// Another coordinator has taken over the run.
    Fenced = 11,
    /// What may be spent on questions is spent: run me again with a higher limit.
    Budget = 12,
    /// The language model's server refused the key or the model, or did not answer for long.
    Provider = 13,
    /// Stopped from outside: run me again.
    Preempted = 75,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// The code.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The exit with this code, if there is one.
    pub fn from_code(code: u8) -> Option<Self> {
        use Exit::*;
        [
            Done,
            Internal,
            Usage,
            Data,
            Model,
            Store,
            Conflict,
            WorkerLost,
            CoordinatorLost,
            NotFinite,
            Refused,
            Fenced,
            Budget,
            Provider,
            Preempted,
            Interrupted,
        ]
        .into_iter()
        .find(|exit| exit.code() == code)
    }
}

/// Why a process did not come to the end of its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RunError {
    /// What happened, to what, what to do.
    pub message: String,
    /// What the process exits with.
    pub exit: Exit,
}

impl RunError {
    /// An error that ends the process so.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { message: message.into(), exit }
    }
}

impl From<crate::Error> for RunError {
    fn from(error: crate::Error) -> Self {
        Self { exit: error.kind().into(), message: error.to_string() }
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Spec => Self::Usage,
            ErrorKind::Data => Self::Data,
            ErrorKind::Model => Self::Model,
            ErrorKind::Store | ErrorKind::Damaged => Self::Store,
            ErrorKind::Conflict => Self::Conflict,
            ErrorKind::Fenced => Self::Fenced,
            ErrorKind::Internal => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    /// Goal: the reference has every code. Method: each code's row in docs/reference/exit-codes.md, and no other row.
    #[test]
    fn codes_are_documented() {
        let reference = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/exit-codes.md");
        let text = std::fs::read_to_string(reference).expect("the reference lies in docs/reference/exit-codes.md");
        let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse::<u8>().ok());
        let codes = (0..=u8::MAX).filter(|code| Exit::from_code(*code).is_some());
        assert_eq!(rows.collect::<Vec<_>>(), codes.collect::<Vec<_>>());
    }
}
