//! Real PDFs, where a folder of them is (`ARTEL_SHARED`), beside poppler's `pdftotext`, where it is installed.

#[path = "../examples/recall/referee.rs"]
mod referee;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use artel_documents::element::{Document, ElementKind};
use artel_documents::pdf::{Choice, backends, read_with};
use artel_documents::read::{ReadOptions, Reason, Strategy};
use referee::{found, pdfs, pdftotext, words_of};

/// Files that fall below .90 of the referee's words, and why: what the referee gives there is not the text.
const NOT_COMPARED: [(&str, &str); 6] = [
    ("habibi.pdf", "the referee gives the Arabic word backwards; the file's own ActualText says how it reads"),
    ("habibi-rotated.pdf", "as above"),
    ("habibi-oneline-cmap.pdf", "as above"),
    ("fake-bold-sample.pdf", "the referee parts words whose letters are drawn twice"),
    ("a1977-backus-p21.pdf", "a scan with a layer of OCR, which the referee gives letter by letter"),
    ("pdf-with-ocr-text.pdf", "a scan with a layer of OCR, which the referee gives letter by letter"),
];

/// Files with fewer than .97 of the referee's words, each with the cause.
const BELOW: [(&str, &str); 2] = [
    (
        "GeoTopo-komprimiert.pdf",
        "mathematics: the referee gives signs of symbol fonts by their codes, \"6=\" for ≠, \"A0\" for A′, \"4ABC\" for △ABC",
    ),
    (
        "layout-parser-paper-with-table.pdf",
        "a program in spaced letters, which the referee gives in pieces: \"Dete ctro n2Lay outM odel\"",
    ),
];

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("ARTEL_SHARED").map(|shared| PathBuf::from(shared).join("pdfs")).filter(|f| f.is_dir());
    if folder.is_none() {
        eprintln!("skipped: ARTEL_SHARED names no folder with pdfs");
    }
    folder
}

fn fast(path: &Path) -> Result<Document, Reason> {
    let options = ReadOptions { strategy: Strategy::Fast, ..ReadOptions::default() };
    read_with(&std::fs::read(path).expect("a file of the folder"), &options, Choice::Pure).map_err(|refused| refused.reason)
}

/// Goal: every real file ends, read or with the right reason, and those read have the words that `pdftotext` has: .97 of all, .90 of each, and less than .97
/// for a named cause alone.
/// Method: all files below the folder with the reader in Rust alone and without OCR.
#[test]
fn all_files_end_with_their_words() {
    let Some(folder) = folder() else { return };
    let mut reasons: BTreeMap<String, Reason> = BTreeMap::new();
    let (mut here, mut all) = (0, 0);
    for path in pdfs(&folder) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match fast(&path) {
            Err(reason) => drop(reasons.insert(name, reason)),
            Ok(document) => {
                assert!(document.pages > 0 && !document.elements.is_empty(), "{name}");
                let Some(referee) = pdftotext(&path) else { continue };
                let (have, want) = found(&referee, &words_of(&document));
                if !NOT_COMPARED.iter().any(|(file, _)| *file == name) {
                    assert!(have as f64 >= 0.9 * want as f64, "{name}: {have} of {want} words");
                    let is_named = BELOW.iter().any(|(file, _)| *file == name);
                    assert!(
                        is_named || have as f64 >= 0.97 * want as f64,
                        "{name}: {have} of {want} words, and no cause is named"
                    );
                    (here, all) = (here + have, all + want);
                }
            }
        }
    }
    match all {
        0 => eprintln!("skipped in part: pdftotext is not here, so words were not compared"),
        _ => assert!(here as f64 >= 0.97 * all as f64, "{here} of {all} words"),
    }
    for file in ["password.pdf", "libreoffice-writer-password.pdf"] {
        assert_eq!(reasons.get(file), Some(&Reason::Password), "{file}");
    }
    for file in ["loremipsum-flat.pdf", "grayscale-image.pdf", "table-multi-row-column-cells.pdf"] {
        assert_eq!(reasons.get(file), Some(&Reason::NeedsOcr), "{file}");
    }
    assert!(!reasons.contains_key("copy-protected.pdf"), "an owner's password alone does not keep a file from being read");
}

/// Goal: columns of real files are read in order. Method: beginnings of sentences of several columns and pages, in the order of a reader.
#[test]
fn columns_of_real_files() {
    let Some(folder) = folder() else { return };
    let docs = folder.join("unstructured/example-docs/pdf");
    let orders: [(PathBuf, &[&str]); 3] = [
        (
            docs.join("multi-column-2p.pdf"),
            &[
                "Dense Passage Retrieval for Open-Domain",
                "Abstract",
                "Open-domain question answering relies on",
                "1 Introduction",
                "is a task that answers factoid questions",
                "Retrieval in open-domain QA is usually implemented",
                "However, it is generally believed that learning",
                "QA datasets, it also suffers from two weaknesses",
                "In this paper, we address the question",
                "Our contributions are twofold",
            ],
        ),
        (
            folder.join("sample-files/026-latex-multicolumn/multicolumn.pdf"),
            &[
                "Two-Column Document with Lorem Ipsum",
                "January 3, 2024",
                "Abstract",
                "Nam dui ligula",
                "Quisque ullamcorper placerat ipsum",
                "Fusce mauris",
                "Suspendisse vel felis",
                "Pellentesque habitant",
                "Suspendisse vitae elit",
            ],
        ),
        (
            docs.join("multi-column.pdf"),
            &["Abstract", "1 Introduction", "2 Background", "3.1 Overview", "4 Experimental Setup", "8 Conclusion", "References"],
        ),
    ];
    for (path, order) in orders {
        let document = fast(&path).unwrap();
        let text: String = document.elements.iter().map(|e| format!("{}\n", e.text)).collect();
        let mut from = 0;
        for part in order {
            let at = text[from..].find(part);
            assert!(at.is_some(), "{}: {part:?} does not follow", path.display());
            from += at.unwrap_or(0);
        }
    }
}

/// Goal: tables, items and furniture of real files are known. Method: files with a known table, list, and page numbers.
#[test]
fn kinds_of_real_files() {
    let Some(folder) = folder() else { return };
    let table = fast(&folder.join("sample-files/026-latex-multicolumn/multicolumn.pdf")).unwrap();
    assert!(table.elements.iter().any(|e| e.text.contains("| Austria | 8.9 | 83,879 | Vienna | German |")));
    assert_eq!(table.counts().get(&ElementKind::PageNumber), Some(&3));
    let list = fast(&folder.join("unstructured/example-docs/pdf/list-item-example.pdf")).unwrap();
    assert!(list.counts().get(&ElementKind::ListItem).is_some_and(|n| *n >= 20));
    let cells = fast(&folder.join("unstructured/example-docs/pdf/layout-parser-paper-with-table.pdf")).unwrap();
    let row = "| PubLayNet [38] | F / M | M | Layouts of modern";
    assert!(cells.elements.iter().any(|e| e.kind == ElementKind::Table && e.text.contains(row)));
}

/// Goal: a scan is read by OCR. Method: a page of lorem ipsum that is a picture; skipped without tesseract.
#[test]
fn scan_by_ocr() {
    let (Some(folder), Some(_)) = (folder(), backends().tesseract) else {
        eprintln!("skipped: it takes tesseract");
        return;
    };
    let bytes = std::fs::read(folder.join("unstructured/example-docs/pdf/loremipsum-flat.pdf")).unwrap();
    let document = read_with(&bytes, &ReadOptions::default(), Choice::Pure).unwrap();
    assert_eq!(document.reader, "hayro+tesseract");
    let text: String = document.elements.iter().map(|e| format!("{} ", e.text)).collect();
    assert!(text.to_lowercase().contains("lorem ipsum dolor sit amet"), "{text}");
}
