//! Kinds of elements and words of a PDF beside those of another reader's JSON (a list of `{type, text, metadata: {page_number}}`), on the
//! pages that both have: counts, then each of the other's elements of five words or more with the element here that has most of its words: `cargo run -p artel-documents --example types -- FILE.pdf EXPECTED.json`

#[path = "recall/referee.rs"]
#[allow(dead_code, reason = "the other example takes what this one does not")]
mod referee;

use std::collections::BTreeMap;

use artel_documents::element::{Document, Element};
use artel_documents::pdf::{Choice, read_with};
use artel_documents::read::ReadOptions;
use referee::{Words, count, found, words_of};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [pdf, expected] = args.as_slice() else { return Err("usage: types FILE.pdf EXPECTED.json".into()) };
    let document = read_with(&std::fs::read(pdf)?, &ReadOptions::default(), Choice::Pure)?;
    let elements: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(expected)?)?;
    let mut kinds: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    document.counts().iter().for_each(|(kind, n)| kinds.entry(format!("{kind:?}")).or_default().0 += n);
    let mut words = Words::new();
    let on_pages = |e: &&serde_json::Value| e["metadata"]["page_number"].as_u64().is_none_or(|p| p <= u64::from(document.pages));
    let expected: Vec<Theirs> = elements.iter().filter(on_pages).map(Theirs::of).collect();
    for element in &expected {
        kinds.entry(element.kind.clone()).or_default().1 += 1;
        count(&element.text, &mut words);
    }
    println!("{:20} {:>6} {:>8}", "kind", "here", "expected");
    kinds.iter().for_each(|(kind, (here, there))| println!("{kind:20} {here:6} {there:8}"));
    let (here, all) = found(&words, &words_of(&document));
    println!("words of the expected found here: {here} of {all} ({:.4})", here as f64 / all.max(1) as f64);
    let pairs: Vec<(&Theirs, Option<String>)> =
        expected.iter().filter(|theirs| theirs.words() >= LEAST_WORDS).map(|theirs| (theirs, theirs.like(&document))).collect();
    for (theirs, here) in &pairs {
        let beginning: String = theirs.text.chars().take(60).collect();
        println!("{:18} {:18} {beginning}", theirs.kind, here.as_deref().unwrap_or("-"));
    }
    let same = pairs.iter().filter(|(theirs, here)| here.as_deref() == Some(&theirs.kind)).count();
    println!("of {} elements of {LEAST_WORDS} words or more {same} are of the same kind here", pairs.len());
    Ok(())
}

/// Shorter elements are not looked for: their words are anywhere.
const LEAST_WORDS: usize = 5;

/// An element of the other reader.
struct Theirs {
    kind: String,
    text: String,
}

impl Theirs {
    fn of(element: &serde_json::Value) -> Self {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        Self { kind: text(&element["type"]), text: text(&element["text"]) }
    }

    fn words(&self) -> usize {
        self.text.split_whitespace().count()
    }

    /// The kind of the element here that shares most with it, words in both by words in either; none below a third.
    fn like(&self, document: &Document) -> Option<String> {
        let of = |text: &str| {
            let mut words = Words::new();
            count(&text.replace('|', " "), &mut words);
            words
        };
        let theirs = of(&self.text);
        let share = |element: &Element| {
            let ours = of(&element.text);
            let (both, all) = found(&theirs, &ours);
            both as f64 / (all + ours.values().sum::<usize>() - both).max(1) as f64
        };
        let best = document.elements.iter().map(|element| (share(element), element)).max_by(|a, b| a.0.total_cmp(&b.0));
        best.filter(|(share, _)| *share >= 1.0 / 3.0).map(|(_, element)| format!("{:?}", element.kind))
    }
}
