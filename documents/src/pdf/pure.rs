//! The backend that is always there: hayro, all Rust.

use std::cell::RefCell;
use std::sync::Arc;

use hayro::hayro_interpret::InterpreterSettings;
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::{PixmapSettings, RenderCache, RenderSettings};
use hayro_syntax::{DecryptionError, LoadPdfError, Pdf};

use super::content;
use super::fonts::Fonts;
use super::model::{Backend, Bitmap, RawPage};
use crate::read::{Reason, Unreadable};

/// Pixels across or down of a drawn page; a larger page is drawn coarser.
const MAX_PIXELS: f32 = 10_000.0;

/// An open document.
pub struct Pure<'a> {
    pdf: &'a Pdf,
    fonts: RefCell<Fonts<'a>>,
}

/// A parsed file.
pub struct Parsed {
    /// The file.
    pub pdf: Pdf,
    /// Its end was lost, and its pages were gathered one by one.
    pub gathered: bool,
}

/// A catalog without pages: with it, hayro takes all pages that it comes across. Numbers that no real file uses.
const CATALOG: &[u8] =
    b"\nendstream endobj\n8388606 0 obj\n<</Type/Catalog/Pages 8388607 0 R>>\nendobj\ntrailer\n<</Root 8388606 0 R>>\n";

/// Parses a file; fails with [`Reason::Password`] or [`Reason::Broken`].
pub fn parse(bytes: &[u8]) -> Result<Parsed, Unreadable> {
    match Pdf::new(Arc::new(bytes.to_vec())) {
        Ok(pdf) => Ok(Parsed { pdf, gathered: false }),
        Err(LoadPdfError::Invalid) => match gather(bytes) {
            Some(pdf) => Ok(Parsed { pdf, gathered: true }),
            None => Err(refused(LoadPdfError::Invalid)),
        },
        Err(error) => Err(refused(error)),
    }
}

/// Tries a file that was cut off before its catalog once more, with a catalog; what is encrypted cannot be read without its end.
fn gather(bytes: &[u8]) -> Option<Pdf> {
    let has = |what: &[u8]| bytes.windows(what.len()).any(|w| w == what);
    let hopeful = has(b"%PDF-") && !has(b"/Encrypt");
    hopeful.then(|| Pdf::new(Arc::new([bytes, CATALOG].concat())).ok()).flatten()
}

fn refused(error: LoadPdfError) -> Unreadable {
    match error {
        LoadPdfError::Decryption(DecryptionError::PasswordProtected) => Unreadable {
            reason: Reason::Password,
            message: "the PDF is encrypted and opens with a password alone; save a copy without one".into(),
        },
        LoadPdfError::Decryption(other) => Unreadable {
            reason: Reason::Password,
            message: format!("the PDF is encrypted in a way that cannot be read ({other:?}); save a copy that is not"),
        },
        LoadPdfError::Invalid => Unreadable {
            reason: Reason::Broken,
            message: "the PDF is damaged: no pages were found in it; open it in a viewer and save it anew".into(),
        },
    }
}

impl<'a> Pure<'a> {
    /// A backend over a parsed file.
    pub fn new(pdf: &'a Pdf) -> Self {
        Self { pdf, fonts: RefCell::default() }
    }
}

impl Backend for Pure<'_> {
    fn name(&self) -> &'static str {
        "hayro"
    }

    fn num_pages(&self) -> u32 {
        u32::try_from(self.pdf.pages().len()).unwrap_or(u32::MAX)
    }

    fn page(&self, index: u32) -> RawPage {
        match self.pdf.pages().get(index as usize) {
            Some(page) => content::read_page(page, &mut self.fonts.borrow_mut()),
            None => RawPage::default(),
        }
    }

    fn draw(&self, index: u32, dpi: f32) -> Result<Bitmap, String> {
        let page = self.pdf.pages().get(index as usize).ok_or("there is no such page")?;
        let (width, height) = page.render_dimensions();
        let scale = (dpi / 72.0).min(MAX_PIXELS / width.max(height).max(1.0));
        if width * scale < 1.0 || height * scale < 1.0 {
            return Err("it has no area".into());
        }
        let pixmap = PixmapSettings { x_scale: scale, y_scale: scale, bg_color: WHITE };
        let drawn =
            hayro::render(page, &RenderCache::new(), &InterpreterSettings::default(), &RenderSettings::default(), &pixmap);
        // luma of Rec. 601
        let grey = drawn
            .data_as_u8_slice()
            .chunks_exact(4)
            .map(|p| ((u32::from(p[0]) * 299 + u32::from(p[1]) * 587 + u32::from(p[2]) * 114) / 1000) as u8)
            .collect();
        Ok(Bitmap { width: u32::from(drawn.width()), height: u32::from(drawn.height()), grey })
    }
}
