//! What Linux's `rtsx_pci` and `rtsx_pci_sdmmc` (6.1 to 7.x) do with an RTS5261, access by access.
//!
//! Written from what the driver does, not from its text: `access` has its ways to a register, `chip` the sequences of
//! `rtsx_pcr.c` and `rts5261.c`, `host` those of `rtsx_pci_sdmmc.c` and the part of `mmc/core` that leads to the switch.

mod access;
mod chip;
mod host;

use sdmorph_pci::PciFunction;

use crate::Bench;

/// Where a sequence of the driver would have returned an error, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverError {
    /// A busy bit stayed set (`-ETIMEDOUT`).
    Timeout,
    /// A register did not confirm a write (`-EIO`).
    NotConfirmed,
    /// A command list ended in TRANS_FAIL (`-EINVAL`).
    ListFailed,
    /// No interrupt came for a command list (`-ETIMEDOUT`).
    NoInterrupt,
    /// A response had wrong start or transmission bits, or a bad CRC7 (`-EILSEQ`).
    BadResponse,
    /// The function lacks a capability that the driver needs.
    NoCapability(u8),
    /// It is not the function that the driver is for.
    NotAnRts5261,
}

/// The driver's state.
#[derive(Debug, Clone, Default)]
pub struct RtsxDriver {
    /// Bus address of the buffer for command lists.
    list_at: u64,
    list: Vec<u32>,
    /// Sources that the driver has enabled.
    enabled: u32,
    /// How the last command list ended; `None` while it runs.
    list_ended_well: Option<bool>,
    /// A card came since the last card detection.
    pub card_inserted: bool,
    /// A card went since the last card detection.
    pub card_removed: bool,
    /// Whether the driver believes that ASPM is on.
    aspm_enabled: bool,
    /// Revision, from DUMMY_REG_RESET_0.
    pub ic_version: u8,
    /// The driver offers SD Express to the card.
    pub offers_express: bool,
    /// Internal clock in MHz that is set.
    clock_mhz: u32,
    express_capability: u16,
    ltr_enabled: bool,
    running: bool,
    card_power: host::Power,
}

/// One call's access to the function: the driver's sequences are methods of this.
pub(crate) struct Port<'a> {
    pub(crate) driver: &'a mut RtsxDriver,
    pub(crate) bench: &'a mut Bench,
    pub(crate) function: &'a mut dyn PciFunction,
}

impl RtsxDriver {
    /// A driver that has not been bound.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn port<'a>(&'a mut self, bench: &'a mut Bench, function: &'a mut dyn PciFunction) -> Port<'a> {
        Port { driver: self, bench, function }
    }

    /// `rtsx_pci_probe`, and the PCI core's part before it.
    ///
    /// # Errors
    /// [`DriverError`] where probe would fail.
    pub fn probe(&mut self, bench: &mut Bench, function: &mut dyn PciFunction) -> Result<(), DriverError> {
        self.port(bench, function).probe()
    }

    /// `rtsx_pci_isr`, if a message has come; true if one had.
    ///
    /// # Errors
    /// [`DriverError`] if a register access of it fails.
    pub fn interrupt(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
    ) -> Result<bool, DriverError> {
        self.port(bench, function).interrupt()
    }

    /// `rtsx_pci_card_detect`, which the interrupt schedules when a card comes or goes; true if there is one.
    pub fn card_detect(&mut self, bench: &mut Bench, function: &mut dyn PciFunction) -> bool {
        self.port(bench, function).bar_read(access::BIPR) & access::SD_EXIST != 0
    }

    /// `mmc_rescan` up to the point where the card is known to be SD Express or not: power up, CMD0, CMD8, and the
    /// switch if both sides have it; power off if there is no card. True if the switch was asked for.
    ///
    /// # Errors
    /// [`DriverError`] of the sequence that failed. A card that does not answer CMD8 is no error.
    pub fn rescan(&mut self, bench: &mut Bench, function: &mut dyn PciFunction) -> Result<bool, DriverError> {
        self.port(bench, function).rescan()
    }

    /// Sends one command with a response of 48 bits and a CRC, and returns the response's content.
    ///
    /// # Errors
    /// [`DriverError`] as `sd_send_cmd_get_rsp` would return it.
    pub fn command(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        index: u8,
        argument: u32,
    ) -> Result<u32, DriverError> {
        self.port(bench, function).command(index, argument, host::Response::Short)
    }

    /// Identifies the card in SD mode (`mmc_sd_get_cid`, `mmc_send_relative_addr`, `mmc_send_csd`, select), and returns
    /// CID and CSD without their last byte.
    ///
    /// # Errors
    /// [`DriverError`] of the command that failed.
    pub fn identify(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
    ) -> Result<([u8; 15], [u8; 15]), DriverError> {
        self.port(bench, function).identify()
    }

    /// `mmc_power_off`.
    ///
    /// # Errors
    /// [`DriverError`] of the sequence.
    pub fn power_off_card(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
    ) -> Result<(), DriverError> {
        self.port(bench, function).set_ios(host::Power::Off)
    }

    /// `rtsx_pci_runtime_idle`.
    ///
    /// # Errors
    /// [`DriverError`] of a register access; Linux ignores it.
    pub fn runtime_idle(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
    ) -> Result<(), DriverError> {
        self.port(bench, function).runtime_idle()
    }

    /// `rtsx_pci_suspend`, then `rtsx_pci_resume`.
    ///
    /// # Errors
    /// [`DriverError`] of the sequence.
    pub fn suspend_and_resume(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
    ) -> Result<(), DriverError> {
        let mut port = self.port(bench, function);
        port.power_off(chip::Sleep::S3)?;
        port.resume()
    }

    /// `rtsx_pci_shutdown`.
    ///
    /// # Errors
    /// [`DriverError`] of the sequence.
    pub fn shutdown(&mut self, bench: &mut Bench, function: &mut dyn PciFunction) -> Result<(), DriverError> {
        self.port(bench, function).power_off(chip::Sleep::S1)
    }

    /// `rtsx_pci_remove`, with the function still there.
    ///
    /// # Errors
    /// [`DriverError`] of the sequence.
    pub fn remove(&mut self, bench: &mut Bench, function: &mut dyn PciFunction) -> Result<(), DriverError> {
        self.port(bench, function).remove()
    }
}
