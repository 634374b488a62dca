//! What the guest read from a card, held against what the host's file has there.
//!
//! The guest prints `sdmorph-hash IMAGE SHA256 OFFSET LENGTH`; the scenario's `[[check]]` says which ranges. The host's
//! side is read when the device's process has ended, so of each range the guest's last word counts.

use serde::{Serialize, Serializer};

use crate::image::HostImage;
use crate::klog::Klog;
use crate::scenario::Check;

const WORD: &str = "sdmorph-hash ";

/// What the host found in a range of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostHash {
    /// The scenario's name of the image.
    pub image: String,
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
    /// SHA-256 in hexadecimal; or why there is none.
    #[serde(serialize_with = "hash_or_why")]
    pub sha256: Result<String, String>,
}

/// What the guest found in a range of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestHash<'a> {
    /// The scenario's name of the image.
    pub image: &'a str,
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: &'a str,
}

impl HostHash {
    /// Read what a scenario's checks are about.
    pub fn read(checks: &[Check], images: &[HostImage]) -> Vec<Self> {
        let read = |check: &Check| {
            let image = images.iter().find(|image| image.name == check.image);
            let (offset, length) = check.range().unwrap_or_default();
            let sha256 = match image {
                Some(image) => image.sha256(offset, length),
                None => Err(format!("there is no image {}", check.image)),
            };
            Self { image: check.image.clone(), offset, length, sha256 }
        };
        checks.iter().map(read).collect()
    }

    fn is_of(&self, guest: &GuestHash<'_>) -> bool {
        (self.image.as_str(), self.offset, self.length) == (guest.image, guest.offset, guest.length)
    }

    fn range(&self) -> String {
        range(&self.image, self.offset, self.length)
    }
}

/// A string, or an object with `error`.
fn hash_or_why<S: Serializer>(sha256: &Result<String, String>, serializer: S) -> Result<S::Ok, S::Error> {
    match sha256 {
        Ok(hash) => serializer.serialize_str(hash),
        Err(why) => serializer.collect_map([("error", why)]),
    }
}

fn range(image: &str, offset: u64, length: u64) -> String {
    format!("{length} bytes at {offset} of the image {image}")
}

/// What the guest printed, in its order.
///
/// # Errors
/// When a line that begins as one is none: it may have been cut, and would go uncompared.
pub fn printed(log: &Klog) -> Result<Vec<GuestHash<'_>>, String> {
    let lines = log.lines.iter().filter_map(|line| line.text.strip_prefix(WORD));
    lines.map(|rest| parse(rest).ok_or_else(|| format!("not a line of a hash: `{WORD}{rest}`"))).collect()
}

fn parse(rest: &str) -> Option<GuestHash<'_>> {
    let mut words = rest.split_whitespace();
    let (image, sha256) = (words.next()?, words.next()?);
    let (offset, length) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let whole = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    (whole && words.next().is_none()).then_some(GuestHash { image, offset, length, sha256 })
}

/// That every range was read on both sides, and no other by the guest.
///
/// # Errors
/// What is missing, for people.
pub fn complete(host: &[HostHash], guest: &[GuestHash<'_>]) -> Result<(), String> {
    if let Some(printed) = guest.iter().find(|guest| !host.iter().any(|host| host.is_of(guest))) {
        let range = range(printed.image, printed.offset, printed.length);
        return Err(format!("the guest printed a hash of {range}, which no [[check]] is about"));
    }
    for host in host {
        if let Err(why) = &host.sha256 {
            return Err(format!("the host cannot read {}: {why}", host.range()));
        }
        if !guest.iter().any(|guest| host.is_of(guest)) {
            return Err(format!("the guest printed no hash of {}", host.range()));
        }
    }
    Ok(())
}

/// In what the two sides differ.
pub fn differences(host: &[HostHash], guest: &[GuestHash<'_>]) -> Vec<String> {
    let difference = |host: &HostHash| {
        let on_host = host.sha256.as_ref().ok()?;
        let in_guest = guest.iter().rev().find(|guest| host.is_of(guest))?.sha256;
        let range = host.range();
        (on_host != in_guest)
            .then(|| format!("{range} have the hash {in_guest} for the guest, and {on_host} in the file"))
    };
    host.iter().filter_map(difference).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222222222222222222222222222";

    fn host(offset: u64, sha256: &str) -> HostHash {
        HostHash { image: "card".into(), offset, length: 512, sha256: Ok(sha256.to_owned()) }
    }

    fn log(lines: &[(&str, u64)]) -> Klog {
        let text: String = lines
            .iter()
            .map(|(hash, at)| format!("<12>[    1.000000] sdmorph-hash card {hash} {at} 512\n"))
            .collect();
        Klog::from_bytes(text.as_bytes())
    }

    #[test]
    fn the_guests_last_word_on_a_range_counts() {
        let log = log(&[(ONE, 0), (ONE, 512), (TWO, 0)]);
        let guest = printed(&log).unwrap();
        let both = [host(0, TWO), host(512, ONE)];
        assert_eq!(complete(&both, &guest), Ok(()));
        assert_eq!(differences(&both, &guest), Vec::<String>::new());
        let found = differences(&[host(0, ONE), host(512, ONE)], &guest);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("512 bytes at 0 of the image card have the hash 2222"), "{found:?}");
    }

    #[test]
    fn a_range_that_only_one_side_knows_is_named() {
        let log = log(&[(ONE, 0)]);
        let guest = printed(&log).unwrap();
        let missing = complete(&[host(0, ONE), host(512, ONE)], &guest).unwrap_err();
        assert!(missing.contains("printed no hash of 512 bytes at 512"), "{missing}");
        let unchecked = complete(&[], &guest).unwrap_err();
        assert!(unchecked.contains("no [[check]] is about"), "{unchecked}");
        let unread = HostHash { sha256: Err("gone".into()), ..host(0, ONE) };
        assert!(complete(&[unread], &guest).unwrap_err().ends_with("gone"));
    }

    #[test]
    fn a_line_that_was_cut_is_an_error() {
        for line in ["card 1234 0 512", "card", &format!("card {ONE} 0"), &format!("card {ONE} 0 512 x")] {
            let log = Klog::from_bytes(format!("sdmorph-hash {line}\n").as_bytes());
            assert!(printed(&log).unwrap_err().contains(line), "{line}");
        }
    }
}
