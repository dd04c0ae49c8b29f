//! Lines to blocks: paragraphs, headings, items.

use super::kinds::{is_caption, starts_item};
use super::lines::Line;

/// Lines that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Its lines, from top to bottom.
    pub lines: Vec<Line>,
    /// Points from the line above it in its region; infinite for the first.
    pub above: f32,
}

impl Block {
    /// The font size of its first line.
    pub fn size(&self) -> f32 {
        self.lines.first().map_or(0.0, |l| l.size)
    }

    /// Whether all of it is bold.
    pub fn bold(&self) -> bool {
        self.lines.iter().all(|l| l.bold)
    }
}

/// Cuts a region's lines into blocks.
pub fn blocks(lines: Vec<Line>) -> Vec<Block> {
    let pitch = pitch(&lines);
    let right = lines.iter().map(|l| l.rect.x1).fold(f32::MIN, f32::max);
    let left = lines.iter().map(|l| l.rect.x0).fold(f32::MAX, f32::min);
    let mut out: Vec<Block> = Vec::new();
    for line in lines {
        let above = out.last().and_then(|b| b.lines.last()).map_or(f32::INFINITY, |last| line.base - last.base);
        match out.last_mut() {
            Some(block) if continues(block, &line, above, pitch, (left, right)) => block.lines.push(line),
            _ => out.push(Block { lines: vec![line], above }),
        }
    }
    out
}

/// The usual distance of two baselines.
fn pitch(lines: &[Line]) -> f32 {
    let mut steps: Vec<f32> = lines
        .windows(2)
        .map(|w| (w[1].base - w[0].base, w[0].size.max(w[1].size)))
        .filter(|(step, size)| *step > 0.5 * size && *step < 2.5 * size)
        .map(|(step, _)| step)
        .collect();
    steps.sort_by(f32::total_cmp);
    // the lower third: paragraphs' gaps are among the steps
    steps.get(steps.len() / 3).copied().unwrap_or(0.0)
}

fn continues(block: &Block, line: &Line, above: f32, pitch: f32, (left, right): (f32, f32)) -> bool {
    let (Some(first), Some(last)) = (block.lines.first(), block.lines.last()) else { return false };
    let size = last.size.max(line.size);
    if (last.size - line.size).abs() > 0.12 * size && line.words.len() > 1 && last.words.len() > 1 {
        return false;
    }
    let usual = if pitch > 0.0 && pitch < 2.5 * size { pitch } else { 1.3 * size };
    if above > 1.3 * usual.max(1.05 * size) || changes_weight(last, line, right - left) {
        return false;
    }
    let text = line.text();
    // a dot between words may come to stand at a line's start
    let dotted = text.starts_with('\u{b7}') && last.text().contains('\u{b7}');
    if starts_item(&text).is_some() && !dotted || is_caption(&text, line.bold) {
        return false;
    }
    let previous = last.text();
    let ended = previous.ends_with(['.', '!', '?', ':', '\u{3002}', '"', '\u{201d}', ')']);
    if starts_item(&first.text()).is_some() {
        let hangs = line.rect.x0 > first.rect.x0 + 0.3 * size;
        return hangs || !ended && (line.rect.x0 - first.rect.x0).abs() < 0.3 * size;
    }
    let indented = line.rect.x0 - block.lines.iter().map(|l| l.rect.x0).fold(f32::MAX, f32::min);
    if ended && indented > 0.7 * size && indented < 5.0 * size && (last.rect.x0 - first.rect.x0).abs() < 5.0 * size {
        let level = block.lines.len() == 1 || last.rect.x0 < line.rect.x0 - 0.7 * size;
        if level {
            return false;
        }
    }
    let short = last.rect.x1 < right - 0.25 * (right - left);
    !(short && ended && text.starts_with(|c: char| c.is_uppercase() || c.is_numeric()))
}

/// Whether a heading ends or begins between two lines: one is bold and the other is not, and no bold sentence runs on.
fn changes_weight(last: &Line, line: &Line, width: f32) -> bool {
    match (last.bold, line.bold) {
        (true, false) => last.rect.width() < 0.85 * width || !line.words.first().is_some_and(|w| w.bold),
        (false, true) => !last.words.last().is_some_and(|w| w.bold),
        _ => false,
    }
}
