//! Reads all PDFs of a folder and sets their words beside those of `pdftotext`:
//! `cargo run --release -p artel-documents --example recall -- [--pure | --pdfium] [--fast] [--missed] FOLDER`

mod referee;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use artel_documents::pdf::{Choice, backends, read_with};
use artel_documents::read::{ReadOptions, Strategy};
use referee::{Words, found, pdfs, pdftotext, words_of};

struct Args {
    pure: bool,
    pdfium: bool,
    fast: bool,
    missed: bool,
    text: bool,
    folder: String,
}

fn args() -> Option<Args> {
    let mut out = Args { pure: false, pdfium: false, fast: false, missed: false, text: false, folder: String::new() };
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--pure" => out.pure = true,
            "--pdfium" => out.pdfium = true,
            "--fast" => out.fast = true,
            "--missed" => out.missed = true,
            "--text" => out.text = true,
            folder => out.folder = folder.to_string(),
        }
    }
    (!out.folder.is_empty()).then_some(out)
}

fn main() {
    let Some(args) = args() else {
        eprintln!("usage: recall [--pure | --pdfium] [--fast] [--missed] [--text] FOLDER|FILE");
        std::process::exit(2);
    };
    println!("{:?}", backends());
    let options = ReadOptions {
        strategy: if args.fast { Strategy::Fast } else { Strategy::Auto },
        max_pages: 2000,
        ..ReadOptions::default()
    };
    let choice = match (args.pure, args.pdfium) {
        (true, _) => Choice::Pure,
        (_, true) => Choice::Pdfium,
        _ => Choice::Best,
    };
    let folder = Path::new(&args.folder);
    let files = if folder.is_dir() { pdfs(folder) } else { vec![folder.to_path_buf()] };
    let (mut all_found, mut all_words) = (0, 0);
    for path in files {
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let start = Instant::now();
        let read = read_with(&bytes, &options, choice);
        let seconds = start.elapsed().as_secs_f64();
        let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
        match read {
            Err(refused) => println!("{name:60} {:?}: {}", refused.reason, refused.message),
            Ok(document) => {
                let words = words_of(&document);
                let referee = pdftotext(&path).unwrap_or_default();
                let (here, all) = found(&referee, &words);
                let by_ocr = document.reader.contains("tesseract");
                if !by_ocr {
                    (all_found, all_words) = (all_found + here, all_words + all);
                }
                let recall = if all == 0 { "-".into() } else { format!("{:.4}", here as f64 / all as f64) };
                let counts: Vec<String> = document.counts().iter().map(|(k, n)| format!("{k:?} {n}")).collect();
                println!(
                    "{name:60} {:4} pages {:18} recall {recall:6} of {all:6} {seconds:7.2} s  {}",
                    document.pages,
                    document.reader,
                    counts.join(", ")
                );
                document.warnings.iter().for_each(|w| println!("    warning: {w}"));
                if args.missed && here < all {
                    println!("    missed: {}", missed(&referee, &words));
                }
                if args.text {
                    for e in &document.elements {
                        println!("[{:?} p{}] {}", e.kind, e.page.unwrap_or(0), e.text);
                    }
                }
            }
        }
    }
    println!("all files not read by OCR: {:.4} of {all_words} words", all_found as f64 / all_words.max(1) as f64);
    println!("peak memory: {}", peak());
}

/// The referee's words that were not found, the most frequent first.
fn missed(referee: &Words, words: &Words) -> String {
    let mut missed: BTreeMap<&str, usize> = BTreeMap::new();
    for (word, times) in referee {
        let lacking = times.saturating_sub(words.get(word).copied().unwrap_or(0));
        if lacking > 0 {
            missed.insert(word, lacking);
        }
    }
    let mut sorted: Vec<_> = missed.into_iter().collect();
    sorted.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    sorted.iter().take(40).map(|(w, n)| format!("{w} x{n}")).collect::<Vec<_>>().join(", ")
}

/// The process's peak of resident memory, where Linux tells.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or("unknown").to_string()
}
