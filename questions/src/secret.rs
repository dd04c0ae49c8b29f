//! A provider's key: it is read from the environment or a file, goes into one header, and is shown nowhere.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use reqwest::header::HeaderValue;
use serde::{Serialize, Serializer};

/// What stands where a key would stand.
pub const MASK: &str = "[key]";
/// A piece of a key this long is scrubbed too: servers echo keys cut short.
const PIECE_BYTES: usize = 8;
/// A shorter key is a placeholder such as `x` or `none`; scrubbing it would tear words apart.
const SHORTEST_SCRUBBED: usize = 5;
/// Bytes that a key file may have.
const MOST_FILE_BYTES: u64 = 16 * 1024;

/// A key that no format, log or record shows. There is no way back from a serialized one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The key in the environment variable `name`, blanks around it left out.
    ///
    /// # Errors
    /// The variable is missing, empty, or no key can look like it.
    pub fn from_env(name: &str) -> Result<Self, SecretError> {
        let place = || format!("the environment variable {name}");
        match std::env::var(name) {
            Ok(text) => Self::checked(&text, &place()),
            Err(std::env::VarError::NotPresent) => Err(SecretError::Missing { place: place() }),
            Err(std::env::VarError::NotUnicode(_)) => Err(SecretError::Unusable { place: place() }),
        }
    }

    /// The key in a file, blanks and line ends around it left out.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or no key can look like it.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let place = format!("the file {}", path.display());
        let read = |source| SecretError::Unreadable { place: place.clone(), source };
        let mut bytes = Vec::new();
        std::fs::File::open(path).and_then(|file| file.take(MOST_FILE_BYTES).read_to_end(&mut bytes)).map_err(read)?;
        match String::from_utf8(bytes) {
            Ok(text) if (text.len() as u64) < MOST_FILE_BYTES => Self::checked(&text, &place),
            _ => Err(SecretError::Unusable { place }),
        }
    }

    fn checked(text: &str, place: &str) -> Result<Self, SecretError> {
        let key = text.trim();
        if key.is_empty() {
            return Err(SecretError::Empty { place: place.to_owned() });
        }
        if !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(SecretError::Unusable { place: place.to_owned() });
        }
        Ok(Self(key.to_owned()))
    }

    /// A header's value with the key in it, marked so that HTTP libraries do not show it either.
    pub(crate) fn header(&self, before: &str) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("{before}{}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// A text in which neither the key nor a longer piece of it is left: for errors and logs.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let piece = self.0.len().min(PIECE_BYTES);
        if self.0.len() < SHORTEST_SCRUBBED {
            return text.to_owned();
        }
        let (key, bytes) = (self.0.as_bytes(), text.as_bytes());
        let (mut out, mut kept, mut at) = (String::with_capacity(text.len()), 0, 0);
        while at + piece <= bytes.len() {
            let longest = (0..=key.len() - piece)
                .map(|from| key[from..].iter().zip(&bytes[at..]).take_while(|(a, b)| a == b).count())
                .max()
                .unwrap_or(0);
            if longest >= piece {
                // a key is ASCII, so both ends are character boundaries
                out.push_str(&text[kept..at]);
                out.push_str(MASK);
                at += longest;
                kept = at;
            } else {
                at += 1;
            }
        }
        out.push_str(&text[kept..]);
        out
    }

    /// A model's answer without the whole key; pieces are left, they may be words.
    pub(crate) fn scrub_whole(&self, text: &str) -> String {
        if self.0.len() < PIECE_BYTES { text.to_owned() } else { text.replace(&self.0, MASK) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// Why there is no key. Never holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Nothing there.
    #[error("{place} is not set; set it to the provider's key")]
    Missing {
        /// Where the key was looked for.
        place: String,
    },
    /// Nothing in it.
    #[error("{place} is empty; put the provider's key there")]
    Empty {
        /// Where the key was looked for.
        place: String,
    },
    /// Not one word of ASCII.
    #[error("{place} holds no key: a key is one short line of ASCII without blanks; check what was put there")]
    Unusable {
        /// Where the key was looked for.
        place: String,
    },
    /// The file cannot be read.
    #[error("cannot read the key in {place}: {source}; check the path and its permissions")]
    Unreadable {
        /// Where the key was looked for.
        place: String,
        /// What the system says.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-0123456789abcdefXYZ";

    fn secret(text: &str) -> Secret {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, text).unwrap();
        Secret::from_file(&path).unwrap()
    }

    /// Goal: no format shows the key. Method: every format that the type has, and the header.
    #[test]
    fn no_format_shows_it() {
        let key = secret(&format!(" {KEY}\n"));
        let shown = format!("{key} {key:?} {:?} {}", Some(&key), serde_json::to_string(&key).unwrap());
        assert!(!shown.contains("0123"), "{shown}");
        let header = key.header("Bearer ").unwrap();
        assert_eq!(header.as_bytes(), format!("Bearer {KEY}").as_bytes());
        assert!(!format!("{header:?}").contains("0123"));
    }

    /// Goal: echoes are scrubbed, whole or cut, and nothing else is. Method: texts with and without pieces of the key.
    #[test]
    fn echoes_are_scrubbed() {
        let key = secret(KEY);
        assert_eq!(key.scrub(&format!("bad key {KEY}, ü{KEY}{KEY}")), "bad key [key], ü[key][key]");
        assert_eq!(key.scrub("bad key sk-01234...defXYZ"), "bad key [key]...defXYZ");
        assert_eq!(key.scrub("é 6789abcdefXYZ é"), "é [key] é");
        assert_eq!(key.scrub("nothing, sk-0123"), "nothing, sk-0123");
        assert_eq!(key.scrub(""), "");
        assert_eq!(secret("x").scrub("axe"), "axe");
        assert_eq!(secret("EMPTY").scrub("key EMPTY"), "key [key]");
        assert_eq!(key.scrub_whole(&format!("say {KEY}; sk-01234567")), "say [key]; sk-01234567");
    }

    /// Goal: a key that is not there is explained without it. Method: missing, empty, several lines, no file, no text.
    #[test]
    fn a_missing_key_is_explained() {
        let folder = tempfile::tempdir().unwrap();
        let write = |bytes: &[u8]| {
            std::fs::write(folder.path().join("k"), bytes).unwrap();
            Secret::from_file(&folder.path().join("k")).unwrap_err().to_string()
        };
        assert!(write(b"\n").contains("is empty"));
        for bad in [&b"one\ntwo-secret"[..], b"two-secret \xff", b"two-secret\0"] {
            let error = write(bad);
            assert!(error.contains("holds no key") && !error.contains("secret"), "{error}");
        }
        assert!(write(&[b'a'; 20_000]).contains("holds no key"));
        let error = Secret::from_file(&folder.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("cannot read the key"), "{error}");
        // cargo sets this one for every test
        if std::env::var_os("CARGO_PKG_NAME").is_some() {
            assert_eq!(Secret::from_env("CARGO_PKG_NAME").unwrap(), secret("artel-questions"));
        }
        let error = Secret::from_env("ARTEL_TEST_NO_SUCH_KEY").unwrap_err().to_string();
        assert_eq!(error, "the environment variable ARTEL_TEST_NO_SUCH_KEY is not set; set it to the provider's key");
    }
}
