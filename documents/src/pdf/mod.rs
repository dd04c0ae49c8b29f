//! PDFs: pages to elements. Two backends (pdfium where its library is found, and hayro, which is always there) read glyphs into one
//! model of a page; everything after that, from words to elements, is the same for both.

mod accents;
mod aligned;
mod blocks;
mod bomb;
mod content;
mod fonts;
mod furniture;
mod grid;
mod join;
mod kinds;
mod layout;
mod lines;
mod marked;
mod model;
mod ocr;
mod paths;
mod pdfium;
mod pure;
mod regions;
mod ruled;
mod words;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use layout::{PageLayout, elements, page_layout, words_layout};
use model::Backend;
use ocr::{DPI, Tesseract};

use crate::element::Document;
use crate::read::{ReadOptions, Reason, Strategy, Unreadable};

/// A page with fewer characters than this and a picture is one that OCR reads.
const FEW_CHARS: usize = 16;
/// Pictures that cover less than this part of a page do not make it a scan.
const SCAN_COVER: f32 = 0.3;
/// Pictures that cover this part of a page without any text may hold its text.
const SOME_COVER: f32 = 0.02;
/// Pages that a warning names one by one.
const NAMED_PAGES: usize = 20;

/// What PDFs are read with on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backends {
    /// The library of pdfium that is used for what hayro cannot open.
    pub pdfium: Option<PathBuf>,
    /// Why a library that was found or named is not used.
    pub pdfium_problem: Option<String>,
    /// Tesseract's own name and version; `None`: pages that are pictures are not read.
    pub tesseract: Option<String>,
}

/// Looks for pdfium (beside the program, at `ARTEL_PDFIUM`, in the system's folders) and tesseract (on PATH).
pub fn backends() -> Backends {
    let (pdfium, pdfium_problem) = match pdfium::find() {
        Some(Ok(path)) => (Some(path), None),
        Some(Err(problem)) => (None, Some(problem)),
        None => (None, None),
    };
    Backends { pdfium, pdfium_problem, tesseract: Tesseract::find().map(|t| t.version) }
}

/// Which backend reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// Hayro, so that every machine reads a document alike; pdfium, where it is found, for what hayro cannot open.
    #[default]
    Best,
    /// Hayro alone.
    Pure,
    /// Pdfium where it is found, to compare the two.
    Pdfium,
}

/// Reads a PDF. Fails with [`Reason::Password`], [`Reason::Broken`], [`Reason::Empty`], [`Reason::Limit`] or [`Reason::NeedsOcr`].
pub fn read(bytes: &[u8], options: &ReadOptions) -> Result<Document, Unreadable> {
    read_with(bytes, options, Choice::Best)
}

/// Reads a PDF with a backend of choice; fails as [`read`] does.
pub fn read_with(bytes: &[u8], options: &ReadOptions, choice: Choice) -> Result<Document, Unreadable> {
    if bomb::is_bomb(bytes) {
        let message = "a stream of the PDF unpacks to more than 512 MiB; it is not read";
        return Err(Unreadable { reason: Reason::Limit, message: message.into() });
    }
    // a panic of a parser costs this document alone
    guarded(|| match choice {
        Choice::Best => match read_pure(bytes, options) {
            Err(broken) if broken.reason == Reason::Broken => match pdfium::with(bytes, |backend| read_pages(backend, options)) {
                Some(Ok(read)) => read,
                Some(Err(_)) | None => Err(broken),
            },
            read => read,
        },
        Choice::Pure => read_pure(bytes, options),
        Choice::Pdfium => match pdfium::with(bytes, |backend| read_pages(backend, options)) {
            Some(Ok(read)) => read,
            Some(Err(refused)) => Err(refused),
            None => read_pure(bytes, options),
        },
    })
}

fn guarded<T>(work: impl FnOnce() -> Result<T, Unreadable>) -> Result<T, Unreadable> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let message = format!("the PDF is damaged in a way that stopped the reader: {}", said.unwrap_or("it gave no reason"));
        Err(Unreadable { reason: Reason::Broken, message })
    })
}

fn read_pure(bytes: &[u8], options: &ReadOptions) -> Result<Document, Unreadable> {
    let parsed = pure::parse(bytes)?;
    let mut document = read_pages(&pure::Pure::new(&parsed.pdf), options)?;
    if parsed.gathered {
        let warning = "the PDF is damaged: its pages were gathered one by one; some may be missing or out of order";
        document.warnings.insert(0, warning.into());
    }
    Ok(document)
}

/// What was done about a page.
struct PageRead {
    layout: PageLayout,
    warning: Option<String>,
    by_ocr: bool,
    /// Tesseract looked at it.
    ocr_ran: bool,
    /// It is a picture and was not read.
    unread: bool,
}

fn read_pages(backend: &dyn Backend, options: &ReadOptions) -> Result<Document, Unreadable> {
    let pages = backend.num_pages();
    if pages > options.max_pages {
        let message = format!("the PDF has {pages} pages, more than the {} that may be read; raise max_pages", options.max_pages);
        return Err(Unreadable { reason: Reason::Limit, message });
    }
    let tesseract = if options.strategy == Strategy::Fast { None } else { Tesseract::find() };
    let mut done = Vec::with_capacity(pages as usize);
    for index in 0..pages {
        // a page that stops the reader costs itself alone
        let page = guarded(|| Ok(read_page(backend, index, options, tesseract.as_ref())));
        done.push(page.unwrap_or_else(|broken| PageRead {
            layout: PageLayout::empty(index + 1),
            warning: Some(broken.message),
            by_ocr: false,
            ocr_ran: false,
            unread: false,
        }));
    }
    finish(backend.name(), done, tesseract.is_some(), options)
}

fn read_page(backend: &dyn Backend, index: u32, options: &ReadOptions, tesseract: Option<&Tesseract>) -> PageRead {
    let raw = backend.page(index);
    let cover = raw.image_cover();
    let picture = raw.num_chars() == 0 && cover >= SOME_COVER || raw.num_chars() < FEW_CHARS && cover >= SCAN_COVER;
    let wanted = match options.strategy {
        Strategy::Auto => picture,
        Strategy::Fast => false,
        Strategy::OcrOnly => true,
    };
    let layout = page_layout(index + 1, &raw);
    let unread = picture && raw.num_chars() == 0;
    match (wanted, tesseract) {
        (true, Some(tesseract)) => {
            let words = backend.draw(index, DPI).and_then(|drawn| tesseract.read(&drawn, &options.languages));
            match words {
                Ok(words) => {
                    let read = words_layout(index + 1, raw.height, words, usize::from(!picture && !raw.images.is_empty()));
                    // little text beside a picture without any is what there is
                    let better = read.num_chars() > layout.num_chars() || options.strategy == Strategy::OcrOnly;
                    PageRead {
                        layout: if better { read } else { layout },
                        warning: raw.warning,
                        by_ocr: better,
                        ocr_ran: true,
                        unread: false,
                    }
                }
                Err(problem) => {
                    PageRead { layout, warning: Some(format!("OCR: {problem}")), by_ocr: false, ocr_ran: false, unread }
                }
            }
        }
        _ => PageRead {
            layout,
            warning: raw.warning,
            by_ocr: false,
            ocr_ran: false,
            unread: unread || wanted && tesseract.is_none(),
        },
    }
}

fn finish(name: &str, pages: Vec<PageRead>, has_tesseract: bool, options: &ReadOptions) -> Result<Document, Unreadable> {
    let number = |p: &PageRead| p.layout.page;
    let unread: Vec<u32> = pages.iter().filter(|p| p.unread).map(number).collect();
    let by_ocr = pages.iter().any(|p| p.by_ocr);
    let ocr_ran = pages.iter().any(|p| p.ocr_ran);
    let mut warnings: Vec<String> =
        pages.iter().filter_map(|p| p.warning.as_ref().map(|w| format!("page {}: {w}", number(p)))).collect();
    let hint = match (has_tesseract, options.strategy) {
        (true, _) => "tesseract could not read them",
        (false, Strategy::Fast) => "strategy is fast; use auto to have them read by tesseract",
        (false, _) => "install tesseract to have them read",
    };
    let num_pages = pages.len() as u32;
    let has_text = pages.iter().any(|p| p.layout.has_text());
    if !has_text {
        let looked = if ocr_ran { ", and tesseract found none in its pictures" } else { "" };
        return Err(nothing(&unread, &warnings, hint, looked));
    }
    if !unread.is_empty() {
        warnings.push(format!("not read, being pictures: {}; {hint}", named(&unread)));
    }
    let layouts: Vec<PageLayout> = pages.into_iter().map(|p| p.layout).collect();
    let reader = if by_ocr { format!("{name}+tesseract") } else { name.to_string() };
    Ok(Document { elements: elements(&layouts), pages: num_pages, reader, warnings })
}

fn nothing(unread: &[u32], warnings: &[String], hint: &str, looked: &str) -> Unreadable {
    if !unread.is_empty() {
        let message = format!("all text is in pictures: {}; {hint}", named(unread));
        return Unreadable { reason: Reason::NeedsOcr, message };
    }
    match warnings.first() {
        Some(warning) => Unreadable { reason: Reason::Broken, message: format!("no page could be read; {warning}") },
        None => Unreadable { reason: Reason::Empty, message: format!("there is no text in the PDF{looked}") },
    }
}

fn named(pages: &[u32]) -> String {
    let first: Vec<String> = pages.iter().take(NAMED_PAGES).map(u32::to_string).collect();
    let more = if pages.len() > NAMED_PAGES { format!(" and {} more", pages.len() - NAMED_PAGES) } else { String::new() };
    format!("{} {}{more}", if pages.len() == 1 { "page" } else { "pages" }, first.join(", "))
}
