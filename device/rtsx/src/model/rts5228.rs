//! RTS5228: much like the RTS5261, without SD Express.

use sdmorph_pci::Register;

use super::{Condition, GOOD_PHASES, Model, PAD_1V8, ScatterFormat, Supply, Switch, sd_detector};
use crate::phy;
use crate::registers::{COMMON, PCI_H, address, revision, row, rw, with_common};
use crate::vendor_config::SettingsFormat;

const R5228_H: &str = "drivers/misc/cardreader/rts5228.h";

const LDO1233318_POW_CTL: u32 = 0xff70;
const LDO1_CFG0: u32 = 0xff72;

/// The chip.
pub static RTS5228: Model = Model {
    name: "rts5228",
    device: 0x5228,
    bar: 0,
    registers: &with_common::<{ COMMON.len() + OWN.len() }>(OWN),
    own_registers: OWN,
    phy: phy::REGISTERS,
    own_config: &[],
    settings: SettingsFormat::Common { rtd3: 0x02 },
    supply: Supply {
        // RTS5228_LDO1_FULLON, RTS5228_LDO3318_POWERON. RTS5228_LDO1_SOFTSTART is not enough.
        card: Switch { address: LDO1233318_POW_CTL, mask: 0x03, on: 0x03, off: 0 },
        signals: Switch { address: LDO1233318_POW_CTL, mask: 0x08, on: 0x08, off: 0 },
    },
    low_voltage: PAD_1V8,
    // RTS5228_LDO1_OCP_EN.
    over_current: &[sd_detector(Condition { address: LDO1_CFG0, mask: 0x10, value: 0x10 })],
    scatter: ScatterFormat::Split,
    express: None,
    good_phases: GOOD_PHASES,
};

#[rustfmt::skip]
const OWN: &[Register] = &[
    rw("RTS5228_CARD_PWR_CTL",        0xfd50, R5228_H), // also CARD_PWR_CTL
    // The driver tells no revisions apart.
    revision(0),
    rw("RTS5228_REG_VREF",            0xfe97, R5228_H), // also REG_VREF
    // Bits 7:6 reset and clear themselves.
    row("RTS5260_DMA_RST_CTL_0",      address::RTS5260_DMA_RST_CTL_0, 0, 0x3f, PCI_H),
    rw("RTS5228_REG_LDO12_CFG",       0xff6e, R5228_H),
    rw("RTS5228_REG_LDO12_L12",       0xff6f, R5228_H),
    rw("RTS5228_LDO1233318_POW_CTL",  LDO1233318_POW_CTL, R5228_H),
    rw("RTS5228_DV3318_CFG",          0xff71, R5228_H),
    rw("RTS5228_LDO1_CFG0",           LDO1_CFG0, R5228_H),
    rw("RTS5228_LDO1_CFG1",           0xff73, R5228_H),
    rw("RTS5228_AUXCLK_GAT_CTL",      0xff74, R5228_H),
    rw("RTS5228_REG_RREF_CTL_0",      0xff75, R5228_H),
    rw("RTS5228_REG_RREF_CTL_1",      0xff76, R5228_H),
    rw("RTS5228_REG_RREF_CTL_2",      0xff77, R5228_H),
    rw("RTS5228_REG_PME_FORCE_CTL",   0xff78, R5228_H),
    rw("RTS5228_PAD_H3L1",            0xff79, R5228_H),
    rw("RTS5228_AUTOLOAD_CFG0",       0xff7b, R5228_H),
    rw("RTS5228_AUTOLOAD_CFG1",       0xff7c, R5228_H),
    rw("RTS5228_AUTOLOAD_CFG2",       0xff7d, R5228_H),
    rw("RTS5228_AUTOLOAD_CFG3",       0xff7e, R5228_H),
    rw("RTS5228_AUTOLOAD_CFG4",       0xff7f, R5228_H),
];
