//! RTS5260: regulators in places of their own, a second look at the current, and a block that keeps registers in L1.

use sdmorph_pci::Register;

use super::{
    Condition, Detector, GOOD_PHASES, Model, PAD_1V8, Rail, ScatterFormat, Supply, Switch, sd_detector,
};
use crate::bar::interrupt;
use crate::phy;
use crate::registers::{COMMON, PCI_H, PCR_H, address, revision, row, rw, with_common};
use crate::vendor_config::SettingsFormat;

const R5260_H: &str = "drivers/misc/cardreader/rts5260.h";

const REG_DV3318_OCPCTL: u32 = 0xfd89;
const REG_DV3318_OCPSTAT: u32 = 0xfd8a;
const LDO_CONFIG2: u32 = 0xff71;
const LDO_VCC_CFG1: u32 = 0xff73;

/// The chip.
pub static RTS5260: Model = Model {
    name: "rts5260",
    device: 0x5260,
    bar: 0,
    registers: &with_common::<{ COMMON.len() + OWN.len() }>(OWN),
    own_registers: OWN,
    phy: phy::REGISTERS,
    own_config: &[],
    settings: SettingsFormat::Common { rtd3: 0 },
    supply: Supply {
        // LDO_POW_SDVDD1_ON, DV331812_POWERON.
        card: Switch { address: LDO_VCC_CFG1, mask: 0x08, on: 0x08, off: 0 },
        signals: Switch { address: LDO_CONFIG2, mask: 0x08, on: 0x08, off: 0 },
    },
    low_voltage: PAD_1V8,
    over_current: &[
        // RTS5260_DVCC_CTRL: RTS5260_DVCC_OCP_EN.
        sd_detector(Condition { address: LDO_VCC_CFG1, mask: 0x80, value: 0x80 }),
        // The driver reads and clears it, and never sets it to look.
        Detector {
            rail: Rail::Dv3318,
            control: REG_DV3318_OCPCTL,
            detect: 0x08,
            interrupt_enable: 0x04,
            clear: 0x03,
            status: REG_DV3318_OCPSTAT,
            seen: 0x06,
            // DEVNOTE: there is no bit of its own, and the driver asks both detectors when this one comes.
            interrupt: interrupt::SD_OVER_CURRENT,
            needs: None,
        },
    ],
    scatter: ScatterFormat::Whole,
    express: None,
    good_phases: GOOD_PHASES,
};

#[rustfmt::skip]
const OWN: &[Register] = &[
    // What is kept in L1 and its substates, and what goes off.
    rw("PWR_GLOBAL_CTRL",              0xf200, PCI_H),
    rw("PWR_FE_CTL",                   0xf201, PCI_H),
    rw("CFG_PCIE_APHY_OFF_0",          0xf204, PCI_H),
    rw("CFG_PCIE_APHY_OFF_1",          0xf205, PCI_H),
    rw("CFG_PCIE_APHY_OFF_2",          0xf206, PCI_H),
    rw("CFG_PCIE_APHY_OFF_3",          0xf207, PCI_H),
    rw("CFG_L1_0_PCIE_MAC_RET_VALUE",  0xf20c, PCI_H),
    rw("CFG_L1_0_PCIE_DPHY_RET_VALUE", 0xf20e, PCI_H),
    rw("CFG_L1_0_SYS_RET_VALUE",       0xf210, PCI_H),
    rw("CFG_L1_0_CRC_MISC_RET_VALUE",  0xf212, PCI_H),
    rw("CFG_L1_0_CRC_SD30_RET_VALUE",  0xf214, PCI_H),
    rw("CFG_L1_0_CRC_SD40_RET_VALUE",  0xf216, PCI_H),
    rw("CFG_LP_FPWM_VALUE",            0xf219, PCI_H),
    rw("PWC_CDR",                      0xf253, PCI_H),
    rw("RTS5260_REG_GPIO_CTL0",        0xfc1a, PCI_H),
    rw("CARD_PWR_CTL",                 0xfd50, PCI_H),
    rw("REG_DV3318_OCPCTL",            REG_DV3318_OCPCTL, PCI_H),
    // DV3318_OCP_NOW, DV3318_OCP_EVER.
    row("REG_DV3318_OCPSTAT",          REG_DV3318_OCPSTAT, 0, 0, PCI_H),
    // The driver tells no revisions apart.
    revision(0),
    rw("REG_VREF",                     0xfe97, PCI_H),
    // Bits 7:6 reset and clear themselves.
    row("RTS5260_DMA_RST_CTL_0",       address::RTS5260_DMA_RST_CTL_0, 0, 0x3f, PCI_H),
    rw("LDO_DV18_CFG",                 0xff70, PCI_H),
    rw("LDO_CONFIG2",                  LDO_CONFIG2, PCI_H), // also RTS5260_DV331812_CFG
    rw("LDO_VCC_CFG0",                 0xff72, PCI_H),
    rw("LDO_VCC_CFG1",                 LDO_VCC_CFG1, PCI_H), // also RTS5260_DVCC_CTRL
    rw("RTS5260_DVIO_CTRL",            0xff75, R5260_H),
    rw("RTS524A_PM_CTRL3",             0xff7e, PCR_H),
    rw("RTS5260_AUTOLOAD_CFG4",        0xff7f, PCI_H),
];
