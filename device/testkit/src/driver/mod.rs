//! What Linux's `rtsx_pci` and `rtsx_pci_sdmmc` (6.1 to 7.x) do with a reader, access by access.
//!
//! Written from what the driver does, not from its text: `access` has its ways to a register, `chip` the sequences of
//! `rtsx_pcr.c`, `sequences` what is different from chip to chip, `data` those that move data, `host` the other ones of `rtsx_pci_sdmmc.c` and the part of `mmc/core` that leads to the switch.

mod access;
mod chip;
pub mod data;
mod host;
mod sequences;

use sdmorph_pci::PciFunction;

use data::{Piece, Transfer};

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
    /// It is no function that the driver is for.
    NotAReader,
}

/// The driver's state.
#[derive(Debug, Clone, Default)]
pub struct RtsxDriver {
    /// What it does with the chip that it was bound to.
    sequences: Chosen,
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
    /// The relative address of the card that was identified, in the upper half, as an argument has it.
    pub card_address: u32,
    /// Revision, from DUMMY_REG_RESET_0.
    pub ic_version: u8,
    /// The driver offers SD Express to the card.
    pub offers_express: bool,
    /// A firmware's settings allow runtime suspend.
    pub rtd3: bool,
    /// The clock of identification is set.
    initial_clock: bool,
    express_capability: u16,
    ltr_enabled: bool,
    running: bool,
    card_power: host::Power,
}

/// The sequences of a chip; an RTS5261's until a driver is bound.
#[derive(Debug, Clone, Copy)]
struct Chosen(&'static sequences::Sequences);

impl Default for Chosen {
    fn default() -> Self {
        Self(&sequences::RTS5261)
    }
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

    /// Sets the host's side of the bus: 1, 4 or 8 lines, and SD_CFG1's mode (0x00 SD_20, 0x04 DDR, 0x08 SD_30).
    ///
    /// # Errors
    /// [`DriverError`] of a register access.
    pub fn set_bus(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        width: u8,
        mode: u8,
    ) -> Result<(), DriverError> {
        self.port(bench, function).set_bus(width, mode)
    }

    /// `sd_read_long_data`: a command whose data comes by DMA into `pieces` of guest memory.
    ///
    /// # Errors
    /// [`DriverError`] as it would return it.
    pub fn read_long(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        transfer: Transfer,
        pieces: &[Piece],
    ) -> Result<(), DriverError> {
        self.port(bench, function).read_long(transfer, pieces)
    }

    /// `sd_write_long_data`: a command whose data goes by DMA from `pieces` of guest memory.
    ///
    /// # Errors
    /// [`DriverError`] as it would return it.
    pub fn write_long(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        transfer: Transfer,
        pieces: &[Piece],
    ) -> Result<(), DriverError> {
        self.port(bench, function).write_long(transfer, pieces)
    }

    /// `sd_read_data`: a command with one block of at most 512 bytes, through the ping-pong buffer.
    ///
    /// # Errors
    /// [`DriverError`] as it would return it.
    pub fn read_short(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        transfer: Transfer,
    ) -> Result<Vec<u8>, DriverError> {
        self.port(bench, function).read_short(transfer)
    }

    /// `sd_write_data`, likewise.
    ///
    /// # Errors
    /// [`DriverError`] as it would return it.
    pub fn write_short(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        transfer: Transfer,
        data: &[u8],
    ) -> Result<(), DriverError> {
        self.port(bench, function).write_short(transfer, data)
    }

    /// `sd_tuning_rx_cmd`: whether a card at UHS-I speed is received well at this phase (0 to 31).
    ///
    /// # Errors
    /// [`DriverError`] of a register access, or if no interrupt came.
    pub fn tune(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        phase: u8,
    ) -> Result<bool, DriverError> {
        self.port(bench, function).tune(phase)
    }

    /// `rtsx_pci_switch_output_voltage`: signals have 1.8 V, or 3.3 V.
    ///
    /// # Errors
    /// [`DriverError`] of a register access.
    pub fn switch_voltage(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        low: bool,
    ) -> Result<(), DriverError> {
        let mut port = self.port(bench, function);
        let sequences = port.sequences();
        port.act(if low { sequences.to_1v8 } else { sequences.to_3v3 })
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
        port.power_off(chip::Sleep::S3, false)?;
        port.resume()
    }

    /// `rtsx_pci_runtime_suspend`, and what the PCI core does after it: the function is in D3hot with PME enabled.
    ///
    /// # Errors
    /// [`DriverError`] of the sequence.
    pub fn runtime_suspend(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
    ) -> Result<(), DriverError> {
        self.port(bench, function).runtime_suspend()
    }

    /// What the PCI core does before `rtsx_pci_runtime_resume`, and that.
    ///
    /// # Errors
    /// [`DriverError`] of the sequence.
    pub fn runtime_resume(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
    ) -> Result<(), DriverError> {
        self.port(bench, function).runtime_resume()
    }

    /// `rtsx_pci_shutdown`.
    ///
    /// # Errors
    /// [`DriverError`] of the sequence.
    pub fn shutdown(&mut self, bench: &mut Bench, function: &mut dyn PciFunction) -> Result<(), DriverError> {
        self.port(bench, function).power_off(chip::Sleep::S1, false)
    }

    /// `rtsx_pci_remove`, with the function still there.
    ///
    /// # Errors
    /// [`DriverError`] of the sequence.
    pub fn remove(&mut self, bench: &mut Bench, function: &mut dyn PciFunction) -> Result<(), DriverError> {
        self.port(bench, function).remove()
    }
}
