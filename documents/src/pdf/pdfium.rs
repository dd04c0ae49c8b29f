//! The backend over libpdfium, a shared library that is used where it is found.

use std::path::PathBuf;
use std::sync::OnceLock;

use pdfium_render::prelude::*;

use super::fonts::bold_name;
use super::model::{Backend, Bitmap, Glyph, RawPage, Rect};
use crate::read::{Reason, Unreadable};

/// Glyphs of a page that are looked at.
const MAX_GLYPHS: usize = 400_000;
/// Objects of a page that are looked at for rules and pictures.
const MAX_OBJECTS: usize = 20_000;
/// Pixels across or down of a drawn page; a larger page is drawn coarser.
const MAX_PIXELS: f32 = 10_000.0;
/// The variable that names the library, or the folder it is in.
const VARIABLE: &str = "ARTEL_PDFIUM";
/// Folders of the system that hold libraries.
const FOLDERS: [&str; 7] = [
    "/usr/local/lib",
    "/usr/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/opt/homebrew/lib",
    "/opt/pdfium/lib",
];

/// The library, loaded once for the process; `None`: none was found.
static LIBRARY: OnceLock<Option<Result<Loaded, String>>> = OnceLock::new();

struct Loaded {
    path: PathBuf,
    pdfium: Pdfium,
}

/// The library in use; the error says why one that was found or named is not.
pub fn find() -> Option<Result<PathBuf, String>> {
    match library()? {
        Ok(loaded) => Some(Ok(loaded.path.clone())),
        Err(problem) => Some(Err(problem.clone())),
    }
}

fn library() -> Option<&'static Result<Loaded, String>> {
    LIBRARY.get_or_init(load).as_ref()
}

fn load() -> Option<Result<Loaded, String>> {
    let path = match locate()? {
        Ok(path) => path,
        Err(problem) => return Some(Err(problem)),
    };
    let bound = Pdfium::bind_to_library(&path).map(Pdfium::new);
    Some(match bound {
        Ok(pdfium) => Ok(Loaded { path, pdfium }),
        Err(error) => Err(format!("{} could not be loaded: {error:?}", path.display())),
    })
}

/// The first library there is: the one `ARTEL_PDFIUM` names, one beside the program, one in the system's folders.
fn locate() -> Option<Result<PathBuf, String>> {
    let name = Pdfium::pdfium_platform_library_name();
    if let Some(named) = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()) {
        let named = PathBuf::from(named);
        let path = if named.is_dir() { named.join(&name) } else { named };
        return Some(match path.is_file() {
            true => Ok(path),
            false => Err(format!("{VARIABLE} names {}, which is not there", path.display())),
        });
    }
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(PathBuf::from));
    let folders = beside.into_iter().chain(FOLDERS.iter().map(PathBuf::from));
    folders.map(|f| f.join(&name)).find(|p| p.is_file()).map(Ok)
}

/// Opens a file and does `work` on it; `None`: there is no library; the error: pdfium refuses the file.
pub fn with<T>(bytes: &[u8], work: impl FnOnce(&dyn Backend) -> T) -> Option<Result<T, Unreadable>> {
    let loaded = library()?.as_ref().ok()?;
    let document = match loaded.pdfium.load_pdf_from_byte_slice(bytes, None) {
        Ok(document) => document,
        Err(PdfiumError::PdfiumLibraryInternalError(PdfiumInternalError::PasswordError)) => {
            let message = "the PDF is encrypted and opens with a password alone; save a copy without one".into();
            return Some(Err(Unreadable { reason: Reason::Password, message }));
        }
        Err(error) => {
            return Some(Err(Unreadable { reason: Reason::Broken, message: format!("pdfium refuses the PDF: {error:?}") }));
        }
    };
    Some(Ok(work(&Opened { document })))
}

struct Opened<'a> {
    document: PdfDocument<'a>,
}

impl Backend for Opened<'_> {
    fn name(&self) -> &'static str {
        "pdfium"
    }

    fn num_pages(&self) -> u32 {
        u32::try_from(self.document.pages().len()).unwrap_or(0)
    }

    fn page(&self, index: u32) -> RawPage {
        let page = i32::try_from(index).ok().and_then(|i| self.document.pages().get(i).ok());
        page.map_or(RawPage { warning: Some("pdfium cannot open it".into()), ..RawPage::default() }, |p| read_page(&p))
    }

    fn draw(&self, index: u32, dpi: f32) -> Result<Bitmap, String> {
        let index = i32::try_from(index).map_err(|_| "there is no such page")?;
        let page = self.document.pages().get(index).map_err(|e| format!("{e:?}"))?;
        let scale = (dpi / 72.0).min(MAX_PIXELS / page.width().value.max(page.height().value).max(1.0));
        let config = PdfRenderConfig::new().scale_page_by_factor(scale).render_form_data(true);
        let drawn = page.render_with_config(&config).map_err(|e| format!("pdfium cannot draw it: {e:?}"))?;
        // luma of Rec. 601
        let grey = drawn
            .as_rgba_bytes()
            .chunks_exact(4)
            .map(|p| ((u32::from(p[0]) * 299 + u32::from(p[1]) * 587 + u32::from(p[2]) * 114) / 1000) as u8)
            .collect();
        let size = |pixels: i32| u32::try_from(pixels).unwrap_or(0);
        Ok(Bitmap { width: size(drawn.width()), height: size(drawn.height()), grey })
    }
}

/// From pdfium's points (up from the lower left, before the page is turned) to those of the page as shown.
#[derive(Clone, Copy)]
struct Frame {
    left: f32,
    top: f32,
    width: f32,
    height: f32,
    turns: u8,
}

impl Frame {
    fn of(page: &PdfPage<'_>) -> Self {
        let turns = match page.rotation() {
            Ok(PdfPageRenderRotation::Degrees90) => 1,
            Ok(PdfPageRenderRotation::Degrees180) => 2,
            Ok(PdfPageRenderRotation::Degrees270) => 3,
            _ => 0,
        };
        let (shown_width, shown_height) = (page.width().value, page.height().value);
        let (width, height) = if turns % 2 == 1 { (shown_height, shown_width) } else { (shown_width, shown_height) };
        let (left, top) = match page.boundaries().bounding() {
            Ok(b) => (b.bounds.left().value, b.bounds.top().value),
            Err(_) => (0.0, height),
        };
        Self { left, top, width, height, turns }
    }

    fn point(&self, x: f32, y: f32) -> (f32, f32) {
        let (u, v) = (x - self.left, self.top - y);
        match self.turns {
            1 => (self.height - v, u),
            2 => (self.width - u, self.height - v),
            3 => (v, self.width - u),
            _ => (u, v),
        }
    }

    fn rect(&self, r: &PdfRect) -> Rect {
        let (a, b) = (self.point(r.left().value, r.bottom().value), self.point(r.right().value, r.top().value));
        Rect::of(a.0, a.1, b.0, b.1)
    }
}

fn read_page(page: &PdfPage<'_>) -> RawPage {
    let frame = Frame::of(page);
    let mut out = RawPage { width: page.width().value, height: page.height().value, ..RawPage::default() };
    match page.text() {
        Ok(text) => {
            for glyph in text.chars().iter().take(MAX_GLYPHS).filter_map(|c| glyph(&c, &frame)) {
                match out.glyphs.last_mut().filter(|last| is_ligature(last, &glyph)) {
                    Some(last) => last.text.push_str(&glyph.text),
                    None => out.glyphs.push(glyph),
                }
            }
        }
        Err(error) => out.warning = Some(format!("pdfium cannot read its text: {error:?}")),
    }
    for object in page.objects().iter().take(MAX_OBJECTS) {
        look_at(&object, &frame, &mut out);
    }
    out
}

/// Whether two glyphs in a row are letters of one ligature, which pdfium shows at the same place.
fn is_ligature(last: &Glyph, next: &Glyph) -> bool {
    let same = |a: (f32, f32), b: (f32, f32)| (a.0 - b.0).abs() < 0.01 && (a.1 - b.1).abs() < 0.01;
    let letters = |g: &Glyph| g.text.chars().all(char::is_alphabetic);
    letters(last) && letters(next) && same(last.origin, next.origin) && last.text.chars().count() < 4
}

fn look_at(object: &PdfPageObject<'_>, frame: &Frame, out: &mut RawPage) {
    let bounds = || object.bounds().ok().map(|b| frame.rect(&b.to_rect()));
    match object {
        PdfPageObject::Image(_) => out.images.extend(bounds()),
        PdfPageObject::Path(path) => {
            let Some(r) = bounds() else { return };
            // a thin path is a rule; a box of few corners has four
            if r.width().min(r.height()) <= 3.5 {
                out.rules.push(r);
            } else if path.segments().len() <= 5 {
                let edges =
                    [(r.x0, r.y0, r.x1, r.y0), (r.x0, r.y1, r.x1, r.y1), (r.x0, r.y0, r.x0, r.y1), (r.x1, r.y0, r.x1, r.y1)];
                out.rules.extend(edges.map(|e| Rect::of(e.0, e.1, e.2, e.3)));
            }
        }
        _ => {}
    }
}

fn glyph(c: &PdfPageTextChar<'_>, frame: &Frame) -> Option<Glyph> {
    let text = c.unicode_string().filter(|t| !t.is_empty() && t != "\0")?;
    // pdfium marks hyphens at lines' ends by a control sign
    let text = if text == "\u{2}" { "-".to_string() } else { text };
    if text.chars().all(|c| c.is_whitespace() || c.is_control()) {
        return Some(Glyph { text: " ".into(), origin: (0.0, 0.0), end: (0.0, 0.0), size: 1.0, turn: 0, bold: false });
    }
    let (x, y) = c.origin().ok()?;
    let matrix = c.matrix().ok();
    let (a, b) = matrix.as_ref().map_or((1.0, 0.0), |m| (m.a(), m.b()));
    let scale = matrix.as_ref().map_or(1.0, |m| m.c().hypot(m.d()));
    let size = c.unscaled_font_size().value * scale;
    // the direction of the baseline as shown, y downwards
    let (dx, dy) = match frame.turns {
        1 => (b, a),
        2 => (-a, b),
        3 => (-b, -a),
        _ => (a, -b),
    };
    let turn = if dx.abs() >= dy.abs() {
        if dx >= 0.0 { 0 } else { 2 }
    } else if dy > 0.0 {
        1
    } else {
        3
    };
    let origin = frame.point(x.value, y.value);
    let place = frame.rect(&c.loose_bounds().or_else(|_| c.tight_bounds()).ok()?);
    let end = match turn {
        1 => (origin.0, place.y1),
        2 => (place.x0, origin.1),
        3 => (origin.0, place.y0),
        _ => (place.x1, origin.1),
    };
    let bold = c.font_weight().is_some_and(is_bold) || bold_name(&c.font_name());
    Some(Glyph { text, origin, end, size: if size > 0.0 { size } else { 1.0 }, turn, bold })
}

fn is_bold(weight: PdfFontWeight) -> bool {
    match weight {
        PdfFontWeight::Weight600 | PdfFontWeight::Weight700Bold | PdfFontWeight::Weight800 | PdfFontWeight::Weight900 => true,
        PdfFontWeight::Custom(weight) => (600..=1000).contains(&weight),
        _ => false,
    }
}
