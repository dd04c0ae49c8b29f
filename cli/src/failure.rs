//! Why a command ends without having done what was asked: one message, one exit code.

use artel_common::exit::{Exit, RunError};

use crate::text::shell_word;

/// What the process says last, and its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened, to what, what to do; `None` when it has been said already.
    pub message: Option<String>,
    /// How the process ends.
    pub exit: Exit,
}

impl Failure {
    /// A failure with this message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), exit }
    }

    /// A run that left can be gone on with: says by which command.
    pub fn or_run_again(self) -> Self {
        match (&self.message, self.exit) {
            (Some(message), Exit::Preempted | Exit::Interrupted) => {
                let words: Vec<String> = std::env::args().map(|word| shell_word(&word).into_owned()).collect();
                Self::new(self.exit, format!("{message}\nrun me again: {}", words.join(" ")))
            }
            _ => self,
        }
    }

    /// A wrong command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A data file that is not usable.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(Exit::Data, message)
    }

    /// A defect of the program.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Exit::Internal, message)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::new(error.exit, error.message)
    }
}

impl From<artel_common::Error> for Failure {
    fn from(error: artel_common::Error) -> Self {
        Self::new(error.kind().into(), error.to_string())
    }
}

impl From<artel_trainer::Error> for Failure {
    fn from(error: artel_trainer::Error) -> Self {
        use artel_trainer::ErrorKind;
        let exit = match error.kind() {
            ErrorKind::Input => Exit::Model,
            ErrorKind::Io => Exit::Data,
            ErrorKind::Collective => Exit::WorkerLost,
            ErrorKind::NotFinite => Exit::NotFinite,
            ErrorKind::Left => Exit::Preempted,
            ErrorKind::Internal => Exit::Internal,
        };
        Self::new(exit, error.to_string())
    }
}
