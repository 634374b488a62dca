//! A drawing as PNG: rectangles, lines and glyphs on a grid of pixels, two for each unit.
//!
//! The glyphs are those of `noto-sans-mono-bitmap`, drawn beforehand, so that no font has to be found on the host. An SVG
//! renderer would do it as well, at the price of some forty crates.

use miniz_oxide::deflate::compress_to_vec_zlib;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};

use crate::pen::{Colour, Drawing, Shape, Size};

/// Pixels for a unit.
const SCALE: f32 = 2.0;
/// zlib's own default.
const LEVEL: u8 = 9;

struct Canvas {
    width: usize,
    height: usize,
    /// RGB, row by row.
    pixels: Vec<u8>,
}

impl Canvas {
    /// Lays a colour over a pixel, by a share from 0 to 1.
    fn blend(&mut self, x: usize, y: usize, colour: Colour, share: f32) {
        if x >= self.width || y >= self.height || share <= 0.0 {
            return;
        }
        let at = (y * self.width + x) * 3;
        let Some(pixel) = self.pixels.get_mut(at..at + 3) else { return };
        let share = share.min(1.0);
        for (old, new) in pixel.iter_mut().zip(colour) {
            let mixed = f32::from(*old) * (1.0 - share) + f32::from(new) * share;
            *old = mixed.round() as u8;
        }
    }

    fn rect(&mut self, [x, y, w, h]: [f32; 4], colour: Colour, opacity: f32) {
        for row in pixels(y, y + h, self.height) {
            let down = covered(row, y, y + h);
            for column in pixels(x, x + w, self.width) {
                self.blend(column, row, colour, down * covered(column, x, x + w) * opacity);
            }
        }
    }

    /// A line by each pixel's distance from it.
    fn line(&mut self, [x1, y1, x2, y2]: [f32; 4], colour: Colour, width: f32) {
        let half = width / 2.0;
        let (dx, dy) = (x2 - x1, y2 - y1);
        let length = dx * dx + dy * dy;
        for row in pixels(y1.min(y2) - half - 1.0, y1.max(y2) + half + 1.0, self.height) {
            for column in pixels(x1.min(x2) - half - 1.0, x1.max(x2) + half + 1.0, self.width) {
                let (px, py) = (column as f32 + 0.5, row as f32 + 0.5);
                let along = if length > 0.0 { ((px - x1) * dx + (py - y1) * dy) / length } else { 0.0 };
                let along = along.clamp(0.0, 1.0);
                let distance = (px - x1 - along * dx).hypot(py - y1 - along * dy);
                self.blend(column, row, colour, (half + 0.5 - distance).clamp(0.0, width.min(1.0)));
            }
        }
    }

    fn text(&mut self, (x, y): (f32, f32), size: Size, bold: bool, colour: Colour, text: &str) {
        let weight = if bold { FontWeight::Bold } else { FontWeight::Regular };
        // The height of the raster's cell; the font's own size is three quarters of that.
        let height = match size {
            Size::Normal => RasterHeight::Size32,
            Size::Small => RasterHeight::Size24,
        };
        for (index, character) in text.chars().enumerate() {
            let glyph = get_raster(character, weight, height).or_else(|| get_raster('?', weight, height));
            let Some(glyph) = glyph else { continue };
            let left = (x + index as f32 * size.advance()) * SCALE;
            // The base line of the raster is at seven tenths of its cell.
            let top = y * SCALE - (height.val() as f32 * 0.71).round();
            for (row, line) in glyph.raster().iter().enumerate() {
                for (column, share) in line.iter().enumerate() {
                    let (px, py) = (left.round() + column as f32, top.round() + row as f32);
                    if px >= 0.0 && py >= 0.0 {
                        self.blend(px as usize, py as usize, colour, f32::from(*share) / 255.0);
                    }
                }
            }
        }
    }
}

/// The pixels that an interval touches.
fn pixels(from: f32, to: f32, limit: usize) -> std::ops::Range<usize> {
    (from.floor().max(0.0) as usize)..(to.ceil().max(0.0) as usize).min(limit)
}

/// How much of a pixel an interval covers.
fn covered(pixel: usize, from: f32, to: f32) -> f32 {
    let pixel = pixel as f32;
    (to.min(pixel + 1.0) - from.max(pixel)).clamp(0.0, 1.0)
}

/// Writes a drawing.
pub(crate) fn write(drawing: &Drawing) -> Vec<u8> {
    let (width, height) = ((drawing.width * SCALE).ceil() as usize, (drawing.height * SCALE).ceil() as usize);
    let mut canvas = Canvas { width, height, pixels: vec![0xff; width * height * 3] };
    for shape in &drawing.shapes {
        match shape {
            Shape::Rect { x, y, w, h, fill, opacity } => {
                canvas.rect([x, y, w, h].map(|value| value * SCALE), *fill, *opacity);
            }
            Shape::Lines { segments, colour, width } => {
                for segment in segments {
                    canvas.line(segment.map(|value| value * SCALE), *colour, width * SCALE);
                }
            }
            Shape::Text { x, y, size, bold, colour, text } => {
                canvas.text((*x, *y), *size, *bold, *colour, text);
            }
        }
    }
    encode(&canvas)
}

/// The file (W3C PNG, third edition): signature, IHDR, IDAT, IEND.
fn encode(canvas: &Canvas) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::new();
    for side in [canvas.width, canvas.height] {
        header.extend(u32::try_from(side).unwrap_or(u32::MAX).to_be_bytes());
    }
    // 8 bits a channel, RGB, the only compression, the only filter method, not interlaced.
    header.extend([8, 2, 0, 0, 0]);
    chunk(&mut file, *b"IHDR", &header);
    let mut lines = Vec::with_capacity(canvas.pixels.len() + canvas.height);
    for line in canvas.pixels.chunks_exact((canvas.width * 3).max(1)) {
        // Filter type 0, None: plain areas and glyphs that come again compress best as they are.
        lines.push(0);
        lines.extend_from_slice(line);
    }
    chunk(&mut file, *b"IDAT", &compress_to_vec_zlib(&lines, LEVEL));
    chunk(&mut file, *b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    file.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    file.extend(kind);
    file.extend(data);
    let crc = kind.iter().chain(data).fold(u32::MAX, |crc, byte| {
        // The polynomial of ISO 3309, bit by bit.
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    file.extend((!crc).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_ends_with_the_checksum_of_the_specification() {
        let mut file = Vec::new();
        chunk(&mut file, *b"IEND", &[]);
        assert_eq!(file, *b"\0\0\0\0IEND\xae\x42\x60\x82");
    }

    #[test]
    fn line_and_rectangle_cover_their_pixels_and_no_others() {
        let mut canvas = Canvas { width: 8, height: 8, pixels: vec![0xff; 8 * 8 * 3] };
        canvas.rect([1.0, 1.0, 2.0, 2.0], [0, 0, 0], 1.0);
        canvas.line([5.0, 0.0, 5.0, 8.0], [0, 0, 0], 2.0);
        let dark: Vec<usize> = (0..8).filter(|x| canvas.pixels[(8 + x) * 3] < 128).collect();
        assert_eq!(dark, [1, 2, 4, 5]);
        canvas.rect([7.0, 7.0, 90.0, 90.0], [0, 0, 0], 1.0);
    }
}
