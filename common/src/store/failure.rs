//! What a store's refusal means to the person who has to act, without secrets.

use std::error::Error as _;
use std::path::Path;

use crate::error::Error;

/// The error of a request: what happened, to which object, where, and what to do.
pub fn explain(verb: &str, key: &str, url: &str, folder: Option<&Path>, error: &object_store::Error) -> Error {
    let what = format!("cannot {verb} {key} in {url}");
    if let (Some(folder), Some(io)) = (folder, io_error(error)) {
        return Error::Store(format!("{what}: {}", explain_io(folder, io)));
    }
    let advice = match error {
        object_store::Error::Unauthenticated { .. } | object_store::Error::PermissionDenied { .. } => {
            "; check the credentials in the environment and what they allow"
        }
        object_store::Error::NotFound { .. } => "; check that the bucket exists",
        object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
            "; the store lacks what a run needs, use another"
        }
        _ if folder.is_none() => "; check the address, the network and the credentials in the environment",
        _ => "",
    };
    Error::Store(format!("{what}: {}{advice}", redact(&one_line(error))))
}

/// What the file system said, in words that name the folder.
fn explain_io(folder: &Path, io: &std::io::Error) -> String {
    use std::io::ErrorKind as Kind;
    let advice = match io.kind() {
        Kind::PermissionDenied => "make the folder writable for this user, or name another store",
        Kind::ReadOnlyFilesystem => "the file system is mounted read-only; name another store",
        Kind::StorageFull | Kind::QuotaExceeded => "free some space, or name another store",
        Kind::NotADirectory | Kind::AlreadyExists => "a part of the path is a file and no folder; name another store",
        Kind::Unsupported => "the file system has no hard links, which put-if-absent needs; name another store",
        _ => "check the folder, or name another store",
    };
    format!("{io}; {advice} (folder {})", nearest_existing(folder).display())
}

/// The folder itself, or the part of its path that is there.
fn nearest_existing(folder: &Path) -> &Path {
    folder.ancestors().find(|part| part.exists()).unwrap_or(folder)
}

fn io_error(error: &object_store::Error) -> Option<&std::io::Error> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return Some(io);
        }
        source = inner.source();
    }
    None
}

/// The error with its causes, each said once.
fn one_line(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let next = inner.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = inner.source();
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(600).collect()
}

/// The text without any credential of the environment.
pub fn redact(text: &str) -> String {
    let secret = |name: &str| {
        ["AWS_", "GOOGLE_", "AZURE_", "HF_"].iter().any(|prefix| name.starts_with(prefix))
            && ["KEY", "SECRET", "TOKEN", "SAS", "PASSWORD", "CREDENTIAL"].iter().any(|word| name.contains(word))
    };
    let values = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    values
        .filter(|(name, value)| secret(name) && value.len() >= 6)
        .fold(text.to_owned(), |text, (name, value)| text.replace(&value, &format!("<{name}>")))
}
