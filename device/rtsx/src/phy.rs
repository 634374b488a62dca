//! The PHY's registers: 32 of 16 bits, reached through PHYADDR, PHYDATA0/1 and PHYRWCTL.

use sdmorph_pci::{Register, RegisterFile};

const SOURCE: &str = "include/linux/rtsx_pci.h";

/// A row for PHY register `index`; the table counts in bytes, so it is at twice the index.
const fn row(name: &'static str, index: u32) -> Register {
    Register::new(name, 2 * index, 2, 0, SOURCE).rw(0xffff)
}

/// The rows, in the driver's order. Several have other names on other readers. The model acts on PHY_TUNE only,
/// which has the voltage of signals on the RTS522A.
#[rustfmt::skip]
pub const REGISTERS: &[Register] = &[
    row("PHY_PCR", 0x00),           row("PHY_RCR0", 0x01),          row("PHY_RCR1", 0x02),
    row("PHY_RCR2", 0x03),          row("PHY_RTCR", 0x04),          row("PHY_RDR", 0x05),
    row("PHY_TCR0", 0x06),          row("PHY_TCR1", 0x07),          row("PHY_TUNE", 0x08),
    row("PHY_IMR", 0x09),           row("PHY_BPCR", 0x0a),          row("PHY_BIST", 0x0b),
    row("PHY_RAW_L", 0x0c),         row("PHY_RAW_H", 0x0d),         row("PHY_RAW_DATA", 0x0e),
    row("PHY_HOST_CLK_CTRL", 0x0f), row("PHY_DMR", 0x10),           row("PHY_BACR", 0x11),
    row("PHY_IER", 0x12),           row("PHY_BCSR", 0x13),          row("PHY_BPR", 0x14),
    row("PHY_BPNR2", 0x15),         row("PHY_BPNR", 0x16),          row("PHY_BRNR2", 0x17),
    row("PHY_BENR", 0x18),          row("PHY_REV", 0x19),           row("PHY_FLD0", 0x1a),
    row("PHY_FLD1", 0x1b),          row("PHY_FLD2", 0x1c),          row("PHY_FLD3", 0x1d),
    row("PHY_FLD4", 0x1e),          row("PHY_DUM_REG", 0x1f),
];

/// The number of PHY_TUNE.
pub(crate) const TUNE: u8 = 0x08;

/// The rows of a PHY whose PHY_TUNE resets to this.
pub(crate) const fn with_tune(reset: u16) -> [Register; 32] {
    let mut table = [Register::new("", 0, 2, 0, ""); 32];
    let (mut slots, mut rows): (&mut [Register], _) = (&mut table, REGISTERS);
    while let (Some((slot, more)), Some((first, rest))) = (slots.split_first_mut(), rows.split_first()) {
        *slot = *first;
        if first.address == 2 * TUNE as u32 {
            slot.reset = reset as u64;
        }
        (slots, rows) = (more, rest);
    }
    table
}

/// Reads PHY register `index`; one that does not exist reads as zero.
pub(crate) fn read(phy: &RegisterFile, index: u8) -> u16 {
    phy.get(2 * u32::from(index)).map_or(0, |value| (value & 0xffff) as u16)
}

/// Writes PHY register `index`; a write to one that does not exist is lost.
pub(crate) fn write(phy: &mut RegisterFile, index: u8, value: u16) {
    phy.write(2 * u32::from(index), u64::from(value));
}
