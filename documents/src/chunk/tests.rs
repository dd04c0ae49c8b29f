use std::collections::BTreeMap;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::element::{Element, ElementKind};

fn document(elements: &[(ElementKind, &str)]) -> Document {
    Document::unpaged("test", elements.iter().map(|(kind, text)| Element::new(*kind, *text)).collect())
}

fn narrative(text: &str) -> Document {
    document(&[(ElementKind::NarrativeText, text)])
}

fn options(chunk_size: usize, overlap: usize) -> ChunkOptions {
    ChunkOptions { chunk_size, overlap, ..ChunkOptions::default() }
}

fn never(_: &str) -> usize {
    unreachable!("characters need no measuring")
}

fn texts(document: &Document, options: &ChunkOptions) -> Vec<String> {
    chunk(document, options, &never).into_iter().map(|chunk| chunk.text).collect()
}

/// A tokenizer that is not additive: a token for every four letters of a word begun, one for every run of white space but single
/// spaces, and one for a word after the first of a text.
fn odd_tokens(text: &str) -> usize {
    let words: usize = text.split_whitespace().map(|word| word.chars().count().div_ceil(4) + 1).sum();
    (words + text.matches("\n\n").count()).saturating_sub(1)
}

#[derive(serde::Deserialize)]
struct Golden {
    text: String,
    sentences: usize,
    /// Lengths of the chunks by chunk size.
    chunks: BTreeMap<usize, Vec<usize>>,
}

/// Goal: without overlap chunks are those of the splitter that this project began from. Method: its golden over 220 sentences.
#[test]
fn chunks_of_the_seed() {
    let golden: Golden = serde_json::from_str(include_str!("../../tests/data/seed_chunks.json")).unwrap();
    assert_eq!(crate::sentences::sentences(&golden.text).len(), golden.sentences);
    assert!(golden.chunks.len() >= 5);
    for (size, lengths) in golden.chunks {
        let found: Vec<usize> =
            texts(&narrative(&golden.text), &options(size, 0)).iter().map(|text| text.chars().count()).collect();
        assert_eq!(found, lengths, "{size}");
    }
}

/// Goal: the overlap is the tail of the previous chunk, from a word on, and takes its room from the new sentences. Method: by hand.
#[test]
fn overlap() {
    let text = "One two three four. Five six seven. Eight nine ten. Eleven.";
    assert_eq!(texts(&narrative(text), &options(36, 0)), ["One two three four. Five six seven.", "Eight nine ten. Eleven."]);
    let wanted = ["One two three four. Five six seven.", "six seven. Eight nine ten. Eleven."];
    assert_eq!(texts(&narrative(text), &options(36, 12)), wanted);
    let chunks = chunk(&narrative(text), &options(36, 12), &never);
    assert_eq!((chunks[1].start, chunks[1].end), (25, 59));
    // A word that is longer than the overlap is not cut for it.
    assert_eq!(texts(&narrative(text), &options(36, 3))[1], "Eight nine ten. Eleven.");
}

/// Goal: what is too long is cut between words, then between characters, and nothing is lost. Method: by hand.
#[test]
fn long_sentences() {
    let found = texts(&narrative("Short one. This sentence goes on and on and on. End."), &options(20, 0));
    assert_eq!(found, ["Short one.", "This sentence goes", "on and on and on.", "End."]);
    assert_eq!(texts(&narrative("abcdefghijklmnopqrstuvwxyz"), &options(10, 0)), ["abcdefghij", "klmnopqrst", "uvwxyz"]);
    assert_eq!(texts(&narrative("e\u{301}e\u{301}e\u{301}"), &options(3, 0)), ["e\u{301}", "e\u{301}", "e\u{301}"]);
    assert_eq!(texts(&narrative("你好世界你好世界"), &options(5, 2)), ["你好世界你", "界你好世界"]);
}

/// Goal: titles begin chunks if asked, name sections, and do not end chunks. Method: two sections, with and without `by_title`.
#[test]
fn titles() {
    use ElementKind::{NarrativeText, Title};
    let text = "Words of the first. More of it here.";
    let elements = [
        (Title, "A"),
        (Title, "First"),
        (NarrativeText, text),
        (Title, "Second"),
        (NarrativeText, "Other words. Not the same ones."),
    ];
    let by_title = ChunkOptions { by_title: true, ..options(100, 20) };
    let chunks = chunk(&document(&elements), &by_title, &never);
    let found: Vec<(&str, Option<&str>)> = chunks.iter().map(|chunk| (chunk.text.as_str(), chunk.section.as_deref())).collect();
    let first = "A\n\nFirst\n\nWords of the first. More of it here.";
    assert_eq!(found, [(first, Some("First")), ("Second\n\nOther words. Not the same ones.", Some("Second"))]);
    let chunks = chunk(&document(&elements), &options(57, 0), &never);
    let found: Vec<(&str, Option<&str>)> = chunks.iter().map(|chunk| (chunk.text.as_str(), chunk.section.as_deref())).collect();
    assert_eq!(found, [(first, Some("First")), ("Second\n\nOther words. Not the same ones.", Some("Second"))]);
    let long = document(&[(Title, "Head"), (NarrativeText, &"word ".repeat(40))]);
    assert!(texts(&long, &by_title).iter().all(|text| text.len() > 40));
    let giant = document(&[(Title, &"t ".repeat(100_000))]);
    assert!(chunk(&giant, &by_title, &never).iter().all(|chunk| chunk.section.as_ref().unwrap().len() <= 200));
}

/// Goal: a table that fits is whole; one that does not is cut by rows, each chunk with its head. Method: tables of both sizes.
#[test]
fn tables() {
    let table = "| name | size |\n| --- | --- |\n| ant | 1 |\n| bear | 2 |\n| cat | 3 |\n| dog | 4 |";
    let elements = [(ElementKind::NarrativeText, "Some words before."), (ElementKind::Table, table)];
    assert_eq!(texts(&document(&elements), &options(90, 0)), ["Some words before.", table]);
    let head = "| name | size |\n| --- | --- |\n";
    let wanted =
        ["Some words before.".to_owned(), format!("{head}| ant | 1 |\n| bear | 2 |"), format!("{head}| cat | 3 |\n| dog | 4 |")];
    assert_eq!(texts(&document(&elements), &options(60, 0)), wanted);
    assert_eq!(texts(&document(&elements[1..]), &options(60, 10)), wanted[1..]);
    let chunks = chunk(&document(&elements), &options(60, 0), &never);
    let full: Vec<char> = chunk_text(&document(&elements)).chars().collect();
    let slice: String = full[chunks[2].start as usize..chunks[2].end as usize].iter().collect();
    assert_eq!(slice, "| cat | 3 |\n| dog | 4 |");
    assert!(texts(&document(&elements[1..]), &options(20, 0)).iter().all(|text| text.chars().count() <= 20));
}

/// Goal: chunks know their pages; headers and footers are in none. Method: elements of three pages.
#[test]
fn pages() {
    let mut document = document(&[
        (ElementKind::Header, "Firm"),
        (ElementKind::NarrativeText, "On page one."),
        (ElementKind::PageBreak, ""),
        (ElementKind::NarrativeText, "On page two."),
        (ElementKind::PageNumber, "2"),
        (ElementKind::NarrativeText, "On page three."),
    ]);
    for (element, page) in document.elements.iter_mut().zip([1, 1, 1, 2, 2, 3]) {
        element.page = Some(page);
    }
    let chunks = chunk(&document, &options(30, 0), &never);
    let pages: Vec<_> = chunks.iter().map(|chunk| (chunk.first_page, chunk.last_page)).collect();
    assert_eq!(pages, [(Some(1), Some(2)), (Some(3), Some(3))]);
    assert_eq!(chunk_text(&document), "On page one.\n\nOn page two.\n\nOn page three.");
    let overlapping = chunk(&document, &options(30, 10), &never);
    assert_eq!(overlapping[1].text, "page two.\n\nOn page three.");
    assert_eq!((overlapping[1].first_page, overlapping[1].last_page), (Some(2), Some(3)));
}

/// Goal: time is linear in the text and in no other number. Method: ten megabytes of sentences, of one sentence, of one word, of one
/// table, of titles, in characters and in tokens, and how often each character is measured.
#[test]
fn ten_megabytes() {
    let bytes = 10_000_000;
    let sentence = "The quick brown fox jumps over it. ".repeat(bytes / 35);
    let row = format!("| a | b |\n| --- | --- |\n{}", "| one | two |\n".repeat(bytes / 14));
    let kinds = [
        (ElementKind::NarrativeText, sentence.clone()),
        (ElementKind::NarrativeText, "word ".repeat(bytes / 5)),
        (ElementKind::NarrativeText, "x".repeat(bytes)),
        (ElementKind::NarrativeText, "你".repeat(bytes / 3)),
        (ElementKind::Table, row),
        (ElementKind::Title, sentence),
    ];
    for (kind, text) in &kinds {
        let document = document(&[(*kind, text)]);
        for (unit, size, overlap) in [(Unit::Characters, 2048, 200), (Unit::Tokens, 512, 50)] {
            let options = ChunkOptions { unit, by_title: true, ..options(size, overlap) };
            let measured = std::cell::Cell::new(0);
            let begun = Instant::now();
            let measure = |text: &str| {
                measured.set(measured.get() + text.len());
                odd_tokens(text)
            };
            let chunks = chunk(&document, &options, &measure);
            assert!(chunks.len() > 100);
            assert!(measured.get() <= 8 * text.len(), "{} of {}", measured.get(), text.len());
            eprintln!(
                "{kind:?} {}... {unit:?} {overlap}: {} chunks, {:?}",
                text.chars().take(3).collect::<String>(),
                chunks.len(),
                begun.elapsed()
            );
        }
    }
}

/// An element of a random document: sentences, abbreviations, long words, tables, programs, titles, scripts without spaces.
fn any_element() -> impl Strategy<Value = Element> {
    let text = "([A-Za-z]{1,8}[.!?]? |Dr\\. |[a-z]{30,60} |[\u{4f60}\u{597d}\u{3002}]{1,9}|e\u{301}|\n\n| \n){1,40}";
    let cells = prop::collection::vec(prop::collection::vec("[a-z]{0,12}", 1..4), 1..8);
    let table = cells.prop_map(|rows| {
        let mut table = crate::table::Table::default();
        for row in rows {
            table.begin_row();
            row.into_iter().for_each(|cell| table.push_cell(cell, 1));
        }
        table.into_element().unwrap_or_else(|| Element::new(ElementKind::PageBreak, ""))
    });
    let kinds = prop::sample::select(vec![
        ElementKind::NarrativeText,
        ElementKind::ListItem,
        ElementKind::CodeSnippet,
        ElementKind::Header,
    ]);
    prop_oneof![
        4 => (kinds, text).prop_map(|(kind, text)| Element::new(kind, text)),
        2 => "[A-Z][a-z ]{0,20}".prop_map(|text| Element::new(ElementKind::Title, text)),
        1 => table,
    ]
}

fn bare(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

/// Checks everything that is promised of chunks.
fn check(document: &Document, options: &ChunkOptions, measure: &dyn Fn(&str) -> usize) -> Result<(), TestCaseError> {
    let chunks = chunk(document, options, measure);
    prop_assert_eq!(&chunks, &chunk(document, options, measure), "the same twice");
    let full: Vec<char> = chunk_text(document).chars().collect();
    let slice = |start: u64, end: u64| full[start as usize..end as usize].iter().collect::<String>();
    let (mut covered, mut new) = (0, String::new());
    for (i, chunk) in chunks.iter().enumerate() {
        let cost = if options.unit == Unit::Characters { chunk.text.chars().count() } else { measure(&chunk.text) };
        prop_assert!(cost <= options.chunk_size || chunk.text.chars().count() == 1, "{cost}: {:?}", chunk.text);
        let own = slice(chunk.start, chunk.end);
        prop_assert!(own.trim() == own && !own.is_empty());
        match chunk.text.strip_suffix(&own) {
            Some("") => {}
            Some(head) => prop_assert!(head.starts_with('|') && head.ends_with("|\n") && chunk.start >= covered, "{head:?}"),
            None => prop_assert!(false, "{:?} is not {own:?}", chunk.text),
        }
        let begin = chunk.start.max(covered);
        if chunk.start < covered {
            let overlap = slice(chunk.start, covered);
            prop_assert!(i > 0 && chunks[i - 1].text.ends_with(&overlap) && chunks[i - 1].end == covered);
            let cost = if options.unit == Unit::Characters { overlap.chars().count() } else { measure(&overlap) };
            prop_assert!(cost <= options.overlap, "{overlap:?}");
        } else {
            prop_assert_eq!(bare(&slice(covered, chunk.start)), "", "left out");
        }
        prop_assert!(chunk.end > covered, "nothing new");
        new.push_str(&bare(&slice(begin, chunk.end)));
        covered = chunk.end;
    }
    prop_assert_eq!(new, bare(&full.iter().collect::<String>()));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Goal: nothing is lost or doubled, no chunk is too long, the overlap is the previous chunk's tail, and all is the same twice.
    /// Method: random documents, sizes and overlaps, in characters and in tokens that do not add up.
    #[test]
    fn chunks_hold_their_promises(
        elements in prop::collection::vec(any_element(), 0..12),
        chunk_size in 1_usize..120,
        share in 0_usize..100,
        by_title in any::<bool>(),
        is_tokens in any::<bool>(),
    ) {
        let unit = if is_tokens { Unit::Tokens } else { Unit::Characters };
        // A single word costs up to 16 of these tokens.
        let chunk_size = if is_tokens { chunk_size + 4 } else { chunk_size };
        let options = ChunkOptions { chunk_size, overlap: chunk_size * share / 100, unit, by_title };
        check(&Document::unpaged("test", elements), &options, &odd_tokens)?;
    }
}
