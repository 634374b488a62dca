//! Durations as rules write them: a number and its unit, such as `500us` or `1.5 ms`.

use std::time::Duration;

use crate::nearest::quoted;

/// The longest delay of a rule. Nobody waits that long for a fault; more is a slip.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Units, largest first, with their nanoseconds. The first of a size is how it is written.
const UNITS: [(&str, u64); 6] = [
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    // Micro sign and Greek mu: keyboards have the one, editors make it the other.
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ns", 1),
];

/// Reads a duration of whole nanoseconds, such as `500us`. `what` is what it is called in messages: `a delay`, `a latency`.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse(text: &str, what: &str) -> Result<Duration, String> {
    let malformed = || {
        let hint = "a number and one of the units ns, us, ms, s is needed, such as \"500us\"";
        format!("{} is not a duration; {hint}", quoted(text))
    };
    let trimmed = text.trim();
    if trimmed.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
        return Err(format!("{what} cannot be negative"));
    }
    let unit_at = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(malformed)?;
    let (number, unit) = trimmed.split_at(unit_at);
    let unit = unit.trim_start();
    let scale =
        UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale).ok_or_else(malformed)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(malformed());
    }
    let too_long = || format!("{} is too long a time", quoted(text));
    let whole: u64 = whole.parse().map_err(|_| too_long())?;
    let whole = whole.checked_mul(scale).ok_or_else(too_long)?;
    // Digit by digit, for an exact result: the value of a digit is a tenth of that of the one before it.
    let mut nanoseconds = whole;
    let mut digit_scale = scale;
    for digit in fraction.bytes().map(|byte| u64::from(byte - b'0')) {
        if digit != 0 && digit_scale % 10 != 0 {
            return Err(format!("{} is finer than a nanosecond", quoted(text)));
        }
        digit_scale /= 10;
        nanoseconds = nanoseconds.checked_add(digit * digit_scale).ok_or_else(too_long)?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// A duration as rules write it: in the largest unit that leaves a whole number. What [`parse`] reads is read back
/// as it was.
pub(crate) fn text(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let unit = UNITS.iter().find(|(_, scale)| nanoseconds % u128::from(*scale) == 0);
    // The last unit is one nanosecond, so there always is one.
    let (name, scale) = unit.copied().unwrap_or(("ns", 1));
    format!("{}{name}", nanoseconds / u128::from(scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_to_the_nanosecond() {
        for (text, nanoseconds) in [
            ("0s", 0),
            ("7ns", 7),
            ("500us", 500_000),
            ("500\u{b5}s", 500_000),
            ("500\u{3bc}s", 500_000),
            ("5 ms", 5_000_000),
            ("1.5ms", 1_500_000),
            ("0.000000001s", 1),
            ("1.50000000000s", 1_500_000_000),
            (" 2s ", 2_000_000_000),
        ] {
            assert_eq!(parse(text, "a delay"), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn durations_are_written_in_the_largest_whole_unit_and_read_back() {
        for (nanoseconds, expected) in
            [(0, "0s"), (1, "1ns"), (500_000, "500us"), (1_500_000, "1500us"), (4_000_000_000, "4s")]
        {
            let duration = Duration::from_nanos(nanoseconds);
            assert_eq!(text(duration), expected);
            assert_eq!(parse(expected, "a delay"), Ok(duration));
        }
    }

    #[test]
    fn wrong_durations_are_refused_with_the_reason() {
        for (text, message) in [
            ("-5ms", "a delay cannot be negative"),
            ("5", "is not a duration; a number and one of the units ns, us, ms, s"),
            ("ms", "is not a duration"),
            ("", "is not a duration"),
            (".5s", "is not a duration"),
            ("5.s", "is not a duration"),
            ("1.2.3s", "is not a duration"),
            ("5 m", "is not a duration"),
            ("- 5ms", "is not a duration"),
            ("5m\u{0}s", "is not a duration"),
            ("0.5ns", "is finer than a nanosecond"),
            ("99999999999999999999s", "is too long a time"),
            ("18446744073709551615s", "is too long a time"),
            ("18446744073709551615.9ns", "is finer than a nanosecond"),
            ("18446744073.709551616s", "is too long a time"),
        ] {
            let error = parse(text, "a delay").unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
