//! A PCIe card reader that looks to its driver like one of Realtek's: an RTS5261, or another [`model`].
//!
//! There is no public data sheet. The source of every register here is what Linux's `rtsx_pci` and `rtsx_pci_sdmmc`
//! do with it (6.1 to 7.x: `drivers/misc/cardreader`, `drivers/mmc/host/rtsx_pci_sdmmc.c`, `include/linux/rtsx_pci.h`);
//! a table row says which file names it. Where the driver leaves open what hardware does, a `DEVNOTE` says what is done
//! here and why.
//!
//! Read the modules in this order:
//!
//! 1. [`bar`]: the eight registers of the BAR;
//! 2. [`registers`]: the internal registers behind them, and [`phy`], behind those;
//! 3. `chip`: what a write to an internal register makes happen; [`model`]: what is different from chip to chip;
//! 4. [`command_list`]: internal accesses in guest memory, by DMA;
//! 5. `sd_host`: SD commands, responses and data;
//! 6. [`data_dma`]: scatter lists, and data between them and the SD host;
//! 7. `interrupts`: pending, enabled, and the MSI message;
//! 8. [`vendor_config`]: configuration space;
//! 9. [`Rtsx`]: all of it as a PCI function.
//!
//! # Modelled
//!
//! - HAIMR, command lists with read, write and check, PHY and EFUSE access with busy bits that clear;
//! - card detection, write protect switch, card supply, clock and outputs: a card without them answers nothing;
//! - SD commands with responses of all lengths, response time-out and CRC7 error; the busy signal after R1b;
//! - data through the ping-pong buffer, and by DMA to and from one buffer or a scatter list, while the command list that
//!   started it waits at its check; stop and reset of each part; CRC16 errors and missing CRC status;
//! - tuning: data of a card at UHS-I speed is received well at some phases only; 1.8 V signalling with the card's levels;
//! - over-current: status, interrupt, and the supply that is cut;
//! - the request to switch to SD Express, as an event; what follows is the machine's business;
//! - one MSI message for all interrupt sources, each with its own edge;
//! - RTD3: a firmware's settings that allow it, and PME by a card that comes or goes, as the driver has armed it.
//!
//! # Not modelled
//!
//! - time: what does not wait for the card, its storage or the driver has ended when the write that starts it returns;
//! - clock and regulator settings beyond "on" and 1.8 V: any frequency will do; the length in DMATC0 to DMATC3;
//! - data of a block whose CRC16 is wrong, also if the driver does not want it checked; RTSX_SG_INT;
//! - the EFUSE's contents (blank), the ring buffer as memory of its own, the firmware's SRAM;
//! - ASPM, L1 substates and LTR: the registers hold what is written, the link does not change;
//! - Memory Stick slots, of chips that have one, and their over-current;
//! - D3cold (RTS5261_INFORM_RTD3_COLD, RTS5261_FORCE_PRSNT_LOW), D3_DELINK_MODE_EN and what is saved in FPDCTL: in D3hot
//!   the link stays up, and registers keep what they hold;
//! - clearing of BIPR by reading it (NFTS_TX_CTRL bit 1);
//! - legacy interrupts.

pub mod bar;
mod chip;
pub mod command_list;
pub mod data_dma;
mod interrupts;
pub mod model;
pub mod phy;
pub mod registers;
mod sd_host;
pub mod vendor_config;

use std::fmt;
use std::time::Duration;

use sdmorph_pci::mask_of_size;
use sdmorph_pci::{
    Card, ConfigSpace, Ctx, DisturbError, Disturbance, Event, PciFunction, Register, RegisterFile, ResetKind,
};
use serde_json::{Value, json};

use crate::bar::{BIER, BIPR, HAIMR, HCBAR, HCBCTLR, HDBAR, HDBCTLR, haimr, hcbctlr, hdbctlr, interrupt};
use crate::chip::Chip;
use crate::command_list::{CommandList, Progress};
use crate::interrupts::Interrupts;
use crate::model::{Model, Rail};
use crate::sd_host::Advance;
use crate::vendor_config::Settings;

/// Rows of the BAR, whichever it is.
pub const BAR_REGISTERS: &[Register] = bar::REGISTERS;

/// The function's name in records and rules.
pub const NAME: &str = "reader";

/// Most bytes of data moved in one call. A guest that asks for more gets it in several, and others get their turn between.
const MAX_BYTES_A_CALL: u64 = 4 << 20;

/// The reader.
pub struct Rtsx {
    config: ConfigSpace,
    bar: RegisterFile,
    interrupts: Interrupts,
    chip: Chip,
    /// The command list that is running.
    list: Option<CommandList>,
    /// When this function has last asked to be woken.
    wakes_at: Option<Duration>,
    /// The position of the switch on the card's edge. Mechanical: no reset moves it.
    write_protect: bool,
}

impl Rtsx {
    /// An RTS5261 that has just been powered, with an empty socket.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Model::DEFAULT)
    }

    /// A reader of this model that has just been powered, with an empty socket.
    #[must_use]
    pub fn of(model: &'static Model) -> Self {
        Self::with_settings(model, None)
    }

    /// The same, with settings that a firmware has left in configuration space.
    #[must_use]
    pub fn with_settings(model: &'static Model, settings: Option<Settings>) -> Self {
        let (config, msi) = vendor_config::build(model, settings);
        Self {
            config,
            bar: RegisterFile::new(BAR_REGISTERS),
            interrupts: Interrupts::new(msi),
            chip: Chip::new(model),
            list: None,
            wakes_at: None,
            write_protect: false,
        }
    }

    /// Puts a card into the socket, in place of the one that is in it.
    pub fn insert(&mut self, ctx: &mut Ctx<'_>, card: Card) {
        self.eject(ctx);
        self.chip.insert(ctx, card);
        ctx.event(Event::CardInserted);
        self.card_changed(ctx);
    }

    /// Takes the card out of the socket, if there is one. A transfer under way fails.
    pub fn eject(&mut self, ctx: &mut Ctx<'_>) -> Option<Card> {
        let card = self.chip.eject();
        if card.is_some() {
            ctx.event(Event::CardEjected);
            self.card_changed(ctx);
            self.advance(ctx);
        }
        card
    }

    /// The card detect switch has moved.
    fn card_changed(&mut self, ctx: &mut Ctx<'_>) {
        if self.chip.card_signals_pme() {
            self.config.signal_pme();
        }
        self.raise(ctx, interrupt::SD);
    }

    /// Disturbs the card in the socket. `None` if there is none.
    pub fn disturb(
        &mut self,
        ctx: &mut Ctx<'_>,
        disturbance: Disturbance,
    ) -> Option<Result<(), DisturbError>> {
        let there = self.chip.disturb(ctx.now(), disturbance);
        self.advance(ctx);
        there
    }

    /// The card in the socket draws too much current. False if the driver has not set the reader to look for it.
    pub fn over_current(&mut self, ctx: &mut Ctx<'_>) -> bool {
        self.over_current_at(ctx, Rail::Sd)
    }

    /// The same at any supply that the chip looks at.
    pub fn over_current_at(&mut self, ctx: &mut Ctx<'_>, rail: Rail) -> bool {
        let detected = self.chip.over_current(rail);
        if let Some(interrupts) = detected {
            ctx.event(Event::OverCurrent);
            if interrupts != 0 {
                self.raise(ctx, interrupts);
            }
            self.advance(ctx);
        }
        detected.is_some()
    }

    /// Moves the write protect switch, which is felt while a card is in the socket. It raises no interrupt.
    pub fn set_write_protect(&mut self, on: bool) {
        self.write_protect = on;
    }

    /// Which chip it is.
    #[must_use]
    pub fn model(&self) -> &'static Model {
        self.chip.model()
    }

    /// Whether there is a card.
    #[must_use]
    pub fn has_card(&self) -> bool {
        self.chip.has_card()
    }

    /// Takes the request for SD Express back: the card that it was for is gone.
    pub fn forget_express_request(&mut self) {
        self.chip.forget_express_request();
    }

    /// Sets or clears RTS5261_EXPRESS_LINK_FAIL, by which the firmware says that a card did not come up as PCIe device. A
    /// chip without SD Express does not have it.
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
        match at {
            BIPR => value | self.presence(),
            HCBCTLR if self.list.is_some() => value | hcbctlr::START,
            HDBCTLR if self.chip.dma.is_running() => value | hdbctlr::START,
            _ => value,
        }
    }

    /// Writes the bytes of `lanes` of the dword at `at`.
    fn write_dword(&mut self, ctx: &mut Ctx<'_>, at: u32, value: u32, lanes: u32) {
        let Some(row) = self.bar.row(at) else { return };
        let old = self.bar.get(at).unwrap_or(0);
        self.bar.set(at, row.after_write(old, u64::from(value), u64::from(lanes)));
        let written = value & lanes;
        match at {
            HCBCTLR if written & hcbctlr::STOP != 0 => self.list = None,
            HCBCTLR if written & hcbctlr::START != 0 => self.start_command_list(ctx),
            HDBCTLR if written & hdbctlr::STOP != 0 => self.chip.dma.stop(),
            HDBCTLR if written & hdbctlr::START != 0 => self.start_data_dma(ctx),
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
        self.advance(ctx);
    }

    fn start_command_list(&mut self, ctx: &mut Ctx<'_>) {
        let control = self.bar.get(HCBCTLR).unwrap_or(0) as u32;
        let length = (control & hcbctlr::LENGTH_BYTES) as usize;
        let answered = control & hcbctlr::AUTO_RESPONSE != 0;
        self.list = CommandList::fetch(ctx, self.dword(HCBAR), length, answered);
        if self.list.is_some() { self.advance(ctx) } else { self.fail(ctx) }
    }

    /// DEVNOTE: a transfer for which the SD host is not waiting fails at once. So does one whose command list has failed
    /// before the driver got here; on hardware that may be the driver's time-out of 10 s.
    fn start_data_dma(&mut self, ctx: &mut Ctx<'_>) {
        let control = self.bar.get(HDBCTLR).unwrap_or(0) as u32;
        let base = self.dword(HDBAR);
        let format = self.model().scatter;
        if self.chip.transfer.moves_data() && self.chip.dma.start(ctx, format, base, control).is_ok() {
            self.advance(ctx);
        } else {
            self.fail(ctx);
        }
    }

    /// Goes on with whatever is under way, as far as it comes, and says how it has ended if it has.
    ///
    /// A command list and the data that it has started are one to the driver: it waits for one interrupt.
    fn advance(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(at) = ctx.dma_held_until().filter(|_| self.uses_memory()) {
            return self.wake_at(ctx, at);
        }
        let mut left = MAX_BYTES_A_CALL;
        let list_ran = self.list.is_some();
        let dma_ran = self.chip.dma.is_running();
        loop {
            let mut goes_on = false;
            match sd_host::advance(&mut self.chip, ctx) {
                Advance::Nothing => {}
                Advance::Moved(bytes) => {
                    goes_on = true;
                    left = left.saturating_sub(bytes);
                }
                Advance::DmaFailed => return self.fail(ctx),
            }
            match self.list.as_mut().map(|list| list.run(&mut self.chip, ctx)) {
                None => {}
                Some(Progress::Waits { advanced }) => goes_on |= advanced,
                Some(Progress::Ended) => {
                    self.list = None;
                    goes_on = true;
                }
                Some(Progress::Failed) => return self.fail(ctx),
            }
            if !goes_on || left == 0 {
                break;
            }
        }
        let dma_runs = self.chip.dma.is_running();
        if dma_ran && !dma_runs {
            self.chip.dma_done();
        }
        if (list_ran || dma_ran) && self.list.is_none() && !dma_runs {
            self.raise(ctx, interrupt::TRANS_OK);
        }
        self.ask_to_be_woken(ctx, left == 0);
    }

    fn ask_to_be_woken(&mut self, ctx: &mut Ctx<'_>, soon: bool) {
        let now = ctx.now();
        // What the card said would end by now has ended, or the transfer waits for something else.
        let card = self.chip.card_deadline().filter(|at| *at > now);
        if let Some(at) = if soon { Some(now) } else { card } {
            self.wake_at(ctx, at);
        }
    }

    fn wake_at(&mut self, ctx: &mut Ctx<'_>, at: Duration) {
        if self.wakes_at != Some(at) {
            self.wakes_at = Some(at);
            ctx.wake_after(at.saturating_sub(ctx.now()));
        }
    }

    /// Whether something is under way that reads or writes guest memory.
    fn uses_memory(&self) -> bool {
        self.list.is_some() || self.chip.dma.is_running()
    }

    /// What the driver waits for has failed.
    fn fail(&mut self, ctx: &mut Ctx<'_>) {
        self.list = None;
        self.chip.dma.stop();
        self.raise(ctx, interrupt::TRANS_FAIL);
    }
}

impl Default for Rtsx {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Rtsx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rtsx")
            .field("chip", &self.model().name)
            .field("has_card", &self.has_card())
            .finish_non_exhaustive()
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
        let offset = u32::try_from(offset).ok().filter(|_| bar == self.model().bar)?;
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

    fn wake(&mut self, ctx: &mut Ctx<'_>) {
        self.wakes_at = None;
        self.advance(ctx);
    }

    fn reset(&mut self, _ctx: &mut Ctx<'_>, kind: ResetKind) {
        let Self { config, bar, interrupts, chip, list, wakes_at, write_protect: _ } = self;
        config.reset(kind);
        bar.reset();
        interrupts.reset();
        chip.reset();
        *list = None;
        *wakes_at = None;
    }

    fn send_spurious(&mut self, ctx: &mut Ctx<'_>, vector: u16) {
        self.interrupts.send_spurious(&self.config, ctx, vector);
    }

    fn snapshot(&self) -> Value {
        let mut bar = self.bar.snapshot();
        if let Value::Object(map) = &mut bar {
            map.insert("BIPR".to_owned(), Value::String(format!("{:#010x}", self.dword(BIPR))));
        }
        json!({
            "chip": self.model().name,
            "config": self.config.snapshot(),
            format!("bar{}", self.model().bar): bar,
            "internal": self.chip.snapshot(),
            "write_protect": self.write_protect,
            "driver_bound": self.interrupts.driver_bound(),
        })
    }
}
