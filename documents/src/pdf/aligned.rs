//! Tables without upright rules: lines whose cells stand in columns.

use super::grid::Grid;
use super::lines::{Line, text_of};
use super::model::{Rect, Word};

/// Rows that a table has at least.
const MIN_ROWS: usize = 3;

/// A run of a region's lines: plain lines, or a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// A line of text.
    Line(Line),
    /// A table.
    Table(Grid),
}

/// Finds the tables among a region's lines.
pub fn pieces(lines: Vec<Line>) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let to = run(&lines, at);
        match (to - at >= MIN_ROWS).then(|| table(&lines[at..to])).flatten() {
            Some(grid) => {
                out.push(Piece::Table(grid));
                at = to;
            }
            None => {
                out.push(Piece::Line(lines[at].clone()));
                at += 1;
            }
        }
    }
    out
}

/// Where the run of lines with several cells ends that starts at `from`; lines of one cell may stand between two such.
fn run(lines: &[Line], from: usize) -> usize {
    let several = |l: &Line| l.cells().len() >= 2 && !is_leader(l);
    if !several(&lines[from]) {
        return from;
    }
    let mut to = from + 1;
    let mut at = to;
    let near = |a: &Line, b: &Line| {
        let apart = if a.cells().len() >= 3 && b.cells().len() >= 3 { 6.0 } else { 3.5 };
        b.base - a.base < apart * a.size.max(b.size)
    };
    while at < lines.len() && near(&lines[at - 1], &lines[at]) {
        if several(&lines[at]) {
            at += 1;
            to = at;
        } else if at - to < 1 && lines[at].rect.width() < 0.5 * lines[from].rect.width() {
            at += 1;
        } else {
            break;
        }
    }
    to
}

/// Whether a line leads the eye with dots, as tables of contents do.
fn is_leader(line: &Line) -> bool {
    let text = line.text();
    text.contains("....") || text.contains(". . . .") || text.contains("\u{2026}\u{2026}")
}

/// The table of a run of lines, if its cells stand in columns.
fn table(lines: &[Line]) -> Option<Grid> {
    let size = lines[0].size.max(1.0);
    let spans = |lines: &[Line]| -> Vec<(f32, f32)> {
        lines.iter().flat_map(|l| l.cells().into_iter().map(|c| (c[0].rect.x0, c[c.len() - 1].rect.x1))).collect()
    };
    // heads may be wider than what stands below them
    let below = if lines.len() > MIN_ROWS { gutters(&spans(&lines[1..]), 0.8 * size) } else { Vec::new() };
    let edges = Some(gutters(&spans(lines), 0.6 * size)).filter(|all| all.len() >= below.len()).unwrap_or(below);
    let columns = edges.len() + 1;
    let rows: Vec<Vec<Vec<Word>>> = lines.iter().map(|line| row(line, &edges, columns)).collect();
    let full = rows.iter().filter(|r| r.iter().filter(|c| !c.is_empty()).count() * 3 >= columns * 2).count();
    let words: usize = rows.iter().flatten().filter(|c| !c.is_empty()).map(Vec::len).sum();
    let cells = rows.iter().flatten().filter(|c| !c.is_empty()).count().max(1);
    let short = words as f32 / cells as f32;
    let enough = match columns {
        0 | 1 => false,
        2 => lines.len() >= 4 && short <= 4.0,
        _ => short <= 6.0,
    };
    let related = |l: &&Line| l.text().contains(['=', '\u{2208}', '\u{21d2}', '\u{2264}', '\u{2192}']);
    let formulas = lines.iter().filter(related).count() * 3 > lines.len();
    if !enough || formulas || full * 3 < rows.len() * 2 {
        return None;
    }
    let rect = lines.iter().skip(1).fold(lines[0].rect, |r: Rect, l| r.union(&l.rect));
    let text = |cell: Vec<Word>| if cell.is_empty() { String::new() } else { text_of(&cell) };
    let grid = Grid::new(rect, rows.into_iter().map(|r| r.into_iter().map(text).collect()).collect());
    (grid.columns() >= 2 && grid.rows.len() >= MIN_ROWS && is_filled(&grid)).then_some(grid)
}

/// Whether what came out looks like a table and not like labels of a drawing or mathematics: nearly all cells are filled, or most are and
/// with words.
fn is_filled(grid: &Grid) -> bool {
    let filled: Vec<&String> = grid.rows.iter().flatten().filter(|c| !c.is_empty()).collect();
    let part = filled.len() as f32 / (grid.rows.len() * grid.columns()) as f32;
    let chars: usize = filled.iter().map(|c| c.chars().count()).sum();
    let signs = |c: &char| matches!(c, '\u{2190}'..='\u{22ff}' | '\u{391}'..='\u{3c9}' | '{' | '}' | '\u{f8e0}'..='\u{f8ff}');
    let mathematics = filled.iter().flat_map(|c| c.chars()).filter(signs).count() * 25 > chars;
    !mathematics && (part >= 0.9 || part >= 0.6 && chars >= 3 * filled.len())
}

/// The middles of strips at least `wide` that none of the spans covers.
fn gutters(spans: &[(f32, f32)], wide: f32) -> Vec<f32> {
    let mut sorted = spans.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut out = Vec::new();
    let mut right = sorted.first().map_or(0.0, |s| s.1);
    for (x0, x1) in sorted {
        if x0 - right >= wide {
            out.push((x0 + right) / 2.0);
        }
        right = right.max(x1);
    }
    out
}

fn row(line: &Line, edges: &[f32], columns: usize) -> Vec<Vec<Word>> {
    let mut cells = vec![Vec::new(); columns];
    for word in &line.words {
        let middle = (word.rect.x0 + word.rect.x1) / 2.0;
        cells[edges.partition_point(|e| *e <= middle)].push(word.clone());
    }
    cells
}
