//! Capabilities: rows for a function's configuration space, and the behaviour of MSI and MSI-X.
//!
//! Each function here adds one capability at an address the caller chooses; the list is linked in the order of the
//! calls. Register names are those of `pci_regs.h` without `PCI_` and `PCI_EXP_`.

mod aer;
mod express;
mod msi;
mod msix;

pub use aer::{AerError, DPC, ERR, Severity, aer, aer_root_port, detect, dpc};
pub use express::{
    EXP, Link, device_serial_number, express_endpoint, express_root_port, function_level_reset,
    function_level_reset_asked, l1_substates, ltr,
};
pub use msi::Msi;
pub use msix::{MsiX, Place as MsiXPlace};

use crate::config::ConfigSpace;
use crate::register::Register;

/// Offsets in the power management capability, and the bits a model acts on.
pub struct PM;

#[allow(missing_docs)] // Names of pci_regs.h.
impl PM {
    pub const PMC: u16 = 0x2;
    pub const CTRL: u16 = 0x4;
    /// PME_Support of D0; those of D1 to D3hot and D3cold follow.
    pub const CAP_PME_D0: u32 = 1 << 11;
    pub const CTRL_STATE_MASK: u32 = 0x3;
    pub const CTRL_PME_ENABLE: u32 = 1 << 8;
    pub const CTRL_PME_STATUS: u32 = 1 << 15;
}

const SOURCE: &str = "PCIe 7.5.2";

/// Power management (PCIe 7.5.2): D0 and D3hot, no soft reset on return to D0, PME from D0, D3hot and D3cold.
pub fn power_management(config: &mut ConfigSpace, at: u16) {
    const VERSION_3: u64 = 3;
    const PME_D0_D3HOT_D3COLD: u64 = 0b11001 << 11;
    const NO_SOFT_RESET: u64 = 1 << 3;
    const WRITABLE: u32 = PM::CTRL_PME_ENABLE | PM::CTRL_STATE_MASK;
    config.add_capability(
        at,
        0x01,
        "PM_CAP",
        &[
            Register::new("PM_PMC", u32::from(PM::PMC), 2, VERSION_3 | PME_D0_D3HOT_D3COLD, SOURCE),
            Register::new("PM_CTRL", u32::from(PM::CTRL), 2, NO_SOFT_RESET, SOURCE)
                .rw(u64::from(WRITABLE))
                .w1c(u64::from(PM::CTRL_PME_STATUS)),
            Register::new("PM_PPB_EXTENSIONS", 0x6, 1, 0, SOURCE),
            Register::new("PM_DATA_REGISTER", 0x7, 1, 0, SOURCE),
        ],
    );
    config.pm = Some(at);
}
