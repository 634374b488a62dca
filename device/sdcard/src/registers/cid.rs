//! Card identification (5.2).

use crate::crc7::end_byte;
use crate::profile::Profile;

/// The CID register as R2 carries it, with its CRC7 and end bit.
#[must_use]
pub fn cid(profile: &Profile) -> [u8; 16] {
    let [o0, o1] = profile.oem;
    let [p0, p1, p2, p3, p4] = profile.product;
    let [s0, s1, s2, s3] = profile.serial.to_be_bytes();
    let year = profile.year.saturating_sub(2000).min(0xff);
    let [d0, d1] = (year << 4 | u16::from(profile.month & 0xf)).to_be_bytes();
    let body = [profile.manufacturer, o0, o1, p0, p1, p2, p3, p4, profile.revision, s0, s1, s2, s3, d0, d1];
    closed(body)
}

/// A register of 16 bytes as R2 carries it, with CRC7 and end bit in the last.
pub(crate) fn closed(body: [u8; 15]) -> [u8; 16] {
    let mut bytes = [0; 16];
    let [head @ .., end] = &mut bytes;
    *head = body;
    *end = end_byte(&body);
    bytes
}
