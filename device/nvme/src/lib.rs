//! An NVM Express controller with one namespace: the face that an SD Express card shows on PCIe.
//!
//! Specification: NVM Express Base Specification 1.4; sections and figures are cited without its name. What Linux's `nvme`
//! driver (6.1 to 7.x: `drivers/nvme/host/core.c`, `pci.c`) does with it was read where the specification leaves a choice.
//!
//! Read the modules in this order:
//!
//! 1. [`registers`]: the registers and doorbells of BAR 0; `lifecycle`: enable, ready, shutdown, reset;
//! 2. `queues`: submission and completion queues; `command`: the layout of what is in them; `opcode`, [`status`];
//! 3. `segments`, `prp`, `sgl`: where a command's data is;
//! 4. `engine`: how commands are fetched, go on, and are completed; `in_flight`: those under way;
//! 5. `io`: I/O commands; `medium`, `namespace`: what they are done on;
//! 6. `admin`: admin commands, by matter; `events`, `error_log`, `smart`, `power`: what some of them tell of;
//! 7. `interrupts`: vectors, masks, coalescing; `doorbell_buffers`: doorbells without an access to the device;
//! 8. [`Identity`] and `config`: who the controller is; [`Nvme`]: all of it as a PCI function.
//!
//! # Modelled
//!
//! - all registers of 3.1 that are mandatory, at any width; CC and CSTS with ready, fatal and shutdown status (7.3, 7.6);
//! - the admin queue and 16 pairs of I/O queues, round robin with arbitration burst (4.1, 4.13);
//! - 17 interrupt vectors by MSI-X, or 16 by MSI with INTMS and INTMC; coalescing (7.5);
//! - PRPs (4.3), SGLs with bit buckets (4.4), for transfers of up to 512 KiB;
//! - admin commands (5): Identify, Create and Delete queues, Get and Set Features, Get Log Page, Abort, Asynchronous Event
//!   Request, Doorbell Buffer Config, Format NVM with blocks of 512 and 4096 bytes;
//! - I/O commands (6): Flush, Read, Write, Compare, Write Zeroes, Dataset Management, Verify; FUA; the volatile write cache;
//! - SMART counters, the error log, asynchronous events for doorbells, temperature and the namespace's format;
//! - function level reset, D3hot (no access to memory, what is under way waits), controller reset.
//!
//! # Order and durability
//!
//! A completion of Flush, of a command with FUA, and of any that changes something while the volatile write cache is off is
//! posted after the medium has ended a flush that was begun when the data was in. Commands that are under way at the same
//! time are done in any order.
//!
//! # Not modelled
//!
//! - fused commands, metadata and end-to-end protection, more than one namespace, namespace management;
//! - firmware update, self-test, sanitize, security, directives, reservations, boot partitions, host and controller memory
//!   buffers, virtualization, NVM subsystem reset, Keep Alive (which 1.4 makes mandatory for fabrics only): all denied by the
//!   capabilities, and refused;
//! - weighted round robin arbitration; queues that are not contiguous;
//! - an Abort that stops a command: the medium cannot take one back;
//! - time: a controller is ready at once, unless the medium still has something of before to do; power states save nothing;
//! - wear, spare blocks and warmth: the SMART log says that all is well;
//! - saved features, and a format that outlives the function: a controller made anew has blocks of 512 bytes;
//! - legacy interrupts.

mod admin;
mod bytes;
mod command;
mod config;
mod doorbell_buffers;
mod engine;
mod error_log;
mod events;
mod gathering;
mod identity;
mod in_flight;
mod interrupts;
mod io;
mod lifecycle;
mod medium;
mod namespace;
mod opcode;
mod power;
mod prp;
mod queues;
pub mod registers;
mod segments;
mod sgl;
mod smart;
pub mod status;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use sdmorph_pci::{
    ConfigSpace, Ctx, Event, Media, PciFunction, Register, RegisterFile, ResetKind, mask_of_size,
};
use serde_json::{Map, Value, json};

use crate::admin::features::Features;
use crate::doorbell_buffers::{Doorbell, DoorbellBuffers};
use crate::error_log::ErrorLog;
use crate::events::{AsyncEvent, Events};
use crate::in_flight::Commands;
use crate::interrupts::Interrupts;
use crate::lifecycle::{Life, Shutdown};
use crate::medium::Medium;
use crate::namespace::Namespace;
use crate::queues::Queues;
use crate::registers::{CC, CSTS, DOORBELLS, INTMC, INTMS, MAX_IO_QUEUES, MSIX_TABLE};
use crate::smart::Smart;
use crate::status::Status;

pub use crate::identity::Identity;

/// Rows of BAR 0, but for the MSI-X table and its pending bits.
pub const BAR_REGISTERS: &[Register] = registers::REGISTERS;

/// The function's name in records and rules.
pub const NAME: &str = "nvme";

/// Names of the commands that are supported, as records spell them: those of the admin queue, then those of I/O queues.
pub fn command_names() -> impl Iterator<Item = &'static str> {
    opcode::supported(true).chain(opcode::supported(false))
}

/// What a guest has done, and has done wrong, since the function was made.
#[derive(Debug, Default)]
struct Counters {
    commands: u64,
    /// Commands that ended otherwise than successfully, by status.
    refused: BTreeMap<Status, u64>,
    /// Doorbells of queues that are not there, and values that a queue cannot have.
    invalid_doorbells: u64,
    /// Doorbells written while the controller was not ready, or in parts.
    ignored_doorbells: u64,
    /// How often the controller could not go on (CSTS.CFS).
    fatal: u64,
}

/// The controller.
pub struct Nvme {
    config: ConfigSpace,
    bar: RegisterFile,
    identity: Identity,
    medium: Medium,
    namespace: Namespace,
    interrupts: Interrupts,
    life: Life,
    shutdown: Shutdown,
    /// CSTS.CFS.
    fatal: bool,
    /// CSTS.RDY does not follow CC.EN, as a fault has it.
    ready_stuck: bool,
    /// Bytes of a memory page of the guest, from CC.MPS when the controller was enabled.
    page_bytes: u64,
    queues: Queues,
    /// The queue that has the first turn.
    next_queue: u16,
    commands: Commands,
    events: Events,
    features: Features,
    doorbell_buffers: Option<DoorbellBuffers>,
    /// [`Nvme::poll`] is being called, so that the guest need not write doorbell registers.
    polled: bool,
    /// A command was fetched, went on or was completed since this was last cleared.
    has_worked: bool,
    /// The namespace has another format than the guest was told.
    changed_namespace: bool,
    /// A controller has become ready since the last reset of the function.
    driver_bound: bool,
    errors: ErrorLog,
    smart: Smart,
    counters: Counters,
    /// When this function has last asked to be woken.
    wakes_at: Option<Duration>,
}

impl Nvme {
    /// A controller that has just been powered, whose namespace has the blocks of `medium`.
    #[must_use]
    pub fn new(identity: Identity, medium: Box<dyn Media>) -> Self {
        let (config, msi, msi_x) = config::build(&identity);
        let medium = Medium::new(medium);
        Self {
            config,
            bar: RegisterFile::new(BAR_REGISTERS),
            identity,
            namespace: Namespace::new(medium.blocks()),
            medium,
            interrupts: Interrupts::new(msi, msi_x),
            life: Life::Disabled,
            shutdown: Shutdown::None,
            fatal: false,
            ready_stuck: false,
            page_bytes: 4096,
            queues: Queues::new(),
            next_queue: 0,
            commands: Commands::new(),
            events: Events::default(),
            features: Features::new(),
            doorbell_buffers: None,
            polled: false,
            has_worked: false,
            changed_namespace: false,
            driver_bound: false,
            errors: ErrorLog::default(),
            smart: Smart::new(),
            counters: Counters::default(),
            wakes_at: None,
        }
    }

    /// Whether the guest announces commands by shadow doorbells (Doorbell Buffer Config), so that looking for them pays.
    #[must_use]
    pub fn has_shadow_doorbells(&self) -> bool {
        self.doorbell_buffers.is_some() && self.processes_commands()
    }

    /// Looks for commands that the guest has announced by shadow doorbells, and goes on with what is under way. True if
    /// anything was done.
    ///
    /// The guest is not asked to write doorbell registers from then on, so [`Nvme::rest`] is to be called before nobody
    /// looks any more. Who never calls either gets a register write for each submission.
    pub fn poll(&mut self, ctx: &mut Ctx<'_>) -> bool {
        self.polled = self.has_shadow_doorbells();
        if !self.polled {
            return false;
        }
        let worked = self.work(ctx);
        if ctx.is_bus_master() {
            self.keep_quiet(ctx);
        }
        worked
    }

    /// Asks the guest to write doorbell registers again. True if it had announced something that it need not have written
    /// one for; that is done.
    pub fn rest(&mut self, ctx: &mut Ctx<'_>) -> bool {
        self.polled = false;
        self.has_shadow_doorbells() && self.work(ctx)
    }

    /// The controller cannot go on, as after a fault of its own: CSTS.CFS, until a reset.
    pub fn fail_fatally(&mut self, ctx: &mut Ctx<'_>) {
        self.fail();
        // What has been posted is told of.
        self.advance(ctx);
    }

    /// Whether CSTS.RDY stays what it is, whatever CC.EN becomes. No reset ends that.
    pub fn set_ready_stuck(&mut self, ctx: &mut Ctx<'_>, stuck: bool) {
        self.ready_stuck = stuck;
        self.advance(ctx);
    }

    fn work(&mut self, ctx: &mut Ctx<'_>) -> bool {
        self.has_worked = false;
        self.advance(ctx);
        self.has_worked
    }

    /// The dword at `at`; zero if there is no register.
    fn dword(&self, at: u32) -> u32 {
        match at {
            CSTS => self.status_register(),
            INTMS | INTMC => self.interrupts.mask(),
            _ => {
                let Some(row) = self.bar.row(at) else { return 0 };
                (self.bar.get(at).unwrap_or(0) >> (8 * (at - row.address)) & 0xffff_ffff) as u32
            }
        }
    }

    /// Writes the bytes of `lanes` of the dword at `at`.
    fn write_dword(&mut self, ctx: &mut Ctx<'_>, at: u32, value: u32, lanes: u32) {
        match at {
            INTMS => {
                self.interrupts.set_mask(self.interrupts.mask() | value & lanes);
            }
            INTMC => {
                self.interrupts.set_mask(self.interrupts.mask() & !(value & lanes));
                self.advance(ctx);
            }
            DOORBELLS..MSIX_TABLE if lanes == u32::MAX => self.doorbell(ctx, at, value),
            DOORBELLS..MSIX_TABLE => self.counters.ignored_doorbells += 1,
            _ => {
                let Some(row) = self.bar.row(at) else { return };
                let shift = 8 * (at - row.address);
                let old = self.bar.get(at).unwrap_or(0);
                let new = row.after_write(old, u64::from(value) << shift, u64::from(lanes) << shift);
                self.bar.set(at, new);
                if at == CC {
                    self.configuration_written(ctx, old as u32, new as u32);
                }
            }
        }
    }

    /// A doorbell register was written (3.1.24, 3.1.25).
    fn doorbell(&mut self, ctx: &mut Ctx<'_>, at: u32, value: u32) {
        if !self.processes_commands() {
            self.counters.ignored_doorbells += 1;
            return;
        }
        let index = (at - DOORBELLS) / 4;
        let id = u16::try_from(index / 2).unwrap_or(u16::MAX);
        // With shadow doorbells, the memory has the value, and maybe a newer one than this (7.13).
        let shadowed = self.doorbell_buffers.is_some() && (1..=MAX_IO_QUEUES).contains(&id);
        let doorbell = if index % 2 == 0 { Doorbell::Tail(id) } else { Doorbell::Head(id) };
        let set = match doorbell {
            Doorbell::Tail(_) => self.queues.submission(id).map(|queue| {
                if shadowed && value < queue.entries() { Ok(false) } else { queue.set_tail(value) }
            }),
            Doorbell::Head(_) => self.queues.completion(id).map(|queue| {
                if shadowed && value < queue.entries() { Ok(false) } else { queue.set_head(value) }
            }),
        };
        match set {
            Some(set) => self.doorbell_set(ctx, doorbell, value, set),
            None => self.doorbell_error(AsyncEvent::InvalidDoorbell, Status::INVALID_QUEUE_ID),
        }
        self.advance(ctx);
    }
}

impl fmt::Debug for Nvme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nvme")
            .field("identity", &self.identity)
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

impl PciFunction for Nvme {
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
        if config::reset_is_asked_for(&self.config) {
            ctx.event(Event::Reset { kind: ResetKind::Function });
            self.reset(ctx, ResetKind::Function);
            return;
        }
        self.interrupts.config_written(&self.config, ctx);
        // Bus mastering may be on again.
        self.advance(ctx);
    }

    fn bar_register(&self, bar: u8, offset: u64) -> Option<&'static str> {
        let at = u32::try_from(offset).ok().filter(|_| bar == 0)?;
        self.bar.row(at).map(|row| row.name).or_else(|| self.interrupts.msi_x.register(bar, offset))
    }

    fn bar_read(&mut self, _ctx: &mut Ctx<'_>, bar: u8, offset: u64, size: u8) -> u64 {
        if let Some(value) = self.interrupts.msi_x.bar_read(bar, offset, size) {
            return value;
        }
        // Two dwords hold any aligned access; reading has no side effect.
        let at = (offset & 0x3ffc) as u32;
        let dwords = u64::from(self.dword(at)) | u64::from(self.dword(at + 4)) << 32;
        dwords >> (8 * (offset & 3)) & mask_of_size(size)
    }

    fn bar_write(&mut self, ctx: &mut Ctx<'_>, bar: u8, offset: u64, size: u8, value: u64) {
        if self.interrupts.msi_x.bar_write(&self.config, ctx, bar, offset, size, value) {
            return;
        }
        let at = (offset & 0x3ffc) as u32;
        let shift = 8 * (offset & 3);
        let lanes = u128::from(mask_of_size(size)) << shift;
        let value = u128::from(value) << shift;
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

    fn reset(&mut self, ctx: &mut Ctx<'_>, kind: ResetKind) {
        if kind == ResetKind::Cold {
            let is_clean = self.shutdown == Shutdown::Complete || self.life == Life::Disabled;
            self.smart.power_cycle(is_clean);
            self.errors.power_cycle();
        }
        self.smart.set_busy(ctx.now(), false);
        self.forget();
        let Self {
            config,
            bar,
            interrupts,
            driver_bound,
            wakes_at,
            page_bytes,
            has_worked,
            // Done by `forget`, as for a controller reset.
            life: _,
            shutdown: _,
            fatal: _,
            queues: _,
            next_queue: _,
            commands: _,
            events: _,
            features: _,
            doorbell_buffers: _,
            polled: _,
            changed_namespace: _,
            // The card's own, which outlive a reset.
            identity: _,
            medium: _,
            namespace: _,
            errors: _,
            smart: _,
            counters: _,
            // The fault's, which ends when it is taken back.
            ready_stuck: _,
        } = self;
        config.reset(kind);
        bar.reset();
        interrupts.reset();
        *driver_bound = false;
        *wakes_at = None;
        *page_bytes = 4096;
        *has_worked = false;
    }

    fn send_spurious(&mut self, ctx: &mut Ctx<'_>, vector: u16) {
        self.interrupts.send_spurious(&self.config, ctx, vector);
    }

    fn snapshot(&self) -> Value {
        let mut bar = self.bar.snapshot();
        if let Value::Object(map) = &mut bar {
            for (name, at) in [("CSTS", CSTS), ("INTMS", INTMS), ("INTMC", INTMC)] {
                map.insert(name.to_owned(), Value::String(format!("{:#010x}", self.dword(at))));
            }
            map.retain(|name, _| !name.ends_with("DBL"));
        }
        let refused = self.counters.refused.iter();
        let refused = refused.map(|(status, count)| (status.text().to_owned(), (*count).into()));
        json!({
            "config": self.config.snapshot(),
            "bar0": bar,
            "life": format!("{:?}", self.life),
            "ready-stuck": self.ready_stuck,
            "shutdown": format!("{:?}", self.shutdown),
            "driver_bound": self.driver_bound,
            "queues": self.queues.snapshot(),
            "interrupts": self.interrupts.snapshot(),
            "features": self.features.snapshot(),
            "events": self.events.snapshot(),
            "shadow_doorbells": self.doorbell_buffers.is_some(),
            "block_bytes": self.namespace.block_bytes(),
            "blocks": self.namespace.blocks(),
            "media_requests_under_way": self.medium.under_way(),
            "commands": self.counters.commands,
            "refused": refused.collect::<Map<_, _>>(),
            "errors": self.errors.count(),
            "invalid_doorbells": self.counters.invalid_doorbells,
            "ignored_doorbells": self.counters.ignored_doorbells,
            "fatal": self.counters.fatal,
        })
    }
}
