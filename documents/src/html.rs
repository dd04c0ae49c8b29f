//! HTML to elements. The page is read token by token and no tree is built, so that neither depth nor unclosed tags cost stack, and
//! time is linear in the page: html5ever's tokenizer does the lexing, the few rules about nesting that matter for text are here.

mod reader;
mod skip;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::{BufferQueue, Tokenizer, TokenizerOpts};

use crate::decode::{declared_in_markup, decode};
use crate::element::{Document, Element};
use crate::read::Unreadable;

use reader::Sink;

/// Reads a page: its charset by byte order mark, `<meta>`, or its bytes; scripts, styles and navigation are left out.
///
/// # Errors
/// `Broken` if the bytes are no text.
pub(crate) fn read(bytes: &[u8], name: &str) -> Result<Document, Unreadable> {
    // Bytes that are UTF-8 are that, whatever an old <meta> says.
    let declared = if std::str::from_utf8(bytes).is_ok() { None } else { declared_in_markup(bytes) };
    let text = decode(bytes, declared)?;
    let is_xml = name.to_ascii_lowercase().ends_with(".xhtml") || text.trim_start().starts_with("<?xml");
    let mut elements = elements(&text, is_xml, true);
    if elements.is_empty() {
        // A page that is all navigation, or whose <nav> is never closed: better that than nothing.
        elements = self::elements(&text, is_xml, false);
    }
    Ok(Document::unpaged("html", elements))
}

/// The elements of a page or a piece of one. With `is_xml` tags that close themselves do so; `skips_navigation` leaves out `<nav>`.
pub(crate) fn elements(text: &str, is_xml: bool, skips_navigation: bool) -> Vec<Element> {
    let tokenizer = Tokenizer::new(Sink::new(is_xml, skips_navigation), TokenizerOpts::default());
    let input = BufferQueue::default();
    // A tendril holds at most 4 GiB, and pieces let the tokenizer free what it has read.
    let mut rest = text;
    while !rest.is_empty() {
        let cut = rest.floor_char_boundary(1 << 20);
        let (piece, after) = rest.split_at(if cut == 0 { rest.len() } else { cut });
        rest = after;
        input.push_back(StrTendril::from_slice(piece));
        let _ = tokenizer.feed(&input);
    }
    tokenizer.end();
    tokenizer.sink.finish()
}

#[cfg(test)]
mod tests;
