//! Words of a PDF by a referee, poppler's `pdftotext`, and how many of them a reading has.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use artel_documents::element::{Document, ElementKind};
use unicode_normalization::UnicodeNormalization;

/// Words with their numbers of times: NFKC, hyphenated line ends joined, hyphens within words left out on both sides (whether one at a
/// line's end is part of the word is not asked of either side), and without what has no letter or digit.
pub type Words = HashMap<String, usize>;

/// The words of a text, added to `words`.
pub fn count(text: &str, words: &mut Words) {
    let text: String = text.nfkc().collect();
    let mut joined = String::with_capacity(text.len());
    for line in text.lines() {
        let line = line.trim();
        let hyphen = joined.ends_with(['-', '\u{2010}', '\u{ad}']) && !joined.ends_with(" -");
        if hyphen {
            joined.pop();
        } else {
            joined.push(' ');
        }
        joined.push_str(line);
    }
    for word in joined.split_whitespace() {
        let word: String = word.chars().filter(|c| !matches!(c, '-' | '\u{2010}' | '\u{2011}' | '\u{ad}' | '\\')).collect();
        if word.chars().any(char::is_alphanumeric) {
            *words.entry(word).or_default() += 1;
        }
    }
}

/// The words of a document's elements, all kinds counted.
pub fn words_of(document: &Document) -> Words {
    let mut words = Words::new();
    for element in &document.elements {
        match element.kind {
            ElementKind::Table => count(&element.text.replace(" | ", "\n").replace(['|', '\n'], " "), &mut words),
            _ => count(&element.text, &mut words),
        }
    }
    words
}

/// The words of a PDF by `pdftotext`; `None` where it is not installed or fails.
pub fn pdftotext(path: &Path) -> Option<Words> {
    let output = Command::new("pdftotext").args(["-enc", "UTF-8"]).arg(path).arg("-").output().ok()?;
    let mut words = Words::new();
    count(&String::from_utf8_lossy(&output.stdout), &mut words);
    output.status.success().then_some(words)
}

/// How many of the referee's words a reading has, and how many there are.
pub fn found(referee: &Words, reading: &Words) -> (usize, usize) {
    let found = referee.iter().map(|(word, times)| (*times).min(reading.get(word).copied().unwrap_or(0))).sum();
    (found, referee.values().sum())
}

/// All PDFs under a folder, in order.
pub fn pdfs(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("pdf")) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
