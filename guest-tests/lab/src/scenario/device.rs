//! What the device is, and how the command line of its process says so.

use serde::Deserialize;

/// What the device is, where it is not the one that it is by itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The reader's chip, as `sdmorph serve --chip` takes it.
    #[serde(default)]
    pub chip: Option<String>,
    /// What a firmware has set for the reader's board. Without it, the driver keeps its own settings.
    #[serde(default)]
    pub vendor_settings: Option<VendorSettings>,
    /// What the slot and its port are equipped with, beside presence and link.
    #[serde(default)]
    pub slot: Slot,
}

/// Equipment of the slot and its port; what is not said is not there.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// An attention button.
    #[serde(default)]
    pub attention_button: bool,
    /// An attention and a power indicator.
    #[serde(default)]
    pub indicators: bool,
    /// A sensor of the manually operated retention latch.
    #[serde(default)]
    pub mrl_sensor: bool,
    /// A power controller.
    #[serde(default)]
    pub power_controller: bool,
    /// Hot-plug commands complete with a notification.
    #[serde(default)]
    pub command_completed: bool,
    /// In-band presence detect can be disabled.
    #[serde(default)]
    pub in_band_presence_disable: bool,
    /// The port has Advanced Error Reporting.
    #[serde(default)]
    pub aer: bool,
    /// The port has Downstream Port Containment, and AER with it.
    #[serde(default)]
    pub dpc: bool,
}

/// Settings of a firmware; what is not said is off, or 0.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VendorSettings {
    /// The reader may be suspended at run time.
    #[serde(default)]
    pub rtd3: bool,
    /// MMC is supported.
    #[serde(default)]
    pub mmc: bool,
    /// The socket's switches are the other way round.
    #[serde(default)]
    pub reverse_socket: bool,
    /// Which link states ASPM may use.
    #[serde(default)]
    pub aspm: Aspm,
    /// Driver strength at 1.8 V, 0 to 3.
    #[serde(default)]
    pub drive_1v8: u8,
    /// Driver strength at 3.3 V, 0 to 3.
    #[serde(default)]
    pub drive_3v3: u8,
}

/// Link states.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aspm {
    /// None.
    #[default]
    Off,
    /// L0s.
    L0s,
    /// L1.
    L1,
    /// Both.
    #[serde(rename = "l0s-l1")]
    L0sL1,
}

impl Device {
    /// Words for the command line of the device's process.
    pub fn arguments(&self) -> Vec<String> {
        let chip = self.chip.iter().flat_map(|chip| ["--chip".to_owned(), chip.clone()]);
        let settings = self.vendor_settings.iter();
        let settings = settings.flat_map(|settings| ["--vendor-settings".to_owned(), settings.words()]);
        let words = Some(self.slot.words().join(",")).filter(|words| !words.is_empty());
        let slot = words.into_iter().flat_map(|words| ["--slot".to_owned(), words]);
        chip.chain(settings).chain(slot).collect()
    }
}

impl Slot {
    /// As `sdmorph serve --slot` takes them.
    pub fn words(self) -> Vec<&'static str> {
        let Self {
            attention_button,
            indicators,
            mrl_sensor,
            power_controller,
            command_completed,
            in_band_presence_disable,
            aer,
            dpc,
        } = self;
        let pieces = [
            (attention_button, "attention-button"),
            (indicators, "indicators"),
            (mrl_sensor, "mrl-sensor"),
            (power_controller, "power-controller"),
            (command_completed, "command-completed"),
            (in_band_presence_disable, "in-band-presence-disable"),
            (aer, "aer"),
            (dpc, "dpc"),
        ];
        pieces.into_iter().filter(|(there, _)| *there).map(|(_, word)| word).collect()
    }
}

impl VendorSettings {
    /// As `sdmorph serve --vendor-settings` takes them. Never empty: settings that are all off are still settings.
    pub fn words(self) -> String {
        let Self { rtd3, mmc, reverse_socket, aspm, drive_1v8, drive_3v3 } = self;
        let flags = [("rtd3", rtd3), ("mmc", mmc), ("reverse-socket", reverse_socket)];
        let mut words: Vec<String> =
            flags.into_iter().filter(|(_, on)| *on).map(|(word, _)| word.to_owned()).collect();
        let aspm = match aspm {
            Aspm::Off => "off",
            Aspm::L0s => "l0s",
            Aspm::L1 => "l1",
            Aspm::L0sL1 => "l0s-l1",
        };
        words.push(format!("aspm={aspm}"));
        words.push(format!("drive-1v8={drive_1v8}"));
        words.push(format!("drive-3v3={drive_3v3}"));
        words.join(",")
    }

    /// The first number that is out of range: the key, and the number.
    pub(super) fn out_of_range(self) -> Option<(&'static str, u8)> {
        let strengths = [("drive_1v8", self.drive_1v8), ("drive_3v3", self.drive_3v3)];
        strengths.into_iter().find(|(_, strength)| *strength > 3)
    }
}
