//! The first kernel that has what a scenario needs.

use std::fmt;

use serde::Deserialize;

/// A release by its first two numbers: `6.8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Since(u32, u32);

impl Since {
    /// Whether a kernel of this release (`uname -r`) is as new. One whose release has no two numbers is taken as new.
    #[must_use]
    pub fn is_met_by(self, release: &str) -> bool {
        Self::of(release).is_none_or(|release| release >= self)
    }

    /// The first two numbers of a text that begins with them.
    fn of(text: &str) -> Option<Self> {
        let (major, rest) = text.split_once('.')?;
        let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl TryFrom<String> for Since {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let since = Self::of(&text).filter(|since| since.to_string() == text);
        since.ok_or_else(|| format!("`{text}` is not a release: two numbers are needed, such as \"6.8\""))
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        let since = Since::try_from("6.8".to_owned()).unwrap();
        for (release, met) in [
            ("6.1.0-56-amd64", false),
            ("5.15.2", false),
            ("6.8.0", true),
            ("6.12.118+deb13-amd64", true),
            ("7.3-rc1", true),
            ("own", true),
        ] {
            assert_eq!(since.is_met_by(release), met, "{release}");
        }
    }

    #[test]
    fn what_is_no_release_is_refused() {
        for wrong in ["6", "6.8.1", "v6.8", "6.x", "", "06.8"] {
            assert!(Since::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
