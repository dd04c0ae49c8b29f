//! The one error type of the trainer.

use std::path::{Path, PathBuf};

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A model folder, a setting or a text is not usable: the user mends it.
    Input,
    /// A file could not be read or written.
    Io,
    /// Another rank is gone, too slow or out of step: the step is thrown away.
    Collective,
    /// A number stopped being finite.
    NotFinite,
    /// The work was asked to end.
    Left,
    /// A tensor operation failed: a defect of the program.
    Internal,
}

/// Why something of the trainer failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model folder, setting or text named in the message is not usable.
    #[error("{0}")]
    Input(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An exchange between ranks failed.
    #[error("{0}")]
    Collective(String),
    /// A loss, gradient or weight is NaN or infinite.
    #[error("{0}")]
    NotFinite(String),
    /// The work was asked to end before it was done.
    #[error("the run is leaving: the work was given up")]
    Left,
    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A broken invariant.
    #[error("{0}")]
    Internal(String),
}

/// `Result` with the trainer's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Input`] with this message.
    pub fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }

    /// An [`Error::Io`] of this file.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Input(_) => ErrorKind::Input,
            Self::Io { .. } => ErrorKind::Io,
            Self::Collective(_) => ErrorKind::Collective,
            Self::NotFinite(_) => ErrorKind::NotFinite,
            Self::Left => ErrorKind::Left,
            Self::Tensor(_) | Self::Internal(_) => ErrorKind::Internal,
        }
    }
}
