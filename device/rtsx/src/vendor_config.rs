//! The reader's configuration space: identity, capabilities, and the vendor's registers above them.

use sdmorph_pci::capability::{self, Link, Msi};
use sdmorph_pci::config::{Bar, Identity};
use sdmorph_pci::{ConfigSpace, Register};
use serde_json::{Value, json};

use crate::bar;
use crate::model::Model;

const RTSX_PCI_H: &str = "include/linux/rtsx_pci.h";
const RTSX_PCR_C: &str = "drivers/misc/cardreader/rtsx_pcr.c";

const REALTEK: u16 = 0x10ec;
/// Class code 0xff: none of those that are defined (PCI_CLASS_OTHERS).
const OTHERS: u32 = 0xff_0000;
const PCR_SETTING_REG1: u32 = 0x724;
const PCR_SETTING_REG2: u32 = 0x814;

/// Where the capabilities are. The driver finds them by the list, so any place will do.
mod at {
    pub(super) const POWER_MANAGEMENT: u16 = 0x80;
    pub(super) const MSI: u16 = 0x90;
    pub(super) const EXPRESS: u16 = 0xb0;
    pub(super) const AER: u16 = 0x100;
    pub(super) const LTR: u16 = 0x158;
    pub(super) const L1_SUBSTATES: u16 = 0x160;
}

/// Vendor registers that the driver reads or writes. A firmware may leave board settings in them ([`Settings`]).
#[rustfmt::skip]
pub const VENDOR_REGISTERS: &[Register] = &[
    // "Enter L1 when host tx idle": the driver writes 0x5b.
    Register::new("ENTER_L1_WHEN_IDLE", 0x70f, 1, 0, RTSX_PCR_C).rw(0xff),
    Register::new("PCR_SETTING_REG1",   PCR_SETTING_REG1, 4, 0, RTSX_PCI_H).rw(0xffff_ffff),
    Register::new("PCR_SETTING_REG3",   0x747, 1, 0, RTSX_PCI_H).rw(0xff),
    Register::new("PCR_SETTING_REG2",   PCR_SETTING_REG2, 4, 0, RTSX_PCI_H).rw(0xffff_ffff),
    Register::new("PCR_SETTING_REG4",   0x818, 4, 0, RTSX_PCI_H).rw(0xffff_ffff),
    Register::new("PCR_SETTING_REG5",   0x81c, 4, 0, RTSX_PCI_H).rw(0xffff_ffff),
];

/// What a firmware may set for a board.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// The reader may be suspended at run time. The RTS5260 has no bit for it.
    pub rtd3: bool,
    /// MMC is supported. The RTS5264 has no bit for it: it never is.
    pub mmc: bool,
    /// The socket's card detection and write protect switches are the other way round.
    pub reverse_socket: bool,
    /// ASPM, as in LNKCTL: 1 is L0s, 2 is L1.
    pub aspm: u8,
    /// Driver strength of signals at 1.8 V: an index, 0 to 3, into the driver's table for the chip.
    pub drive_1v8: u8,
    /// The same at 3.3 V.
    pub drive_3v3: u8,
}

/// Why there are no such settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A word is none of [`Settings::WORDS`].
    #[error("there is no vendor setting `{0}`; the words are {words}", words = Settings::all_words())]
    Unknown(String),
    /// Two words are for the same setting.
    #[error("the vendor setting `{0}` is given twice")]
    Twice(String),
    /// The chip has no place for it.
    #[error("an {chip} has no vendor setting `{setting}`")]
    Lacks {
        /// The chip's name.
        chip: &'static str,
        /// The setting.
        setting: &'static str,
    },
}

/// What a word changes.
type Change = fn(&mut Settings);

impl Settings {
    /// Words for a command line, and what each changes.
    #[rustfmt::skip]
    pub const WORDS: &[(&str, Change)] = &[
        ("rtd3",           |settings| settings.rtd3 = true),
        ("mmc",            |settings| settings.mmc = true),
        ("reverse-socket", |settings| settings.reverse_socket = true),
        ("aspm=off",       |settings| settings.aspm = 0),
        ("aspm=l0s",       |settings| settings.aspm = 1),
        ("aspm=l1",        |settings| settings.aspm = 2),
        ("aspm=l0s-l1",    |settings| settings.aspm = 3),
        ("drive-1v8=0",    |settings| settings.drive_1v8 = 0),
        ("drive-1v8=1",    |settings| settings.drive_1v8 = 1),
        ("drive-1v8=2",    |settings| settings.drive_1v8 = 2),
        ("drive-1v8=3",    |settings| settings.drive_1v8 = 3),
        ("drive-3v3=0",    |settings| settings.drive_3v3 = 0),
        ("drive-3v3=1",    |settings| settings.drive_3v3 = 1),
        ("drive-3v3=2",    |settings| settings.drive_3v3 = 2),
        ("drive-3v3=3",    |settings| settings.drive_3v3 = 3),
    ];

    /// The settings that these words say; what none of them says is off, or 0.
    ///
    /// # Errors
    /// [`SettingsError::Unknown`] or [`SettingsError::Twice`].
    pub fn from_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        let mut said: Vec<&str> = Vec::new();
        for word in words {
            let (_, change) = Self::WORDS
                .iter()
                .find(|(known, _)| *known == word)
                .ok_or_else(|| SettingsError::Unknown(word.to_owned()))?;
            let setting = word.split('=').next().unwrap_or(word);
            if said.contains(&setting) {
                return Err(SettingsError::Twice(setting.to_owned()));
            }
            said.push(setting);
            change(&mut settings);
        }
        Ok(settings)
    }

    fn all_words() -> String {
        Self::WORDS.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ")
    }

    /// Whether this chip has a place for all of them.
    ///
    /// # Errors
    /// [`SettingsError::Lacks`].
    pub fn check_for(self, model: &Model) -> Result<(), SettingsError> {
        match model.settings.lacks(self) {
            Some(setting) => Err(SettingsError::Lacks { chip: model.name, setting }),
            None => Ok(()),
        }
    }

    /// By name.
    #[must_use]
    pub fn snapshot(self) -> Value {
        let Self { rtd3, mmc, reverse_socket, aspm, drive_1v8, drive_3v3 } = self;
        let aspm = match aspm & 3 {
            0 => "off",
            1 => "l0s",
            2 => "l1",
            _ => "l0s-l1",
        };
        json!({
            "rtd3": rtd3,
            "mmc": mmc,
            "reverse-socket": reverse_socket,
            "aspm": aspm,
            "drive-1v8": drive_1v8,
            "drive-3v3": drive_3v3,
        })
    }
}

/// How settings are written into PCR_SETTING_REG1 and PCR_SETTING_REG2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsFormat {
    /// As on the chips before the RTS5261: they are valid if a bit is clear (`rtsx_vendor_setting_valid` and what follows
    /// it in `rtsx_pcr.h`).
    Common {
        /// The bit of PCR_SETTING_REG2 for RTD3, which is in different places; 0 if there is none.
        rtd3: u32,
    },
    /// `rts5261_vendor_setting_valid` and what follows it in `rts5261.h`: they are valid if a bit is set.
    Rts5261 {
        /// The bit of PCR_SETTING_REG2 for MMC; 0 if there is none.
        mmc: u32,
    },
}

impl SettingsFormat {
    /// The first of these settings that there is no bit for.
    fn lacks(self, settings: Settings) -> Option<&'static str> {
        match self {
            Self::Common { rtd3: 0 } if settings.rtd3 => Some("rtd3"),
            Self::Rts5261 { mmc: 0 } if settings.mmc => Some("mmc"),
            Self::Common { .. } | Self::Rts5261 { .. } => None,
        }
    }

    /// PCR_SETTING_REG1 and PCR_SETTING_REG2 for these settings; `None` is for settings that are not valid, which make
    /// the driver keep its own.
    #[must_use]
    pub fn encode(self, settings: Option<Settings>) -> (u32, u32) {
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let field = |value: u8, shift: u32| u32::from(value & 3) << shift;
        match (self, settings) {
            (Self::Common { .. }, None) => (1 << 24, 0),
            (Self::Common { rtd3 }, Some(settings)) => (
                field(settings.aspm, 28) | field(settings.drive_1v8, 26),
                flag(settings.rtd3, rtd3)
                    | flag(!settings.mmc, 0x10)
                    | flag(settings.reverse_socket, 0x4000)
                    | field(settings.drive_3v3, 5),
            ),
            (Self::Rts5261 { .. }, None) => (0, 0),
            (Self::Rts5261 { mmc }, Some(settings)) => (
                // L1 is the other way round.
                field(settings.aspm ^ 2, 28) | field(settings.drive_1v8, 22) | field(settings.drive_3v3, 16),
                1 << 16
                    | flag(settings.rtd3, 0x08)
                    | flag(settings.mmc, mmc)
                    | flag(settings.reverse_socket, 0x04),
            ),
        }
    }
}

/// The configuration space, and the behaviour of its MSI capability.
pub(crate) fn build(model: &Model, settings: Option<Settings>) -> (ConfigSpace, Msi) {
    let identity = Identity {
        vendor: REALTEK,
        device: model.device,
        class: OTHERS,
        revision: 0x01,
        subsystem: (REALTEK, model.device),
    };
    let mut config =
        ConfigSpace::endpoint(identity, &[(model.bar, Bar { size: bar::SIZE, is_64bit: false })]);
    capability::power_management(&mut config, at::POWER_MANAGEMENT);
    let msi = Msi::add(&mut config, at::MSI);
    // DEVNOTE: one lane is what an SD socket has; the reader's own highest speed is not published.
    capability::express_endpoint(&mut config, at::EXPRESS, Link { speed: 1, width: 1 });
    capability::aer(&mut config, at::AER);
    capability::ltr(&mut config, at::LTR);
    capability::l1_substates(&mut config, at::L1_SUBSTATES);
    let (setting1, setting2) = model.settings.encode(settings);
    for row in VENDOR_REGISTERS.iter().chain(model.own_config) {
        let reset = match row.address {
            PCR_SETTING_REG1 => u64::from(setting1),
            PCR_SETTING_REG2 => u64::from(setting2),
            _ => row.reset,
        };
        config.add_row(Register { reset, ..*row });
    }
    (config, msi)
}
