//! The names that somebody may have meant.

use std::cmp::Reverse;
use std::fmt;

/// How many names an error message offers.
const OFFERED: usize = 3;
/// Longest piece of somebody's text that a message repeats, in characters.
const REPEATED: usize = 64;

/// Known names near a word, best first. Displays as the end of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest {
    names: Vec<String>,
    likely: bool,
}

impl Nearest {
    /// The names among `known` nearest to `word`, without regard to case.
    ///
    /// A name is likely if a third of it or less was mistyped (Damerau-Levenshtein), or if one contains the other. If
    /// none is, the three most similar ones (Jaro-Winkler) are still offered, in other words.
    pub(crate) fn new<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let word: String = word.chars().take(REPEATED).collect::<String>().to_ascii_uppercase();
        let mut known: Vec<(&str, String)> =
            known.into_iter().map(|name| (name, name.to_ascii_uppercase())).collect();
        known.sort_unstable();
        known.dedup();
        let mut likely: Vec<(usize, &str)> = known
            .iter()
            .filter_map(|(name, upper)| {
                let distance = strsim::damerau_levenshtein(&word, upper);
                let longest = word.chars().count().max(upper.chars().count());
                let contained = word.len() >= 3 && (upper.contains(&word) || word.contains(upper.as_str()));
                (3 * distance <= longest || contained).then_some((distance, *name))
            })
            .collect();
        if !likely.is_empty() {
            likely.sort_unstable();
            let names = likely.into_iter().take(OFFERED).map(|(_, name)| name.to_owned()).collect();
            return Self { names, likely: true };
        }
        // Similarity in millionths, so that it can be sorted by.
        known.sort_by_key(|(_, upper)| Reverse((strsim::jaro_winkler(&word, upper) * 1e6) as u32));
        Self {
            names: known.iter().take(OFFERED).map(|(name, _)| (*name).to_owned()).collect(),
            likely: false,
        }
    }

    /// The names, best first; empty only if none are known.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the word looks like a slip of one of them.
    pub(crate) fn is_likely(&self) -> bool {
        self.likely
    }
}

impl fmt::Display for Nearest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.names.is_empty(), self.likely) {
            (true, _) => write!(f, "; none is known"),
            (_, true) => write!(f, "; did you mean {}?", self.names.join(", ")),
            (_, false) => write!(f, "; the nearest are {}", self.names.join(", ")),
        }
    }
}

/// Somebody's text as a message repeats it: in quotes, escaped, and not too long.
pub(crate) fn quoted(text: &str) -> String {
    if text.chars().count() <= REPEATED {
        format!("{text:?}")
    } else {
        format!("{:?}…", text.chars().take(REPEATED).collect::<String>())
    }
}
