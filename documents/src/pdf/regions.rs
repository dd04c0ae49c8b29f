//! A page's words to regions in reading order: columns are found as gutters, strips that no word crosses.

use super::lines::{Line, common_size, lines};
use super::model::Word;

/// Regions within regions deeper than this are not looked into.
const MAX_DEPTH: u32 = 24;
/// A side of a gutter whose lines fill less than this of its width looks like a table's column.
const FILLED: f32 = 0.7;

/// Lines at either end of a run that are looked at for headings across the columns.
const END_ROWS: usize = 5;

/// The words of one column or band.
pub type Region = Vec<Word>;

/// Cuts a page into regions, in reading order.
pub fn regions(words: Vec<Word>) -> Vec<Region> {
    let mut out = Vec::new();
    cut(words, 0, &mut out);
    out
}

fn cut(mut words: Vec<Word>, depth: u32, out: &mut Vec<Region>) {
    if words.is_empty() {
        return;
    }
    words.sort_by(|a, b| a.base.total_cmp(&b.base));
    let Some(gutter) = (depth < MAX_DEPTH).then(|| best_gutter(&words)).flatten() else {
        out.push(words);
        return;
    };
    let below = words.split_off(gutter.to);
    let inside = words.split_off(gutter.from);
    let (left, right): (Vec<Word>, Vec<Word>) = inside.into_iter().partition(|w| w.rect.x1 <= gutter.x);
    for part in [words, left, right, below] {
        cut(part, depth + 1, out);
    }
}

/// A strip that none of `words[from..to]` crosses.
#[derive(Debug, Clone, Copy)]
struct Gutter {
    x: f32,
    from: usize,
    to: usize,
    score: f32,
}

/// The gutter with the most lines on both of its sides; `words` are sorted by their baselines.
fn best_gutter(words: &[Word]) -> Option<Gutter> {
    let size = common_size(words).max(1.0);
    let (x0, x1) = words.iter().fold((f32::MAX, f32::MIN), |(a, b), w| (a.min(w.rect.x0), b.max(w.rect.x1)));
    let step = (size * 0.3).max((x1 - x0) / 400.0).max(0.5);
    let mut found: Vec<Gutter> = Vec::new();
    let mut x = x0 + 2.0 * size;
    while x < x1 - 2.0 * size {
        runs_at(words, x, size, &mut found);
        x += step;
    }
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut tried = found.into_iter().take(40).map(|g| trimmed(words, g, size));
    tried.find(|g| g.to > g.from && parts_columns(&words[g.from..g.to], g.x, size))
}

/// A gutter without the lines at its ends that reach into it: headings across the columns, with a blank just there.
fn trimmed(words: &[Word], mut gutter: Gutter, size: f32) -> Gutter {
    let run = &words[gutter.from..gutter.to];
    let (first, last) = (run[0].base, run[run.len() - 1].base);
    // what lies well within the run says how wide the gutter is
    let slack = (2.5 * size).min((last - first) / 4.0);
    let core = |w: &&Word| w.base > first + slack && w.base < last - slack;
    let left = run.iter().filter(core).filter(|w| w.rect.x1 <= gutter.x).map(|w| w.rect.x1).fold(f32::MIN, f32::max);
    let right = run.iter().filter(core).filter(|w| w.rect.x1 > gutter.x).map(|w| w.rect.x0).fold(f32::MAX, f32::min);
    if left == f32::MIN || right == f32::MAX {
        return gutter;
    }
    let slack = 0.2 * (right - left);
    let reaches = |w: &Word| w.rect.x1 > left + slack && w.rect.x0 < right - slack;
    let mut at = gutter.from;
    for _ in 0..END_ROWS {
        let Some(base) = words[at..gutter.to].first().map(|w| w.base) else { break };
        let row = words[at..gutter.to].iter().take_while(|w| w.base - base < 0.4 * w.size).count();
        let reached = words[at..at + row].iter().any(reaches);
        at += row;
        gutter.from = if reached { at } else { gutter.from };
    }
    let mut at = gutter.to;
    for _ in 0..END_ROWS {
        let Some(base) = words[gutter.from..at].last().map(|w| w.base) else { break };
        let row = words[gutter.from..at].iter().rev().take_while(|w| base - w.base < 0.4 * w.size).count();
        let reached = words[at - row..at].iter().any(reaches);
        at -= row;
        gutter.to = if reached { at } else { gutter.to };
    }
    gutter
}

/// Finds the runs of words that do not cross a strip around `x`; a word that does takes its whole line out.
fn runs_at(words: &[Word], x: f32, size: f32, found: &mut Vec<Gutter>) {
    let half = 0.25 * size;
    let mut from = 0;
    for at in 0..=words.len() {
        let crosses = words.get(at).is_none_or(|w| w.rect.x0 < x + half && w.rect.x1 > x - half);
        if !crosses || at < from {
            continue;
        }
        let level = |w: &&Word| words.get(at).is_some_and(|c| (w.base - c.base).abs() < 0.3 * c.size);
        let to = at - words[from..at].iter().rev().take_while(level).count();
        if to - from >= 6
            && let Some(score) = score(&words[from..to], x, size)
        {
            found.push(Gutter { x, from, to, score });
        }
        from = at + 1 + words.get(at + 1..).map_or(0, |rest| rest.iter().take_while(level).count());
    }
}

/// Lines on the side that has fewer, more for wide strips; `None`: too few.
fn score(words: &[Word], x: f32, size: f32) -> Option<f32> {
    let (mut left, mut right) = ((f32::MIN, 0u32), (f32::MIN, 0u32));
    let (mut edge_left, mut edge_right) = (f32::MIN, f32::MAX);
    for word in words {
        let side = if word.rect.x1 <= x { &mut left } else { &mut right };
        if word.base - side.0 > 0.4 * word.size {
            *side = (word.base, side.1 + 1);
        }
        if word.rect.x1 <= x {
            edge_left = edge_left.max(word.rect.x1);
        } else {
            edge_right = edge_right.min(word.rect.x0);
        }
    }
    let fewer = left.1.min(right.1);
    // a narrow strip may be chance: blanks that stand above one another
    let wide = ((edge_right - edge_left) / size).clamp(0.0, 2.0);
    (fewer >= 2).then_some(fewer as f32 * (0.5 + wide / 2.0))
}

/// Whether a gutter parts columns of text, not cells of a table.
fn parts_columns(words: &[Word], x: f32, size: f32) -> bool {
    let (left, right): (Vec<Word>, Vec<Word>) = words.iter().cloned().partition(|w| w.rect.x1 <= x);
    let wide = right.iter().map(|w| w.rect.x0).fold(f32::MAX, f32::min) - left.iter().map(|w| w.rect.x1).fold(f32::MIN, f32::max);
    let (left, right) = (lines(left), lines(right));
    let fewer = left.len().min(right.len());
    let needed = match fewer {
        0 | 1 => return false,
        2 | 3 => 2.0,
        4..=7 => 0.9,
        _ => 0.5,
    };
    if wide < needed * size {
        return false;
    }
    let level = |line: &Line| right.iter().any(|other| (other.base - line.base).abs() < 0.15 * size);
    let aligned = left.iter().filter(|l| level(l)).count() as f32 / left.len() as f32;
    let texty = is_texty(&left) && is_texty(&right);
    match fewer {
        2 | 3 => texty && aligned < 0.5,
        _ => texty || aligned < 0.4,
    }
}

/// Whether most lines of a side are as wide as the side and hold several words.
fn is_texty(lines: &[Line]) -> bool {
    let x0 = lines.iter().map(|l| l.rect.x0).fold(f32::MAX, f32::min);
    let x1 = lines.iter().map(|l| l.rect.x1).fold(f32::MIN, f32::max);
    let full = |l: &&Line| l.rect.width() > FILLED * (x1 - x0) && l.words.len() >= 3 && l.cells().len() <= 1;
    lines.iter().filter(full).count() * 2 >= lines.len()
}
