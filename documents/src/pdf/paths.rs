//! Straight rules among a page's paths: what tables are ruled with.

use hayro::kurbo::{Affine, Point};
use hayro_syntax::content::ops::TypedInstruction as Op;

use super::model::Rect;

/// A line thicker than this is a bar, not a rule.
const MAX_THICK: f32 = 3.5;
/// Shorter lines are parts of drawings.
const MIN_LONG: f32 = 6.0;
/// Rules of a page; drawings with more than this have none.
const MAX_RULES: usize = 5000;

/// Collects the rules of a page.
#[derive(Debug, Default)]
pub struct Paths {
    rules: Vec<Rect>,
    pending: Vec<Rect>,
    start: Option<Point>,
    last: Option<Point>,
}

impl Paths {
    /// Applies a path operator under the transform `ctm`.
    pub fn apply(&mut self, op: &Op<'_, '_>, ctm: Affine) {
        match op {
            Op::MoveTo(m) => {
                self.start = Some(ctm * Point::new(m.0.as_f64(), m.1.as_f64()));
                self.last = self.start;
            }
            Op::LineTo(l) => self.line_to(ctm * Point::new(l.0.as_f64(), l.1.as_f64())),
            Op::ClosePath(_) | Op::CloseAndStrokePath(_) => {
                if let Some(start) = self.start {
                    self.line_to(start);
                }
                if matches!(op, Op::CloseAndStrokePath(_)) {
                    self.paint();
                }
            }
            Op::RectPath(r) => self.rect(ctm, [r.0.as_f64(), r.1.as_f64(), r.2.as_f64(), r.3.as_f64()]),
            Op::CubicTo(c) => self.last = Some(ctm * Point::new(c.4.as_f64(), c.5.as_f64())),
            Op::CubicStartTo(c) => self.last = Some(ctm * Point::new(c.2.as_f64(), c.3.as_f64())),
            Op::CubicEndTo(c) => self.last = Some(ctm * Point::new(c.2.as_f64(), c.3.as_f64())),
            Op::StrokePath(_)
            | Op::FillPathNonZero(_)
            | Op::FillPathNonZeroCompatibility(_)
            | Op::FillPathEvenOdd(_)
            | Op::FillAndStrokeNonZero(_)
            | Op::FillAndStrokeEvenOdd(_)
            | Op::CloseFillAndStrokeNonZero(_)
            | Op::CloseFillAndStrokeEvenOdd(_) => self.paint(),
            Op::EndPath(_) => self.drop_path(),
            _ => {}
        }
    }

    /// The rules seen.
    pub fn finish(self) -> Vec<Rect> {
        if self.rules.len() > MAX_RULES { Vec::new() } else { self.rules }
    }

    fn line_to(&mut self, to: Point) {
        if let Some(from) = self.last {
            self.push(Rect::of(from.x as f32, from.y as f32, to.x as f32, to.y as f32));
        }
        self.last = Some(to);
    }

    /// A box: a rule where it is thin, else its four edges.
    fn rect(&mut self, ctm: Affine, [x, y, w, h]: [f64; 4]) {
        let (a, b) = (ctm * Point::new(x, y), ctm * Point::new(x + w, y + h));
        let r = Rect::of(a.x as f32, a.y as f32, b.x as f32, b.y as f32);
        if r.width().min(r.height()) <= MAX_THICK {
            return self.push(r);
        }
        for edge in [(r.x0, r.y0, r.x1, r.y0), (r.x0, r.y1, r.x1, r.y1), (r.x0, r.y0, r.x0, r.y1), (r.x1, r.y0, r.x1, r.y1)] {
            self.push(Rect::of(edge.0, edge.1, edge.2, edge.3));
        }
    }

    fn push(&mut self, r: Rect) {
        let (thick, long) = (r.width().min(r.height()), r.width().max(r.height()));
        if thick <= MAX_THICK && long >= MIN_LONG && long.is_finite() && self.pending.len() <= MAX_RULES {
            self.pending.push(r);
        }
    }

    fn paint(&mut self) {
        if self.rules.len() <= MAX_RULES {
            self.rules.append(&mut self.pending);
        }
        self.drop_path();
    }

    fn drop_path(&mut self) {
        self.pending.clear();
        (self.start, self.last) = (None, None);
    }
}
