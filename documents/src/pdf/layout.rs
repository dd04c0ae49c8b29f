//! Pages to elements: reading order, furniture, blocks and their kinds, the same for all backends.

use super::aligned::{Piece, pieces};
use super::blocks::{Block, blocks};
use super::furniture::{Margins, find};
use super::grid::Grid;
use super::join::{Vocabulary, append};
use super::kinds::{Body, is_caption, kind, starts_item};
use super::lines::{Line, lines};
use super::model::{RawPage, Rect, Word};
use super::regions::regions;
use super::ruled::take_tables;
use super::words::{rect_to_frame, words};
use crate::element::{Element, ElementKind};

/// A picture smaller than this part of the page is an ornament.
const MIN_IMAGE: f32 = 0.02;
/// What stands for a table among the words: never part of a text.
const PLACE: char = '\u{fffc}';

/// A page in reading order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PageLayout {
    /// From 1.
    pub page: u32,
    /// Points from top to bottom.
    height: f32,
    regions: Vec<Vec<Piece>>,
    /// Pictures without text on them.
    images: usize,
}

impl PageLayout {
    /// A page of which nothing is known.
    pub fn empty(page: u32) -> Self {
        Self { page, ..Self::default() }
    }

    /// Whether it has text.
    pub fn has_text(&self) -> bool {
        self.regions.iter().any(|r| !r.is_empty())
    }

    /// Characters of its lines and tables.
    pub fn num_chars(&self) -> usize {
        let of = |piece: &Piece| match piece {
            Piece::Line(line) => line.words.iter().map(|w| w.text.len()).sum::<usize>(),
            Piece::Table(grid) => grid.rows.iter().flatten().map(String::len).sum(),
        };
        self.regions.iter().flatten().map(of).sum()
    }

    fn all_lines(&self) -> impl Iterator<Item = &Line> {
        self.regions.iter().flatten().filter_map(|p| match p {
            Piece::Line(line) => Some(line),
            Piece::Table(_) => None,
        })
    }
}

/// Lays out the page `page` (from 1).
pub fn page_layout(page: u32, raw: &RawPage) -> PageLayout {
    let mut out = PageLayout { page, height: raw.height, ..PageLayout::default() };
    for (index, frame) in words(raw).into_iter().enumerate() {
        let rules: Vec<Rect> = raw.rules.iter().map(|r| rect_to_frame(raw, frame.turn, r)).collect();
        if index == 0 {
            out.height = frame.height;
            out.images = pictures(raw);
        }
        frame_regions(frame.words, &rules, &mut out.regions);
    }
    out
}

/// Lays out a page whose words are known already, as OCR gives them.
pub fn words_layout(page: u32, height: f32, words: Vec<Word>, images: usize) -> PageLayout {
    let mut out = PageLayout { page, height, images, ..PageLayout::default() };
    frame_regions(words, &[], &mut out.regions);
    out
}

/// Pictures that are large enough to be meant and do not cover the page.
fn pictures(raw: &RawPage) -> usize {
    let area = (raw.width * raw.height).max(1.0);
    let part = |i: &Rect| i.width() * i.height() / area;
    raw.images.iter().filter(|i| part(i) >= MIN_IMAGE && part(i) < 0.9).count().min(50)
}

fn frame_regions(mut words: Vec<Word>, rules: &[Rect], out: &mut Vec<Vec<Piece>>) {
    let grids = take_tables(&mut words, rules);
    for (index, grid) in grids.iter().enumerate() {
        words.push(Word {
            text: format!("{PLACE}{index}"),
            rect: grid.rect,
            base: grid.rect.y0,
            size: 1.0,
            bold: false,
            spaced: true,
        });
    }
    for region in regions(words) {
        let (places, texts): (Vec<Word>, Vec<Word>) = region.into_iter().partition(|w| w.text.starts_with(PLACE));
        let mut rest = lines(texts);
        let mut found = Vec::new();
        for place in places {
            let below = rest.partition_point(|l| l.base < place.rect.y0 + 1.0);
            let after = rest.split_off(below);
            found.extend(pieces(rest));
            let grid = place.text.trim_start_matches(PLACE).parse::<usize>().ok().and_then(|i| grids.get(i));
            found.extend(grid.cloned().map(Piece::Table));
            rest = after;
        }
        found.extend(pieces(rest));
        out.push(found);
    }
}

/// The elements of all pages, in order, with a break between two pages.
pub fn elements(pages: &[PageLayout]) -> Vec<Element> {
    let numbered: Vec<Vec<&Line>> = pages.iter().map(|p| p.all_lines().collect()).collect();
    let margins: Vec<Margins<'_>> = pages
        .iter()
        .zip(&numbered)
        .map(|(p, lines)| Margins {
            height: p.height,
            lines: lines.iter().copied().enumerate().collect(),
            has_more: p.images > 0 || p.regions.iter().flatten().count() > lines.len(),
        })
        .collect();
    let furniture = find(&margins);
    let mut words = Vocabulary::default();
    numbered.iter().flatten().for_each(|line| words.learn(&line.text()));
    let mut writer = Writer { words, body: body(&numbered), out: Vec::new(), sizes: Vec::new() };
    for (index, page) in pages.iter().enumerate() {
        if index > 0 {
            writer.push(ElementKind::PageBreak, String::new(), pages[index - 1].page);
        }
        let mut line_id = 0;
        for region in &page.regions {
            let mut run: Vec<Line> = Vec::new();
            for piece in region {
                match piece {
                    Piece::Table(grid) => {
                        writer.blocks(std::mem::take(&mut run), page.page);
                        writer.table(grid, page.page);
                    }
                    Piece::Line(line) => {
                        match furniture[index].get(&line_id) {
                            Some(kind) => writer.push(*kind, line.text(), page.page),
                            None => run.push(line.clone()),
                        }
                        line_id += 1;
                    }
                }
            }
            writer.blocks(run, page.page);
        }
        (0..page.images).for_each(|_| writer.push(ElementKind::Image, String::new(), page.page));
    }
    writer.finish()
}

/// The look of most characters.
fn body(pages: &[Vec<&Line>]) -> Body {
    let mut counts: Vec<(f32, usize, usize)> = Vec::new();
    for line in pages.iter().flatten() {
        let chars: usize = line.words.iter().map(|w| w.text.len()).sum();
        let bold = if line.bold { chars } else { 0 };
        match counts.iter_mut().find(|(size, ..)| (*size - line.size).abs() < 0.3) {
            Some((_, all, bolds)) => (*all, *bolds) = (*all + chars, *bolds + bold),
            None => counts.push((line.size, chars, bold)),
        }
    }
    let most = counts.into_iter().max_by_key(|(_, all, _)| *all);
    most.map_or(Body::default(), |(size, all, bold)| Body { size, bold: bold * 2 > all })
}

struct Writer {
    words: Vocabulary,
    body: Body,
    out: Vec<Element>,
    /// Font sizes of the elements, 0 where there is none.
    sizes: Vec<f32>,
}

impl Writer {
    fn push(&mut self, kind: ElementKind, text: String, page: u32) {
        self.out.push(Element { kind, text, page: Some(page), html: None, depth: None });
        self.sizes.push(0.0);
    }

    fn table(&mut self, grid: &Grid, page: u32) {
        self.push(ElementKind::Table, grid.markdown(), page);
        if let Some(last) = self.out.last_mut() {
            last.html = Some(grid.html());
        }
    }

    fn blocks(&mut self, lines: Vec<Line>, page: u32) {
        for block in blocks(lines) {
            self.block(&block, page);
        }
    }

    fn block(&mut self, block: &Block, page: u32) {
        let mut text = String::new();
        block.lines.iter().for_each(|line| append(&mut text, &line.text(), &self.words));
        if text.is_empty() {
            return;
        }
        let kind = kind(block, &text, self.body);
        let running = matches!(kind, ElementKind::NarrativeText | ElementKind::UncategorizedText);
        if let Some(before) = running.then(|| self.continued(&text, block.size(), page)).flatten() {
            append(&mut self.out[before].text, &text, &self.words);
            return;
        }
        if kind == ElementKind::ListItem {
            let bullet = starts_item(&text).unwrap_or(0);
            text.drain(..bullet);
        }
        self.push(kind, text, page);
        if let Some(size) = self.sizes.last_mut() {
            *size = block.size();
        }
    }

    /// The element that a text goes on with: the last running text, cut off within a sentence, in the column or page before.
    fn continued(&self, text: &str, size: f32, page: u32) -> Option<usize> {
        use ElementKind::*;
        if !text.starts_with(char::is_lowercase) {
            return None;
        }
        let passed = |e: &Element| matches!(e.kind, PageBreak | Header | Footer | PageNumber | Image | Table | FigureCaption);
        let at = self.out.iter().rposition(|e| !passed(e))?;
        let before = &self.out[at];
        let open = !before.text.ends_with(['.', '!', '?', ':', ';', '\u{3002}']);
        let near = before.page.is_some_and(|p| p + 1 >= page);
        let alike = (self.sizes[at] - size).abs() < 0.08 * size;
        let running =
            matches!(before.kind, NarrativeText | ListItem) && before.text.len() > 40 && !is_caption(&before.text, false);
        (open && near && alike && running).then_some(at)
    }

    /// Titles' depths by their sizes.
    fn finish(mut self) -> Vec<Element> {
        let mut sizes: Vec<f32> =
            self.out.iter().zip(&self.sizes).filter(|(e, _)| e.kind == ElementKind::Title).map(|(_, s)| s.round()).collect();
        sizes.sort_by(|a, b| b.total_cmp(a));
        sizes.dedup();
        for (element, size) in self.out.iter_mut().zip(&self.sizes) {
            if element.kind == ElementKind::Title {
                let depth = sizes.iter().position(|s| *s <= size.round()).unwrap_or(0);
                element.depth = Some(depth.min(5) as u8 + 1);
            }
        }
        self.out
    }
}
