//! The zip archive of a DOCX, of which no more is inflated than a document can be.

use std::io::{Cursor, Read};

use zip::ZipArchive;
use zip::result::ZipError;

use crate::decode::{declared_in_markup, decode};
use crate::format::unreadable;
use crate::read::{Reason, Unreadable};

/// Bytes that all parts may inflate to together. A thousand pages of text are about 20 MB of XML.
const MOST_INFLATED: u64 = 256 << 20;
/// A part above this size may not be more than `MOST_RATIO` times its compressed size.
const RATIO_FROM: u64 = 16 << 20;
/// XML of Word is 5 to 60 times its compressed size; deflate can reach 1032.
const MOST_RATIO: u64 = 250;

/// An archive and what was inflated of it.
pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    names: Vec<String>,
    inflated: u64,
}

impl<'a> Archive<'a> {
    /// Reads the list of parts.
    ///
    /// # Errors
    /// `Broken` if there is none.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| {
            unreadable(Reason::Broken, format!("the zip archive cannot be listed ({e}); it may be cut off: save it anew"))
        })?;
        let names = zip.file_names().filter_map(|name| name.ok().map(|name| name.into_owned())).collect();
        Ok(Self { zip, names, inflated: 0 })
    }

    /// Names of the parts.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The text of a part; `None` if there is no such part.
    ///
    /// # Errors
    /// `Limit` for one that inflates too far, `Password` if it is encrypted, `Broken` if it cannot be inflated.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Unreadable> {
        let file = match self.zip.by_name(name) {
            Ok(file) => file,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(ZipError::UnsupportedArchive(why)) if why == ZipError::PASSWORD_REQUIRED => {
                return Err(unreadable(
                    Reason::Password,
                    format!("{name} in the archive is encrypted; save the document without a password"),
                ));
            }
            Err(e) => return Err(broken(name, &e)),
        };
        let left = MOST_INFLATED - self.inflated;
        let by_ratio = file.compressed_size().saturating_mul(MOST_RATIO).max(RATIO_FROM);
        let most = left.min(by_ratio);
        let mut bytes = Vec::new();
        // What the archive says of its sizes may be a lie: what comes out is counted.
        file.take(most + 1).read_to_end(&mut bytes).map_err(|e| broken(name, &e))?;
        if bytes.len() as u64 > most {
            let message = format!(
                "{name} in the archive inflates to more than {most} bytes, as a zip bomb does; at most {MOST_INFLATED} in all and \
                 {MOST_RATIO} times the compressed size are read"
            );
            return Err(unreadable(Reason::Limit, message));
        }
        self.inflated += bytes.len() as u64;
        let declared = if std::str::from_utf8(&bytes).is_ok() { None } else { declared_in_markup(&bytes) };
        decode(&bytes, declared).map(Some)
    }
}

fn broken(name: &str, error: &dyn std::fmt::Display) -> Unreadable {
    unreadable(Reason::Broken, format!("{name} in the archive cannot be inflated ({error}); save the document anew"))
}
