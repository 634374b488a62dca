//! The card's registers that identification needs: OCR (5.1), CID (5.2), CSD (5.3).

use crate::crc7::end_byte;
use crate::profile::Profile;

/// Bits of the OCR and of ACMD41's argument (4.2.3.1, 5.1).
pub mod ocr {
    /// Card power-up status: set when it is finished.
    pub const POWERED_UP: u32 = 1 << 31;
    /// Card Capacity Status: high, extended or ultra capacity.
    pub const CCS: u32 = 1 << 30;
    /// Over 2 TB: SDUC.
    pub const CO2T: u32 = 1 << 27;
    /// In ACMD41: the host supports high capacity.
    pub const HCS: u32 = 1 << 30;
    /// In ACMD41: the host supports over 2 TB.
    pub const HO2T: u32 = 1 << 27;
    /// The voltages, in steps of 0.1 V.
    pub const VOLTAGES: u32 = 0x00ff_ff00;
    /// 2.7 V to 3.6 V: what every SD card takes.
    pub const VDD_27_36: u32 = 0x00ff_8000;
}

/// A register of 16 bytes as R2 carries it, most significant byte first, with CRC7 and end bit in the last.
fn closed(mut bytes: [u8; 16]) -> [u8; 16] {
    let [body @ .., end] = &mut bytes;
    *end = end_byte(body);
    bytes
}

/// The CID register.
#[must_use]
pub fn cid(profile: &Profile) -> [u8; 16] {
    let [o0, o1] = profile.oem;
    let [p0, p1, p2, p3, p4] = profile.product;
    let [s0, s1, s2, s3] = profile.serial.to_be_bytes();
    let year = profile.year.saturating_sub(2000).min(0xff);
    let [d0, d1] = (year << 4 | u16::from(profile.month & 0xf)).to_be_bytes();
    let revision = profile.revision;
    closed([profile.manufacturer, o0, o1, p0, p1, p2, p3, p4, revision, s0, s1, s2, s3, d0, d1, 0])
}

/// The CSD register: version 2 up to 2 TiB, version 3 above (5.3.3, 5.3.4). All fields but C_SIZE are fixed there.
#[must_use]
pub fn csd(profile: &Profile) -> [u8; 16] {
    let [c0, c1, c2, c3] = profile.capacity.c_size_z().to_be_bytes();
    let structure = if profile.capacity.is_ultra() { 0x80 } else { 0x40 };
    // TAAC 1 ms, NSAC 0, 25 MHz; classes 0, 2, 4, 5, 7, 8 and 10; blocks of 512 bytes; erase by block.
    closed([structure, 0x0e, 0x00, 0x32, 0x5b, 0x59, c0, c1, c2, c3, 0x7f, 0x80, 0x0a, 0x40, 0x00, 0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crc7::crc7;
    use crate::profile::Capacity;

    #[test]
    fn csd_of_an_sdxc_card_is_version_2_and_holds_its_size() {
        let csd = csd(&Profile::legacy(1, Capacity::gibibytes(64)));
        assert_eq!(csd[0], 0x40);
        // 64 GiB are 0x20000 units of 512 KiB.
        assert_eq!(csd[6..10], [0x00, 0x01, 0xff, 0xff]);
        assert_eq!(csd[15], crc7(&csd[..15]) << 1 | 1);
    }

    #[test]
    fn csd_of_an_sduc_card_is_version_3() {
        let capacity = Capacity::new(128 << 40).unwrap();
        let csd = csd(&Profile::legacy(1, capacity));
        assert_eq!(csd[0], 0x80);
        assert_eq!(csd[6..10], [0x0f, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn cid_holds_name_serial_and_date() {
        let cid = cid(&Profile::express(0x1234_5678, Capacity::gibibytes(64)));
        assert_eq!(&cid[1..8], b"SMMORPH");
        assert_eq!(cid[9..13], [0x12, 0x34, 0x56, 0x78]);
        // 2024, February.
        assert_eq!(cid[13..15], [0x01, 0x82]);
        assert_eq!(cid[15], crc7(&cid[..15]) << 1 | 1);
    }
}
