//! A PCIe card reader that looks to its driver like a Realtek RTS5261.
//!
//! There is no public data sheet. The source of every register here is what Linux's `rtsx_pci` and `rtsx_pci_sdmmc`
//! do with it (6.1 to 7.x: `drivers/misc/cardreader`, `drivers/mmc/host/rtsx_pci_sdmmc.c`, `include/linux/rtsx_pci.h`);
//! a table row says which file names it. Where the driver leaves open what hardware does, a `DEVNOTE` says what is done
//! here and why.
//!
//! Read the modules in this order:
//!
//! 1. [`bar`]: the eight registers of BAR 0;
//! 2. [`registers`]: the internal registers behind them, and [`phy`], behind those;
//! 3. `chip`: what a write to an internal register makes happen;
//! 4. [`command_list`]: internal accesses in guest memory, by DMA;
//! 5. `sd_host`: SD commands and responses;
//! 6. `interrupts`: pending, enabled, and the MSI message;
//! 7. [`vendor_config`]: configuration space;
//! 8. [`Rtsx`]: all of it as a PCI function.
//!
//! # Modelled
//!
//! - HAIMR, command lists with read, write and check, PHY and EFUSE access with busy bits that clear;
//! - card detection, write protect switch, card supply, clock and outputs: a card without them answers nothing;
//! - SD commands with responses of all lengths, response time-out and CRC7 error;
//! - the request to switch to SD Express, as an event; what follows is the machine's business;
//! - one MSI message for all interrupt sources, each with its own edge.
//!
//! # Not modelled
//!
//! - data transfer: HDBAR and HDBCTLR hold what is written, and a start ends in TRANS_FAIL; SD modes that move
//!   data send their command and then end with an error;
//! - time: an access, a command or a list has ended when the write that starts it returns;
//! - over-current (REG_OCPSTAT stays zero), card tuning, 1.8 V signalling: the registers are there;
//! - clock and regulator settings beyond "on": any frequency and voltage will do;
//! - the EFUSE's contents (blank), the ring buffer, the firmware's SRAM;
//! - ASPM, L1 substates and LTR: the registers hold what is written, the link does not change;
//! - wake-up by card insertion in D3 (PME), RTD3, and clearing of BIPR by reading it (NFTS_TX_CTRL bit 1);
//! - legacy interrupts.

pub mod bar;
mod chip;
pub mod command_list;
mod interrupts;
pub mod phy;
pub mod registers;
mod sd_host;
pub mod vendor_config;

use std::fmt;

use sdmorph_pci::mask_of_size;
use sdmorph_pci::{Card, ConfigSpace, Ctx, Event, PciFunction, Register, RegisterFile, ResetKind};
use serde_json::{Value, json};

use crate::bar::{BIER, BIPR, HAIMR, HCBAR, HCBCTLR, HDBCTLR, haimr, hcbctlr, hdbctlr, interrupt};
use crate::chip::Chip;
use crate::interrupts::Interrupts;

/// Rows of BAR 0 (space `bar` 0).
pub const BAR_REGISTERS: &[Register] = bar::REGISTERS;
/// Rows of the internal registers (space `internal`).
pub const INTERNAL_REGISTERS: &[Register] = registers::REGISTERS;

/// The function's name in records and rules.
pub const NAME: &str = "reader";

/// The reader.
pub struct Rtsx {
    config: ConfigSpace,
    bar: RegisterFile,
    interrupts: Interrupts,
    chip: Chip,
    /// The position of the switch on the card's edge. Mechanical: no reset moves it.
    write_protect: bool,
}

impl Rtsx {
    /// A reader that has just been powered, with an empty socket.
    #[must_use]
    pub fn new() -> Self {
        let (config, msi) = vendor_config::build();
        Self {
            config,
            bar: RegisterFile::new(BAR_REGISTERS),
            interrupts: Interrupts::new(msi),
            chip: Chip::new(),
            write_protect: false,
        }
    }

    /// Puts a card into the socket, in place of the one that is in it.
    pub fn insert(&mut self, ctx: &mut Ctx<'_>, mut card: Card) {
        self.eject(ctx);
        card.power_cycle();
        self.chip.socket = Some(card);
        ctx.event(Event::CardInserted);
        self.raise(ctx, interrupt::SD);
    }

    /// Takes the card out of the socket, if there is one.
    pub fn eject(&mut self, ctx: &mut Ctx<'_>) {
        if self.chip.socket.take().is_some() {
            ctx.event(Event::CardEjected);
            self.raise(ctx, interrupt::SD);
        }
    }

    /// Moves the write protect switch, which is felt while a card is in the socket. It raises no interrupt.
    pub fn set_write_protect(&mut self, on: bool) {
        self.write_protect = on;
    }

    /// Whether there is a card.
    #[must_use]
    pub fn has_card(&self) -> bool {
        self.chip.socket.is_some()
    }

    /// Sets or clears RTS5261_EXPRESS_LINK_FAIL, by which the firmware says that a card did not come up as PCIe device.
    pub fn set_express_link_failed(&mut self, failed: bool) {
        self.chip.set_express_link_failed(failed);
    }

    fn raise(&mut self, ctx: &mut Ctx<'_>, sources: u32) {
        let pending = self.bar.get(BIPR).unwrap_or(0);
        self.bar.set(BIPR, pending | u64::from(sources));
        self.interrupts.update(&self.bar, &self.config, ctx);
    }

    /// The presence bits of BIPR.
    fn presence(&self) -> u32 {
        match (self.has_card(), self.write_protect) {
            (true, true) => interrupt::SD_EXIST | interrupt::SD_WRITE_PROTECT,
            (true, false) => interrupt::SD_EXIST,
            (false, _) => 0,
        }
    }

    /// The dword at `at`; zero if there is no register.
    fn dword(&self, at: u32) -> u32 {
        let value = (self.bar.get(at).unwrap_or(0) & 0xffff_ffff) as u32;
        if at == BIPR { value | self.presence() } else { value }
    }

    /// Writes the bytes of `lanes` of the dword at `at`.
    fn write_dword(&mut self, ctx: &mut Ctx<'_>, at: u32, value: u32, lanes: u32) {
        let Some(row) = self.bar.row(at) else { return };
        let old = self.bar.get(at).unwrap_or(0);
        self.bar.set(at, row.after_write(old, u64::from(value), u64::from(lanes)));
        let written = value & lanes;
        match at {
            HCBCTLR if written & hcbctlr::STOP != 0 => {}
            HCBCTLR if written & hcbctlr::START != 0 => self.run_command_list(ctx),
            HDBCTLR if written & hdbctlr::STOP != 0 => {}
            HDBCTLR if written & hdbctlr::START != 0 => self.raise(ctx, interrupt::TRANS_FAIL),
            HAIMR if written & haimr::START != 0 => self.access_internal(ctx),
            BIPR => self.interrupts.update(&self.bar, &self.config, ctx),
            BIER => {
                self.interrupts.enabled(&self.bar, ctx);
                self.interrupts.update(&self.bar, &self.config, ctx);
            }
            _ => {}
        }
    }

    /// HAIMR: the data byte is what was read, or the one that was written, which is how the driver confirms a write.
    fn access_internal(&mut self, ctx: &mut Ctx<'_>) {
        let command = self.dword(HAIMR);
        let [data, mask, ..] = command.to_le_bytes();
        let address = command >> 16;
        if command & haimr::WRITE != 0 {
            self.chip.write(ctx, address, mask, data);
        } else {
            let data = self.chip.read(ctx, address);
            self.bar.set(HAIMR, u64::from(command & !0xff | u32::from(data)));
        }
    }

    fn run_command_list(&mut self, ctx: &mut Ctx<'_>) {
        let control = self.dword(HCBCTLR);
        let length = (control & hcbctlr::LENGTH_BYTES) as usize;
        let answer = control & hcbctlr::AUTO_RESPONSE != 0;
        let base = self.dword(HCBAR);
        let ended_well = command_list::run(&mut self.chip, ctx, base, length, answer);
        self.raise(ctx, if ended_well { interrupt::TRANS_OK } else { interrupt::TRANS_FAIL });
    }
}

impl Default for Rtsx {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Rtsx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rtsx").field("has_card", &self.has_card()).finish_non_exhaustive()
    }
}

impl PciFunction for Rtsx {
    fn name(&self) -> &'static str {
        NAME
    }

    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_written(&mut self, ctx: &mut Ctx<'_>, _offset: u16, _size: u8, _before: u32) {
        self.interrupts.config_written(&self.config, ctx);
    }

    fn bar_register(&self, bar: u8, offset: u64) -> Option<&'static str> {
        let offset = u32::try_from(offset).ok().filter(|_| bar == 0)?;
        self.bar.row(offset).map(|row| row.name)
    }

    fn bar_read(&mut self, _ctx: &mut Ctx<'_>, _bar: u8, offset: u64, size: u8) -> u64 {
        // Two dwords hold any aligned access; reading has no side effect.
        let at = (offset & 0xffc) as u32;
        let dwords = u64::from(self.dword(at)) | u64::from(self.dword(at + 4)) << 32;
        dwords >> (8 * (offset & 3)) & mask_of_size(size)
    }

    fn bar_write(&mut self, ctx: &mut Ctx<'_>, _bar: u8, offset: u64, size: u8, value: u64) {
        let at = (offset & 0xffc) as u32;
        let shift = 8 * (offset & 3);
        let lanes = mask_of_size(size) << shift;
        let value = value << shift;
        for (at, shift) in [(at, 0), (at + 4, 32)] {
            let lanes = (lanes >> shift & 0xffff_ffff) as u32;
            if lanes != 0 {
                self.write_dword(ctx, at, (value >> shift & 0xffff_ffff) as u32, lanes);
            }
        }
    }

    fn wake(&mut self, _ctx: &mut Ctx<'_>) {
        // Nothing here takes time.
    }

    fn reset(&mut self, _ctx: &mut Ctx<'_>, kind: ResetKind) {
        let Self { config, bar, interrupts, chip, write_protect: _ } = self;
        config.reset(kind);
        bar.reset();
        interrupts.reset();
        chip.reset();
    }

    fn snapshot(&self) -> Value {
        let mut bar = self.bar.snapshot();
        if let Value::Object(map) = &mut bar {
            map.insert("BIPR".to_owned(), Value::String(format!("{:#010x}", self.dword(BIPR))));
        }
        json!({
            "config": self.config.snapshot(),
            "bar0": bar,
            "internal": self.chip.snapshot(),
            "write_protect": self.write_protect,
            "driver_bound": self.interrupts.driver_bound(),
        })
    }
}
