//! The one error type of what a run is made of.

use std::path::{Path, PathBuf};

/// What a caller can do about an [`Error`]; each kind has its own exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The spec or the command line is wrong.
    Spec,
    /// A data file is missing, malformed or too small.
    Data,
    /// A model folder is missing something, or is not one that Artel can train.
    Model,
    /// The object store refused, or an object is missing or damaged.
    Store,
    /// An object is missing, or not what its manifest says.
    Damaged,
    /// The store already holds something that this run may not overwrite.
    Conflict,
    /// Another coordinator has taken over.
    Fenced,
    /// A broken invariant.
    Internal,
}

/// Why something failed, in words for the person who has to act.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every problem of a spec, one a line.
    #[error("{0}")]
    Spec(String),
    /// A data file is not usable.
    #[error("{0}")]
    Data(String),
    /// A model is not usable.
    #[error("{0}")]
    Model(String),
    /// An object could not be read or written.
    #[error("{0}")]
    Store(String),
    /// An object is missing, or not what its manifest says.
    #[error("{0}")]
    Damaged(String),
    /// Something is there already.
    #[error("{0}")]
    Conflict(String),
    /// Another coordinator has taken over: this process must change nothing more.
    #[error("{0}")]
    Fenced(String),
    /// A local file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A broken invariant.
    #[error("{0}")]
    Internal(String),
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Io`] of this file.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Spec(_) => ErrorKind::Spec,
            Self::Data(_) | Self::Io { .. } => ErrorKind::Data,
            Self::Model(_) => ErrorKind::Model,
            Self::Store(_) => ErrorKind::Store,
            Self::Damaged(_) => ErrorKind::Damaged,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Fenced(_) => ErrorKind::Fenced,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }
}
