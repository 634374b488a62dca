//! BAR 0: eight registers of four bytes. Everything else of the reader is behind HAIMR and the command lists.
//!
//! The driver spells their names with `RTSX_` in front; its comments and everybody who talks about it leave that away.

use sdmorph_pci::Register;

const SOURCE: &str = "include/linux/rtsx_pci.h";

/// Bytes of BAR 0.
pub const SIZE: u64 = 0x1000;

/// Command list: bus address of its first command.
pub const HCBAR: u32 = 0x00;
/// Command list: length, start and stop.
pub const HCBCTLR: u32 = 0x04;
/// Data transfer: bus address of the scatter list or of the buffer.
pub const HDBAR: u32 = 0x08;
/// Data transfer: direction, mode, start and stop.
pub const HDBCTLR: u32 = 0x0c;
/// One access to an internal register.
pub const HAIMR: u32 = 0x10;
/// Pending interrupts, and whether a card is there.
pub const BIPR: u32 = 0x14;
/// Enabled interrupts.
pub const BIER: u32 = 0x18;
/// Read and written back by the driver with bit 0 set; nothing is known to hang on it.
pub const DUM_REG: u32 = 0x1c;

/// Bits of HCBCTLR.
pub mod hcbctlr {
    /// Start; reads as zero when the list has ended.
    pub const START: u32 = 1 << 31;
    /// "Hardware auto response": read and checked bytes go back to the list's buffer.
    pub const AUTO_RESPONSE: u32 = 1 << 30;
    /// Stop (STOP_CMD).
    pub const STOP: u32 = 1 << 28;
    /// Length of the list in bytes.
    pub const LENGTH_BYTES: u32 = 0x00ff_ffff;
}

/// Bits of HDBCTLR.
pub mod hdbctlr {
    /// Start (TRIG_DMA).
    pub const START: u32 = 1 << 31;
    /// From device to host.
    pub const TO_HOST: u32 = 1 << 29;
    /// Stop (STOP_DMA).
    pub const STOP: u32 = 1 << 28;
    /// How HDBAR is meant.
    pub const MODE: u32 = 0b11 << 26;
    /// HDBAR is a buffer (SDMA_MODE).
    pub const SDMA: u32 = 0;
    /// HDBAR is a scatter list (ADMA_MODE).
    pub const ADMA: u32 = 0b10 << 26;
    /// Length of the one buffer in bytes.
    pub const LENGTH_BYTES: u32 = 0x00ff_ffff;
}

/// Bits of HAIMR; address in 29:16, mask in 15:8, data in 7:0.
pub mod haimr {
    /// Start; busy until the access has been made.
    pub const START: u32 = 1 << 31;
    /// Write; otherwise read.
    pub const WRITE: u32 = 1 << 30;
}

/// Bits of BIPR and BIER.
pub mod interrupt {
    /// A command list or data transfer has ended well.
    pub const TRANS_OK: u32 = 1 << 29;
    /// A command list or data transfer has failed.
    pub const TRANS_FAIL: u32 = 1 << 28;
    /// An SD card came or went.
    pub const SD: u32 = 1 << 25;
    /// The card drew too much current (SD_OC_INT).
    pub const SD_OVER_CURRENT: u32 = 1 << 22;
    /// Its supply has too high a voltage (SD_OVP_INT of the RTS5264; another slot's over-current elsewhere).
    pub const SD_OVER_VOLTAGE: u32 = 1 << 23;
    /// All interrupt sources: CMD_DONE_INT down to SD_OC_INT.
    pub const ALL: u32 = 0xffc0_0000;
    /// In BIPR only: the card's write protect switch is on.
    pub const SD_WRITE_PROTECT: u32 = 1 << 19;
    /// In BIPR only: there is an SD card.
    pub const SD_EXIST: u32 = 1 << 16;
}

/// The rows of BAR 0. Start, stop and busy bits are not writable: they act, or clear themselves.
#[rustfmt::skip]
pub const REGISTERS: &[Register] = &[
    Register::new("HCBAR",   HCBAR,   4, 0, SOURCE).rw(0xffff_ffff),
    Register::new("HCBCTLR", HCBCTLR, 4, 0, SOURCE).rw((hcbctlr::AUTO_RESPONSE | hcbctlr::LENGTH_BYTES) as u64),
    Register::new("HDBAR",   HDBAR,   4, 0, SOURCE).rw(0xffff_ffff),
    Register::new("HDBCTLR", HDBCTLR, 4, 0, SOURCE)
        .rw((hdbctlr::TO_HOST | hdbctlr::MODE | hdbctlr::LENGTH_BYTES) as u64),
    Register::new("HAIMR",   HAIMR,   4, 0, SOURCE).rw(!haimr::START as u64),
    Register::new("BIPR",    BIPR,    4, 0, SOURCE).w1c(interrupt::ALL as u64),
    Register::new("BIER",    BIER,    4, 0, SOURCE).rw(interrupt::ALL as u64),
    Register::new("DUM_REG", DUM_REG, 4, 0, SOURCE).rw(0xffff_ffff),
];
