//! Who the controller says it is, made of what its card says it is.

use sdmorph_pci::config;

/// Realtek, whose reader the slot has when no card is switched to PCIe.
const REALTEK: u16 = 0x10ec;
/// DEVNOTE: there are no IDs that all SD Express cards have. This one is of no product that Linux or the PCI ID list knows,
/// so that no driver has a quirk for it (as for 10ec:5762, 5763 and 5765).
const DEVICE: u16 = 0x52fe;
/// Mass storage, non-volatile memory, NVM Express I/O controller (1.4, 2.1.5).
const CLASS: u32 = 0x01_0802;

/// The identity of a controller and of its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Serial number (SN), ASCII, padded with spaces.
    pub serial: [u8; 20],
    /// Model number (MN), ASCII, padded with spaces.
    pub model: [u8; 40],
    /// Firmware revision (FR), ASCII, padded with spaces.
    pub firmware: [u8; 8],
    /// IEEE OUI identifier, most significant byte first.
    pub ieee: [u8; 3],
    /// IEEE Extended Unique Identifier of the namespace, most significant byte first.
    pub eui64: [u8; 8],
    /// NVM Subsystem NVMe Qualified Name: ASCII without padding, at most 223 bytes.
    pub subnqn: String,
    /// IDs in configuration space.
    pub pci: config::Identity,
}

impl Identity {
    /// The identity of the card with this CID register (SD Physical Layer 5.2), as R2 carries it.
    ///
    /// The serial number is MID, PSN and MDT, the model OID and PNM, the firmware PRV. There is no mapping from the SD
    /// association's MID and OID to an OUI of the IEEE: the OUI is a locally administered one, made of the OID. A byte of
    /// OID or PNM that is not printable ASCII becomes a question mark.
    #[must_use]
    pub fn of_card(cid: &[u8; 16]) -> Self {
        let [mid, o0, o1, p0, p1, p2, p3, p4, prv, s0, s1, s2, s3, d0, d1, _] = *cid;
        let psn = u32::from_be_bytes([s0, s1, s2, s3]);
        let date = u16::from_be_bytes([d0, d1]);
        let (year, month) = (2000 + (date >> 4 & 0xff), date & 0xf);
        let text = |bytes: &[u8]| -> String { bytes.iter().map(|byte| printable(*byte)).collect() };
        let oem = text(&[o0, o1]);
        let product = text(&[p0, p1, p2, p3, p4]);
        let serial = format!("{mid:02X}{psn:08X}{year:04}{month:02}");
        // Bit 1 of the first byte: locally administered.
        let ieee = [0x02, o0, o1];
        Self {
            serial: padded(&serial),
            model: padded(&format!("{oem} {product} SD Express")),
            firmware: padded(&format!("{}.{}", prv >> 4, prv & 0xf)),
            ieee,
            eui64: [0x02, o0, o1, mid, s0, s1, s2, s3],
            subnqn: subnqn(cid),
            pci: config::Identity {
                vendor: REALTEK,
                device: DEVICE,
                class: CLASS,
                revision: 0x01,
                subsystem: (REALTEK, DEVICE),
            },
        }
    }
}

/// An NQN by UUID (7.9): the CID without its CRC, as a version 8 UUID (RFC 9562, contents of one's own choice).
fn subnqn(cid: &[u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, _] = *cid;
    // Version and variant take six bits; what they push out is in the last byte.
    let last = (g & 0xf0) ^ (i >> 4 & 0x0c) ^ o;
    let (g, i) = (g & 0x0f | 0x80, i & 0x3f | 0x80);
    format!(
        "nqn.2014-08.org.nvmexpress:uuid:{a:02x}{b:02x}{c:02x}{d:02x}-{e:02x}{f:02x}-{g:02x}{h:02x}-\
         {i:02x}{j:02x}-{k:02x}{l:02x}{m:02x}{n:02x}{o:02x}{last:02x}"
    )
}

fn printable(byte: u8) -> char {
    if matches!(byte, b' '..=b'~') { char::from(byte) } else { '?' }
}

/// `text`, cut or padded with spaces to the field's size.
fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    for (place, byte) in field.iter_mut().zip(text.bytes()) {
        *place = byte;
    }
    field
}
