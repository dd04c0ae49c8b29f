//! Which format a document is in, and which reader reads it.

use std::path::Path;

use crate::element::Document;
use crate::read::{ReadOptions, Reason, Unreadable};
use crate::{docx, html, markdown, plain};

/// Endings of names that are read, in small letters, with their formats.
const ENDINGS: [(&str, Format); 10] = [
    ("pdf", Format::Pdf),
    ("html", Format::Html),
    ("htm", Format::Html),
    ("xhtml", Format::Html),
    ("md", Format::Markdown),
    ("markdown", Format::Markdown),
    ("txt", Format::Plain),
    ("text", Format::Plain),
    ("rst", Format::Plain),
    ("docx", Format::Docx),
];
/// Bytes before `%PDF-` that PDF readers put up with.
const BEFORE_PDF: usize = 1024;

/// A format that a reader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// PDF.
    Pdf,
    /// HTML and XHTML.
    Html,
    /// CommonMark with GitHub's tables.
    Markdown,
    /// Text without markup, and reStructuredText.
    Plain,
    /// Word's Office Open XML.
    Docx,
}

/// Whether a file of this name is read when it is met in a folder or by a glob. The ending decides.
pub fn is_supported(name: &str) -> bool {
    by_ending(name).is_some()
}

/// The format of a document: by its first bytes where they tell, else by the ending of its name.
///
/// # Errors
/// `Unsupported` if no reader knows the format, `Password` for an encrypted DOCX, `Broken` for a `.docx` that is no such thing.
pub fn detect(bytes: &[u8], name: &str) -> Result<Format, Unreadable> {
    let head = bytes.get(..BEFORE_PDF).unwrap_or(bytes);
    if bytes.starts_with(b"%PDF-") || (!is_text(name) && head.windows(5).any(|window| window == b"%PDF-")) {
        return Ok(Format::Pdf);
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return docx::recognise(bytes, name).map(|()| Format::Docx);
    }
    if bytes.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
        return Err(ole(bytes, name));
    }
    match by_ending(name) {
        Some(Format::Docx) if bytes.is_empty() => Err(empty(name)),
        Some(Format::Docx) => {
            Err(unreadable(Reason::Broken, format!("{name} is no DOCX: it does not begin as a zip archive does; save it anew")))
        }
        Some(format) => Ok(format),
        None => Err(unsupported(name)),
    }
}

/// Reads a document: `bytes` are the whole file, `name` is its path or key, whose ending tells the format where the bytes do not.
///
/// # Errors
/// Why it cannot be read; `Empty` if there is no text in it.
pub fn read(bytes: &[u8], name: &str, options: &ReadOptions) -> Result<Document, Unreadable> {
    if bytes.is_empty() {
        return Err(empty(name));
    }
    let document = match detect(bytes, name)? {
        Format::Pdf => crate::pdf::read(bytes, options)?,
        Format::Html => html::read(bytes, name)?,
        Format::Markdown => markdown::read(bytes)?,
        Format::Plain => plain::read(bytes, name)?,
        Format::Docx => docx::read(bytes)?,
    };
    if document.pages > options.max_pages {
        let (pages, most) = (document.pages, options.max_pages);
        return Err(unreadable(
            Reason::Limit,
            format!("{name} has {pages} pages, more than max_pages = {most}; split it or raise max_pages"),
        ));
    }
    if document.is_empty() {
        return Err(empty(name));
    }
    Ok(document)
}

fn by_ending(name: &str) -> Option<Format> {
    let ending = Path::new(name).extension()?.to_str()?.to_ascii_lowercase();
    ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, format)| *format)
}

/// A text about PDF may say `%PDF-` early; its name says that it is a text.
fn is_text(name: &str) -> bool {
    matches!(by_ending(name), Some(Format::Html | Format::Markdown | Format::Plain))
}

/// An OLE container is an encrypted DOCX or a file of Word before 2007.
fn ole(bytes: &[u8], name: &str) -> Unreadable {
    let stream: Vec<u8> = "EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes).collect();
    if bytes.windows(stream.len()).any(|window| window == stream) {
        return unreadable(Reason::Password, format!("{name} is encrypted; save it without a password"));
    }
    unreadable(Reason::Unsupported, format!("{name} is in Office's format from before 2007; save it as .docx or .pdf"))
}

fn unsupported(name: &str) -> Unreadable {
    let known: Vec<String> = ENDINGS.iter().map(|(ending, _)| format!(".{ending}")).collect();
    unreadable(Reason::Unsupported, format!("no reader for {name}; known are {}", known.join(" ")))
}

fn empty(name: &str) -> Unreadable {
    unreadable(Reason::Empty, format!("{name} has no text in it"))
}

/// Why a document could not be read.
pub(crate) fn unreadable(reason: Reason, message: impl Into<String>) -> Unreadable {
    Unreadable { reason, message: message.into() }
}

#[cfg(test)]
mod tests;
