//! Parts of a page that are no text of it.

use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{Tag, TagKind};

/// Elements whose contents say nothing to a reader of the text. `<head>` is not among them: its end tag may be left out, and what it
/// holds is here.
const SILENT: [&str; 17] = [
    "template", "noscript", "svg", "math", "button", "select", "textarea", "iframe", "object", "audio", "video", "canvas",
    "script", "style", "noembed", "noframes", "title",
];
/// Elements without an end tag.
const VOID: [&str; 15] =
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr", "frame"];
/// Elements whose end tag may be left out: one of these that is hidden is not skipped, since its end is not known.
const UNCLOSED: [&str; 14] =
    ["html", "body", "p", "li", "dt", "dd", "td", "th", "tr", "tbody", "thead", "tfoot", "option", "colgroup"];

/// Whether the element has no contents by its name.
pub(super) fn is_void(name: &str) -> bool {
    VOID.contains(&name)
}

/// How the tokenizer reads on after this start tag, where that differs.
pub(super) fn raw_kind(name: &str) -> Option<RawKind> {
    match name {
        "script" => Some(RawKind::ScriptData),
        "style" | "xmp" | "iframe" | "noembed" | "noframes" => Some(RawKind::Rawtext),
        "title" | "textarea" => Some(RawKind::Rcdata),
        _ => None,
    }
}

/// An element that is being skipped: its name, and how many of that name are open in it.
#[derive(Debug, Default)]
pub(super) struct Skip {
    open: Option<(String, u64)>,
}

impl Skip {
    /// Whether the tag belongs to what is skipped, or begins it.
    pub(super) fn takes(&mut self, tag: &Tag, closes_itself: bool, skips_navigation: bool) -> bool {
        let name: &str = &tag.name;
        if let Some((skipped, depth)) = &mut self.open {
            if name == skipped {
                match tag.kind {
                    TagKind::StartTag if !closes_itself => *depth += 1,
                    TagKind::StartTag => {}
                    TagKind::EndTag => *depth -= 1,
                }
            }
            if *depth == 0 {
                self.open = None;
            }
            return true;
        }
        if tag.kind == TagKind::EndTag || is_void(name) {
            return false;
        }
        let is_skipped = SILENT.contains(&name) || (skips_navigation && is_navigation(tag)) || is_hidden(tag);
        if is_skipped && !closes_itself {
            self.open = Some((name.to_owned(), 1));
        }
        is_skipped
    }

    /// Whether text is skipped now.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

/// The value of an attribute.
pub(super) fn attribute<'a>(tag: &'a Tag, name: &str) -> Option<&'a str> {
    tag.attrs.iter().find(|attribute| &*attribute.name.local == name).map(|attribute| &*attribute.value)
}

fn is_navigation(tag: &Tag) -> bool {
    &*tag.name == "nav" || attribute(tag, "role").is_some_and(|role| role.eq_ignore_ascii_case("navigation"))
}

fn is_hidden(tag: &Tag) -> bool {
    let is_unclosed = UNCLOSED.contains(&&*tag.name);
    let by_style = || {
        attribute(tag, "style").is_some_and(|style| {
            let style: String = style.to_ascii_lowercase().split_whitespace().collect();
            style.contains("display:none") || style.contains("visibility:hidden")
        })
    };
    !is_unclosed && (attribute(tag, "hidden").is_some() || by_style())
}
