//! Tokens of a page to elements.

use std::cell::RefCell;

use html5ever::tokenizer::{Tag, TagKind, Token, TokenSink, TokenSinkResult};

use super::skip::{Skip, attribute, is_void, raw_kind};
use crate::build::{classify, push_collapsed};
use crate::element::{Element, ElementKind};
use crate::tables::Tables;

/// Elements that end the text before them and begin a new one, and have no rule of their own below.
const BLOCKS: [&str; 33] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "center",
    "dd",
    "details",
    "dialog",
    "dir",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "header",
    "hgroup",
    "hr",
    "html",
    "legend",
    "main",
    "menu",
    "ol",
    "p",
    "search",
    "section",
    "summary",
    "ul",
    "tbody",
    "tfoot",
];

/// Where the tokenizer's tokens go.
pub(super) struct Sink {
    reader: RefCell<Reader>,
}

impl Sink {
    pub(super) fn new(is_xml: bool, skips_navigation: bool) -> Self {
        Self { reader: RefCell::new(Reader { is_xml, skips_navigation, ..Reader::default() }) }
    }

    /// The elements, once every token was seen.
    pub(super) fn finish(self) -> Vec<Element> {
        let mut reader = self.reader.into_inner();
        reader.flush();
        while reader.tables.is_open() {
            reader.tables.end(&mut reader.elements);
        }
        reader.elements
    }
}

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut reader = self.reader.borrow_mut();
        match token {
            Token::TagToken(tag) => reader.tag(&tag),
            Token::CharacterTokens(text) => {
                reader.text(&text);
                TokenSinkResult::Continue
            }
            _ => TokenSinkResult::Continue,
        }
    }

    /// Only in XML is `<![CDATA[...]]>` text.
    fn adjusted_current_node_present_but_not_in_html_namespace(&self) -> bool {
        self.reader.borrow().is_xml
    }
}

/// What is known of the place in the page.
#[derive(Default)]
struct Reader {
    is_xml: bool,
    skips_navigation: bool,
    elements: Vec<Element>,
    /// The text of the open block.
    block: String,
    /// Alternative texts of pictures in the open block.
    pictures: Vec<String>,
    skip: Skip,
    tables: Tables,
    /// For each open list, whether an item of it is open.
    lists: Vec<bool>,
    /// Depth of the open heading.
    heading: Option<u8>,
    /// Open `<pre>`s.
    preformatted: u32,
    /// Open articles and sections, whose own footers are no footers of the page.
    sections: u32,
    footers: u32,
    in_paragraph: bool,
    in_caption: bool,
    in_table_caption: bool,
    in_address: bool,
    /// The last tag was `<br>`: two of them end a paragraph.
    after_break: bool,
}

impl Reader {
    fn tag(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        let name: &str = &tag.name;
        let is_start = tag.kind == TagKind::StartTag;
        let closes_itself = tag.self_closing && (self.is_xml || matches!(name, "svg" | "math")) && !is_void(name);
        let raw = raw_kind(name).filter(|_| is_start && !closes_itself);
        if !self.skip.takes(tag, closes_itself, self.skips_navigation) {
            if is_start {
                self.start(name, tag);
            }
            if !is_start || closes_itself {
                self.end(name);
            }
        } else if is_start && name == "math" {
            let words = attribute(tag, "alttext").unwrap_or_default().to_owned();
            self.text(&words);
        }
        raw.map_or(TokenSinkResult::Continue, TokenSinkResult::RawData)
    }

    fn text(&mut self, text: &str) {
        if self.skip.is_open() {
            return;
        }
        if self.preformatted > 0 {
            self.block.push_str(text);
        } else {
            push_collapsed(&mut self.block, text);
        }
        self.after_break &= text.chars().all(char::is_whitespace);
    }

    fn start(&mut self, name: &str, tag: &Tag) {
        if let Some(depth) = heading_depth(name) {
            self.flush();
            self.leave_paragraph();
            self.heading = Some(depth);
            return;
        }
        match name {
            "br" => self.line_break(),
            "img" => self.picture(attribute(tag, "alt").unwrap_or_default()),
            "pre" | "xmp" | "listing" => {
                self.flush();
                self.heading = None;
                self.preformatted += 1;
            }
            "ul" | "ol" | "menu" | "dir" | "dl" => {
                self.begin_block();
                self.lists.push(false);
            }
            "li" | "dt" | "dd" => {
                self.begin_block();
                self.item(true);
            }
            "table" => {
                self.begin_block();
                // a caption that was left open ends where a table begins
                (self.in_caption, self.in_table_caption) = (false, false);
                self.tables.begin(self.elements.len());
            }
            "tr" => {
                self.begin_block();
                (self.in_caption, self.in_table_caption) = (false, false);
                self.tables.begin_row();
            }
            "td" | "th" => {
                self.begin_block();
                (self.in_caption, self.in_table_caption) = (false, false);
                self.tables.begin_cell(attribute(tag, "colspan"));
            }
            "caption" | "figcaption" => {
                self.flush();
                (self.in_caption, self.in_table_caption) = (true, name == "caption" && self.tables.is_open());
            }
            "p" => {
                self.begin_block();
                self.in_paragraph = true;
            }
            "address" => {
                self.begin_block();
                self.in_address = true;
            }
            "article" | "section" | "main" | "blockquote" => {
                self.begin_block();
                self.sections += 1;
            }
            "footer" if self.sections == 0 => {
                self.begin_block();
                self.footers += 1;
            }
            "div" | "center" => self.flush(),
            _ if BLOCKS.contains(&name) => self.begin_block(),
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        if heading_depth(name).is_some() {
            self.flush();
            self.heading = None;
            return;
        }
        match name {
            "pre" | "xmp" | "listing" => {
                self.flush();
                self.preformatted = self.preformatted.saturating_sub(1);
            }
            "ul" | "ol" | "menu" | "dir" | "dl" => {
                self.flush();
                self.lists.pop();
            }
            "li" | "dt" | "dd" => {
                self.flush();
                self.item(false);
            }
            "table" => {
                self.flush();
                (self.in_caption, self.in_table_caption) = (false, false);
                self.tables.end(&mut self.elements);
            }
            "tr" | "td" | "th" => {
                self.flush();
                self.tables.end_cell();
            }
            "caption" | "figcaption" => {
                self.flush();
                (self.in_caption, self.in_table_caption) = (false, false);
            }
            "p" => {
                self.flush();
                self.in_paragraph = false;
            }
            "address" => {
                self.flush();
                self.in_address = false;
            }
            "article" | "section" | "main" | "blockquote" => {
                self.flush();
                self.sections = self.sections.saturating_sub(1);
            }
            "footer" => {
                self.flush();
                self.footers = self.footers.saturating_sub(1);
            }
            _ if BLOCKS.contains(&name) => self.flush(),
            _ => {}
        }
    }

    /// A block begins, which no heading holds and which ends an open paragraph.
    fn begin_block(&mut self) {
        self.flush();
        self.leave_paragraph();
        self.heading = None;
    }

    fn leave_paragraph(&mut self) {
        self.in_paragraph = false;
    }

    fn item(&mut self, is_open: bool) {
        if let Some(last) = self.lists.last_mut() {
            *last = is_open;
        }
    }

    fn line_break(&mut self) {
        if self.preformatted > 0 {
            self.block.push('\n');
        } else if self.after_break {
            self.flush();
        } else {
            push_collapsed(&mut self.block, " ");
            self.after_break = true;
        }
    }

    fn picture(&mut self, alt: &str) {
        let mut text = String::new();
        push_collapsed(&mut text, alt);
        if text.chars().any(char::is_alphanumeric) {
            self.pictures.push(text.trim_end().to_owned());
        }
    }

    /// Ends the open block: its text becomes an element, then the pictures in it.
    fn flush(&mut self) {
        self.after_break = false;
        let block = std::mem::take(&mut self.block);
        let text = if self.preformatted > 0 { block.trim_matches(['\n', '\r']).trim_end() } else { block.trim() };
        if !text.trim().is_empty() {
            self.push(text);
        }
        // The block's memory is kept for the next one, unless it was a giant.
        if block.capacity() < 1 << 16 {
            self.block = block;
            self.block.clear();
        }
        for picture in std::mem::take(&mut self.pictures) {
            self.add(Element::new(ElementKind::Image, picture));
        }
    }

    fn push(&mut self, text: &str) {
        if self.in_table_caption && self.tables.is_open() {
            return self.tables.push_caption(text);
        }
        let element = match self.heading {
            _ if self.footers > 0 => Element::new(ElementKind::Footer, text),
            // Pages of documentation end titles with a link to themselves.
            Some(depth) => Element::title(text.trim_end_matches('¶').trim_end(), depth),
            None => Element::new(self.kind(text), text),
        };
        if !element.text.is_empty() {
            self.add(element);
        }
    }

    fn add(&mut self, element: Element) {
        self.tables.note(&element);
        self.elements.push(element);
    }

    fn kind(&self, text: &str) -> ElementKind {
        if self.preformatted > 0 {
            ElementKind::CodeSnippet
        } else if self.in_caption {
            ElementKind::FigureCaption
        } else if self.lists.last() == Some(&true) {
            ElementKind::ListItem
        } else if self.in_address {
            ElementKind::Address
        } else {
            match classify(text) {
                ElementKind::UncategorizedText if self.in_paragraph => ElementKind::NarrativeText,
                kind => kind,
            }
        }
    }
}

fn heading_depth(name: &str) -> Option<u8> {
    match name.as_bytes() {
        [b'h', depth @ b'1'..=b'6'] => Some(depth - b'0'),
        _ => None,
    }
}
