//! RTS5264: SD Express like the RTS5261, registers in BAR 1, and a detector for each supply. Linux 6.12 knows it, 6.1 does not.

use sdmorph_pci::Register;

use super::rts5261::EXPRESS;
use super::{
    Condition, Detector, GOOD_PHASES, Model, PAD_1V8, Rail, ScatterFormat, Supply, Switch, sd_detector,
};
use crate::bar::interrupt;
use crate::phy;
use crate::registers::{COMMON, PCI_H, address, revision, row, rw, with_common};
use crate::vendor_config::SettingsFormat;

const R5264_H: &str = "drivers/misc/cardreader/rts5264.h";
/// Addresses that code uses without giving a name.
const R5264_C: &str = "drivers/misc/cardreader/rts5264.c";
const SDMMC_C: &str = "drivers/mmc/host/rtsx_pci_sdmmc.c";

const OCP_VDD3_CTL: u32 = 0xfd89;
const OCP_VDD3_STS: u32 = 0xfd8a;
const OVP_CTL: u32 = 0xfd8d;
const OVP_STS: u32 = 0xfd8e;
const LDO1233318_POW_CTL: u32 = 0xff70;
const LDO1_CFG0: u32 = 0xff72;
const LDO2_CFG0: u32 = 0xff74;
const LDO3_CFG0: u32 = 0xff76;
const OVP_DET: u32 = 0xff8a;

/// The chip.
pub static RTS5264: Model = Model {
    name: "rts5264",
    device: 0x5264,
    bar: 1,
    registers: &with_common::<{ COMMON.len() + OWN.len() }>(OWN),
    own_registers: OWN,
    phy: phy::REGISTERS,
    own_config: OWN_CONFIG,
    settings: SettingsFormat::Rts5261 { mmc: 0 },
    supply: Supply {
        // RTS5264_LDO1_POWERON, RTS5264_LDO3318_POWERON.
        card: Switch { address: LDO1233318_POW_CTL, mask: 0x01, on: 0x01, off: 0 },
        signals: Switch { address: LDO1233318_POW_CTL, mask: 0x08, on: 0x08, off: 0 },
    },
    low_voltage: PAD_1V8,
    over_current: DETECTORS,
    // rtsx_pci_add_sg_tbl has no case for it, so it is as before the RTS5261.
    scatter: ScatterFormat::Whole,
    express: Some(EXPRESS),
    good_phases: GOOD_PHASES,
};

/// DEVNOTE: which bit of BIPR a current of the second and third supply raises is not told; there is one for currents.
const DETECTORS: &[Detector] = &[
    // RTS5264_LDO1_OCP_EN.
    sd_detector(Condition { address: LDO1_CFG0, mask: 0x10, value: 0x10 }),
    Detector {
        rail: Rail::SdVio,
        control: address::REG_OCPCTL,
        // SDVIO_DETECT_EN, SDVIO_OCP_INT_EN; SDVIO_OCP_INT_CLR and SDVIO_OC_CLR.
        detect: 0x80,
        interrupt_enable: 0x40,
        clear: 0x30,
        status: address::REG_OCPSTAT,
        // SDVIO_OC_NOW, SDVIO_OC_EVER.
        seen: 0x60,
        interrupt: interrupt::SD_OVER_CURRENT,
        // RTS5264_LDO2_OCP_EN.
        needs: Some(Condition { address: LDO2_CFG0, mask: 0x10, value: 0x10 }),
    },
    Detector {
        rail: Rail::SdVdd3,
        control: OCP_VDD3_CTL,
        detect: 0x08,
        interrupt_enable: 0x04,
        clear: 0x03,
        status: OCP_VDD3_STS,
        seen: 0x06,
        interrupt: interrupt::SD_OVER_CURRENT,
        // RTS5264_LDO3_OCP_EN.
        needs: Some(Condition { address: LDO3_CFG0, mask: 0x10, value: 0x10 }),
    },
    Detector {
        rail: Rail::OverVoltage,
        control: OVP_CTL,
        detect: 0x08,
        interrupt_enable: 0x04,
        clear: 0x03,
        status: OVP_STS,
        seen: 0x06,
        interrupt: interrupt::SD_OVER_VOLTAGE,
        // RTS5264_POW_VDET.
        needs: Some(Condition { address: OVP_DET, mask: 0x04, value: 0x04 }),
    },
];

/// Written by number before the switch to SD Express, between two target link speeds in LNKCTL2: it is where PCI Express
/// cores of a widespread design (`PCIE_LINK_WIDTH_SPEED_CONTROL` of Linux's `pcie-designware.h`) have "change speed".
///
/// DEVNOTE: it keeps what is written. The link that matters is the one that is trained after the switch.
const OWN_CONFIG: &[Register] = &[Register::new("LINK_SPEED_CHANGE", 0x80e, 1, 0, SDMMC_C).rw(0xff)];

#[rustfmt::skip]
const OWN: &[Register] = &[
    rw("RTS5264_CARD_CLK_SRC2",       0xfc2f, R5264_H),
    // Bit 7, enable, is busy until the access has been made.
    row("RTS5264_EFUSE_CTL",          0xfc30, 0, 0x7f, R5264_H),
    row("RTS5264_EFUSE_ADDR",         0xfc31, 0, 0x3f, R5264_H),
    rw("RTS5264_EFUSE_WRITE_DATA",    0xfc32, R5264_H),
    // A blank EFUSE, as in the RTS5261.
    row("RTS5264_EFUSE_READ_DATA",    0xfc34, 0, 0, R5264_H),
    rw("RTS5264_SYS_DUMMY_1",         0xfc35, R5264_H),
    rw("RTS5264_CARD_PWR_CTL",        0xfd50, R5264_H),
    rw("RTS5264_OCP_VDD3_CTL",        OCP_VDD3_CTL, R5264_H),
    row("RTS5264_OCP_VDD3_STS",       OCP_VDD3_STS, 0, 0, R5264_H),
    rw("RTS5264_OVP_CTL",             OVP_CTL, R5264_H),
    row("RTS5264_OVP_STS",            OVP_STS, 0, 0, R5264_H),
    rw("RTS5264_CMD_OE_START_EARLY",  0xfdcb, R5264_H),
    rw("RTS5264_DAT_OE_START_EARLY",  0xfdcc, R5264_H),
    // Revision B: the driver never takes the card clock's oscillator of an A out of reset.
    revision(1),
    rw("REG_VREF",                    0xfe97, PCI_H),
    // Copies of the vendor settings; written by number.
    rw("VENDOR_SETTING1_0",           0xff0c, R5264_C),
    rw("VENDOR_SETTING1_1",           0xff0d, R5264_C),
    rw("VENDOR_SETTING1_2",           0xff0e, R5264_C),
    rw("VENDOR_SETTING1_3",           0xff0f, R5264_C),
    rw("VENDOR_SETTING2_0",           0xff10, R5264_C),
    rw("VENDOR_SETTING2_1",           0xff11, R5264_C),
    rw("VENDOR_SETTING2_2",           0xff12, R5264_C),
    // Bit 0 clear: not the factory's test mode, which would force the switch to SD Express.
    row("RTS5261_FW_CFG_INFO0",       0xff50, 0, 0, PCI_H),
    rw("RTS5261_FW_CFG0",             0xff54, PCI_H),
    rw("RTS5264_FW_CFG1",             0xff55, R5264_H), // also RTS5261_FW_CFG1
    // Bit 7: the last switch to SD Express failed; the driver clears it when a card comes or goes.
    rw("RTS5264_FW_STATUS",           0xff56, R5264_H), // also RTS5261_FW_STATUS
    rw("RTS5264_FW_CTL",              0xff5f, R5264_H),
    rw("RTS5264_REG_FPDCTL",          0xff60, R5264_H), // also RTS5261_REG_FPDCTL
    rw("RTS5264_REG_LDO12_CFG",       0xff6e, R5264_H),
    rw("RTS5264_LDO1233318_POW_CTL",  LDO1233318_POW_CTL, R5264_H),
    rw("RTS5264_DV3318_CFG",          0xff71, R5264_H),
    rw("RTS5264_LDO1_CFG0",           LDO1_CFG0, R5264_H),
    rw("RTS5264_LDO1_CFG1",           0xff73, R5264_H),
    rw("RTS5264_LDO2_CFG0",           LDO2_CFG0, R5264_H),
    rw("RTS5264_LDO2_CFG1",           0xff75, R5264_H),
    rw("RTS5264_LDO3_CFG0",           LDO3_CFG0, R5264_H),
    rw("RTS5264_LDO3_CFG1",           0xff77, R5264_H),
    rw("RTS5264_REG_PME_FORCE_CTL",   0xff78, R5264_H),
    rw("RTS5264_AUTOLOAD_CFG0",       0xff7b, R5264_H),
    rw("RTS5264_AUTOLOAD_CFG1",       0xff7c, R5264_H),
    rw("RTS5264_AUTOLOAD_CFG2",       0xff7d, PCI_H),
    rw("RTS5264_AUTOLOAD_CFG3",       0xff7e, R5264_H),
    rw("RTS5264_AUTOLOAD_CFG4",       0xff7f, R5264_H), // also RTS5260_AUTOLOAD_CFG4
    rw("RTS5264_PWR_CUT",             0xff81, R5264_H),
    rw("RTS5264_OVP_DET",             OVP_DET, R5264_H),
    rw("RTS5264_CKMUX_MBIAS_PWR",     0xff8b, R5264_H),
];
