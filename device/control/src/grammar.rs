//! The grammar of JSON (RFC 8259), one byte at a time.
//!
//! It only finds where a value ends and where a text first goes wrong; it builds nothing. A parser that builds
//! values cannot do this job: run again at every read it costs quadratic time, and it does not say where a broken
//! text stops making sense.

/// How deep objects and arrays may nest. serde_json's own limit is 128; nothing here needs ten.
pub(crate) const DEPTH_LIMIT: usize = 64;

/// What one more byte made of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The value goes on.
    Unfinished,
    /// This byte closed the outermost object.
    Complete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before a value.
    Value,
    /// After `[`: a value or `]`.
    FirstElement,
    /// After `{`: a name or `}`.
    FirstName,
    /// After `,` in an object.
    Name,
    /// After a name.
    Colon,
    /// After a value: `,` or the closing bracket.
    AfterValue,
    /// In a string; a name is followed by a colon, a value is not.
    String { is_name: bool },
    /// After a backslash.
    Escape { is_name: bool },
    /// After `\u`, with so many hexadecimal digits to come.
    Unicode { is_name: bool, missing: u8 },
    /// In `true`, `false` or `null`, with these bytes to come.
    Literal(&'static [u8]),
    /// In a number.
    Number(Digits),
}

/// Where in a number the text is.
#[derive(Clone, Copy, Debug)]
enum Digits {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    ExponentMark,
    ExponentSign,
    Exponent,
}

/// The state of one JSON object being read. Its opening brace has been seen already.
#[derive(Debug)]
pub(crate) struct ObjectGrammar {
    /// Open containers, outermost first; at most [`DEPTH_LIMIT`].
    open: Vec<Container>,
    state: State,
}

impl ObjectGrammar {
    /// The state after the opening brace of the outermost object.
    pub(crate) fn after_opening_brace() -> Self {
        Self { open: vec![Container::Object], state: State::FirstName }
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// What was expected in its place. The grammar is of no use after that.
    pub(crate) fn take(&mut self, byte: u8) -> Result<Progress, &'static str> {
        self.state = match self.state {
            State::String { is_name } => in_string(byte, is_name)?,
            State::Escape { is_name } => match byte {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => State::String { is_name },
                b'u' => State::Unicode { is_name, missing: 4 },
                _ => return Err("unknown escape in a string"),
            },
            State::Unicode { is_name, missing } => match (byte.is_ascii_hexdigit(), missing) {
                (false, _) => return Err("expected four hexadecimal digits after \\u"),
                (true, 0 | 1) => State::String { is_name },
                (true, _) => State::Unicode { is_name, missing: missing - 1 },
            },
            State::Literal(rest) => match rest.split_first() {
                Some((expected, [])) if byte == *expected => State::AfterValue,
                Some((expected, rest)) if byte == *expected => State::Literal(rest),
                _ => return Err("unknown word (strings need double quotes)"),
            },
            State::Number(digits) => match in_number(byte, digits)? {
                Some(digits) => State::Number(digits),
                // A number ends where something else begins.
                None => return self.between_values(byte, State::AfterValue),
            },
            between => return self.between_values(byte, between),
        };
        Ok(Progress::Unfinished)
    }

    fn between_values(&mut self, byte: u8, state: State) -> Result<Progress, &'static str> {
        self.state = match (state, byte) {
            (_, b' ' | b'\t' | b'\n' | b'\r') => state,
            (State::FirstName | State::Name, b'"') => State::String { is_name: true },
            (State::FirstName, b'}') | (State::FirstElement, b']') => return self.close(byte),
            (State::FirstName, _) => return Err("expected a name in double quotes or '}'"),
            (State::Name, _) => return Err("expected a name in double quotes"),
            (State::Colon, b':') => State::Value,
            (State::Colon, _) => return Err("expected ':' after a name"),
            (State::Value | State::FirstElement, _) => self.begin_value(byte)?,
            (_, b',') => match self.open.last() {
                Some(Container::Array) => State::Value,
                _ => State::Name,
            },
            (_, b'}' | b']') => return self.close(byte),
            _ => return Err("expected ',' or a closing bracket after a value"),
        };
        Ok(Progress::Unfinished)
    }

    fn begin_value(&mut self, byte: u8) -> Result<State, &'static str> {
        Ok(match byte {
            b'{' => self.nest(Container::Object, State::FirstName)?,
            b'[' => self.nest(Container::Array, State::FirstElement)?,
            b'"' => State::String { is_name: false },
            b't' => State::Literal(b"rue"),
            b'f' => State::Literal(b"alse"),
            b'n' => State::Literal(b"ull"),
            b'-' => State::Number(Digits::Minus),
            b'0' => State::Number(Digits::Zero),
            b'1'..=b'9' => State::Number(Digits::Integer),
            _ => return Err("expected a value"),
        })
    }

    fn nest(&mut self, container: Container, state: State) -> Result<State, &'static str> {
        if self.open.len() >= DEPTH_LIMIT {
            return Err("nested more than 64 deep");
        }
        self.open.push(container);
        Ok(state)
    }

    fn close(&mut self, byte: u8) -> Result<Progress, &'static str> {
        match (self.open.pop(), byte) {
            (Some(Container::Object), b'}') | (Some(Container::Array), b']') => {}
            (Some(Container::Object), _) => return Err("expected '}', found ']'"),
            _ => return Err("expected ']', found '}'"),
        }
        self.state = State::AfterValue;
        Ok(if self.open.is_empty() { Progress::Complete } else { Progress::Unfinished })
    }
}

fn in_string(byte: u8, is_name: bool) -> Result<State, &'static str> {
    Ok(match byte {
        b'"' if is_name => State::Colon,
        b'"' => State::AfterValue,
        b'\\' => State::Escape { is_name },
        b'\n' | b'\r' => return Err("the line ends inside a string"),
        0..=0x1f => return Err("control character in a string"),
        _ => State::String { is_name },
    })
}

/// The next state, or `None` when the byte is not part of a number that could end before it.
fn in_number(byte: u8, digits: Digits) -> Result<Option<Digits>, &'static str> {
    Ok(Some(match (digits, byte) {
        (Digits::Minus, b'0') => Digits::Zero,
        (Digits::Minus, b'1'..=b'9') | (Digits::Integer, b'0'..=b'9') => Digits::Integer,
        (Digits::Zero | Digits::Integer, b'.') => Digits::Point,
        (Digits::Point | Digits::Fraction, b'0'..=b'9') => Digits::Fraction,
        (Digits::Zero | Digits::Integer | Digits::Fraction, b'e' | b'E') => Digits::ExponentMark,
        (Digits::ExponentMark, b'+' | b'-') => Digits::ExponentSign,
        (Digits::ExponentMark | Digits::ExponentSign | Digits::Exponent, b'0'..=b'9') => Digits::Exponent,
        (Digits::Zero, b'0'..=b'9') => return Err("a number may not begin with 0"),
        (Digits::Minus | Digits::Point | Digits::ExponentMark | Digits::ExponentSign, _) => {
            return Err("expected a digit");
        }
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `Ok(n)`: complete after n bytes; `Err(None)`: unfinished; `Err(Some(n))`: wrong at byte n.
    fn scan(text: &[u8]) -> Result<usize, Option<usize>> {
        assert_eq!(text[0], b'{');
        let mut grammar = ObjectGrammar::after_opening_brace();
        for (at, byte) in text.iter().enumerate().skip(1) {
            match grammar.take(*byte) {
                Ok(Progress::Unfinished) => {}
                Ok(Progress::Complete) => return Ok(at + 1),
                Err(_) => return Err(Some(at)),
            }
        }
        Err(None)
    }

    #[test]
    fn a_text_that_breaks_the_grammar_is_refused_at_the_first_byte_that_no_valid_text_has_there() {
        for (text, at) in [
            ("{x", 1),
            ("{\"a\" 1", 5),
            ("{\"a\":1 2", 7),
            ("{\"a\":01", 6),
            ("{\"a\":1.}", 7),
            ("{\"a\":-}", 6),
            ("{\"a\":1e+}", 8),
            ("{\"a\":tru}", 8),
            ("{\"a\":[1}", 7),
            ("{\"a\":{]", 6),
            ("{\"a\":1,}", 7),
            ("{,", 1),
            ("{\"a\":[,", 6),
            ("{\"\\x", 3),
            ("{\"\\u12g", 6),
            ("{\"a\n", 3),
            ("{'a", 1),
        ] {
            assert_eq!(scan(text.as_bytes()), Err(Some(at)), "{text}");
        }
    }

    #[test]
    fn nesting_up_to_the_limit_is_taken_and_one_more_is_refused() {
        let nested = |arrays: usize| format!("{{\"a\":{}{}}}", "[".repeat(arrays), "]".repeat(arrays));
        let legal = nested(DEPTH_LIMIT - 1);
        assert_eq!(scan(legal.as_bytes()), Ok(legal.len()));
        assert!(matches!(scan(nested(DEPTH_LIMIT).as_bytes()), Err(Some(_))));
    }

    fn json_pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"b\":", "\\", "\\u00e9", "0", "1", "-", "2.5",
            "1e3", ".", "e", "+", "true", "false", "null", "nul", " ", "\n", "é", "{}", "[]",
        ]);
        prop::collection::vec(piece, 0..14).prop_map(|pieces| ["{", &pieces.concat()].concat().into_bytes())
    }

    proptest! {
        /// serde_json is the judge: both see the same end, and both refuse the same texts.
        #[test]
        fn grammar_and_parser_agree_on_any_text_made_of_json_pieces(text in json_pieces()) {
            let mut parser = serde_json::Deserializer::from_slice(&text).into_iter::<serde_json::Value>();
            let parsed = parser.next().expect("the text is not blank");
            // A number that is too great for it is a number, and ends its reading.
            let too_great = |error: &serde_json::Error| error.to_string().starts_with("number out of range");
            prop_assume!(!parsed.as_ref().is_err_and(too_great));
            match scan(&text) {
                Ok(length) => {
                    prop_assert!(parsed.is_ok(), "{:?}", parsed);
                    prop_assert_eq!(parser.byte_offset(), length);
                }
                Err(None) => prop_assert!(parsed.is_err_and(|error| error.is_eof())),
                Err(Some(_)) => prop_assert!(parsed.is_err()),
            }
        }
    }
}
