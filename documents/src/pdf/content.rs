//! What a page's content stream shows: its glyphs, straight rules and pictures. An interpreter of the text operators alone: no colours,
//! no clipping, no drawing.

use std::rc::Rc;

use hayro::hayro_interpret::util::TransformExt;
use hayro::kurbo::{Affine, Point};
use hayro_syntax::content::TypedIter;
use hayro_syntax::content::ops::TypedInstruction as Op;
use hayro_syntax::object::{Array, Dict, Name, Object, Rect as PdfRect, Stream, String as PdfString};
use hayro_syntax::page::{Page, Resources};

use super::fonts::{Fonts, TextFont};
use super::marked::Marked;
use super::model::{Glyph, RawPage};
use super::paths::Paths;

/// Forms within forms deeper than this are left out.
const MAX_DEPTH: u32 = 12;
/// Operators of a page, all its forms together; what comes after is left out and said.
const MAX_OPERATORS: u64 = 4_000_000;
/// Glyphs of a page.
const MAX_GLYPHS: usize = 400_000;
/// Saved states; `q` beyond it saves nothing.
const MAX_SAVED: usize = 512;

#[derive(Clone)]
struct State<'a> {
    ctm: Affine,
    font: Option<Rc<TextFont<'a>>>,
    size: f64,
    char_space: f64,
    word_space: f64,
    stretch: f64,
    leading: f64,
    rise: f64,
}

/// Reads pages; keeps the document's fonts between them.
pub struct Interpreter<'a, 'f> {
    fonts: &'f mut Fonts<'a>,
    out: RawPage,
    paths: Paths,
    marked: Marked,
    state: State<'a>,
    saved: Vec<State<'a>>,
    text: Affine,
    line: Affine,
    operators: u64,
    cut: bool,
}

/// What `page` shows.
pub fn read_page<'a>(page: &Page<'a>, fonts: &mut Fonts<'a>) -> RawPage {
    let (width, height) = page.render_dimensions();
    let start = page.initial_transform(true).to_kurbo();
    let state =
        State { ctm: start, font: None, size: 1.0, char_space: 0.0, word_space: 0.0, stretch: 1.0, leading: 0.0, rise: 0.0 };
    let mut reader = Interpreter {
        fonts,
        out: RawPage { width, height, ..RawPage::default() },
        paths: Paths::default(),
        marked: Marked::default(),
        state: state.clone(),
        saved: Vec::new(),
        text: Affine::IDENTITY,
        line: Affine::IDENTITY,
        operators: 0,
        cut: false,
    };
    if let Some(content) = page.page_stream() {
        reader.run(content, page.resources(), 0);
    }
    reader.state = state;
    reader.annotations(page.raw(), page.resources());
    if reader.cut {
        reader.out.warning = Some("has more than can be read; the rest of it was left out".into());
    }
    reader.out.rules = reader.paths.finish();
    reader.out
}

impl<'a> Interpreter<'a, '_> {
    fn run(&mut self, content: &[u8], resources: &Resources<'a>, depth: u32) {
        let floor = self.saved.len();
        let mut ops = TypedIter::new(content);
        while let Some(op) = ops.next() {
            self.operators += 1;
            if self.operators > MAX_OPERATORS || self.out.glyphs.len() > MAX_GLYPHS {
                self.cut = true;
                break;
            }
            if self.text_op(&op, resources) {
                continue;
            }
            match op {
                Op::SaveState(_) if self.saved.len() < MAX_SAVED => self.saved.push(self.state.clone()),
                Op::RestoreState(_) if self.saved.len() > floor => self.state = self.saved.pop().unwrap_or(self.state.clone()),
                Op::Transform(m) => {
                    self.state.ctm *=
                        Affine::new([m.0.as_f64(), m.1.as_f64(), m.2.as_f64(), m.3.as_f64(), m.4.as_f64(), m.5.as_f64()])
                }
                Op::SetGraphicsState(gs) => self.graphics_state(resources.get_ext_g_state(gs.0)),
                Op::XObject(x) => {
                    if let Some(stream) = resources.get_x_object(x.0) {
                        self.x_object(&stream, resources, depth);
                    }
                }
                Op::InlineImage(_) => self.image(),
                Op::BeginMarkedContent(_) => self.marked.begin(None),
                Op::BeginMarkedContentWithProperties(b) => self.marked.begin(actual_text(b.1, resources)),
                Op::EndMarkedContent(_) => self.marked.end(),
                ref other => self.paths.apply(other, self.state.ctm),
            }
        }
        if self.saved.len() > floor {
            self.state = self.saved[floor].clone();
            self.saved.truncate(floor);
        }
    }

    /// Applies a text operator; `false`: it was none.
    fn text_op(&mut self, op: &Op<'_, '_>, resources: &Resources<'a>) -> bool {
        match op {
            Op::BeginText(_) => (self.text, self.line) = (Affine::IDENTITY, Affine::IDENTITY),
            Op::SetTextMatrix(m) => {
                let m = Affine::new([m.0.as_f64(), m.1.as_f64(), m.2.as_f64(), m.3.as_f64(), m.4.as_f64(), m.5.as_f64()]);
                (self.text, self.line) = (m, m);
            }
            Op::TextFont(f) => {
                self.state.font = match resources.get_font(f.0) {
                    Some(dict) => self.fonts.get(&dict).or_else(|| self.fonts.fallback()),
                    None => self.fonts.fallback(),
                };
                self.state.size = f.1.as_f64();
            }
            Op::CharacterSpacing(c) => self.state.char_space = c.0.as_f64(),
            Op::WordSpacing(w) => self.state.word_space = w.0.as_f64(),
            Op::HorizontalScaling(h) => self.state.stretch = h.0.as_f64() / 100.0,
            Op::TextLeading(l) => self.state.leading = l.0.as_f64(),
            Op::TextRise(r) => self.state.rise = r.0.as_f64(),
            Op::NextLine(n) => self.next_line(n.0.as_f64(), n.1.as_f64()),
            Op::NextLineAndSetLeading(n) => {
                self.state.leading = -n.1.as_f64();
                self.next_line(n.0.as_f64(), n.1.as_f64());
            }
            Op::NextLineUsingLeading(_) => self.next_line(0.0, -self.state.leading),
            Op::ShowText(s) => self.show(s.0.as_bytes()),
            Op::NextLineAndShowText(s) => {
                self.next_line(0.0, -self.state.leading);
                self.show(s.0.as_bytes());
            }
            Op::ShowTextWithParameters(s) => {
                (self.state.word_space, self.state.char_space) = (s.0.as_f64(), s.1.as_f64());
                self.next_line(0.0, -self.state.leading);
                self.show(s.2.as_bytes());
            }
            Op::ShowTexts(s) => self.show_all(s.0),
            _ => return false,
        }
        true
    }

    fn next_line(&mut self, x: f64, y: f64) {
        self.line *= Affine::translate((x, y));
        self.text = self.line;
    }

    fn show_all(&mut self, items: &Array<'_>) {
        for item in items.iter::<Object<'_>>() {
            match item {
                Object::Number(n) => {
                    let by = -n.as_f64() / 1000.0 * self.state.size;
                    let across = self.state.font.as_ref().is_none_or(|f| f.is_horizontal());
                    let by = if across { (by * self.state.stretch, 0.0) } else { (0.0, by) };
                    self.text *= Affine::translate(by);
                }
                Object::String(s) => self.show(s.as_bytes()),
                _ => {}
            }
        }
    }

    fn show(&mut self, bytes: &[u8]) {
        if self.state.font.is_none() {
            self.state.font = self.fonts.fallback();
        }
        let Some(font) = self.state.font.clone() else { return };
        let mut at = 0;
        while at < bytes.len() {
            let (code, len) = font.read_code(bytes, at);
            at += len;
            let (across, down) = font.advance(code);
            let spacing = self.state.char_space + if code == 32 && len == 1 { self.state.word_space } else { 0.0 };
            let (own, full) = match font.is_horizontal() {
                true => {
                    let own = f64::from(across) / 1000.0 * self.state.size * self.state.stretch;
                    ((own, 0.0), (own + spacing * self.state.stretch, 0.0))
                }
                false => {
                    let own = f64::from(down) / 1000.0 * self.state.size;
                    ((0.0, own), (0.0, own + spacing))
                }
            };
            let text = self.marked.replace(font.text(code));
            if let Some(text) = text {
                self.push(text, own, font.bold, font.is_horizontal());
            }
            self.text *= Affine::translate(full);
        }
    }

    fn push(&mut self, text: String, own: (f64, f64), bold: bool, horizontal: bool) {
        if self.out.glyphs.len() > MAX_GLYPHS {
            return;
        }
        let to_page = self.state.ctm * self.text;
        let [a, b, c, d, _, _] = to_page.as_coeffs();
        let start = to_page * Point::new(0.0, self.state.rise);
        let end = to_page * Point::new(own.0, self.state.rise + own.1);
        let size = (c.hypot(d) * self.state.size.abs()) as f32;
        if ![start.x, start.y, end.x, end.y].iter().all(|v| v.is_finite()) || !size.is_finite() {
            return;
        }
        // the direction of the baseline on the page, where y grows downwards; a negative size runs backwards
        let sign = if self.state.size * self.state.stretch < 0.0 { -1.0 } else { 1.0 };
        let (dx, dy) = if horizontal { (a * sign, b * sign) } else { (-c * sign, -d * sign) };
        let turn = if dx.abs() >= dy.abs() {
            if dx >= 0.0 { 0 } else { 2 }
        } else if dy > 0.0 {
            1
        } else {
            3
        };
        let turn = if horizontal { turn } else { 0 };
        let glyph = Glyph { text, origin: (start.x as f32, start.y as f32), end: (end.x as f32, end.y as f32), size, turn, bold };
        self.out.glyphs.push(glyph);
    }

    fn graphics_state(&mut self, dict: Option<Dict<'a>>) {
        let Some(items) = dict.and_then(|d| d.get::<Array<'_>>("Font")) else { return };
        let mut items = items.iter::<Object<'_>>();
        if let (Some(font), Some(size)) = (items.next().and_then(Object::into_dict), items.next().and_then(Object::into_number)) {
            self.state.font = self.fonts.get(&font);
            self.state.size = size.as_f64();
        }
    }

    fn image(&mut self) {
        let corners = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)].map(|p| self.state.ctm * Point::from(p));
        let xs = corners.map(|p| p.x as f32);
        let ys = corners.map(|p| p.y as f32);
        let low = |v: [f32; 4]| v.into_iter().fold(f32::INFINITY, f32::min);
        let high = |v: [f32; 4]| v.into_iter().fold(f32::NEG_INFINITY, f32::max);
        let rect = super::model::Rect { x0: low(xs), y0: low(ys), x1: high(xs), y1: high(ys) };
        if rect.x0.is_finite() && rect.y1.is_finite() && self.out.images.len() < 10_000 {
            self.out.images.push(rect);
        }
    }

    fn x_object(&mut self, stream: &Stream<'a>, resources: &Resources<'a>, depth: u32) {
        let kind = stream.dict().get::<Name<'_>>("Subtype");
        match kind.as_ref().map(|k| k.as_ref()) {
            Some(b"Image") => self.image(),
            Some(b"Form") => self.form(stream, resources, depth),
            _ => {}
        }
    }

    fn form(&mut self, stream: &Stream<'a>, outer: &Resources<'a>, depth: u32) {
        if depth >= MAX_DEPTH {
            self.cut = true;
            return;
        }
        let dict = stream.dict();
        let Ok(content) = stream.decoded_data() else { return };
        let own = dict.get::<Dict<'a>>("Resources").map(Resources::new);
        let (state, text, line) = (self.state.clone(), self.text, self.line);
        self.state.ctm *= dict.get::<[f64; 6]>("Matrix").map_or(Affine::IDENTITY, Affine::new);
        self.run(&content, own.as_ref().unwrap_or(outer), depth + 1);
        (self.state, self.text, self.line) = (state, text, line);
    }

    /// Forms' fields and other notes that show text on the page.
    fn annotations(&mut self, page: &Dict<'a>, resources: &Resources<'a>) {
        let Some(notes) = page.get::<Array<'_>>("Annots") else { return };
        for note in notes.iter::<Dict<'_>>().take(10_000) {
            let hidden = note.get::<i32>("F").is_some_and(|f| f & 0b100010 != 0);
            let popup = note.get::<Name<'_>>("Subtype").is_some_and(|n| n.as_ref() == b"Popup");
            if hidden || popup {
                continue;
            }
            let before = self.out.glyphs.len();
            if let Some(shown) = appearance(&note) {
                self.note(&note, &shown, resources);
            }
            if self.out.glyphs.len() == before {
                self.value(&note);
            }
        }
    }

    /// What was filled into a form's field whose looks were not made.
    fn value(&mut self, note: &Dict<'a>) {
        let inherited =
            |key: &str| note.get::<Object<'_>>(key).or_else(|| note.get::<Dict<'_>>("Parent")?.get::<Object<'_>>(key));
        let text_field = matches!(inherited("FT"), Some(Object::Name(n)) if matches!(n.as_ref(), b"Tx" | b"Ch"));
        let (Some(Object::String(value)), Some(rect)) = (inherited("V").filter(|_| text_field), note.get::<PdfRect>("Rect"))
        else {
            return;
        };
        let text = text_string(value.as_bytes());
        let size = (rect.height() * 0.8).clamp(1.0, 12.0);
        let step = rect.width() / text.chars().count().max(1) as f64;
        self.text = Affine::translate((rect.x0, rect.y0 + 0.2 * size));
        self.state.size = size;
        for c in text.chars().take(10_000) {
            self.push(c.to_string(), (step, 0.0), false, true);
            self.text *= Affine::translate((step, 0.0));
        }
    }

    fn note(&mut self, note: &Dict<'a>, shown: &Stream<'a>, resources: &Resources<'a>) {
        let (Some(rect), Some(bbox)) = (note.get::<PdfRect>("Rect"), shown.dict().get::<PdfRect>("BBox")) else { return };
        let matrix = shown.dict().get::<[f64; 6]>("Matrix").map_or(Affine::IDENTITY, Affine::new);
        let placed = matrix.transform_rect_bbox(hayro::kurbo::Rect::new(bbox.x0, bbox.y0, bbox.x1, bbox.y1));
        if placed.width() <= 0.0 || placed.height() <= 0.0 {
            return;
        }
        let (sx, sy) = (rect.width() / placed.width(), rect.height() / placed.height());
        let fit = Affine::new([sx, 0.0, 0.0, sy, rect.x0 - placed.x0 * sx, rect.y0 - placed.y0 * sy]);
        let before = self.state.clone();
        self.state.ctm *= fit;
        self.form(shown, resources, 1);
        self.state = before;
    }
}

/// The normal appearance of a note: a stream, or the one of its state.
fn appearance<'a>(note: &Dict<'a>) -> Option<Stream<'a>> {
    match note.get::<Dict<'_>>("AP")?.get::<Object<'_>>("N")? {
        Object::Stream(stream) => Some(stream),
        Object::Dict(states) => states.get::<Stream<'_>>(note.get::<Name<'_>>("AS")?),
        _ => None,
    }
}

/// The text that stands for a marked piece, where its properties give one.
fn actual_text(properties: &Object<'_>, resources: &Resources<'_>) -> Option<String> {
    let dict = match properties {
        Object::Dict(dict) => dict.clone(),
        Object::Name(name) => resources.properties.get::<Dict<'_>>(name)?,
        _ => return None,
    };
    dict.get::<PdfString<'_>>("ActualText").map(|s| text_string(s.as_bytes()))
}

/// A text string of a PDF: UTF-16 or UTF-8 with their marks, else bytes as Latin-1.
fn text_string(bytes: &[u8]) -> String {
    let wide = |bytes: &[u8], make: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|c| make([c[0], c[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        plain => plain.iter().map(|b| char::from(*b)).collect(),
    }
}
