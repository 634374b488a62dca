//! CRC16, the checksum of data blocks, one for each line in use (4.5): G(x) = x^16 + x^12 + x^5 + 1, initial value 0,
//! most significant bit first.
//!
//! A block crosses the card's seam without it: [`DataError::Crc`](sdmorph_pci::DataError::Crc) stands for a wrong one.

/// CRC16 of what one line carries.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc16_of_a_block_of_ones_is_the_published_one() {
        // The example of 4.5.
        assert_eq!(crc16(&[0xff; 512]), 0x7fa1);
    }

    #[test]
    fn crc16_of_a_message_with_its_crc_is_zero() {
        // The check value of this polynomial (CRC-16/XMODEM).
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc16(b"123456789\x31\xc3"), 0);
    }
}
