//! What to say of a file of the user's that is not as it should be: where, and what was probably meant.

/// A file says something that is not legal.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct Misreading {
    /// The file.
    pub file: String,
    /// Counted from 1; 1 if the error is of the file as a whole.
    pub line: usize,
    /// Counted from 1, in characters; 1 if it is not known.
    pub column: usize,
    /// What is wrong, and what would have been right.
    pub message: String,
}

impl Misreading {
    /// At a byte of the file's text.
    pub(crate) fn at(file: &str, text: &str, at: usize, message: String) -> Self {
        let (line, column) = place(text, at);
        Self { file: file.to_owned(), line, column, message }
    }

    /// What the parser says of a TOML file.
    pub(crate) fn of_toml(file: &str, text: &str, error: &toml::de::Error) -> Self {
        Self::at(file, text, error.span().map_or(0, |span| span.start), explain(error.message()))
    }
}

/// Letters in lower case, digits, and what else is given.
pub(crate) fn is_word(name: &str, more: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c);
    !name.is_empty() && name.chars().all(legal)
}

/// Line and column of a byte, both counted from 1, the column in characters.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or("");
    let line = before.matches('\n').count() + 1;
    (line, before.rsplit('\n').next().unwrap_or("").chars().count() + 1)
}

/// Where a key or table stands first, for an error that the parser did not find; of several, the one whose line has
/// `value` in it.
pub(crate) fn find_key(text: &str, key: &str, value: &str) -> usize {
    let mut first = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let word = line.trim_start().trim_start_matches('[');
        let rest = word.strip_prefix(key);
        if rest.is_some_and(|rest| rest.trim_start().starts_with(['=', ']'])) {
            if line.contains(value) {
                return at;
            }
            first = first.or(Some(at));
        }
        at += line.len();
    }
    first.unwrap_or(0)
}

/// Add the nearest legal word to what serde says of an unknown one: "unknown field `vcpu`, expected one of `test`, …".
fn explain(message: &str) -> String {
    let mut words = message.split('`').skip(1).step_by(2);
    let hint = if message.starts_with("unknown ") {
        words.next().map(|word| nearest(word, words)).unwrap_or_default()
    } else {
        String::new()
    };
    format!("{}{hint}", message.trim_end())
}

/// ` (did you mean …?)` with the word that is most like `word`, or nothing if none is like it.
pub(crate) fn nearest<'a>(word: &str, legal: impl Iterator<Item = &'a str>) -> String {
    let scored = legal.map(|candidate| (strsim::jaro_winkler(word, candidate), candidate));
    let best = scored.max_by(|(left, _), (right, _)| left.total_cmp(right));
    match best {
        Some((score, candidate)) if score > 0.7 => format!(" (did you mean `{candidate}`?)"),
        _ => String::new(),
    }
}
