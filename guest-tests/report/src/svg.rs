//! A drawing as SVG: no script, no font of its own, nothing from elsewhere.

use std::fmt::Write as _;

use crate::escape::markup;
use crate::pen::{Colour, Drawing, Shape};

/// Writes a drawing.
pub(crate) fn write(drawing: &Drawing) -> String {
    let Drawing { width, height, title, description, shapes } = drawing;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"'DejaVu Sans Mono',Menlo,Consolas,monospace\">\n\
         <title>{}</title>\n<desc>{}</desc>\n",
        markup(title),
        markup(description)
    );
    for shape in shapes {
        // Writing to a string cannot fail.
        let _ = match shape {
            Shape::Rect { x, y, w, h, fill, opacity } => {
                let opacity =
                    if *opacity < 1.0 { format!(" fill-opacity=\"{opacity}\"") } else { String::new() };
                let fill = hex(*fill);
                let (x, y, w, h) = (short(*x), short(*y), short(*w), short(*h));
                writeln!(
                    svg,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"{fill}\"{opacity}/>"
                )
            }
            Shape::Lines { segments, colour, width } => {
                let mut path = String::new();
                for [x1, y1, x2, y2] in segments {
                    let _ = write!(path, "M{} {}L{} {}", short(*x1), short(*y1), short(*x2), short(*y2));
                }
                writeln!(
                    svg,
                    "<path d=\"{path}\" stroke=\"{}\" stroke-width=\"{width}\" fill=\"none\"/>",
                    hex(*colour)
                )
            }
            Shape::Text { x, y, size, bold, colour, text } => {
                let weight = if *bold { " font-weight=\"bold\"" } else { "" };
                writeln!(
                    svg,
                    "<text x=\"{}\" y=\"{}\" font-size=\"{}\"{weight} fill=\"{}\" xml:space=\"preserve\">{}</text>",
                    short(*x),
                    short(*y),
                    size.units(),
                    hex(*colour),
                    markup(text)
                )
            }
        };
    }
    svg.push_str("</svg>\n");
    svg
}

/// A hundredth of a pixel is enough.
fn short(value: f32) -> f32 {
    (value * 100.0).round() / 100.0
}

fn hex([r, g, b]: Colour) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}
