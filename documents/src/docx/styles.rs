//! Paragraph styles: which of them are headings, lists, captions, program text.

use std::collections::HashMap;

use super::xml::{self, Node};
use crate::element::ElementKind;
use crate::read::Unreadable;

/// Styles that one style may be based on, one after the other.
const LONGEST_CHAIN: usize = 16;

/// What a style says of its paragraphs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Style {
    /// Its name in small letters, or its id where it has none.
    name: String,
    based_on: Option<String>,
    /// Depth of a heading, from 1.
    pub(super) outline: Option<u8>,
    /// Its paragraphs are numbered or have bullets.
    pub(super) is_list: Option<bool>,
    /// The kind that its name tells.
    pub(super) kind: Option<ElementKind>,
}

/// A document's styles by id.
#[derive(Debug, Default)]
pub(super) struct Styles {
    by_id: HashMap<String, Style>,
}

impl Styles {
    /// Reads `word/styles.xml`.
    ///
    /// # Errors
    /// `Broken` if it is no XML.
    pub(super) fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut by_id = HashMap::new();
        let mut open: Option<(String, Style)> = None;
        xml::walk(text, "word/styles.xml", |node| match node {
            Node::Start(start) if xml::name(start) == "style" => {
                open = xml::attribute(start, "styleId").map(|id| (id, Style::default()));
            }
            Node::Start(start) => {
                let Some((_, style)) = &mut open else { return };
                let value = || xml::attribute(start, "val");
                match xml::name(start) {
                    "name" => style.name = value().unwrap_or_default().to_lowercase(),
                    "basedOn" => style.based_on = value(),
                    "outlineLvl" => style.outline = value().and_then(|level| depth(&level)),
                    "numId" => style.is_list = Some(value().as_deref() != Some("0")),
                    _ => {}
                }
            }
            Node::End("style") => {
                if let Some((id, mut style)) = open.take() {
                    if style.name.is_empty() {
                        style.name = id.to_lowercase();
                    }
                    name_it(&mut style);
                    by_id.insert(id, style);
                }
            }
            _ => {}
        })?;
        Ok(Self { by_id })
    }

    /// What a style and those that it is based on say; of an unknown style its id is taken as its name.
    pub(super) fn resolve(&self, id: &str) -> Style {
        let mut found = Style::default();
        let mut next = Some(id.to_owned());
        for _ in 0..LONGEST_CHAIN {
            let Some(id) = next.take() else { break };
            let style = self.by_id.get(&id).cloned().unwrap_or_else(|| {
                let mut style = Style { name: id.to_lowercase(), ..Style::default() };
                name_it(&mut style);
                style
            });
            found.outline = found.outline.or(style.outline);
            found.is_list = found.is_list.or(style.is_list);
            found.kind = found.kind.or(style.kind);
            next = style.based_on;
        }
        found
    }
}

/// Depth of an outline level as written: levels 0 to 8 are headings, 9 is text.
pub(super) fn depth(level: &str) -> Option<u8> {
    level.trim().parse::<u8>().ok().filter(|level| *level < 9).map(|level| level + 1)
}

/// Sets what the name of a style tells. Word keeps the English names of its own styles in every language.
fn name_it(style: &mut Style) {
    let name = style.name.replace([' ', '_'], "");
    let heading = name.strip_prefix("heading").and_then(|depth| depth.parse::<u8>().ok()).filter(|depth| (1..=9).contains(depth));
    match name.as_str() {
        "title" => style.outline = style.outline.or(Some(1)),
        "subtitle" => style.outline = style.outline.or(Some(2)),
        "caption" => style.kind = Some(ElementKind::FigureCaption),
        "header" => style.kind = Some(ElementKind::Header),
        "footer" => style.kind = Some(ElementKind::Footer),
        "htmlpreformatted" | "code" | "sourcecode" | "macro" | "plaintext" => style.kind = Some(ElementKind::CodeSnippet),
        _ if heading.is_some() => style.outline = style.outline.or(heading),
        _ if name.starts_with("listbullet") || name.starts_with("listnumber") => style.is_list = style.is_list.or(Some(true)),
        _ => {}
    }
}
