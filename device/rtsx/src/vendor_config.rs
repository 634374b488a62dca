//! The reader's configuration space: identity, capabilities, and the vendor's registers above them.

use sdmorph_pci::capability::{self, Link, Msi};
use sdmorph_pci::config::{Bar, Identity};
use sdmorph_pci::{ConfigSpace, Register};

use crate::bar;

const RTSX_PCI_H: &str = "include/linux/rtsx_pci.h";
const RTSX_PCR_C: &str = "drivers/misc/cardreader/rtsx_pcr.c";

const IDENTITY: Identity = Identity {
    vendor: 0x10ec,
    device: 0x5261,
    class: 0xff_0000,
    revision: 0x01,
    subsystem: (0x10ec, 0x5261),
};

/// Where the capabilities are. The driver finds them by the list, so any place will do.
mod at {
    pub(super) const POWER_MANAGEMENT: u16 = 0x80;
    pub(super) const MSI: u16 = 0x90;
    pub(super) const EXPRESS: u16 = 0xb0;
    pub(super) const AER: u16 = 0x100;
    pub(super) const LTR: u16 = 0x158;
    pub(super) const L1_SUBSTATES: u16 = 0x160;
}

/// Vendor registers that the driver reads or writes. A firmware may leave board settings in them; all-zero settings
/// are "not valid", and the driver then keeps its own.
#[rustfmt::skip]
pub const VENDOR_REGISTERS: &[Register] = &[
    // "Enter L1 when host tx idle": the driver writes 0x5b.
    Register::new("ENTER_L1_WHEN_IDLE", 0x70f, 1, 0, RTSX_PCR_C).rw(0xff),
    Register::new("PCR_SETTING_REG1",   0x724, 4, 0, RTSX_PCI_H).rw(0xffff_ffff),
    Register::new("PCR_SETTING_REG3",   0x747, 1, 0, RTSX_PCI_H).rw(0xff),
    Register::new("PCR_SETTING_REG2",   0x814, 4, 0, RTSX_PCI_H).rw(0xffff_ffff),
    Register::new("PCR_SETTING_REG4",   0x818, 4, 0, RTSX_PCI_H).rw(0xffff_ffff),
    Register::new("PCR_SETTING_REG5",   0x81c, 4, 0, RTSX_PCI_H).rw(0xffff_ffff),
];

/// The configuration space, and the behaviour of its MSI capability.
pub(crate) fn build() -> (ConfigSpace, Msi) {
    let mut config = ConfigSpace::endpoint(IDENTITY, &[(0, Bar { size: bar::SIZE, is_64bit: false })]);
    capability::power_management(&mut config, at::POWER_MANAGEMENT);
    let msi = Msi::add(&mut config, at::MSI);
    // DEVNOTE: one lane is what an SD socket has; the reader's own highest speed is not published.
    capability::express_endpoint(&mut config, at::EXPRESS, Link { speed: 1, width: 1 });
    capability::aer(&mut config, at::AER);
    capability::ltr(&mut config, at::LTR);
    capability::l1_substates(&mut config, at::L1_SUBSTATES);
    for row in VENDOR_REGISTERS {
        config.add_row(*row);
    }
    (config, msi)
}
