//! Marked pieces of content whose text is given apart from their glyphs (`ActualText`).

/// More pieces within one another than this are counted but not looked at.
const MAX_OPEN: usize = 1000;

#[derive(Debug)]
enum Piece {
    /// Says nothing about its text.
    Plain,
    /// Its text, until its first glyph has taken it.
    Given(Option<String>),
}

/// The pieces that are open, and what they say.
#[derive(Debug, Default)]
pub struct Marked {
    open: Vec<Piece>,
    beyond: usize,
}

impl Marked {
    /// A piece begins; `text`: what it stands for.
    pub fn begin(&mut self, text: Option<String>) {
        if self.open.len() >= MAX_OPEN {
            self.beyond += 1;
            return;
        }
        // a soft hyphen alone says that the hyphen shown is one of typesetting; lines are joined later by that same rule
        let text = text.filter(|t| t != "\u{ad}");
        self.open.push(text.map_or(Piece::Plain, |t| Piece::Given(Some(t))));
    }

    /// A piece ends.
    pub fn end(&mut self) {
        match self.beyond {
            0 => drop(self.open.pop()),
            _ => self.beyond -= 1,
        }
    }

    /// The text of a glyph that says `own`: the outermost given text for the first glyph of a piece, `None` for those after it.
    pub fn replace(&mut self, own: String) -> Option<String> {
        for piece in &mut self.open {
            if let Piece::Given(text) = piece {
                return text.take();
            }
        }
        Some(own)
    }
}
