//! JSON objects out of a byte stream.

use crate::grammar::{ObjectGrammar, Progress};
use serde_json::{Map, Value};

/// The longest message that a server takes from a client, in bytes.
pub const MESSAGE_LIMIT_BYTES: usize = 1 << 20;

/// Why a piece of the stream is not a message. One is reported for each piece, and the stream is in step again by
/// itself: see the variants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Something other than an object; the rest of the line is dropped.
    #[error("expected a JSON object, found {0}; the rest of the line is ignored")]
    NotAnObject(String),
    /// The text is no JSON; the rest of the line is dropped, unless the line begins a new object.
    #[error("invalid JSON at byte {at_byte} of the message: {expected}; the rest of the line is ignored")]
    Syntax {
        /// Offset of the first wrong byte from the opening brace.
        at_byte: usize,
        /// What was expected there.
        expected: &'static str,
    },
    /// The object is complete but cannot be represented (bad UTF-8, half a surrogate pair, a number out of range);
    /// only the object is dropped.
    #[error("invalid JSON: {0}")]
    Unrepresentable(String),
    /// The message is over the limit; all of it is dropped, up to its end.
    #[error("message longer than {limit_bytes} bytes; all of it is ignored")]
    TooLong {
        /// The limit of this stream.
        limit_bytes: usize,
    },
}

#[derive(Debug)]
enum State {
    /// Between messages.
    Between,
    /// In a message that is kept in the buffer.
    Message(ObjectGrammar),
    /// In a message that is over the limit: followed to its end, not kept.
    Overlong(ObjectGrammar),
    /// After an error: nothing counts before the next newline.
    RestOfLine,
}

/// Finds the JSON objects of a byte stream. Memory is bounded by the limit, time is linear in the bytes, and how the
/// stream is cut into pieces makes no difference.
#[derive(Debug)]
pub struct Framer {
    limit_bytes: usize,
    buffer: Vec<u8>,
    /// Bytes of the present message so far, kept or not.
    length_bytes: usize,
    state: State,
    /// Nothing but blanks since the last newline.
    line_is_blank: bool,
}

impl Framer {
    /// A framer for messages of at most `limit_bytes` bytes from brace to brace.
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, buffer: Vec::new(), length_bytes: 0, state: State::Between, line_is_blank: true }
    }

    /// Takes bytes from the front of `input` up to the end of the next message or error and returns that; `None`
    /// when all of `input` was taken. Call it until it returns `None`.
    pub fn next_frame(&mut self, input: &mut &[u8]) -> Option<Result<Map<String, Value>, FrameError>> {
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            let frame = self.take(*byte);
            match byte {
                b'\n' => self.line_is_blank = true,
                b' ' | b'\t' | b'\r' => {}
                _ => self.line_is_blank = false,
            }
            if frame.is_some() {
                return frame;
            }
        }
        None
    }

    /// Bytes of a message that has begun and not ended: more than 0 at the end of a stream means half a message.
    pub fn pending_bytes(&self) -> usize {
        match self.state {
            State::Message(_) | State::Overlong(_) => self.length_bytes,
            State::Between | State::RestOfLine => 0,
        }
    }

    fn take(&mut self, byte: u8) -> Option<Result<Map<String, Value>, FrameError>> {
        let progress = match &mut self.state {
            State::RestOfLine => {
                if byte == b'\n' {
                    self.state = State::Between;
                }
                return None;
            }
            State::Between => return self.take_between(byte),
            State::Message(grammar) | State::Overlong(grammar) => grammar.take(byte),
        };
        match progress {
            Ok(progress) => self.take_in_message(byte, progress),
            Err(expected) => self.give_up_message(byte, expected),
        }
    }

    fn take_between(&mut self, byte: u8) -> Option<Result<Map<String, Value>, FrameError>> {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => None,
            b'{' => {
                self.begin_message();
                None
            }
            _ => {
                self.state = State::RestOfLine;
                let found = if byte.is_ascii_graphic() {
                    format!("'{}'", char::from(byte))
                } else {
                    format!("byte {byte:#04x}")
                };
                Some(Err(FrameError::NotAnObject(found)))
            }
        }
    }

    fn begin_message(&mut self) {
        self.buffer.clear();
        self.buffer.push(b'{');
        self.length_bytes = 1;
        self.state = State::Message(ObjectGrammar::after_opening_brace());
    }

    fn take_in_message(
        &mut self,
        byte: u8,
        progress: Progress,
    ) -> Option<Result<Map<String, Value>, FrameError>> {
        self.length_bytes = self.length_bytes.saturating_add(1);
        let within_limit = self.length_bytes <= self.limit_bytes;
        if within_limit {
            self.buffer.push(byte);
        }
        let state = std::mem::replace(&mut self.state, State::Between);
        match (state, progress) {
            (State::Message(_), Progress::Complete) if within_limit => Some(
                serde_json::from_slice(&self.buffer)
                    .map_err(|error| FrameError::Unrepresentable(error.to_string())),
            ),
            (State::Message(grammar), progress) if !within_limit => {
                self.buffer = Vec::new();
                if progress == Progress::Unfinished {
                    self.state = State::Overlong(grammar);
                }
                Some(Err(FrameError::TooLong { limit_bytes: self.limit_bytes }))
            }
            (unfinished, Progress::Unfinished) => {
                self.state = unfinished;
                None
            }
            (_, Progress::Complete) => None,
        }
    }

    fn give_up_message(
        &mut self,
        byte: u8,
        expected: &'static str,
    ) -> Option<Result<Map<String, Value>, FrameError>> {
        let reported_already = matches!(self.state, State::Overlong(_));
        let at_byte = self.length_bytes;
        match byte {
            b'\n' => self.state = State::Between,
            b'{' if self.line_is_blank => self.begin_message(),
            _ => self.state = State::RestOfLine,
        }
        if reported_already { None } else { Some(Err(FrameError::Syntax { at_byte, expected })) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    type Frames = Vec<Result<Value, FrameError>>;

    fn frames(framer: &mut Framer, mut input: &[u8]) -> Frames {
        let mut frames = Vec::new();
        while let Some(frame) = framer.next_frame(&mut input) {
            frames.push(frame.map(Value::Object));
        }
        assert!(input.is_empty());
        frames
    }

    fn frames_of(text: &str) -> Frames {
        frames(&mut Framer::new(100), text.as_bytes())
    }

    #[test]
    fn messages_are_found_when_concatenated_on_lines_of_their_own_or_over_several_lines() {
        assert_eq!(
            frames_of("\r\n\n{\"a\":1}{\"b\":\"}{\"} \r\n{\n  \"c\": [\n    {}\n  ]\n}\n"),
            [Ok(json!({"a": 1})), Ok(json!({"b": "}{"})), Ok(json!({"c": [{}]}))]
        );
    }

    #[test]
    fn something_that_is_no_object_is_answered_once_and_the_rest_of_its_line_is_dropped() {
        let found = frames_of("login: {\"a\":1}\n{\"b\":2}\n\u{0}\n");
        assert_eq!(
            found,
            [
                Err(FrameError::NotAnObject("'l'".into())),
                Ok(json!({"b": 2})),
                Err(FrameError::NotAnObject("byte 0x00".into())),
            ]
        );
    }

    #[test]
    fn a_syntax_error_drops_the_rest_of_its_line_and_nothing_of_the_next() {
        let found = frames_of("{\"a\":1,} {\"b\":2}\n{\"c\":3}");
        assert!(matches!(found[0], Err(FrameError::Syntax { at_byte: 7, .. })), "{found:?}");
        assert_eq!(found[1..], [Ok(json!({"c": 3}))]);
    }

    #[test]
    fn a_line_that_ends_inside_a_string_is_an_error_and_the_next_line_counts() {
        let found = frames_of("{\"execute\": \"card-in\n{\"c\":3}");
        assert!(matches!(found[0], Err(FrameError::Syntax { at_byte: 20, .. })), "{found:?}");
        assert_eq!(found[1..], [Ok(json!({"c": 3}))]);
    }

    #[test]
    fn an_object_that_opens_a_line_where_none_can_be_starts_a_new_message() {
        let found = frames_of("{\"execute\": \"card-insert\"\n  {\"c\":3}\n");
        assert!(matches!(found[0], Err(FrameError::Syntax { .. })), "{found:?}");
        assert_eq!(found[1..], [Ok(json!({"c": 3}))]);
    }

    #[test]
    fn an_object_with_bad_utf8_is_an_error_and_the_stream_stays_in_step_on_the_same_line() {
        let found = frames(&mut Framer::new(100), b"{\"a\":\"\xff\"}{\"b\":2}");
        assert!(matches!(found[0], Err(FrameError::Unrepresentable(_))), "{found:?}");
        assert_eq!(found[1..], [Ok(json!({"b": 2}))]);
    }

    #[test]
    fn a_message_of_exactly_the_limit_is_taken() {
        let text = format!("{{\"a\":\"{}\"}}", "x".repeat(100 - 8));
        assert_eq!(text.len(), 100);
        assert!(matches!(frames_of(&text)[..], [Ok(_)]));
    }

    #[test]
    fn a_message_over_the_limit_is_answered_once_and_dropped_to_its_end_and_no_further() {
        for extra in [1, 2, 1000] {
            let text = format!("{{\"a\":\"{}\"}}{{\"b\":2}}", "x".repeat(100 - 8 + extra));
            assert_eq!(
                frames_of(&text),
                [Err(FrameError::TooLong { limit_bytes: 100 }), Ok(json!({"b": 2}))]
            );
        }
    }

    #[test]
    fn ten_mebibytes_of_one_message_leave_no_memory_behind() {
        let mut framer = Framer::new(MESSAGE_LIMIT_BYTES);
        let mut found = frames(&mut framer, b"{\"a\":[");
        for _ in 0..10 * 256 {
            found.extend(frames(&mut framer, &b"1,".repeat(2048)));
            assert!(framer.buffer.capacity() <= 2 * MESSAGE_LIMIT_BYTES);
        }
        assert_eq!(framer.buffer.capacity(), 0);
        assert_eq!(framer.pending_bytes(), 6 + 10 * 1024 * 1024);
        found.extend(frames(&mut framer, b"1]} {\"b\":2}"));
        assert_eq!(
            found,
            [Err(FrameError::TooLong { limit_bytes: MESSAGE_LIMIT_BYTES }), Ok(json!({"b": 2}))]
        );
    }

    #[test]
    fn half_a_message_is_pending_and_a_whole_one_is_not() {
        let mut framer = Framer::new(100);
        frames(&mut framer, b"{\"a\"");
        assert_eq!(framer.pending_bytes(), 4);
        frames(&mut framer, b":1}\n");
        assert_eq!(framer.pending_bytes(), 0);
    }

    fn noise() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            prop::sample::select(vec![
                "{",
                "}",
                "[",
                "]",
                ",",
                ":",
                "\"",
                "\"a\":",
                "\\",
                "1",
                "-",
                "null",
                "\n",
                "\r\n",
                " ",
                "{\"a\":1}",
                "{\"a\":[{}]}\n",
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 1..4),
        ];
        prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_split_of_any_stream_gives_the_same_frames(
            stream in noise(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let whole = frames(&mut Framer::new(40), &stream);
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let mut framer = Framer::new(40);
            let mut pieces = Vec::new();
            for pair in at.windows(2) {
                pieces.extend(frames(&mut framer, &stream[pair[0]..pair[1]]));
                prop_assert!(framer.buffer.len() <= 40);
            }
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn after_any_noise_the_second_of_two_messages_on_lines_of_their_own_is_found(stream in noise()) {
            let mut framer = Framer::new(40);
            frames(&mut framer, &stream);
            let found = frames(&mut framer, b"\n{\"probe\":1}\n{\"probe\":2}\n");
            let probe = Ok(json!({"probe": 2}));
            prop_assert_eq!(found.last(), Some(&probe));
        }
    }
}
