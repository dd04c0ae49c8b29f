//! A table as rows of cells, as Markdown and as HTML.

use crate::element::{Element, ElementKind};

/// Empty cells that spans may add to a table, in all.
const MOST_PADDING: usize = 100_000;

/// A table while it is read.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Cells by row, white space collapsed; rows may differ in length.
    pub(crate) rows: Vec<Vec<String>>,
    padding: usize,
}

impl Table {
    /// Begins a row.
    pub(crate) fn begin_row(&mut self) {
        self.rows.push(Vec::new());
    }

    /// Adds a cell that spans `columns` to the last row: the text, then empty cells.
    pub(crate) fn push_cell(&mut self, text: String, columns: usize) {
        if self.rows.is_empty() {
            self.begin_row();
        }
        let padding = columns.saturating_sub(1).min(MOST_PADDING - self.padding);
        self.padding += padding;
        if let Some(row) = self.rows.last_mut() {
            row.push(text);
            row.extend(std::iter::repeat_n(String::new(), padding));
        }
    }

    /// Columns of the longest row.
    pub(crate) fn columns(&self) -> usize {
        self.rows.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The table as an element, its first row as the head; `None` if there is no text in it.
    pub(crate) fn into_element(mut self) -> Option<Element> {
        self.rows.retain(|row| row.iter().any(|cell| !cell.is_empty()));
        if self.rows.is_empty() {
            return None;
        }
        Some(Element { html: Some(self.html()), ..Element::new(ElementKind::Table, self.markdown()) })
    }

    /// GitHub's Markdown. Short rows are not filled up: a row of one cell beside one of a million must not cost a million.
    fn markdown(&self) -> String {
        let mut out = String::new();
        for (i, row) in self.rows.iter().enumerate() {
            let missing = if i == 0 { self.columns().min(64).saturating_sub(row.len()) } else { 0 };
            out.push('|');
            for cell in row {
                out.push(' ');
                out.push_str(&cell.replace('|', "\\|"));
                out.push_str(if cell.is_empty() { "|" } else { " |" });
            }
            out.push_str(&" |".repeat(missing));
            if i == 0 {
                out.push_str("\n|");
                out.push_str(&" --- |".repeat(row.len() + missing));
            }
            if i + 1 < self.rows.len() {
                out.push('\n');
            }
        }
        out
    }

    fn html(&self) -> String {
        let mut out = String::from("<table>");
        for (i, row) in self.rows.iter().enumerate() {
            let tag = if i == 0 { "th" } else { "td" };
            out.push_str("<tr>");
            for cell in row {
                out.push_str(&format!("<{tag}>{}</{tag}>", escaped(cell)));
            }
            out.push_str("</tr>");
        }
        out.push_str("</table>");
        out
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: both forms of a table hold its cells, escaped. Method: spans, bars, angle brackets, an empty row, a short first row.
    #[test]
    fn both_forms() {
        let mut table = Table::default();
        for (i, row) in [vec!["a|b", "x<y"], vec![], vec![""], vec!["1", "2", "3"]].into_iter().enumerate() {
            table.begin_row();
            row.into_iter().for_each(|cell| table.push_cell(cell.into(), if i == 2 { 2 } else { 1 }));
        }
        let element = table.into_element().unwrap();
        assert_eq!(element.text, "| a\\|b | x<y | |\n| --- | --- | --- |\n| 1 | 2 | 3 |");
        let html = "<table><tr><th>a|b</th><th>x&lt;y</th></tr><tr><td>1</td><td>2</td><td>3</td></tr></table>";
        assert_eq!(element.html.as_deref(), Some(html));
        assert!(Table::default().into_element().is_none());
    }

    /// Goal: spans are no bomb. Method: a thousand cells that say they span a billion columns.
    #[test]
    fn spans_are_bounded() {
        let mut table = Table::default();
        (0..1000).for_each(|_| table.push_cell("x".into(), 1_000_000_000));
        assert!(table.columns() <= MOST_PADDING + 1000);
    }
}
