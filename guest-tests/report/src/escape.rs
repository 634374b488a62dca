//! What a guest says is text, wherever it is put.

use std::fmt::Write as _;

pub(crate) use sdmorph_lab::campaign::markup::markup;

/// JSON text for a `<script type="application/json">`: the same document, without a character that could end the element
/// or open a comment in it, or that older readers of JavaScript take for the end of a line.
pub(crate) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            // Outside of strings JSON has none of these; inside, any character may be written as its number.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_the_same_document_and_cannot_end_its_element() {
        let text = "</script><!--\u{2028}&\u{2029}";
        let escaped = json(&serde_json::to_string(text).unwrap());
        assert!(!escaped.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
    }
}
