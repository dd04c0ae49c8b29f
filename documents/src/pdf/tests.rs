//! The layout on pages made of glyphs.

use super::layout::{PageLayout, elements, page_layout};
use super::model::{Glyph, RawPage, Rect};
use crate::element::{Element, ElementKind};

/// A page of 600 by 800 points.
fn page() -> RawPage {
    RawPage { width: 600.0, height: 800.0, ..RawPage::default() }
}

/// Writes a text at a place: letters half as wide as the size.
fn write(page: &mut RawPage, x: f32, y: f32, size: f32, text: &str) {
    write_with(page, (x, y), size, text, false);
}

fn write_with(page: &mut RawPage, (mut x, y): (f32, f32), size: f32, text: &str, bold: bool) {
    for c in text.chars() {
        let end = (x + size / 2.0, y);
        page.glyphs.push(Glyph { text: c.to_string(), origin: (x, y), end, size, turn: 0, bold });
        x = end.0;
    }
    let end = (x, y);
    page.glyphs.push(Glyph { text: " ".into(), origin: (x, y), end, size, turn: 0, bold });
}

fn read(pages: &[RawPage]) -> Vec<Element> {
    let layouts: Vec<PageLayout> = pages.iter().zip(1..).map(|(raw, number)| page_layout(number, raw)).collect();
    elements(&layouts)
}

fn of_kind(elements: &[Element], kind: ElementKind) -> Vec<&str> {
    elements.iter().filter(|e| e.kind == kind).map(|e| e.text.as_str()).collect()
}

/// Goal: two columns are read one after the other, between what stands across them.
/// Method: a heading, two columns of 12 lines with different baselines, and a line across below; lines of the two sides alternate in the file.
#[test]
fn columns_in_order() {
    let mut raw = page();
    write(&mut raw, 100.0, 60.0, 20.0, "A heading across both columns");
    for line in 0..12 {
        let y = 120.0 + 12.0 * line as f32;
        write(&mut raw, 50.0, y, 10.0, &format!("left{line:02} words that fill the column well mm"));
        write(&mut raw, 320.0, y + 4.0, 10.0, &format!("right{line:02} words that fill the column well m"));
    }
    write(&mut raw, 50.0, 330.0, 10.0, &"across ".repeat(14));
    let all: String = read(&[raw]).iter().map(|e| format!("{} ", e.text)).collect();
    let places: Vec<usize> =
        ["heading", "left00", "left11", "right00", "right11", "across across"].iter().map(|w| all.find(w).unwrap()).collect();
    assert!(places.is_sorted(), "{all}");
}

/// Goal: a line of the title that has a blank where the gutter runs below it is not cut.
/// Method: a centred line whose blank is in the middle of the page above two columns.
#[test]
fn heading_with_blank_at_gutter() {
    let mut raw = page();
    write(&mut raw, 265.0, 60.0, 10.0, "January");
    write(&mut raw, 305.5, 60.0, 10.0, "3, 2024");
    for line in 0..12 {
        let y = 90.0 + 12.0 * line as f32;
        write(&mut raw, 50.0, y, 10.0, "left words that fill the column well mm mm mm m");
        write(&mut raw, 317.0, y, 10.0, "right words that fill the column well mm mm mm");
    }
    let all = read(&[raw]);
    assert!(all[0].text.contains("January 3, 2024"), "{all:#?}");
}

/// Goal: words parted by a line's end are joined, and hyphens that belong to a word stay.
/// Method: one paragraph with a parted word, a word that the document has with its hyphen elsewhere, and a hyphen before a digit.
#[test]
fn line_ends_are_joined() {
    let mut raw = page();
    let lines = [
        "The long-term view of documents shows that retrie-",
        "val works on words, and that the usual long-",
        "term effects of COVID-",
        "19 stay visible over time.",
    ];
    for (line, y) in lines.iter().zip([100.0, 112.0, 124.0, 136.0]) {
        write(&mut raw, 50.0, y, 10.0, line);
    }
    let text = &read(&[raw])[0].text;
    assert_eq!(
        text,
        "The long-term view of documents shows that retrieval works on words, and that the usual long-term effects of COVID-19 stay visible over time."
    );
}

/// Goal: running headers, footers and page numbers are known over the pages and kept apart; what differs is text.
/// Method: five pages with the same header, a footer with the page's number in it, a number alone and different text.
#[test]
fn furniture_over_pages() {
    let names = ["apples", "pears", "plums", "cherries", "figs"];
    let pages: Vec<RawPage> = (0..5)
        .map(|n| {
            let mut raw = page();
            write(&mut raw, 50.0, 40.0, 9.0, "Report on the state of things");
            let top = format!("{} were counted in the orchard by many hands this year.", names[n]);
            write(&mut raw, 50.0, 100.0, 10.0, &top);
            write(&mut raw, 50.0, 760.0, 9.0, &format!("Copyright 2024, sheet {}", n + 1));
            write(&mut raw, 295.0, 780.0, 9.0, &format!("{}", n + 7));
            raw
        })
        .collect();
    let all = read(&pages);
    assert_eq!(of_kind(&all, ElementKind::Header).len(), 5);
    assert_eq!(of_kind(&all, ElementKind::Footer).len(), 5);
    assert_eq!(of_kind(&all, ElementKind::PageNumber), ["7", "8", "9", "10", "11"]);
    assert_eq!(of_kind(&all, ElementKind::NarrativeText).len(), 5);
    assert_eq!(of_kind(&all, ElementKind::PageBreak).len(), 4);
    assert_eq!(
        all.iter().filter(|e| e.kind == ElementKind::NarrativeText).map(|e| e.page.unwrap()).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
}

/// Goal: titles by size and weight with their depth, items without bullets, captions.
/// Method: one of each above running text.
#[test]
fn kinds_by_looks() {
    let mut raw = page();
    write(&mut raw, 50.0, 60.0, 20.0, "The Title of it All");
    write_with(&mut raw, (50.0, 100.0), 10.0, "1 Introduction", true);
    for line in 0..4 {
        write(&mut raw, 50.0, 120.0 + 12.0 * line as f32, 10.0, "running text of several words that goes on for a while");
    }
    write(&mut raw, 50.0, 200.0, 10.0, "\u{2022} first item of the list");
    write(&mut raw, 50.0, 212.0, 10.0, "\u{2022} second item of the list");
    write(&mut raw, 50.0, 250.0, 9.0, "Figure 3: What the figure shows.");
    let all = read(&[raw]);
    assert_eq!(of_kind(&all, ElementKind::Title), ["The Title of it All", "1 Introduction"]);
    assert_eq!(all.iter().filter_map(|e| e.depth).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(of_kind(&all, ElementKind::ListItem), ["first item of the list", "second item of the list"]);
    assert_eq!(of_kind(&all, ElementKind::FigureCaption), ["Figure 3: What the figure shows."]);
    assert_eq!(of_kind(&all, ElementKind::NarrativeText).len(), 1);
}

/// Goal: a ruled table becomes rows of cells, in Markdown and HTML, with signs of both escaped.
/// Method: a grid of three by three cells, one with two lines, one with `|` and `<`.
#[test]
fn ruled_table() {
    let mut raw = page();
    for x in [50.0, 200.0, 350.0, 500.0] {
        raw.rules.push(Rect::of(x, 100.0, x, 220.0));
    }
    for y in [100.0, 130.0, 180.0, 220.0] {
        raw.rules.push(Rect::of(50.0, y, 500.0, y));
    }
    let cells = [(60.0, 120.0, "Name"), (210.0, 120.0, "Size"), (360.0, 120.0, "Note"), (60.0, 150.0, "first")];
    cells.iter().for_each(|(x, y, text)| write(&mut raw, *x, *y, 10.0, text));
    write(&mut raw, 60.0, 165.0, 10.0, "row");
    write(&mut raw, 210.0, 156.0, 10.0, "12");
    write(&mut raw, 360.0, 156.0, 10.0, "a|b");
    write(&mut raw, 60.0, 205.0, 10.0, "second");
    write(&mut raw, 210.0, 205.0, 10.0, "<13");
    let all = read(&[raw]);
    let table = all.iter().find(|e| e.kind == ElementKind::Table).unwrap();
    assert_eq!(table.text, "| Name | Size | Note |\n| --- | --- | --- |\n| first row | 12 | a\\|b |\n| second | <13 |  |");
    assert!(table.html.as_ref().unwrap().contains("<td>&lt;13</td>"));
}

/// Goal: columns of short cells without rules are a table, not columns of text. Method: five rows of three cells.
#[test]
fn aligned_table() {
    let mut raw = page();
    for (row, y) in (0..5).zip([100.0, 114.0, 128.0, 142.0, 156.0]) {
        write(&mut raw, 60.0, y, 10.0, &format!("row {row}"));
        write(&mut raw, 220.0, y, 10.0, &format!("{}", row * 11));
        write(&mut raw, 400.0, y, 10.0, &format!("{}.5", row));
    }
    let all = read(&[raw]);
    let table = all.iter().find(|e| e.kind == ElementKind::Table).unwrap();
    assert!(table.text.contains("| row 3 | 33 | 3.5 |"), "{}", table.text);
}

/// Goal: text that runs in another direction is read as words. Method: a line that runs down the page, and one that runs up.
#[test]
fn turned_text() {
    for (turn, step) in [(1, 5.0), (3, -5.0)] {
        let mut raw = page();
        let mut y = 400.0;
        for c in "turned words".chars() {
            let end = (300.0, y + step);
            raw.glyphs.push(Glyph { text: c.to_string(), origin: (300.0, y), end, size: 10.0, turn, bold: false });
            y += step;
        }
        assert_eq!(read(&[raw])[0].text, "turned words");
    }
}

/// Goal: letters drawn twice to look bold count once. Method: each letter again, a little to the right.
#[test]
fn drawn_twice() {
    let mut raw = page();
    for (n, c) in "tilling".chars().enumerate() {
        for off in [0.0, 0.4] {
            let x = 50.0 + 5.0 * n as f32 + off;
            raw.glyphs.push(Glyph {
                text: c.to_string(),
                origin: (x, 50.0),
                end: (x + 5.0, 50.0),
                size: 10.0,
                turn: 0,
                bold: false,
            });
        }
    }
    assert_eq!(read(&[raw])[0].text, "tilling");
}

/// Goal: an accent drawn apart joins its letter, before or after it. Method: `o` with a breve before it, `a` with a tilde after it.
#[test]
fn accents_join_letters() {
    let mut raw = page();
    let glyphs = [
        ("\u{2d8}", 50.0, 55.0),
        ("g", 50.0, 55.0),
        ("u", 55.0, 60.0),
        ("a", 60.0, 65.0),
        ("\u{2dc}", 60.5, 64.5),
        ("z", 65.0, 70.0),
    ];
    for (text, x, end) in glyphs {
        raw.glyphs.push(Glyph { text: text.into(), origin: (x, 50.0), end: (end, 50.0), size: 10.0, turn: 0, bold: false });
    }
    assert_eq!(read(&[raw])[0].text, "\u{11f}u\u{e3}z");
}

/// Goal: text that runs leftwards comes out in its own order. Method: two Hebrew words, their letters drawn from left to right.
#[test]
fn leftward_text() {
    let mut raw = page();
    // shown as "םלוע םולש", which reads "שלום עולם"
    write(&mut raw, 50.0, 50.0, 10.0, "\u{5dd}\u{5dc}\u{5d5}\u{5e2}");
    write(&mut raw, 80.0, 50.0, 10.0, "\u{5dd}\u{5d5}\u{5dc}\u{5e9}");
    assert_eq!(read(&[raw])[0].text, "\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{5e2}\u{5d5}\u{5dc}\u{5dd}");
}

/// Goal: a paragraph that a column's end cuts within a sentence is one. Method: two columns, the first of which ends within a word.
#[test]
fn paragraphs_over_columns() {
    let mut raw = page();
    for line in 0..10 {
        let y = 100.0 + 12.0 * line as f32;
        write(
            &mut raw,
            50.0,
            y,
            10.0,
            if line == 9 {
                "words fill the column and the last one is par-"
            } else {
                "words fill the column and they go on and on mm"
            },
        );
        write(
            &mut raw,
            320.0,
            y,
            10.0,
            if line == 0 {
                "ted over the columns, as columns do to a word"
            } else {
                "words fill the column and they go on and on mm"
            },
        );
    }
    let all = read(&[raw]);
    assert_eq!(of_kind(&all, ElementKind::NarrativeText).len(), 1, "{all:#?}");
    assert!(all[0].text.contains("one is parted over the columns"));
}
