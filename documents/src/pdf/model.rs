//! A page as a backend hands it over: glyphs, rules and pictures, in points, with the origin at the upper left of the page as it is shown.

/// A rectangle: `x0 <= x1` to the right, `y0 <= y1` downwards, in points.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rect {
    /// Left.
    pub x0: f32,
    /// Top.
    pub y0: f32,
    /// Right.
    pub x1: f32,
    /// Bottom.
    pub y1: f32,
}

impl Rect {
    /// The rectangle between two corners in any order.
    pub fn of(ax: f32, ay: f32, bx: f32, by: f32) -> Self {
        Self { x0: ax.min(bx), y0: ay.min(by), x1: ax.max(bx), y1: ay.max(by) }
    }

    /// Points from left to right.
    pub fn width(&self) -> f32 {
        self.x1 - self.x0
    }

    /// Points from top to bottom.
    pub fn height(&self) -> f32 {
        self.y1 - self.y0
    }

    /// The smallest rectangle around both.
    pub fn union(&self, other: &Self) -> Self {
        Self { x0: self.x0.min(other.x0), y0: self.y0.min(other.y0), x1: self.x1.max(other.x1), y1: self.y1.max(other.y1) }
    }

    /// Points by which both reach into one another downwards; negative: the gap between them.
    pub fn overlap_y(&self, other: &Self) -> f32 {
        self.y1.min(other.y1) - self.y0.max(other.y0)
    }

    /// Points by which both reach into one another sideways; negative: the gap between them.
    pub fn overlap_x(&self, other: &Self) -> f32 {
        self.x1.min(other.x1) - self.x0.max(other.x0)
    }

    /// Whether the middle of `other` lies in this one grown by `slack`.
    pub fn holds_middle(&self, other: &Self, slack: f32) -> bool {
        let (x, y) = ((other.x0 + other.x1) / 2.0, (other.y0 + other.y1) / 2.0);
        x >= self.x0 - slack && x <= self.x1 + slack && y >= self.y0 - slack && y <= self.y1 + slack
    }
}

/// A glyph (or what a backend shows as one) with its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Glyph {
    /// Its text: one character, more for ligatures; a blank one ends a word.
    pub text: String,
    /// Where its baseline starts.
    pub origin: (f32, f32),
    /// Where the next glyph would start, without spacing between characters.
    pub end: (f32, f32),
    /// Font size in points as shown.
    pub size: f32,
    /// Quarter turns of the baseline, clockwise: 0 upright, 1 running down, 2 upside down, 3 running up.
    pub turn: u8,
    /// Whether the font is a bold one.
    pub bold: bool,
}

/// A word: what stands together in a line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Word {
    /// Its text.
    pub text: String,
    /// Its place, in the frame of its own direction.
    pub rect: Rect,
    /// Its baseline.
    pub base: f32,
    /// Font size in points.
    pub size: f32,
    /// Whether most of it is bold.
    pub bold: bool,
    /// Whether a blank follows it in the file; without one, a close neighbour is the same word.
    pub spaced: bool,
}

/// What a page carries, as a backend read it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawPage {
    /// Points from left to right, as shown.
    pub width: f32,
    /// Points from top to bottom, as shown.
    pub height: f32,
    /// Glyphs in the order of the file.
    pub glyphs: Vec<Glyph>,
    /// Straight lines and edges of boxes, upright or level.
    pub rules: Vec<Rect>,
    /// Pictures.
    pub images: Vec<Rect>,
    /// Said to whoever reads the document: what was left out.
    pub warning: Option<String>,
}

impl RawPage {
    /// Part of the page that pictures cover, from 0 to 1 (overlaps counted twice, at most 1).
    pub fn image_cover(&self) -> f32 {
        let page = Rect { x0: 0.0, y0: 0.0, x1: self.width, y1: self.height };
        let area: f32 = self.images.iter().map(|i| i.overlap_x(&page).max(0.0) * i.overlap_y(&page).max(0.0)).sum();
        if self.width * self.height > 0.0 { (area / (self.width * self.height)).min(1.0) } else { 0.0 }
    }

    /// Characters that are not blank.
    pub fn num_chars(&self) -> usize {
        self.glyphs.iter().map(|g| g.text.chars().filter(|c| !c.is_whitespace()).count()).sum()
    }
}

/// Pixels of a page, row by row, one byte each: 0 black, 255 white.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// `width * height` bytes.
    pub grey: Vec<u8>,
}

/// An open document of a backend.
pub trait Backend {
    /// What it is called in [`crate::element::Document::reader`].
    fn name(&self) -> &'static str;
    /// Pages.
    fn num_pages(&self) -> u32;
    /// The page `index`, from 0.
    fn page(&self, index: u32) -> RawPage;
    /// The page `index` drawn at `dpi`; the error says why not.
    fn draw(&self, index: u32, dpi: f32) -> Result<Bitmap, String>;
}
