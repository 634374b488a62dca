//! The function's configuration space: identity and capabilities (2).

use sdmorph_pci::ConfigSpace;
use sdmorph_pci::capability::{self, Link, Msi, MsiX, MsiXPlace};
use sdmorph_pci::config::Bar;

use crate::identity::Identity;
use crate::registers::{BAR_BYTES, MAX_IO_QUEUES, MSIX_PENDING, MSIX_TABLE};

/// Where the capabilities are. The driver finds them by the list, so any place will do.
mod at {
    pub(super) const POWER_MANAGEMENT: u16 = 0x40;
    pub(super) const MSI: u16 = 0x50;
    pub(super) const EXPRESS: u16 = 0x70;
    pub(super) const MSI_X: u16 = 0xb0;
    pub(super) const AER: u16 = 0x100;
    pub(super) const SERIAL_NUMBER: u16 = 0x148;
    pub(super) const LTR: u16 = 0x158;
    pub(super) const L1_SUBSTATES: u16 = 0x160;
}

/// MSI-X vectors: one for each completion queue.
pub(crate) const VECTORS: u16 = MAX_IO_QUEUES + 1;
/// MSI messages, as a power of two.
const MSI_MESSAGES_LOG2: u8 = 4;

/// An SD 7.0 card has one lane at 8 GT/s (SD Physical Layer 7.0, 3.11).
const LINK: Link = Link { speed: 3, width: 1 };

/// The configuration space, and the behaviour of MSI and MSI-X.
pub(crate) fn build(identity: &Identity) -> (ConfigSpace, Msi, MsiX) {
    let mut config = ConfigSpace::endpoint(identity.pci, &[(0, Bar { size: BAR_BYTES, is_64bit: true })]);
    capability::power_management(&mut config, at::POWER_MANAGEMENT);
    let msi = Msi::add_messages(&mut config, at::MSI, MSI_MESSAGES_LOG2);
    capability::express_endpoint(&mut config, at::EXPRESS, LINK);
    capability::function_level_reset(&mut config, at::EXPRESS);
    let table = MsiXPlace { bar: 0, offset: MSIX_TABLE };
    let pending = MsiXPlace { bar: 0, offset: MSIX_PENDING };
    let msi_x = MsiX::add(&mut config, at::MSI_X, VECTORS, table, pending);
    capability::aer(&mut config, at::AER);
    capability::device_serial_number(&mut config, at::SERIAL_NUMBER, u64::from_be_bytes(identity.eui64));
    capability::ltr(&mut config, at::LTR);
    capability::l1_substates(&mut config, at::L1_SUBSTATES);
    (config, msi, msi_x)
}

/// Whether the guest has asked for a function level reset (PCIe 7.5.3.4: Initiate Function Level Reset).
pub(crate) fn reset_is_asked_for(config: &ConfigSpace) -> bool {
    capability::function_level_reset_asked(config, at::EXPRESS)
}
