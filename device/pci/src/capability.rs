//! Capabilities: rows for a function's configuration space, and the behaviour of MSI and MSI-X.
//!
//! Each function here adds one capability at an address the caller chooses; the list is linked in the order of the
//! calls. Register names are those of `pci_regs.h` without `PCI_` and `PCI_EXP_`.

mod express;
mod msi;
mod msix;

pub use express::{
    EXP, Link, aer, device_serial_number, express_endpoint, express_root_port, function_level_reset,
    function_level_reset_asked, l1_substates, ltr,
};
pub use msi::Msi;
pub use msix::{MsiX, Place as MsiXPlace};

use crate::config::ConfigSpace;
use crate::register::Register;

const PM: &str = "PCIe 7.5.2";

/// Power management (PCIe 7.5.2): D0 and D3hot, no soft reset on return to D0, PME from D0, D3hot and D3cold.
pub fn power_management(config: &mut ConfigSpace, at: u16) {
    const VERSION_3: u64 = 3;
    const PME_D0_D3HOT_D3COLD: u64 = 0b11001 << 11;
    const NO_SOFT_RESET: u64 = 1 << 3;
    config.add_capability(
        at,
        0x01,
        "PM_CAP",
        &[
            Register::new("PM_PMC", 0x2, 2, VERSION_3 | PME_D0_D3HOT_D3COLD, PM),
            Register::new("PM_CTRL", 0x4, 2, NO_SOFT_RESET, PM).rw(0x0103).w1c(0x8000),
            Register::new("PM_PPB_EXTENSIONS", 0x6, 1, 0, PM),
            Register::new("PM_DATA_REGISTER", 0x7, 1, 0, PM),
        ],
    );
    config.pm = Some(at);
}
