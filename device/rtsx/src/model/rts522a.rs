//! RTS522A: the card's power behind two gates, and a signal voltage that the PHY sets.

use sdmorph_pci::Register;

use super::{GOOD_PHASES, LowVoltage, Model, OCP_POWERED, POWER_GATES, ScatterFormat, sd_detector};
use crate::phy;
use crate::registers::{COMMON, PCR_H, revision, rw, with_common};
use crate::vendor_config::SettingsFormat;

/// PHY_TUNE: PHY_TUNE_SDBUS_33.
const SDBUS_33: u16 = 0x0200;

/// The chip.
pub static RTS522A: Model = Model {
    name: "rts522a",
    device: 0x522a,
    bar: 0,
    registers: &with_common::<{ COMMON.len() + OWN.len() }>(OWN),
    own_registers: OWN,
    // DEVNOTE: what the register resets to is not known. This is what the driver writes for 3.3 V, so that a card which
    // is supplied before that sees no switch.
    phy: &phy::with_tune(0x57e4),
    own_config: &[],
    settings: SettingsFormat::Common { rtd3: 0x02 },
    supply: POWER_GATES,
    low_voltage: LowVoltage::Phy { index: phy::TUNE, mask: SDBUS_33, value: 0 },
    over_current: &[sd_detector(OCP_POWERED)],
    scatter: ScatterFormat::Whole,
    express: None,
    good_phases: GOOD_PHASES,
};

#[rustfmt::skip]
const OWN: &[Register] = &[
    super::CARD_PWR_CTL,
    // Revision B: the driver sets more PHY registers of an A.
    revision(1),
    rw("RTS522A_PME_FORCE_CTL",       0xff78, PCR_H),
    rw("RTS522A_AUTOLOAD_CFG1",       0xff7c, PCR_H),
    rw("RTS522A_PM_CTRL3",            0xff7e, PCR_H),
];
