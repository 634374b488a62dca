//! CRC7, the checksum of commands and responses (4.5): G(x) = x^7 + x^3 + 1, initial value 0, most significant bit
//! first.

/// CRC7 of `bytes`, in bits 6:0.
#[must_use]
pub fn crc7(bytes: &[u8]) -> u8 {
    // The remainder is kept in bits 7:1, so that the polynomial is 0x09 << 1.
    let remainder = bytes.iter().fold(0u8, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 != 0 { (crc << 1) ^ 0x12 } else { crc << 1 })
    });
    remainder >> 1
}

/// The last byte on the line: CRC7 in bits 7:1, end bit 1.
#[must_use]
pub fn end_byte(bytes: &[u8]) -> u8 {
    crc7(bytes) << 1 | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_byte_of_known_commands_is_the_published_one() {
        // 4.5 gives CMD0, CMD17 with argument 0, and the response to CMD17; CMD8 is the one every driver sends.
        let vectors: [(&[u8], u8); 6] = [
            (&[0x40, 0, 0, 0, 0], 0x95),
            (&[0x51, 0, 0, 0, 0], 0x55),
            (&[0x11, 0, 0, 0x09, 0], 0x67),
            (&[0x48, 0, 0, 0x01, 0xaa], 0x87),
            (&[0x08, 0, 0, 0x01, 0xaa], 0x13),
            (&[0x37, 0, 0, 0x01, 0x20], 0x83),
        ];
        for (bytes, expected) in vectors {
            assert_eq!(end_byte(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn crc7_of_nothing_is_zero() {
        assert_eq!(crc7(&[]), 0);
    }
}
