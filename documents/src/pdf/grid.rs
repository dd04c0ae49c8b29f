//! A table's cells, and how they are written down.

use super::model::Rect;

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// Its place.
    pub rect: Rect,
    /// Rows of cells; all rows have the same number.
    pub rows: Vec<Vec<String>>,
}

impl Grid {
    /// A grid without rows and columns that have no text.
    pub fn new(rect: Rect, mut rows: Vec<Vec<String>>) -> Self {
        rows.retain(|row| row.iter().any(|cell| !cell.is_empty()));
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        rows.iter_mut().for_each(|row| row.resize(columns, String::new()));
        let used: Vec<bool> = (0..columns).map(|c| rows.iter().any(|row| !row[c].is_empty())).collect();
        for row in &mut rows {
            let mut column = used.iter();
            row.retain(|_| column.next().copied().unwrap_or(true));
        }
        Self { rect, rows }
    }

    /// Cells in a row.
    pub fn columns(&self) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }

    /// In Markdown, the first row as its head.
    pub fn markdown(&self) -> String {
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().map(|c| c.replace('\\', "\\\\").replace('|', "\\|")).collect();
            format!("| {} |", cells.join(" | "))
        };
        let mut out: Vec<String> = self.rows.iter().map(line).collect();
        out.insert(1.min(out.len()), format!("|{}", " --- |".repeat(self.columns())));
        out.join("\n")
    }

    /// In HTML, the first row as its head.
    pub fn html(&self) -> String {
        let escape = |c: &str| c.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let line = |row: &Vec<String>, tag: &str| {
            let cells: String = row.iter().map(|c| format!("<{tag}>{}</{tag}>", escape(c))).collect();
            format!("<tr>{cells}</tr>")
        };
        let head = self.rows.first().map(|r| line(r, "th")).unwrap_or_default();
        let body: String = self.rows.iter().skip(1).map(|r| line(r, "td")).collect();
        format!("<table><thead>{head}</thead><tbody>{body}</tbody></table>")
    }
}
