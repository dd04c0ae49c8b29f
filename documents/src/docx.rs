//! DOCX to elements: the zip archive's parts of text are inflated within limits and read as a stream of XML. Macros, embedded objects
//! and external references are never looked at; entities of a DTD are never expanded.

mod archive;
mod body;
mod styles;
mod xml;

use std::collections::HashSet;

use crate::element::{Document, Element, ElementKind};
use crate::format::unreadable;
use crate::read::{Reason, Unreadable};

use archive::Archive;
use styles::Styles;

/// Whether a zip archive is a DOCX.
///
/// # Errors
/// `Broken` if it is no archive that can be listed, `Unsupported`, with what it is, for an archive of something else.
pub(crate) fn recognise(bytes: &[u8], name: &str) -> Result<(), Unreadable> {
    let archive = Archive::open(bytes)?;
    if main_part(&archive).is_some() {
        return Ok(());
    }
    let has = |folder: &str| archive.names().iter().any(|part| part.starts_with(folder));
    let what = match () {
        () if has("xl/") => "an Excel workbook; save its sheets as .html or .pdf",
        () if has("ppt/") => "a PowerPoint file; save it as .pdf",
        () if has("META-INF/manifest.xml") || has("mimetype") => "an OpenDocument or EPUB file; save it as .docx or .pdf",
        () if name.to_ascii_lowercase().ends_with(".docx") => {
            return Err(unreadable(Reason::Broken, format!("{name} is a zip archive without word/document.xml; save it anew")));
        }
        () => "a zip archive; unpack it",
    };
    Err(unreadable(Reason::Unsupported, format!("no reader for {name}: it is {what}")))
}

/// Reads a DOCX: headers, the text, footnotes and endnotes, footers. Pages are those that Word noted when it last saved.
///
/// # Errors
/// `Broken` for a part that is missing or no XML, `Limit` for a zip bomb, `Password` for an encrypted part.
pub(crate) fn read(bytes: &[u8]) -> Result<Document, Unreadable> {
    let mut archive = Archive::open(bytes)?;
    let Some(main) = main_part(&archive) else {
        return Err(unreadable(Reason::Broken, "the archive has no word/document.xml"));
    };
    let styles = match archive.text("word/styles.xml")? {
        Some(text) => Styles::parse(&text)?,
        None => Styles::default(),
    };
    let text = archive.text(&main)?.unwrap_or_default();
    let (body, pages) = body::read(&text, &main, &styles)?;
    let mut elements = repeated(&mut archive, "word/header", ElementKind::Header, &styles)?;
    elements.extend(body);
    for part in ["word/footnotes.xml", "word/endnotes.xml"] {
        if let Some(text) = archive.text(part)? {
            elements.extend(body::read(&text, part, &styles)?.0);
        }
    }
    elements.extend(repeated(&mut archive, "word/footer", ElementKind::Footer, &styles)?);
    if pages <= 1 {
        elements.iter_mut().for_each(|element| element.page = None);
    }
    Ok(Document { pages: if pages <= 1 { 0 } else { pages }, ..Document::unpaged("docx", elements) })
}

/// Office writes `word/document.xml`, its web version `word/document2.xml`.
fn main_part(archive: &Archive<'_>) -> Option<String> {
    let is_main = |name: &&String| name.starts_with("word/document") && name.ends_with(".xml");
    archive.names().iter().filter(is_main).min_by_key(|name| name.len()).cloned()
}

/// What the header or footer parts say, each text once.
fn repeated(archive: &mut Archive<'_>, begin: &str, kind: ElementKind, styles: &Styles) -> Result<Vec<Element>, Unreadable> {
    let names = archive.names().iter().filter(|name| name.starts_with(begin) && name.ends_with(".xml"));
    let mut names: Vec<String> = names.cloned().collect();
    names.sort();
    let (mut seen, mut elements) = (HashSet::new(), Vec::new());
    for name in names {
        let text = archive.text(&name)?.unwrap_or_default();
        for element in body::read(&text, &name, styles)?.0 {
            if element.kind != ElementKind::PageBreak && seen.insert(element.text.clone()) {
                elements.push(Element::new(kind, element.text));
            }
        }
    }
    Ok(elements)
}

#[cfg(test)]
pub(crate) mod tests;
