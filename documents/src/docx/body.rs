//! A part of text (the document, a header, footnotes) to elements.

use quick_xml::events::BytesStart;

use super::styles::{Styles, depth};
use super::xml::{self, Node};
use crate::build::{classify, collapsed};
use crate::element::{Element, ElementKind};
use crate::read::Unreadable;
use crate::tables::Tables;

/// Elements that hold what is not there any more, is there a second time, or is no text.
const SKIPPED: [&str; 9] = ["Fallback", "del", "moveFrom", "instrText", "rPrChange", "pPrChange", "sectPr", "tblPr", "tabs"];

/// The elements of a part and how many pages its breaks make.
///
/// # Errors
/// `Broken` if the part is no XML.
pub(super) fn read(text: &str, part: &str, styles: &Styles) -> Result<(Vec<Element>, u32), Unreadable> {
    // Where Word noted the pages as it laid them out, those breaks count; otherwise those that the author made.
    let is_laid_out = text.contains("lastRenderedPageBreak");
    let mut body = Body::new(styles, is_laid_out);
    xml::walk(text, part, |node| body.node(&node))?;
    while body.tables.is_open() {
        body.tables.end(&mut body.elements);
    }
    Ok((body.elements, body.page))
}

/// A paragraph that is open.
#[derive(Default)]
struct Paragraph {
    text: String,
    style: Option<String>,
    /// What the paragraph itself says of being in a list.
    is_list: Option<bool>,
    outline: Option<u8>,
    /// Page of its first text.
    page: Option<u32>,
    /// Page breaks after its first text.
    breaks: u32,
    pictures: Vec<String>,
    has_mathematics: bool,
    has_words: bool,
}

struct Body<'a> {
    styles: &'a Styles,
    is_laid_out: bool,
    elements: Vec<Element>,
    page: u32,
    /// Open paragraphs: one in a text box lies within another.
    paragraphs: Vec<Paragraph>,
    tables: Tables,
    /// Depth within an element that is skipped.
    skipped: u64,
    in_words: bool,
    in_mathematics: bool,
    /// A footnote that only separates is open.
    in_separator: bool,
}

impl<'a> Body<'a> {
    fn new(styles: &'a Styles, is_laid_out: bool) -> Self {
        Self {
            styles,
            is_laid_out,
            elements: Vec::new(),
            page: 1,
            paragraphs: Vec::new(),
            tables: Tables::default(),
            skipped: 0,
            in_words: false,
            in_mathematics: false,
            in_separator: false,
        }
    }

    fn node(&mut self, node: &Node<'_>) {
        match node {
            Node::Start(_) if self.skipped > 0 => self.skipped += 1,
            Node::End(_) if self.skipped > 0 => self.skipped -= 1,
            Node::Start(start) if SKIPPED.contains(&xml::name(start)) => self.skipped = 1,
            Node::Start(start) => self.start(xml::name(start), start),
            Node::End(name) => self.end(name),
            Node::Text(text) if self.in_words && self.skipped == 0 => self.text(text),
            Node::Text(_) => {}
        }
    }

    fn text(&mut self, text: &str) {
        let (page, is_mathematics) = (self.page, self.in_mathematics);
        if let Some(paragraph) = self.paragraphs.last_mut() {
            if !text.trim().is_empty() {
                paragraph.page.get_or_insert(page);
                paragraph.has_mathematics |= is_mathematics;
                paragraph.has_words |= !is_mathematics;
            }
            paragraph.text.push_str(text);
        }
    }

    fn start(&mut self, name: &str, start: &BytesStart<'_>) {
        let value = || xml::attribute(start, "val");
        match name {
            "p" => self.paragraphs.push(Paragraph::default()),
            "t" => self.in_words = true,
            "oMath" => self.in_mathematics = true,
            "tbl" => self.tables.begin(self.elements.len()),
            "tr" => self.tables.begin_row(),
            "tc" => self.tables.begin_cell(None),
            "gridSpan" => self.tables.set_span(value().as_deref()),
            "footnote" | "endnote" => self.in_separator = xml::attribute(start, "type").is_some_and(|kind| kind != "normal"),
            "lastRenderedPageBreak" => self.page_break(),
            "br" if xml::attribute(start, "type").as_deref() == Some("page") => {
                if !self.is_laid_out {
                    self.page_break();
                }
            }
            "pageBreakBefore"
                if !self.is_laid_out && !matches!(value().as_deref(), Some("0" | "false")) && self.page_has_text() =>
            {
                self.page_break();
            }
            _ => self.in_paragraph(name, start),
        }
    }

    fn in_paragraph(&mut self, name: &str, start: &BytesStart<'_>) {
        let Some(paragraph) = self.paragraphs.last_mut() else { return };
        let value = || xml::attribute(start, "val");
        match name {
            "br" | "cr" => paragraph.text.push('\n'),
            "tab" | "ptab" => paragraph.text.push(' '),
            "noBreakHyphen" => paragraph.text.push('-'),
            "pStyle" => paragraph.style = value(),
            "numId" => paragraph.is_list = Some(value().as_deref() != Some("0")),
            "outlineLvl" => paragraph.outline = value().and_then(|level| depth(&level)),
            "docPr" => {
                let words = xml::attribute(start, "descr").map(|words| collapsed(&words)).unwrap_or_default();
                if words.chars().any(char::is_alphanumeric) {
                    paragraph.pictures.push(words);
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        match name {
            "p" => self.end_paragraph(),
            "t" => self.in_words = false,
            "oMath" => self.in_mathematics = false,
            "tc" | "tr" => self.tables.end_cell(),
            "tbl" => {
                let page = self.elements.last().and_then(|element| element.page);
                self.tables.end(&mut self.elements);
                self.elements
                    .iter_mut()
                    .rev()
                    .take_while(|element| element.page.is_none())
                    .for_each(|element| element.page = page);
            }
            "footnote" | "endnote" => self.in_separator = false,
            _ => {}
        }
    }

    fn page_has_text(&self) -> bool {
        self.elements.last().is_some_and(|element| element.kind != ElementKind::PageBreak)
    }

    fn page_break(&mut self) {
        match self.paragraphs.last_mut() {
            Some(paragraph) if paragraph.page.is_some() => paragraph.breaks += 1,
            _ => self.push_break(self.page),
        }
        self.page = self.page.saturating_add(1);
    }

    fn push_break(&mut self, page: u32) {
        self.elements.push(Element { page: Some(page), ..Element::new(ElementKind::PageBreak, "") });
    }

    fn end_paragraph(&mut self) {
        let Some(paragraph) = self.paragraphs.pop() else { return };
        if self.in_separator {
            return;
        }
        let page = paragraph.page.unwrap_or(self.page);
        let style = paragraph.style.as_deref().map(|id| self.styles.resolve(id)).unwrap_or_default();
        let outline = paragraph.outline.or(style.outline);
        let is_list = paragraph.is_list.or(style.is_list) == Some(true);
        let text = match style.kind {
            Some(ElementKind::CodeSnippet) => paragraph.text.trim_end().to_owned(),
            _ => collapsed(&paragraph.text),
        };
        if !text.trim().is_empty() {
            let mut element = match outline {
                Some(depth) => Element::title(text, depth),
                None => {
                    let kind = match style.kind {
                        _ if paragraph.has_mathematics && !paragraph.has_words => ElementKind::Formula,
                        Some(kind) => kind,
                        None if is_list => ElementKind::ListItem,
                        None => classify(&text),
                    };
                    Element::new(kind, text)
                }
            };
            element.page = Some(page);
            self.push(element);
        }
        for picture in paragraph.pictures {
            self.elements.push(Element { page: Some(page), ..Element::new(ElementKind::Image, picture) });
        }
        (0..paragraph.breaks).for_each(|i| self.push_break(page.saturating_add(i)));
    }

    /// Adds an element; lines of program text are paragraphs of their own in Word, and become one element.
    fn push(&mut self, element: Element) {
        self.tables.note(&element);
        if element.kind == ElementKind::CodeSnippet
            && let Some(last) = self.elements.last_mut()
            && last.kind == ElementKind::CodeSnippet
        {
            last.text.push('\n');
            last.text.push_str(&element.text);
            return;
        }
        self.elements.push(element);
    }
}
