//! The chips, as data: what one has that another has not, or has elsewhere.
//!
//! A [`Model`] is a row of a table; the code that reads it is the same for all of them. What a chip's registers are and
//! mean is what Linux's driver for it does with them, as everywhere in this crate; what the driver does not tell is said
//! in a `DEVNOTE` of the chip's module.

mod rts5228;
mod rts522a;
mod rts525a;
mod rts5260;
mod rts5261;
mod rts5264;

pub use rts522a::RTS522A;
pub use rts525a::RTS525A;
pub use rts5228::RTS5228;
pub use rts5260::RTS5260;
pub use rts5261::RTS5261;
pub use rts5264::RTS5264;

use std::ops::RangeInclusive;

use sdmorph_pci::Register;

use crate::registers::{self, address};
use crate::vendor_config::SettingsFormat;

/// A chip.
#[derive(Debug)]
pub struct Model {
    /// Its name as the driver's files spell it, such as `rts5261`.
    pub name: &'static str,
    /// PCI Device ID, and subsystem ID.
    pub device: u16,
    /// The BAR that has [`crate::bar`]'s registers.
    pub bar: u8,
    /// All internal registers: those of [`crate::registers::COMMON`] and `own_registers`.
    pub registers: &'static [Register],
    /// Internal registers that not all chips have.
    pub own_registers: &'static [Register],
    /// Registers of the PHY.
    pub phy: &'static [Register],
    /// Registers of the configuration space that not all chips have.
    pub own_config: &'static [Register],
    /// How a firmware's settings are written into configuration space.
    pub settings: SettingsFormat,
    /// What feeds the card.
    pub supply: Supply,
    /// What says that signals have 1.8 V.
    pub low_voltage: LowVoltage,
    /// What looks for too much current; the first one is the card's supply.
    pub over_current: &'static [Detector],
    /// How an entry of a scatter list tells its length.
    pub scatter: ScatterFormat,
    /// The switch to SD Express, if the chip can do it.
    pub express: Option<Express>,
    /// Phases at which data of a card that runs at UHS-I speed is received well.
    pub good_phases: RangeInclusive<u8>,
}

/// Some bits of an internal register, and the value that they have if something is the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// The register.
    pub address: u32,
    /// The bits.
    pub mask: u8,
    /// Their value.
    pub value: u8,
}

/// A supply that is switched by some bits of an internal register. Every value but `on` counts as off: a supply that is
/// limited while it charges does not feed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// The register.
    pub address: u32,
    /// The bits.
    pub mask: u8,
    /// Their value when it is on.
    pub on: u8,
    /// Their value when it is off.
    pub off: u8,
}

/// What feeds the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supply {
    /// Its memory and its controller. Without it the card forgets everything.
    pub card: Switch,
    /// The signals.
    pub signals: Switch,
}

/// What says that signals have 1.8 V.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LowVoltage {
    /// An internal register.
    Internal(Condition),
    /// A register of the PHY.
    Phy {
        /// Its number.
        index: u8,
        /// The bits.
        mask: u16,
        /// Their value when signals have 1.8 V.
        value: u16,
    },
}

/// The supply whose current or voltage a [`Detector`] looks at, by the driver's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rail {
    /// The card's supply (SD_OC).
    Sd,
    /// The second supply of an SD Express card (SDVIO_OC).
    SdVio,
    /// The third one (SD_VDD3_OC).
    SdVdd3,
    /// The supply of the signals (DV3318_OCP).
    Dv3318,
    /// Not a current, but a voltage that is too high (OVP).
    OverVoltage,
}

/// What looks for too much current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detector {
    /// Where it looks.
    pub rail: Rail,
    /// The control register.
    pub control: u32,
    /// In `control`: look.
    pub detect: u8,
    /// In `control`: raise an interrupt.
    pub interrupt_enable: u8,
    /// In `control`: each of these bits clears `seen`.
    pub clear: u8,
    /// The status register.
    pub status: u32,
    /// In `status`: it is too much, and it has been.
    pub seen: u8,
    /// The bit of BIPR.
    pub interrupt: u32,
    /// It does not work without this.
    pub needs: Option<Condition>,
}

/// How an entry of a scatter list tells its length (`rtsx_pci_add_sg_tbl`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScatterFormat {
    /// 16 bits in 31:16, and what is above them in 15:6.
    Split,
    /// 20 bits in 31:12.
    Whole,
}

impl ScatterFormat {
    /// The length in bytes that `entry` tells.
    #[must_use]
    pub const fn length_bytes(self, entry: u64) -> u64 {
        match self {
            ScatterFormat::Split => entry >> 16 & 0xffff | (entry >> 6 & 0x3ff) << 16,
            ScatterFormat::Whole => entry >> 12 & 0xf_ffff,
        }
    }
}

/// The switch to SD Express: the firmware does it when both `enter` and `run` hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Express {
    /// The firmware is told to.
    pub enter: Condition,
    /// The firmware may run.
    pub run: Condition,
    /// The firmware says that a card did not come up as PCIe device.
    pub link_failed: Condition,
}

impl Model {
    /// The chip that is meant when none is named.
    pub const DEFAULT: &'static Model = &RTS5261;

    /// Every chip.
    pub const ALL: &'static [&'static Model] = &[&RTS5261, &RTS5260, &RTS5228, &RTS525A, &RTS522A, &RTS5264];

    /// The chip of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Model> {
        Self::ALL.iter().copied().find(|model| model.name == name)
    }
}

/// CARD_PWR_CTL and PWR_GATE_CTRL, of the chips before the RTS5260.
const POWER_GATES: Supply = Supply {
    // SD_POWER_MASK: SD_POWER_ON and SD_POWER_OFF. Between them is a limited current.
    card: Switch { address: CARD_PWR_CTL.address, mask: 0x03, on: 0x00, off: 0x03 },
    // LDO3318_PWR_MASK, as the driver of these chips writes it. (LDO_ON and LDO_OFF are another chip's.)
    signals: Switch { address: address::PWR_GATE_CTRL, mask: 0x06, on: 0x06, off: 0x00 },
};

/// DEVNOTE: what it resets to is not known. BPP_POWER_OFF keeps a card off until the driver wants it on.
const CARD_PWR_CTL: Register = registers::row("CARD_PWR_CTL", 0xfd50, 0x0f, 0xff, registers::PCI_H);

/// FPDCTL without OC_POWER_DOWN.
const OCP_POWERED: Condition = Condition { address: address::FPDCTL, mask: 0x02, value: 0 };

/// SD_PAD_CTL: SD_IO_USING_1V8.
const PAD_1V8: LowVoltage =
    LowVoltage::Internal(Condition { address: address::SD_PAD_CTL, mask: 0x80, value: 0x80 });

/// The detector that all chips have.
const fn sd_detector(needs: Condition) -> Detector {
    Detector {
        rail: Rail::Sd,
        control: address::REG_OCPCTL,
        // SD_DETECT_EN, SD_OCP_INT_EN; SD_OCP_INT_CLR and SD_OC_CLR.
        detect: 0x08,
        interrupt_enable: 0x04,
        clear: 0x03,
        status: address::REG_OCPSTAT,
        // SD_OC_NOW, SD_OC_EVER.
        seen: 0x06,
        interrupt: crate::bar::interrupt::SD_OVER_CURRENT,
        needs: Some(needs),
    }
}

/// DEVNOTE: on hardware the window depends on the board and the card. This one is wide enough to be found and too narrow
/// to be hit by the phase after reset.
const GOOD_PHASES: RangeInclusive<u8> = 9..=22;
