//! A pen that makes rectangles, lines and text, which is all that a drawing has.
//!
//! A monospaced face is used, so that a text's width is known without measuring: [`Size::advance`] for each character.

use crate::ftrace::End;
use crate::kernel::Placed;
use crate::lanes::Look;
use crate::story::Span;

/// An RGB colour.
pub(crate) type Colour = [u8; 3];

pub(crate) const INK: Colour = [0x1b, 0x1f, 0x24];
pub(crate) const MUTED: Colour = [0x57, 0x60, 0x6a];
pub(crate) const GRID: Colour = [0xd8, 0xde, 0xe4];
pub(crate) const BAND: Colour = [0xf6, 0xf8, 0xfa];
pub(crate) const BLUE: Colour = [0x0b, 0x5c, 0xad];
pub(crate) const RED: Colour = [0xc0, 0x2b, 0x0a];
pub(crate) const PALE_RED: Colour = [0xfd, 0xe8, 0xe2];
pub(crate) const GREEN: Colour = [0x1a, 0x7f, 0x37];
pub(crate) const PALE_BLUE: Colour = [0xdb, 0xe9, 0xf7];
pub(crate) const WHITE: Colour = [0xff, 0xff, 0xff];

/// How large a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// 12 units.
    Normal,
    /// 9.5 units.
    Small,
}

impl Size {
    /// The font's size in units.
    pub(crate) fn units(self) -> f32 {
        match self {
            Self::Normal => 12.0,
            Self::Small => 9.5,
        }
    }

    /// The width of a character.
    pub(crate) fn advance(self) -> f32 {
        self.units() * 0.6
    }
}

/// Something to draw. Units are CSS pixels; y grows downwards.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// A filled rectangle.
    Rect { x: f32, y: f32, w: f32, h: f32, fill: Colour, opacity: f32 },
    /// Straight lines, each from one point to another.
    Lines { segments: Vec<[f32; 4]>, colour: Colour, width: f32 },
    /// Text whose base line begins at a point.
    Text { x: f32, y: f32, size: Size, bold: bool, colour: Colour, text: String },
}

/// Between two lines of text.
pub(crate) const LINE: f32 = 15.0;

/// A drawing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Drawing {
    pub(crate) width: f32,
    pub(crate) height: f32,
    /// What it shows, for those who cannot see it.
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) shapes: Vec<Shape>,
}

/// A piece of the time line: nanoseconds since a panel's zero, laid out from `x` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) x: f32,
    pub(crate) w: f32,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl Window {
    pub(crate) fn at(&self, ns: i64) -> f32 {
        let share = (ns - self.from) as f64 / (self.to - self.from).max(1) as f64;
        self.x + self.w * share as f32
    }

    pub(crate) fn has(&self, ns: i64) -> bool {
        (self.from..=self.to).contains(&ns)
    }

    /// The part of a span that lies in the window, as x and width.
    pub(crate) fn part(&self, from: i64, to: i64) -> Option<(f32, f32)> {
        if to < self.from || from > self.to {
            return None;
        }
        let (left, right) = (self.at(from.max(self.from)), self.at(to.min(self.to)));
        Some((left, (right - left).max(1.5)))
    }
}

/// What is being drawn.
pub(crate) struct Pen {
    pub(crate) shapes: Vec<Shape>,
    pub(crate) y: f32,
}

impl Pen {
    pub(crate) fn rect(&mut self, x: f32, y: f32, w: f32, h: f32, fill: Colour, opacity: f32) {
        self.shapes.push(Shape::Rect { x, y, w, h, fill, opacity });
    }

    pub(crate) fn line(&mut self, from: (f32, f32), to: (f32, f32), colour: Colour, width: f32) {
        self.shapes.push(Shape::Lines { segments: vec![[from.0, from.1, to.0, to.1]], colour, width });
    }

    pub(crate) fn frame(&mut self, x: f32, y: f32, w: f32, h: f32, colour: Colour, width: f32) {
        let (r, b) = (x + w, y + h);
        let segments = vec![[x, y, r, y], [r, y, r, b], [r, b, x, b], [x, b, x, y]];
        self.shapes.push(Shape::Lines { segments, colour, width });
    }

    pub(crate) fn text(&mut self, x: f32, y: f32, size: Size, colour: Colour, text: &str) {
        self.shapes.push(Shape::Text { x, y, size, bold: false, colour, text: text.to_owned() });
    }

    pub(crate) fn bold(&mut self, x: f32, y: f32, colour: Colour, text: &str) {
        let (size, text) = (Size::Normal, text.to_owned());
        self.shapes.push(Shape::Text { x, y, size, bold: true, colour, text });
    }

    /// Lines of text from the pen's place on, which goes down with them.
    pub(crate) fn paragraph(&mut self, x: f32, width: f32, colour: Colour, bold: bool, text: &str) {
        for line in wrap(text, columns(width, Size::Normal)) {
            self.y += LINE;
            if bold {
                self.bold(x, self.y, colour, &line)
            } else {
                self.text(x, self.y, Size::Normal, colour, &line)
            }
        }
    }

    /// Diagonals in a rectangle; `down` runs them the other way.
    pub(crate) fn hatch(&mut self, area: [f32; 4], step: f32, down: bool, colour: Colour) {
        let [x, y, w, h] = area;
        let mut segments = Vec::new();
        let mut at = -h + step / 2.0;
        while at < w {
            // From the bottom at x + at to the top at x + at + h, cut to the rectangle.
            let (left, right) = (at.max(0.0), (at + h).min(w));
            if right > left {
                let (low, high) = (h - (left - at), h - (right - at));
                let (low, high) = if down { (h - low, h - high) } else { (low, high) };
                segments.push([x + left, y + low, x + right, y + high]);
            }
            at += step;
        }
        self.shapes.push(Shape::Lines { segments, colour, width: 1.0 });
    }

    pub(crate) fn cross(&mut self, x: f32, y: f32, r: f32, colour: Colour) {
        let segments = vec![[x - r, y - r, x + r, y + r], [x - r, y + r, x + r, y - r]];
        self.shapes.push(Shape::Lines { segments, colour, width: 2.5 });
    }

    pub(crate) fn tick(&mut self, x: f32, y: f32, r: f32, colour: Colour) {
        let segments =
            vec![[x - r, y, x - r * 0.25, y + r * 0.8], [x - r * 0.25, y + r * 0.8, x + r, y - r * 0.8]];
        self.shapes.push(Shape::Lines { segments, colour, width: 2.5 });
    }

    pub(crate) fn span(&mut self, window: Window, y: f32, h: f32, span: &Span) {
        let Some((x, w)) = window.part(span.from, span.to) else { return };
        let (fill, colour) = match span.look {
            Look::Solid => (PALE_BLUE, BLUE),
            Look::Waiting => (WHITE, GREEN),
            Look::Broken => (PALE_RED, RED),
            Look::Gone => (WHITE, RED),
        };
        self.rect(x, y, w, h, fill, 1.0);
        match span.look {
            Look::Waiting => self.hatch([x, y, w, h], 7.0, false, colour),
            Look::Broken => {
                self.hatch([x, y, w, h], 7.0, false, colour);
                self.hatch([x, y, w, h], 7.0, true, colour);
            }
            Look::Solid | Look::Gone => {}
        }
        self.frame(x, y, w, h, colour, if span.look == Look::Broken { 2.0 } else { 1.0 });
        let size = if h > 14.0 { Size::Normal } else { Size::Small };
        let fits = columns(w - 8.0, size);
        let label = span.label.as_str();
        if fits >= label.chars().count() {
            let width = width_of(label, size);
            if matches!(span.look, Look::Waiting | Look::Broken) {
                self.rect(x + 3.0, y + 2.0, width + 4.0, h - 4.0, WHITE, 1.0);
            }
            self.text(x + 5.0, y + h / 2.0 + size.units() * 0.36, size, INK, label);
        }
    }

    /// A call of the guest's kernel: filled while its task runs, hatched while it sleeps, empty while others have the
    /// processor; cross-hatched from where the BAR is not mapped any more if it dies of that.
    pub(crate) fn call(&mut self, window: Window, y: f32, h: f32, placed: &Placed, unmapped: Option<i64>) {
        let call = &placed.call;
        let Some((x, w)) = window.part(call.from, call.to) else { return };
        self.rect(x, y, w, h, if call.depth == 0 { PALE_BLUE } else { BAND }, 1.0);
        let died = call.end == End::Died;
        for away in &call.away {
            let Some((x, w)) = window.part(away.from, away.to) else { continue };
            self.rect(x, y, w, h, WHITE, 1.0);
            if away.asleep {
                self.hatch([x, y, w, h], 7.0, false, GREEN);
            }
        }
        let broken = unmapped.filter(|unmapped| died && *unmapped < call.to);
        if let Some((x, w)) = broken.and_then(|unmapped| window.part(unmapped.max(call.from), call.to)) {
            self.rect(x, y, w, h, PALE_RED, 1.0);
            self.hatch([x, y, w, h], 7.0, false, RED);
            self.hatch([x, y, w, h], 7.0, true, RED);
        }
        if w > 2.0 {
            self.frame(x, y, w, h, if died { RED } else { MUTED }, if died { 1.2 } else { 0.6 });
        }
        let label = placed.label();
        let room = columns(w - 8.0, Size::Small);
        let Some(label) = [&label, &call.function].into_iter().find(|label| label.chars().count() <= room)
        else {
            return;
        };
        self.rect(x + 2.5, y + 1.5, width_of(label, Size::Small) + 4.0, h - 3.0, WHITE, 0.85);
        self.text(x + 4.0, y + h / 2.0 + 3.4, Size::Small, INK, label);
    }
}

pub(crate) fn columns(width: f32, size: Size) -> usize {
    (width / size.advance()).max(0.0) as usize
}

pub(crate) fn width_of(text: &str, size: Size) -> f32 {
    text.chars().count() as f32 * size.advance()
}

/// `text` without what is more than `columns` characters.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(2)).collect();
    format!("{kept}..")
}

/// `text` in lines of at most `columns` characters, as far as its words allow.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
