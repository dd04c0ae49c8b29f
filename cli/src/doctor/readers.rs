//! What documents are read with.

use std::path::PathBuf;

use artel_documents::pdf;
use serde::Serialize;

/// Readers of documents on this machine.
#[derive(Debug, Clone, Serialize)]
pub struct Readers {
    /// What reads PDFs first: it is part of the program.
    pub pdf: &'static str,
    /// The library that is tried for what that cannot open.
    pub pdfium: Option<PathBuf>,
    /// Why one that was found or named is not used.
    pub pdfium_problem: Option<String>,
    /// Tesseract's name and version.
    pub tesseract: Option<String>,
}

impl Readers {
    /// Looks for them.
    pub fn examine() -> Self {
        let pdf::Backends { pdfium, pdfium_problem, tesseract } = pdf::backends();
        Self { pdf: "hayro", pdfium, pdfium_problem, tesseract }
    }

    /// For people.
    pub fn words(&self) -> String {
        let pdfium = match (&self.pdfium, &self.pdfium_problem) {
            (Some(path), _) => format!("what it cannot open by pdfium, {}", path.display()),
            (None, Some(problem)) => format!("pdfium is not used: {problem}"),
            (None, None) => "no pdfium for what it cannot open (deploy/pdfium.sh fetches it)".to_owned(),
        };
        let tesseract = match &self.tesseract {
            Some(version) => format!("pages that are pictures by {version}"),
            None => "pages that are pictures are not read: tesseract is not on PATH (apt-get install tesseract-ocr)".to_owned(),
        };
        format!("PDFs by {}; {pdfium}; {tesseract}", self.pdf)
    }
}
