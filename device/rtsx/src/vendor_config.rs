//! The reader's configuration space: identity, capabilities, and the vendor's registers above them.

use sdmorph_pci::capability::{self, Link, Msi};
use sdmorph_pci::config::{Bar, Identity};
use sdmorph_pci::{ConfigSpace, Register};

use crate::bar;
use crate::model::Model;

const RTSX_PCI_H: &str = "include/linux/rtsx_pci.h";
const RTSX_PCR_C: &str = "drivers/misc/cardreader/rtsx_pcr.c";

const REALTEK: u16 = 0x10ec;
/// Class code 0xff: none of those that are defined (PCI_CLASS_OTHERS).
const OTHERS: u32 = 0xff_0000;
const PCR_SETTING_REG1: u32 = 0x724;
const PCR_SETTING_REG2: u32 = 0x814;

/// Where the capabilities are. The driver finds them by the list, so any place will do.
mod at {
    pub(super) const POWER_MANAGEMENT: u16 = 0x80;
    pub(super) const MSI: u16 = 0x90;
    pub(super) const EXPRESS: u16 = 0xb0;
    pub(super) const AER: u16 = 0x100;
    pub(super) const LTR: u16 = 0x158;
    pub(super) const L1_SUBSTATES: u16 = 0x160;
}

/// Vendor registers that the driver reads or writes. A firmware may leave board settings in them ([`Settings`]).
#[rustfmt::skip]
pub const VENDOR_REGISTERS: &[Register] = &[
    // "Enter L1 when host tx idle": the driver writes 0x5b.
    Register::new("ENTER_L1_WHEN_IDLE", 0x70f, 1, 0, RTSX_PCR_C).rw(0xff),
    Register::new("PCR_SETTING_REG1",   PCR_SETTING_REG1, 4, 0, RTSX_PCI_H).rw(0xffff_ffff),
    Register::new("PCR_SETTING_REG3",   0x747, 1, 0, RTSX_PCI_H).rw(0xff),
    Register::new("PCR_SETTING_REG2",   PCR_SETTING_REG2, 4, 0, RTSX_PCI_H).rw(0xffff_ffff),
    Register::new("PCR_SETTING_REG4",   0x818, 4, 0, RTSX_PCI_H).rw(0xffff_ffff),
    Register::new("PCR_SETTING_REG5",   0x81c, 4, 0, RTSX_PCI_H).rw(0xffff_ffff),
];

/// What a firmware may set for a board.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// The reader may be suspended at run time. The RTS5260 has no bit for it.
    pub rtd3: bool,
    /// MMC is supported. The RTS5264 has no bit for it: it never is.
    pub mmc: bool,
    /// The socket's card detection and write protect switches are the other way round.
    pub reverse_socket: bool,
    /// ASPM, as in LNKCTL: 1 is L0s, 2 is L1.
    pub aspm: u8,
    /// Driver strength of signals at 1.8 V: an index, 0 to 3, into the driver's table for the chip.
    pub drive_1v8: u8,
    /// The same at 3.3 V.
    pub drive_3v3: u8,
}

/// How settings are written into PCR_SETTING_REG1 and PCR_SETTING_REG2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsFormat {
    /// As on the chips before the RTS5261: they are valid if a bit is clear (`rtsx_vendor_setting_valid` and what follows
    /// it in `rtsx_pcr.h`).
    Common {
        /// The bit of PCR_SETTING_REG2 for RTD3, which is in different places; 0 if there is none.
        rtd3: u32,
    },
    /// `rts5261_vendor_setting_valid` and what follows it in `rts5261.h`: they are valid if a bit is set. The RTS5264's
    /// are the same.
    Rts5261,
}

impl SettingsFormat {
    /// PCR_SETTING_REG1 and PCR_SETTING_REG2 for these settings; `None` is for settings that are not valid, which make
    /// the driver keep its own.
    #[must_use]
    pub fn encode(self, settings: Option<Settings>) -> (u32, u32) {
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let field = |value: u8, shift: u32| u32::from(value & 3) << shift;
        match (self, settings) {
            (Self::Common { .. }, None) => (1 << 24, 0),
            (Self::Common { rtd3 }, Some(settings)) => (
                field(settings.aspm, 28) | field(settings.drive_1v8, 26),
                flag(settings.rtd3, rtd3)
                    | flag(!settings.mmc, 0x10)
                    | flag(settings.reverse_socket, 0x4000)
                    | field(settings.drive_3v3, 5),
            ),
            (Self::Rts5261, None) => (0, 0),
            (Self::Rts5261, Some(settings)) => (
                // L1 is the other way round.
                field(settings.aspm ^ 2, 28) | field(settings.drive_1v8, 22) | field(settings.drive_3v3, 16),
                1 << 16
                    | flag(settings.rtd3, 0x08)
                    | flag(settings.mmc, 0x10)
                    | flag(settings.reverse_socket, 0x04),
            ),
        }
    }
}

/// The configuration space, and the behaviour of its MSI capability.
pub(crate) fn build(model: &Model, settings: Option<Settings>) -> (ConfigSpace, Msi) {
    let identity = Identity {
        vendor: REALTEK,
        device: model.device,
        class: OTHERS,
        revision: 0x01,
        subsystem: (REALTEK, model.device),
    };
    let mut config =
        ConfigSpace::endpoint(identity, &[(model.bar, Bar { size: bar::SIZE, is_64bit: false })]);
    capability::power_management(&mut config, at::POWER_MANAGEMENT);
    let msi = Msi::add(&mut config, at::MSI);
    // DEVNOTE: one lane is what an SD socket has; the reader's own highest speed is not published.
    capability::express_endpoint(&mut config, at::EXPRESS, Link { speed: 1, width: 1 });
    capability::aer(&mut config, at::AER);
    capability::ltr(&mut config, at::LTR);
    capability::l1_substates(&mut config, at::L1_SUBSTATES);
    let (setting1, setting2) = model.settings.encode(settings);
    for row in VENDOR_REGISTERS.iter().chain(model.own_config) {
        let reset = match row.address {
            PCR_SETTING_REG1 => u64::from(setting1),
            PCR_SETTING_REG2 => u64::from(setting2),
            _ => row.reset,
        };
        config.add_row(Register { reset, ..*row });
    }
    (config, msi)
}
