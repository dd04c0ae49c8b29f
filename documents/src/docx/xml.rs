//! XML as a stream of events, without namespaces and without entities other than XML's own five.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};

use crate::format::unreadable;
use crate::read::{Reason, Unreadable};

/// What a part of the document is made of. Names are without their prefix.
pub(super) enum Node<'a> {
    /// An element begins.
    Start(&'a BytesStart<'a>),
    /// An element ends; also right after the start of an empty one.
    End(&'a str),
    /// Text.
    Text(&'a str),
}

/// Feeds every node of a part to `take`.
///
/// # Errors
/// `Broken` with the part's name and the place where it is no XML.
pub(super) fn walk(text: &str, part: &str, mut take: impl FnMut(Node<'_>)) -> Result<(), Unreadable> {
    let mut reader = Reader::from_str(text);
    let mut depth = 0_u64;
    loop {
        let event = reader.read_event().map_err(|e| broken(part, reader.error_position(), &e))?;
        match event {
            Event::Start(start) => {
                depth += 1;
                take(Node::Start(&start));
            }
            Event::Empty(start) => {
                take(Node::Start(&start));
                take(Node::End(local(start.local_name().as_ref())));
            }
            Event::End(end) => {
                depth = depth.saturating_sub(1);
                take(Node::End(local(end.local_name().as_ref())));
            }
            Event::Text(words) => take(Node::Text(&words.decode().map_err(|e| broken(part, reader.buffer_position(), &e))?)),
            Event::CData(words) => take(Node::Text(&words.decode().map_err(|e| broken(part, reader.buffer_position(), &e))?)),
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|e| broken(part, reader.buffer_position(), &e))?;
                match reference.resolve_char_ref() {
                    Ok(Some(c)) => take(Node::Text(c.encode_utf8(&mut [0; 4]))),
                    // An entity that a DTD defines stays unknown, whatever it would expand to.
                    _ => take(Node::Text(resolve_predefined_entity(&name).unwrap_or_default())),
                }
            }
            Event::Eof if depth == 0 => return Ok(()),
            Event::Eof => return Err(broken(part, text.len() as u64, &"it ends within an element")),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

/// The name of an element without its prefix.
pub(super) fn name<'a>(start: &'a BytesStart<'_>) -> &'a str {
    local(start.local_name().into_inner())
}

/// The value of an attribute, whatever its prefix.
pub(super) fn attribute(start: &BytesStart<'_>, wanted: &str) -> Option<String> {
    let found = start.attributes().with_checks(false).flatten().find(|one| one.key.local_name().as_ref() == wanted.as_bytes())?;
    found.normalized_value(quick_xml::XmlVersion::Implicit1_0).ok().map(|value| value.into_owned())
}

fn local(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap_or_default()
}

fn broken(part: &str, at: u64, error: &dyn std::fmt::Display) -> Unreadable {
    unreadable(Reason::Broken, format!("{part} is no XML at byte {at} ({error}); save the document anew"))
}
