//! Markdown to elements: CommonMark with tables, front matter and strikethrough, by pulldown-cmark.

use pulldown_cmark::{Event, MetadataBlockKind, Options, Parser, Tag, TagEnd};

use crate::build::{classify, collapsed, push_collapsed};
use crate::decode::decode;
use crate::element::{Document, Element, ElementKind};
use crate::html;
use crate::read::Unreadable;
use crate::table::Table;

/// Reads Markdown. The title in YAML or TOML front matter becomes a title, the rest of it nothing; HTML in the text is read as HTML.
///
/// # Errors
/// `Broken` if the bytes are no text.
pub(crate) fn read(bytes: &[u8]) -> Result<Document, Unreadable> {
    Ok(Document::unpaged("markdown", elements(&decode(bytes, None)?)))
}

fn elements(text: &str) -> Vec<Element> {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_MATH
        | Options::ENABLE_HEADING_ATTRIBUTES
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS;
    let mut reader = Reader::default();
    for event in Parser::new_ext(text, options) {
        reader.event(event);
    }
    reader.flush();
    reader.flush_html();
    reader.elements
}

#[derive(Default)]
struct Reader {
    elements: Vec<Element>,
    /// The text of the open block.
    block: String,
    /// HTML between blocks.
    html: String,
    /// Open items of lists.
    items: u32,
    heading: Option<u8>,
    /// Text is program text, or front matter, and keeps its white space.
    is_verbatim: bool,
    table: Option<Table>,
    /// Alternative texts of the pictures in the open block, and whether one is open.
    pictures: Vec<String>,
    in_picture: bool,
    /// All of the open block is mathematics so far.
    is_formula: bool,
}

impl Reader {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.text(&text),
            Event::Code(text) => {
                self.is_formula = false;
                self.text(&text);
            }
            Event::InlineMath(text) | Event::DisplayMath(text) => {
                self.is_formula = self.block.trim().is_empty();
                push_collapsed(&mut self.block, &text);
            }
            Event::Html(text) => self.html.push_str(&text),
            Event::InlineHtml(text) if text.starts_with("<br") => self.text(" "),
            Event::SoftBreak | Event::HardBreak => self.text(" "),
            Event::Rule => self.flush(),
            Event::InlineHtml(_) | Event::FootnoteReference(_) | Event::TaskListMarker(_) => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.in_picture {
            if let Some(picture) = self.pictures.last_mut() {
                picture.push_str(text);
            }
        } else if self.is_verbatim {
            self.block.push_str(text);
        } else {
            self.is_formula &= text.trim().is_empty();
            push_collapsed(&mut self.block, text);
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::HtmlBlock => {}
            Tag::Emphasis | Tag::Strong | Tag::Strikethrough | Tag::Link { .. } | Tag::Superscript | Tag::Subscript => return,
            Tag::Image { .. } => {
                (self.in_picture, self.is_formula) = (true, false);
                self.pictures.push(String::new());
                return;
            }
            _ => self.flush_html(),
        }
        if matches!(tag, Tag::TableCell) {
            return;
        }
        self.flush();
        match tag {
            Tag::Heading { level, .. } => self.heading = Some(*level as u8),
            Tag::Item => self.items += 1,
            Tag::CodeBlock(_) | Tag::MetadataBlock(_) => self.is_verbatim = true,
            Tag::Table(_) => self.table = Some(Table::default()),
            Tag::TableHead | Tag::TableRow => self.table.iter_mut().for_each(Table::begin_row),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Image => self.in_picture = false,
            TagEnd::TableCell => {
                let mut text = std::mem::take(&mut self.block);
                text.truncate(text.trim_end().len());
                let pictures = std::mem::take(&mut self.pictures).concat();
                push_collapsed(&mut text, &pictures);
                self.table.iter_mut().for_each(|table| table.push_cell(std::mem::take(&mut text), 1));
            }
            TagEnd::Table => {
                let table = self.table.take().and_then(Table::into_element);
                self.elements.extend(table);
            }
            TagEnd::CodeBlock => {
                let code = std::mem::take(&mut self.block);
                self.is_verbatim = false;
                if !code.trim().is_empty() {
                    self.elements.push(Element::new(ElementKind::CodeSnippet, code.trim_matches('\n').trim_end()));
                }
            }
            TagEnd::MetadataBlock(kind) => {
                let front = std::mem::take(&mut self.block);
                self.is_verbatim = false;
                self.elements.extend(front_title(&front, kind).map(|title| Element::title(title, 1)));
            }
            TagEnd::Heading(_) => {
                self.flush();
                self.heading = None;
            }
            TagEnd::Item => {
                self.flush();
                self.items = self.items.saturating_sub(1);
            }
            TagEnd::HtmlBlock => self.flush_html(),
            TagEnd::Paragraph | TagEnd::BlockQuote(_) | TagEnd::List(_) | TagEnd::FootnoteDefinition => self.flush(),
            _ => {}
        }
    }

    /// Ends the open block: its text becomes an element, then its pictures.
    fn flush(&mut self) {
        let block = std::mem::take(&mut self.block);
        let text = block.trim();
        if !text.is_empty() {
            self.elements.push(match self.heading {
                Some(depth) => Element::title(text, depth),
                None => Element::new(self.kind(text), text),
            });
        }
        self.is_formula = false;
        for picture in std::mem::take(&mut self.pictures) {
            let text = collapsed(&picture);
            if text.chars().any(char::is_alphanumeric) {
                self.elements.push(Element::new(ElementKind::Image, text));
            }
        }
    }

    fn kind(&self, text: &str) -> ElementKind {
        if self.is_formula {
            ElementKind::Formula
        } else if self.items > 0 {
            ElementKind::ListItem
        } else {
            match classify(text) {
                ElementKind::UncategorizedText => ElementKind::NarrativeText,
                kind => kind,
            }
        }
    }

    fn flush_html(&mut self) {
        if !self.html.is_empty() {
            let piece = std::mem::take(&mut self.html);
            self.elements.extend(html::elements(&piece, false, true));
        }
    }
}

/// The value of `title` in front matter.
fn front_title(front: &str, kind: MetadataBlockKind) -> Option<String> {
    let mark = if kind == MetadataBlockKind::YamlStyle { ':' } else { '=' };
    front.lines().find_map(|line| {
        let (key, value) = line.split_once(mark)?;
        let value = collapsed(value.trim().trim_matches(['"', '\'']));
        (key == "title" || key == "title ").then_some(value).filter(|value| !value.is_empty())
    })
}

#[cfg(test)]
mod tests;
