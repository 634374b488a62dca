//! "Did you mean …": the words nearest to one that is not known.

/// The candidates that look like `word`, best first, at most three.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    // A client may send a megabyte as a name; the distance is quadratic.
    if word.len() > 64 {
        return Vec::new();
    }
    let mut scored: Vec<(f64, &str)> =
        candidates.into_iter().map(|candidate| (strsim::jaro_winkler(word, candidate), candidate)).collect();
    scored.retain(|(score, _)| *score > 0.7);
    let best = scored.iter().map(|(score, _)| *score).fold(0.0, f64::max);
    // With a very near word at hand, a remote one only distracts.
    scored.retain(|(score, _)| *score > best - 0.2);
    scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    scored.into_iter().take(3).map(|(_, candidate)| candidate).collect()
}

/// `; did you mean 'a', 'b'?`, or nothing when nothing is near.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(word, candidates).as_slice() {
        [] => String::new(),
        names => format!("; did you mean '{}'?", names.join("', '")),
    }
}

/// The word as it can be quoted in an error message: not longer than a line.
pub(crate) fn quoted(word: &str) -> String {
    match word.char_indices().nth(64) {
        Some((end, _)) => format!("'{}…'", word.get(..end).unwrap_or_default()),
        None => format!("'{word}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_comes_first_and_far_ones_not_at_all() {
        assert_eq!(
            nearest("card-inset", ["quit", "card-eject", "card-insert"]),
            ["card-insert", "card-eject"]
        );
        assert!(nearest("xyz", ["quit", "card-eject"]).is_empty());
        assert!(nearest(&"q".repeat(65), ["quit"]).is_empty());
    }

    #[test]
    fn a_long_word_is_shortened_at_a_character_and_a_short_one_is_not() {
        assert_eq!(quoted("up"), "'up'");
        assert_eq!(quoted(&"é".repeat(65)), format!("'{}…'", "é".repeat(64)));
    }
}
