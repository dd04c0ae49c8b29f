//! Tables whose cells are ruled: grids of level and upright lines.

use super::grid::Grid;
use super::lines::{Line, lines};
use super::model::{Rect, Word};

/// Lines nearer than this are one.
const SAME: f32 = 3.0;
/// More lines of one direction in a table are a drawing.
const MAX_LINES: usize = 400;

/// Cells of more bytes than this on average hold paragraphs.
const MAX_MEAN_CELL: usize = 160;

/// Takes the words of ruled tables out of `words`, and gives the tables.
pub fn take_tables(words: &mut Vec<Word>, rules: &[Rect]) -> Vec<Grid> {
    let mut grids = Vec::new();
    for cluster in clusters(rules) {
        let Some((xs, ys)) = lattice(&cluster) else { continue };
        let area = Rect { x0: xs[0], y0: ys[0], x1: xs[xs.len() - 1], y1: ys[ys.len() - 1] };
        let (inside, outside): (Vec<Word>, Vec<Word>) = words.drain(..).partition(|w| area.holds_middle(&w.rect, 0.0));
        match fill(&inside, &cluster, &xs, &ys, area) {
            Some(grid) => {
                *words = outside;
                grids.push(grid);
            }
            None => *words = outside.into_iter().chain(inside).collect(),
        }
    }
    grids
}

/// Rules that touch one another, transitively.
fn clusters(rules: &[Rect]) -> Vec<Vec<Rect>> {
    let mut sorted: Vec<Rect> = rules.to_vec();
    sorted.sort_by(|a, b| a.y0.total_cmp(&b.y0));
    sorted.dedup_by(|a, b| a == b);
    let mut group: Vec<usize> = (0..sorted.len()).collect();
    fn root(group: &mut [usize], mut at: usize) -> usize {
        while group[at] != at {
            group[at] = group[group[at]];
            at = group[at];
        }
        at
    }
    for a in 0..sorted.len() {
        for b in a + 1..sorted.len() {
            if sorted[b].y0 > sorted[a].y1 + SAME {
                break;
            }
            if sorted[a].overlap_x(&sorted[b]) >= -SAME {
                let (x, y) = (root(&mut group, a), root(&mut group, b));
                group[x] = y;
            }
        }
    }
    let mut found: Vec<(usize, Vec<Rect>)> = Vec::new();
    for (at, rule) in sorted.iter().enumerate() {
        let top = root(&mut group, at);
        match found.iter_mut().find(|(r, _)| *r == top) {
            Some((_, members)) => members.push(*rule),
            None => found.push((top, vec![*rule])),
        }
    }
    found.into_iter().map(|(_, members)| members).filter(|m| m.len() >= 4).collect()
}

/// The places of upright and level lines, where there are enough of both for two rows or two columns.
fn lattice(rules: &[Rect]) -> Option<(Vec<f32>, Vec<f32>)> {
    let level = |r: &&Rect| r.width() >= r.height();
    let ys: Vec<f32> = rules.iter().filter(level).map(|r| (r.y0 + r.y1) / 2.0).collect();
    let mut xs: Vec<f32> = rules.iter().filter(|r| !level(r)).map(|r| (r.x0 + r.x1) / 2.0).collect();
    // level lines may reach beyond the outermost upright ones: columns without a frame
    let low = |values: &mut dyn Iterator<Item = f32>| values.fold(f32::MAX, f32::min);
    let high = |values: &mut dyn Iterator<Item = f32>| values.fold(f32::MIN, f32::max);
    let (left, right) = (low(&mut xs.iter().copied()), high(&mut xs.iter().copied()));
    let (outer_left, outer_right) =
        (low(&mut rules.iter().filter(level).map(|r| r.x0)), high(&mut rules.iter().filter(level).map(|r| r.x1)));
    if !xs.is_empty() {
        xs.extend([outer_left].into_iter().filter(|x| *x < left - 10.0));
        xs.extend([outer_right].into_iter().filter(|x| *x > right + 10.0));
    }
    let (xs, ys) = (places(xs), places(ys));
    let enough = xs.len() >= 2 && ys.len() >= 2 && xs.len() + ys.len() >= 6 && xs.len() >= 3;
    (enough && xs.len() <= MAX_LINES && ys.len() <= MAX_LINES).then_some((xs, ys))
}

/// Values with near ones taken together, ascending.
fn places(mut values: Vec<f32>) -> Vec<f32> {
    values.sort_by(f32::total_cmp);
    let mut out: Vec<f32> = Vec::new();
    for value in values {
        match out.last() {
            Some(last) if value - last <= SAME => {}
            _ => out.push(value),
        }
    }
    out
}

/// Puts words into cells; `None` where what comes out is no table.
fn fill(words: &[Word], rules: &[Rect], xs: &[f32], ys: &[f32], area: Rect) -> Option<Grid> {
    let (columns, rows) = (xs.len() - 1, ys.len() - 1);
    let mut cells: Vec<Vec<Vec<Word>>> = vec![vec![Vec::new(); columns]; rows];
    for word in words {
        let (x, y) = ((word.rect.x0 + word.rect.x1) / 2.0, (word.rect.y0 + word.rect.y1) / 2.0);
        let mut column = xs.partition_point(|v| *v <= x).clamp(1, columns) - 1;
        let row = ys.partition_point(|v| *v <= y).clamp(1, rows) - 1;
        // a cell over several columns: its words belong to its first one
        while column > 0 && !parted(rules, xs[column], y) {
            column -= 1;
        }
        cells[row][column].push(word.clone());
    }
    let grid = Grid::new(area, cells.into_iter().flat_map(band).collect());
    let filled: usize = grid.rows.iter().flatten().filter(|c| !c.is_empty()).count();
    let longest = grid.rows.iter().flatten().map(String::len).max().unwrap_or(0);
    let all: usize = grid.rows.iter().flatten().map(String::len).sum();
    // a frame around running text is no table
    let one_holds_all = all > 400 && longest * 10 > all * 8;
    // boxes around paragraphs are a page's layout
    let paragraphs = all > MAX_MEAN_CELL * filled;
    let table = !paragraphs && grid.rows.len() >= 2 && grid.columns() >= 2 && filled * 4 >= grid.rows.len() * grid.columns();
    (table && filled >= 4 && !one_holds_all).then_some(grid)
}

/// The rows of a band between two level rules: one, or one for each line where lines of several cells stand level.
fn band(cells: Vec<Vec<Word>>) -> Vec<Vec<String>> {
    let cells: Vec<Vec<Line>> = cells.into_iter().map(lines).collect();
    let longest = cells.iter().map(Vec::len).max().unwrap_or(0);
    let Some(lead) = cells.iter().find(|c| c.len() == longest).filter(|_| longest >= 2) else {
        return vec![cells.iter().map(|c| joined(c.iter())).collect()];
    };
    let level = |line: &Line, base: f32| (line.base - base).abs() < 0.3 * line.size;
    let bases: Vec<f32> = lead.iter().map(|l| l.base).collect();
    let placed = cells.iter().flatten().filter(|l| bases.iter().any(|b| level(l, *b))).count();
    let beside = bases.iter().filter(|b| cells.iter().filter(|c| c.iter().any(|l| level(l, **b))).count() >= 2).count();
    if beside * 10 < bases.len() * 8 || placed < cells.iter().map(Vec::len).sum() {
        return vec![cells.iter().map(|c| joined(c.iter())).collect()];
    }
    let row = |base: &f32| cells.iter().map(|c| joined(c.iter().filter(|l| level(l, *base)))).collect();
    bases.iter().map(row).collect()
}

fn joined<'a>(lines: impl Iterator<Item = &'a Line>) -> String {
    lines.map(Line::text).collect::<Vec<_>>().join(" ")
}

/// Whether an upright rule stands at `x` in the height of `y`.
fn parted(rules: &[Rect], x: f32, y: f32) -> bool {
    rules
        .iter()
        .any(|r| r.height() > r.width() && ((r.x0 + r.x1) / 2.0 - x).abs() <= SAME && r.y0 - SAME <= y && r.y1 + SAME >= y)
}
