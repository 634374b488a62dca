//! RTS525A: registers in BAR 1, the card's power behind two gates, and an EFUSE that is copied to the autoload space.
//!
//! The EFUSE is blank, and RESET_LOAD_REG says that nothing was loaded from it; the driver then writes the IDs that the
//! function has to the autoload space itself. The rest of that space, which it would fill from an EFUSE, is not here.

use sdmorph_pci::Register;

use super::{GOOD_PHASES, Model, OCP_POWERED, PAD_1V8, POWER_GATES, ScatterFormat, sd_detector};
use crate::phy;
use crate::registers::{COMMON, PCI_H, PCR_H, revision, row, rw, with_common};
use crate::vendor_config::SettingsFormat;

/// Addresses that code uses without giving a name.
const R5249_C: &str = "drivers/misc/cardreader/rts5249.c";

/// The driver of Linux 7.x writes 0x0007c000, by number.
///
/// DEVNOTE: the neighbours of this place in the driver (0x70f, 0x724) are where a DesignWare core has its port logic, which
/// has the timers of acknowledgement and replay here; the name is that core's.
const OWN_CONFIG: &[Register] =
    &[Register::new("TIMER_CTRL_MAX_FUNC_NUM", 0x718, 4, 0, R5249_C).rw(0xffff_ffff)];

/// The chip.
pub static RTS525A: Model = Model {
    name: "rts525a",
    device: 0x525a,
    bar: 1,
    registers: &with_common::<{ COMMON.len() + OWN.len() }>(OWN),
    own_registers: OWN,
    phy: phy::REGISTERS,
    own_config: OWN_CONFIG,
    // rtsx_reg_to_rtd3_uhsii.
    settings: SettingsFormat::Common { rtd3: 0x04 },
    supply: POWER_GATES,
    low_voltage: PAD_1V8,
    over_current: &[sd_detector(OCP_POWERED)],
    scatter: ScatterFormat::Whole,
    express: None,
    good_phases: GOOD_PHASES,
};

#[rustfmt::skip]
const OWN: &[Register] = &[
    // Bit 7, enable, is busy until the access has been made.
    row("RTS525A_EFUSE_CTL",          0xfc32, 0, 0x7f, PCR_H), // also SYS_VER
    row("RTS525A_EFUSE_ADD",          0xfc33, 0, 0x3f, PCR_H),
    row("RTS525A_EFUSE_DATA",         0xfc35, 0, 0, PCR_H), // also EFUSE_DATAH
    super::CARD_PWR_CTL,
    // Revision B: the driver sets more regulators and PHY registers of an A.
    revision(1),
    rw("REG_VREF",                    0xfe97, PCI_H),
    // Written by number: the IDs.
    rw("AUTOLOAD_VENDOR_ID_0",        0xff04, R5249_C),
    rw("AUTOLOAD_VENDOR_ID_1",        0xff05, R5249_C),
    rw("AUTOLOAD_DEVICE_ID_0",        0xff06, R5249_C),
    rw("AUTOLOAD_DEVICE_ID_1",        0xff07, R5249_C),
    rw("RTS525A_BIOS_CFG",            0xff2d, PCR_H),
    rw("RREF_CFG",                    0xff6c, PCI_H),
    rw("OOBS_CONFIG",                 0xff6e, PCI_H),
    rw("LDO_DV18_CFG",                0xff70, PCI_H),
    rw("LDO_CONFIG2",                 0xff71, PCI_H),
    rw("LDO_VCC_CFG0",                0xff72, PCI_H),
    rw("LDO_VCC_CFG1",                0xff73, PCI_H),
    rw("LDO_VIO_CFG",                 0xff75, PCI_H),
    rw("LDO_DV12S_CFG",               0xff76, PCI_H),
    rw("LDO_AV12S_CFG",               0xff77, PCI_H),
    rw("RTS524A_PME_FORCE_CTL",       0xff78, PCR_H),
    rw("RTS5250_CLK_CFG3",            0xff79, PCR_H),
    rw("RTS524A_AUTOLOAD_CFG1",       0xff7c, PCR_H),
    rw("RTS524A_PM_CTRL3",            0xff7e, PCR_H),
];
