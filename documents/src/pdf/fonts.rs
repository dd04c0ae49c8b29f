//! Fonts of the pure backend: what a code means, how wide it is and whether the font is bold.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use hayro_cmap::{BfString, CMap, CMapName};
use hayro_font::{CMapResolverFn, Font, FontCache, FontGlyph, FontQuery, FontResolverFn, StandardFont};
use hayro_syntax::object::{Array, Dict, Name, Object, Stream};

/// A font as the text interpreter needs it.
pub struct TextFont<'a> {
    font: Font<'a>,
    /// Whether its name, weight or flags say bold.
    pub bold: bool,
    /// Codes of one byte: what one without a meaning of its own stands for.
    simple: bool,
    /// From code to Unicode for fonts of a known character collection without a map of their own.
    by_collection: Option<Collection>,
}

struct Collection {
    encoding: Option<CMap>,
    unicode: CMap,
}

impl TextFont<'_> {
    /// The next code of `bytes` from `offset`, and how many bytes it takes (at least 1).
    pub fn read_code(&self, bytes: &[u8], offset: usize) -> (u32, usize) {
        let (code, len) = self.font.read_code(bytes, offset);
        (code, len.max(1))
    }

    /// How far a code moves, in thousandths of the size: across and down.
    pub fn advance(&self, code: u32) -> (f32, f32) {
        let by = self.font.code_advance(code);
        (by.x as f32, by.y as f32)
    }

    /// Whether it runs across (nearly all do).
    pub fn is_horizontal(&self) -> bool {
        self.font.is_horizontal()
    }

    /// The text of a code; empty where nothing tells.
    pub fn text(&self, code: u32) -> String {
        let own = match self.font.glyph(self.font.map_code(code), code) {
            FontGlyph::Outline(glyph) => glyph.as_unicode(),
            FontGlyph::Type3(glyph) => glyph.as_unicode(),
        };
        match own.filter(|t| !matches!(t, BfString::Char('\0'))) {
            Some(BfString::Char(c)) => c.to_string(),
            Some(BfString::String(s)) => s,
            None if self.simple => simple_text(code),
            None => self.by_collection.as_ref().and_then(|c| c.text(code)).unwrap_or_default(),
        }
    }
}

impl Collection {
    fn text(&self, code: u32) -> Option<String> {
        let cid = match &self.encoding {
            Some(map) => (1..=4).find_map(|len| map.lookup_cid_code(code, len))?,
            None => code,
        };
        match self.unicode.lookup_bf_string(cid)? {
            BfString::Char(c) => Some(c.to_string()),
            BfString::String(s) => Some(s),
        }
    }
}

/// What a byte means in a font that does not say: ASCII, or Windows' Western encoding above it.
fn simple_text(code: u32) -> String {
    const HIGH: [char; 32] = [
        '\u{20ac}', '\0', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}', '\u{2c6}', '\u{2030}',
        '\u{160}', '\u{2039}', '\u{152}', '\0', '\u{17d}', '\0', '\0', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}',
        '\u{2022}', '\u{2013}', '\u{2014}', '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\0', '\u{17e}', '\u{178}',
    ];
    match code {
        0x20..=0x7e => char::from_u32(code).map(String::from).unwrap_or_default(),
        0x80..=0x9f => match HIGH[(code - 0x80) as usize] {
            '\0' => String::new(),
            c => c.to_string(),
        },
        0xa0..=0xff => char::from_u32(code).map(String::from).unwrap_or_default(),
        _ => String::new(),
    }
}

/// All fonts of a document, each read once.
pub struct Fonts<'a> {
    cache: FontCache<'a>,
    resolver: FontResolverFn,
    cmaps: CMapResolverFn,
    /// By where their dictionaries lie: a dictionary inside another has no number of its own.
    known: HashMap<(usize, usize), Option<Rc<TextFont<'a>>>>,
    fallback: Option<Option<Rc<TextFont<'a>>>>,
}

impl Default for Fonts<'_> {
    fn default() -> Self {
        let resolver: FontResolverFn = Arc::new(|query| match query {
            FontQuery::Standard(font) => Some(font.get_font_data()),
            FontQuery::Fallback(font) => Some(font.pick_standard_font().get_font_data()),
        });
        let cmaps: CMapResolverFn = Arc::new(hayro_cmap::load_embedded);
        Self { cache: FontCache::new(), resolver, cmaps, known: HashMap::new(), fallback: None }
    }
}

impl<'a> Fonts<'a> {
    /// The font of a dictionary; `None` for one that cannot be read.
    pub fn get(&mut self, dict: &Dict<'a>) -> Option<Rc<TextFont<'a>>> {
        let key = (dict.data().as_ptr() as usize, dict.data().len());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let made = self.make(dict).map(Rc::new);
        self.known.insert(key, made.clone());
        made
    }

    /// Helvetica: what text is taken to be set in when the file names no font.
    pub fn fallback(&mut self) -> Option<Rc<TextFont<'a>>> {
        if self.fallback.is_none() {
            let font = self.cache.standard_font(StandardFont::Helvetica, &self.resolver);
            self.fallback = Some(font.map(|font| Rc::new(TextFont { font, bold: false, simple: true, by_collection: None })));
        }
        self.fallback.clone().flatten()
    }

    fn make(&self, dict: &Dict<'a>) -> Option<TextFont<'a>> {
        let font = self.cache.font(dict, &self.resolver, &self.cmaps)?;
        let subtype = dict.get::<Name<'_>>("Subtype");
        let composite = subtype.as_ref().is_some_and(|n| n.as_ref() == b"Type0");
        let inner = match composite {
            true => dict.get::<Array<'_>>("DescendantFonts").and_then(|a| a.iter::<Dict<'_>>().next()),
            false => Some(dict.clone()),
        };
        let bold = inner.as_ref().is_some_and(is_bold);
        let has_map = dict.get::<Stream<'_>>("ToUnicode").is_some();
        let by_collection = (composite && !has_map).then(|| self.collection(dict, inner.as_ref()?)).flatten();
        Some(TextFont { font, bold, simple: !composite, by_collection })
    }

    /// The map of a font's character collection (Adobe-Japan1, ...), if it names a known one.
    fn collection(&self, dict: &Dict<'a>, inner: &Dict<'a>) -> Option<Collection> {
        let info = inner.get::<Dict<'_>>("CIDSystemInfo")?;
        let ordering = info.get::<hayro_syntax::object::String<'_>>("Ordering")?;
        let name: &[u8] = match ordering.as_bytes() {
            b"Japan1" => b"Adobe-Japan1-UCS2",
            b"GB1" => b"Adobe-GB1-UCS2",
            b"CNS1" => b"Adobe-CNS1-UCS2",
            b"Korea1" | b"KR" => b"Adobe-Korea1-UCS2",
            _ => return None,
        };
        let unicode = self.cmap(name)?;
        let encoding = match dict.get::<Object<'_>>("Encoding")? {
            Object::Name(name) if name.as_ref().starts_with(b"Identity") => None,
            Object::Name(name) => Some(self.cmap(name.as_ref())?),
            Object::Stream(stream) => {
                let resolver = self.cmaps.clone();
                Some(CMap::parse(&stream.decoded_data().ok()?, move |n| resolver(n))?)
            }
            _ => return None,
        };
        Some(Collection { encoding, unicode })
    }

    fn cmap(&self, name: &[u8]) -> Option<CMap> {
        let data = (self.cmaps)(CMapName::from_bytes(name))?;
        let resolver = self.cmaps.clone();
        CMap::parse(data, move |n| resolver(n))
    }
}

/// Whether a simple or descendant font's name, weight, flags (19: force bold) or stems say bold.
fn is_bold(dict: &Dict<'_>) -> bool {
    let name = dict.get::<Name<'_>>("BaseFont").map(|n| n.as_str().to_string()).unwrap_or_default();
    if bold_name(&name) {
        return true;
    }
    let Some(descriptor) = dict.get::<Dict<'_>>("FontDescriptor") else { return false };
    descriptor.get::<f32>("FontWeight").is_some_and(|w| (600.0..=1000.0).contains(&w))
        || descriptor.get::<i32>("Flags").is_some_and(|f| f & (1 << 18) != 0)
}

/// Whether a font's name says bold: `Arial,Bold`, `Helvetica-Black`, TeX's `CMBX10`, ...
pub fn bold_name(name: &str) -> bool {
    let name = name.split_once('+').map_or(name, |(_, rest)| rest).to_ascii_lowercase();
    let said = ["bold", "black", "heavy", "demi"].iter().any(|b| name.contains(b));
    said || ["cmbx", "cmssbx", "sfbx", "ecbx", "ptmb", "phvb", "nimbusromno9l-medi", "lmromandemi"]
        .iter()
        .any(|b| name.starts_with(b))
}
