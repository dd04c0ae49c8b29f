//! SHA-256 digests, as lower-case hexadecimal.

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest in hexadecimal, 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Default for Digest {
    /// That of no bytes.
    fn default() -> Self {
        Self::of(b"")
    }
}

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The digest written as 64 lower-case hexadecimal characters, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        (text.len() == 64 && text.bytes().all(hex)).then(|| Self(text.to_owned()))
    }

    /// The 64 hexadecimal characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 characters, for messages.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A digest in the making.
#[derive(Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds a length-prefixed field, so that neighbouring fields cannot run into one another.
    pub fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        let mut text = String::with_capacity(64);
        for byte in self.0.finalize() {
            text.push(char::from_digit(u32::from(byte >> 4), 16).expect("a nibble is below 16"));
            text.push(char::from_digit(u32::from(byte & 15), 16).expect("a nibble is below 16"));
        }
        Digest(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: digests are SHA-256. Method: the published value for the empty text.
    #[test]
    fn empty_is_known() {
        let digest = Digest::of(b"");
        assert_eq!(digest.as_str(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
