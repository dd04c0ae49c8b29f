//! Tables that are open while a document is read: those of data become one element, those that only lay the page out become
//! what is in them.

use crate::element::{Element, ElementKind};
use crate::table::Table;

/// Characters of a cell that is no datum but a part of the page.
const LONGEST_CELL: usize = 2000;
/// Columns that a cell may say it spans.
const WIDEST_SPAN: usize = 100;

/// A table that is open.
#[derive(Debug, Default)]
struct Open {
    table: Table,
    /// Where the elements of its contents begin among all.
    first_element: usize,
    caption: String,
    /// Elements between its cells, where none should be.
    loose: Vec<Element>,
    /// The open cell's text and the columns it spans.
    cell: Option<(String, usize)>,
    /// Another table, a long cell or a program is in it.
    is_layout: bool,
}

/// The tables that are open, the innermost last.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    open: Vec<Open>,
}

impl Tables {
    /// A table begins after `num_elements` elements.
    pub(crate) fn begin(&mut self, num_elements: usize) {
        if let Some(outer) = self.open.last_mut() {
            outer.is_layout = true;
            outer.cell = None;
        }
        self.open.push(Open { first_element: num_elements, ..Open::default() });
    }

    /// Whether text is in a table.
    pub(crate) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    pub(crate) fn begin_row(&mut self) {
        self.end_cell();
        if let Some(open) = self.open.last_mut() {
            open.table.begin_row();
        }
    }

    /// A cell begins; `span` is the columns that it spans, as written.
    pub(crate) fn begin_cell(&mut self, span: Option<&str>) {
        self.end_cell();
        if let Some(open) = self.open.last_mut() {
            open.cell = Some((String::new(), 1));
        }
        self.set_span(span);
    }

    /// The columns that the open cell spans, as written.
    pub(crate) fn set_span(&mut self, span: Option<&str>) {
        let span = span.and_then(|span| span.trim().parse().ok()).unwrap_or(1);
        if let Some(Open { cell: Some((_, columns)), .. }) = self.open.last_mut() {
            *columns = usize::clamp(span, 1, WIDEST_SPAN);
        }
    }

    pub(crate) fn end_cell(&mut self) {
        if let Some(open) = self.open.last_mut()
            && let Some((text, span)) = open.cell.take()
        {
            open.is_layout |= text.len() > LONGEST_CELL;
            if !open.is_layout {
                open.table.push_cell(text, span);
            }
        }
    }

    /// An element was read. If a cell is open it is a part of that; if a table is open, but no cell, it is kept for its own sake.
    pub(crate) fn note(&mut self, element: &Element) {
        let Some(open) = self.open.last_mut().filter(|open| !open.is_layout) else { return };
        // Lines of a program do not survive in a cell.
        open.is_layout = element.kind == ElementKind::CodeSnippet && element.text.contains('\n');
        match &mut open.cell {
            None => open.loose.push(element.clone()),
            Some((cell, _)) => {
                if !cell.is_empty() {
                    cell.push(' ');
                }
                cell.push_str(&element.text);
            }
        }
    }

    /// The innermost table's caption.
    pub(crate) fn push_caption(&mut self, text: &str) {
        if let Some(open) = self.open.last_mut() {
            open.caption.push_str(text);
        }
    }

    /// The innermost table ends: `elements` are all so far, in which those of a table of data are replaced by it.
    pub(crate) fn end(&mut self, elements: &mut Vec<Element>) {
        self.end_cell();
        let Some(open) = self.open.pop() else { return };
        let caption = (!open.caption.is_empty()).then(|| Element::new(ElementKind::FigureCaption, open.caption));
        if open.is_layout || open.table.columns() < 2 {
            elements.extend(caption);
            return;
        }
        if let Some(table) = open.table.into_element() {
            elements.truncate(open.first_element);
            elements.extend(open.loose);
            elements.extend(caption);
            elements.push(table);
        }
    }
}
