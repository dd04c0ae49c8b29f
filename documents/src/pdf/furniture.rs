//! Running headers, footers and page numbers.

use std::collections::HashMap;

use super::lines::Line;
use crate::element::ElementKind;

/// The part of a page's height, above and below, in which they stand.
const MARGIN: f32 = 0.18;
/// The part in which a number alone is the page's.
const NUMBER_MARGIN: f32 = 0.18;
/// A document of few pages shows less of what repeats, so it must stand further out.
const FEW_PAGES: usize = 3;
/// The part of the height for those.
const FEW_MARGIN: f32 = 0.14;
/// Lines from the edge that are looked at.
const OUTERMOST: usize = 4;
/// The same line stands on other pages within this part of the height.
const SAME_PLACE: f32 = 0.015;

/// The lines of a page that are looked at.
pub struct Margins<'a> {
    /// Points from top to bottom.
    pub height: f32,
    /// All lines of the page, each with a number of the caller's.
    pub lines: Vec<(usize, &'a Line)>,
    /// Whether there is more on it than lines: tables, pictures.
    pub has_more: bool,
}

struct Seen {
    page: usize,
    y: f32,
}

/// The kinds of the lines that are furniture, by page, each with the caller's number.
pub fn find(pages: &[Margins<'_>]) -> Vec<HashMap<usize, ElementKind>> {
    let edges: Vec<[Vec<(usize, &Line)>; 2]> = pages.iter().map(|p| [edge(p, true), edge(p, false)]).collect();
    let mut seen: HashMap<(bool, String), Vec<Seen>> = HashMap::new();
    for (page, sides) in edges.iter().enumerate() {
        for (top, side) in [(true, &sides[0]), (false, &sides[1])] {
            for (_, line) in side {
                seen.entry((top, key(&line.text()))).or_default().push(Seen { page, y: line.base });
            }
        }
    }
    let mut out = Vec::with_capacity(pages.len());
    for (page, sides) in edges.iter().enumerate() {
        let mut kinds = HashMap::new();
        for (top, side) in [(true, &sides[0]), (false, &sides[1])] {
            mark(page, pages, top, side, &seen, &mut kinds);
        }
        // a page that has nothing else is one that others are alike to as a whole
        if kinds.len() == pages[page].lines.len() && !pages[page].has_more {
            kinds.retain(|_, kind| *kind == ElementKind::PageNumber);
        }
        out.push(kinds);
    }
    out
}

/// Marks the lines of one edge, from the outermost inwards.
fn mark(
    page: usize,
    pages: &[Margins<'_>],
    top: bool,
    side: &[(usize, &Line)],
    seen: &HashMap<(bool, String), Vec<Seen>>,
    kinds: &mut HashMap<usize, ElementKind>,
) {
    let height = pages[page].height;
    let needed = if pages.len() <= 4 { 2 } else { 3 };
    let mut outermost = true;
    for (id, line) in side {
        let text = line.text();
        let from_edge = if top { line.base } else { height - line.base };
        let far = from_edge <= NUMBER_MARGIN * height;
        let margin = if pages.len() <= FEW_PAGES { FEW_MARGIN } else { MARGIN };
        let times = seen.get(&(top, key(&text))).map_or(0, |all| {
            let mut on: Vec<usize> =
                all.iter().filter(|s| (s.y - line.base).abs() < SAME_PLACE * height).map(|s| s.page).collect();
            on.dedup();
            on.len()
        });
        let repeated = pages.len() >= 2 && from_edge <= margin * height && times >= needed.min(pages.len());
        if outermost && (far || repeated) && is_page_number(&text) {
            kinds.insert(*id, ElementKind::PageNumber);
        } else if repeated && text.len() < 200 {
            kinds.insert(*id, if top { ElementKind::Header } else { ElementKind::Footer });
        } else {
            outermost = false;
        }
    }
}

/// The lines near one edge, the outermost first.
fn edge<'a>(page: &Margins<'a>, top: bool) -> Vec<(usize, &'a Line)> {
    let limit = MARGIN * page.height;
    let near = |l: &Line| if top { l.base <= limit } else { l.base >= page.height - limit };
    let mut lines: Vec<(usize, &Line)> = page.lines.iter().filter(|(_, l)| near(l)).copied().collect();
    lines.sort_by(|a, b| if top { a.1.base.total_cmp(&b.1.base) } else { b.1.base.total_cmp(&a.1.base) });
    lines.truncate(OUTERMOST);
    lines
}

/// A text in which numbers do not differ.
fn key(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_ascii_digit() {
            true if out.ends_with('#') => {}
            true => out.push('#'),
            false => out.extend(c.to_lowercase()),
        }
    }
    out
}

/// Whether a text is a page's number alone: `12`, `- 12 -`, `xii`, `Page 3 of 10`, `3/10`.
pub fn is_page_number(text: &str) -> bool {
    let bare = text.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let bare = ["page", "seite", "p."].iter().find_map(|p| bare.strip_prefix(p)).unwrap_or(&bare).trim().to_string();
    let parts: Vec<&str> = bare.split(|c: char| c.is_whitespace() || c == '/').filter(|p| !p.is_empty()).collect();
    let number = |p: &str| !p.is_empty() && p.len() <= 4 && p.bytes().all(|b| b.is_ascii_digit());
    let roman = |p: &str| !p.is_empty() && p.len() <= 7 && p.bytes().all(|b| b"ivxlc".contains(&b));
    match parts.as_slice() {
        [one] => number(one) || roman(one),
        [one, two] => number(one) && number(two),
        [one, "of" | "von", two] => number(one) && number(two),
        _ => false,
    }
}
