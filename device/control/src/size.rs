//! Sizes as people write them: a number of bytes, or a number and a binary unit, such as `64 MiB` or `2T`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::nearest::quoted;

/// Units, with the power of two that each stands for. A letter alone is what `qemu-img` takes, and means the same.
const UNITS: [(&str, u32); 9] = [
    ("B", 0),
    ("KiB", 10),
    ("MiB", 20),
    ("GiB", 30),
    ("TiB", 40),
    ("K", 10),
    ("M", 20),
    ("G", 30),
    ("T", 40),
];

/// A number of bytes. In JSON a number, or a string with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Size(pub u64);

impl Size {
    /// Reads a size from a string.
    ///
    /// # Errors
    /// A sentence that says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let malformed = || {
            format!(
                "{} is not a size; a number of bytes, or one with KiB, MiB, GiB or TiB, is needed, such as \"64 MiB\"",
                quoted(text)
            )
        };
        let trimmed = text.trim();
        let unit_at = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(unit_at);
        let number: u64 = number.parse().map_err(|_| malformed())?;
        let unit = unit.trim_start();
        let shift = match unit {
            "" => 0,
            unit => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?.1,
        };
        let bytes = number.checked_mul(1 << shift);
        bytes.map(Self).ok_or_else(|| format!("{} is too large", quoted(text)))
    }

    /// Reads a size from a JSON value.
    ///
    /// # Errors
    /// As [`Size::parse`].
    pub fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Self::parse(text),
            value => value.as_u64().map(Self).ok_or_else(|| format!("{value} is not a number of bytes")),
        }
    }
}

impl fmt::Display for Size {
    /// In the largest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, shift) = UNITS
            .iter()
            .take(5)
            .rev()
            .find(|(_, shift)| self.0 != 0 && self.0 % (1 << shift) == 0)
            .unwrap_or(&("B", 0));
        write!(f, "{} {unit}", self.0 >> shift)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_and_binary_units_are_read_and_written_back() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512 B", 512),
            ("64 MiB", 64 << 20),
            ("64MiB", 64 << 20),
            ("64M", 64 << 20),
            (" 2 TiB ", 2 << 40),
            ("1536K", 1536 << 10),
        ] {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
            assert_eq!(Size::parse(&Size(bytes).to_string()), Ok(Size(bytes)));
        }
        assert_eq!(Size(64 << 20).to_string(), "64 MiB");
        assert_eq!(Size(1536 << 10).to_string(), "1536 KiB");
        assert_eq!(serde_json::from_value::<Size>(json!(4096)).unwrap(), Size(4096));
        assert_eq!(serde_json::to_value(Size(4096)).unwrap(), json!(4096));
    }

    #[test]
    fn what_is_no_size_is_refused_with_an_example() {
        for text in ["", "MiB", "64 MB", "-1", "1.5 GiB", "64 MiB!", "0x10"] {
            let message = Size::parse(text).unwrap_err();
            assert!(message.contains("such as \"64 MiB\""), "{text}: {message}");
        }
        assert!(Size::parse("99999999999 TiB").unwrap_err().contains("too large"));
        assert!(Size::from_json(&json!(-1)).is_err());
        assert!(Size::from_json(&json!(true)).is_err());
    }
}
