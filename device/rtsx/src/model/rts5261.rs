//! RTS5261: SD Express, EFUSE, and a firmware that does the switch.

use sdmorph_pci::Register;

use super::{Condition, Express, GOOD_PHASES, Model, PAD_1V8, ScatterFormat, Supply, Switch, sd_detector};
use crate::phy;
use crate::registers::{COMMON, PCI_H, address, revision, row, rw, with_common};
use crate::vendor_config::SettingsFormat;

const R5261_H: &str = "drivers/misc/cardreader/rts5261.h";
/// Addresses that code uses without giving a name.
const R5261_C: &str = "drivers/misc/cardreader/rts5261.c";

const LDO1233318_POW_CTL: u32 = 0xff70;
const LDO1_CFG0: u32 = 0xff72;

/// The chip.
pub static RTS5261: Model = Model {
    name: "rts5261",
    device: 0x5261,
    bar: 0,
    registers: &with_common::<{ COMMON.len() + OWN.len() }>(OWN),
    own_registers: OWN,
    phy: phy::REGISTERS,
    own_config: &[],
    settings: SettingsFormat::Rts5261 { mmc: 0x10 },
    supply: Supply {
        // RTS5261_LDO1_POWERON, RTS5261_LDO3318_POWERON.
        card: Switch { address: LDO1233318_POW_CTL, mask: 0x01, on: 0x01, off: 0 },
        signals: Switch { address: LDO1233318_POW_CTL, mask: 0x08, on: 0x08, off: 0 },
    },
    low_voltage: PAD_1V8,
    // RTS5261_LDO1_OCP_EN.
    over_current: &[sd_detector(Condition { address: LDO1_CFG0, mask: 0x10, value: 0x10 })],
    scatter: ScatterFormat::Split,
    express: Some(EXPRESS),
    good_phases: GOOD_PHASES,
};

/// The switch of the chips that can do it.
pub(super) const EXPRESS: Express = Express {
    // RTS5261_FW_CFG0: RTS5261_FW_ENTER_EXPRESS.
    enter: Condition { address: 0xff54, mask: 0x01, value: 0x01 },
    // RTS5261_FW_CFG1: RTS5261_DRIVER_ENABLE_FW.
    run: Condition { address: 0xff55, mask: 0x01, value: 0x01 },
    // RTS5261_FW_STATUS: RTS5261_EXPRESS_LINK_FAIL_MASK.
    link_failed: Condition { address: 0xff56, mask: 0x80, value: 0x80 },
};

#[rustfmt::skip]
const OWN: &[Register] = &[
    // Bit 7, enable, is busy until the access has been made.
    row("RTS5261_EFUSE_CTL",          0xfc30, 0, 0x7f, R5261_H), // also EFUSE_CTL
    row("RTS5261_EFUSE_ADDR",         0xfc31, 0, 0x3f, R5261_H), // also EFUSE_ADD
    rw("RTS5261_EFUSE_WRITE_DATA",    0xfc32, R5261_H), // also SYS_VER
    // A blank EFUSE: bits 3:2 are 0, "default", so the driver takes its settings from configuration space.
    row("RTS5261_EFUSE_READ_DATA",    0xfc34, 0, 0, R5261_H), // also EFUSE_DATAL
    rw("RTS5261_CARD_PWR_CTL",        0xfd50, R5261_H), // also CARD_PWR_CTL
    // Revision D: the newest that the driver tells apart (it takes the slowest initial clock from there on).
    revision(3),
    rw("RTS5261_REG_VREF",            0xfe97, R5261_H), // also REG_VREF
    // Bits 7:6 reset and clear themselves.
    row("RTS5260_DMA_RST_CTL_0",      address::RTS5260_DMA_RST_CTL_0, 0, 0x3f, PCI_H),
    // Copies of the vendor settings; written by number.
    rw("VENDOR_SETTING1_0",           0xff0c, R5261_C),
    rw("VENDOR_SETTING1_1",           0xff0d, R5261_C),
    rw("VENDOR_SETTING1_2",           0xff0e, R5261_C),
    rw("VENDOR_SETTING1_3",           0xff0f, R5261_C),
    rw("VENDOR_SETTING2_0",           0xff10, R5261_C),
    rw("VENDOR_SETTING2_1",           0xff11, R5261_C),
    rw("VENDOR_SETTING2_2",           0xff12, R5261_C),
    // Bit 0 clear: not the factory's test mode, which would force the switch to SD Express.
    row("RTS5261_FW_CFG_INFO0",       0xff50, 0, 0, PCI_H),
    rw("RTS5261_FW_CFG0",             0xff54, PCI_H),
    rw("RTS5261_FW_CFG1",             0xff55, PCI_H),
    // Bit 7: the last switch to SD Express failed; the driver clears it when a card goes.
    rw("RTS5261_FW_STATUS",           0xff56, R5261_H),
    rw("RTS5261_FW_CTL",              0xff5f, R5261_H),
    rw("RTS5261_REG_FPDCTL",          0xff60, R5261_H),
    rw("RREF_CFG",                    0xff6c, PCI_H),
    rw("RTS5261_REG_LDO12_CFG",       0xff6e, R5261_H), // also OOBS_CONFIG
    rw("RTS5261_LDO1233318_POW_CTL",  LDO1233318_POW_CTL, R5261_H), // also LDO_DV18_CFG
    rw("RTS5261_DV3318_CFG",          0xff71, R5261_H), // also LDO_CONFIG2
    rw("RTS5261_LDO1_CFG0",           LDO1_CFG0, PCI_H), // also LDO_VCC_CFG0
    rw("RTS5261_LDO1_CFG1",           0xff73, R5261_H), // also LDO_VCC_CFG1
    rw("RTS5261_LDO2_CFG0",           0xff74, R5261_H),
    rw("RTS5261_LDO2_CFG1",           0xff75, R5261_H), // also LDO_VIO_CFG
    rw("RTS5261_LDO3_CFG0",           0xff76, R5261_H), // also LDO_DV12S_CFG
    rw("RTS5261_LDO3_CFG1",           0xff77, R5261_H), // also LDO_AV12S_CFG
    rw("RTS5261_REG_PME_FORCE_CTL",   0xff78, R5261_H),
    rw("RTS5261_PAD_H3L1",            0xff79, R5261_H),
    rw("RTS5261_AUTOLOAD_CFG0",       0xff7b, R5261_H),
    rw("RTS5261_AUTOLOAD_CFG1",       0xff7c, R5261_H),
    rw("RTS5261_AUTOLOAD_CFG2",       0xff7d, R5261_H),
    rw("RTS5261_AUTOLOAD_CFG3",       0xff7e, R5261_H),
    rw("RTS5261_AUTOLOAD_CFG4",       0xff7f, R5261_H), // also RTS5260_AUTOLOAD_CFG4
];
