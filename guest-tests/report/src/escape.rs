//! What a guest says is text, wherever it is put.

use std::fmt::Write as _;

/// Text for the content of an element, or for an attribute in double quotes. Control characters, which XML does not
/// allow, become U+FFFD.
pub(crate) fn markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(character),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

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
    fn text_has_no_markup_and_no_control_characters() {
        assert_eq!(markup("<b a=\"x\">'&\u{1b}[0m\n"), "&lt;b a=&quot;x&quot;&gt;&#39;&amp;\u{fffd}[0m\n");
    }

    #[test]
    fn json_stays_the_same_document_and_cannot_end_its_element() {
        let text = "</script><!--\u{2028}&\u{2029}";
        let escaped = json(&serde_json::to_string(text).unwrap());
        assert!(!escaped.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
    }
}
