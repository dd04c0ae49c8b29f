//! What a document is made of, in Unstructured's words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The kind of an element; the names are Unstructured's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ElementKind {
    /// A heading.
    Title,
    /// Running text.
    NarrativeText,
    /// An item of a list, without its bullet.
    ListItem,
    /// A table: `text` is Markdown, `html` the table in HTML.
    Table,
    /// Repeated at the top of pages.
    Header,
    /// Repeated at the bottom of pages.
    Footer,
    /// A page's number.
    PageNumber,
    /// Between two pages; has no text.
    PageBreak,
    /// Below or above a figure or table.
    FigureCaption,
    /// Mathematics.
    Formula,
    /// A picture; `text` is what is written in it, or its alternative text.
    Image,
    /// Program text.
    CodeSnippet,
    /// A postal address.
    Address,
    /// An e-mail address alone.
    EmailAddress,
    /// Text of no other kind.
    UncategorizedText,
}

impl ElementKind {
    /// Whether the element goes into chunks: running headers, footers, page numbers and page breaks do not.
    pub fn in_chunks(self) -> bool {
        !matches!(self, Self::Header | Self::Footer | Self::PageNumber | Self::PageBreak)
    }
}

/// A piece of a document, in reading order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Element {
    /// What it is.
    pub kind: ElementKind,
    /// Its text, words joined over line breaks; a table as Markdown.
    pub text: String,
    /// Its page, from 1; `None` where the format has no pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// A table in HTML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// Depth of a title (1 is the uppermost), where the format tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u8>,
}

/// A document as it was read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Its elements in reading order.
    pub elements: Vec<Element>,
    /// Pages; 0 where the format has none.
    pub pages: u32,
    /// What read it: `pdfium`, `pdf_oxide`, `html`, ...; with `+tesseract` where pages were read by OCR.
    pub reader: String,
    /// What a person should know: pages that could not be read and why.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl Document {
    /// Elements by kind.
    pub fn counts(&self) -> BTreeMap<ElementKind, u64> {
        let mut counts = BTreeMap::new();
        for element in &self.elements {
            *counts.entry(element.kind).or_default() += 1;
        }
        counts
    }
}
