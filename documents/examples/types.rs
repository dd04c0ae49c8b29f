//! Kinds of elements and words of a PDF beside those of another reader's JSON (a list of `{type, text, metadata: {page_number}}`), on the
//! pages that both have: `cargo run -p artel-documents --example types -- FILE.pdf EXPECTED.json`

#[path = "recall/referee.rs"]
#[allow(dead_code, reason = "the other example takes what this one does not")]
mod referee;

use std::collections::BTreeMap;

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
    for element in elements.iter().filter(on_pages) {
        kinds.entry(element["type"].as_str().unwrap_or_default().to_string()).or_default().1 += 1;
        count(element["text"].as_str().unwrap_or_default(), &mut words);
    }
    println!("{:20} {:>6} {:>8}", "kind", "here", "expected");
    kinds.iter().for_each(|(kind, (here, there))| println!("{kind:20} {here:6} {there:8}"));
    let (here, all) = found(&words, &words_of(&document));
    println!("words of the expected found here: {here} of {all} ({:.4})", here as f64 / all.max(1) as f64);
    Ok(())
}
