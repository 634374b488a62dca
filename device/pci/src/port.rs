//! The root port in front of the slot (PCIe 7.5.1.3, 7.5.3, 6.7), and where PM_PME messages from below end (6.1.6).
//!
//! Slot and link status are derived from the [`Slot`] at each read; only the latched "changed" bits are stored. An
//! event that comes in while the guest clears an older one sets its bit again and is not lost.
//!
//! Hot-plug, PME, AER and DPC share the port's one MSI message. Each is a source with an edge of its own.
//!
//! `hot_plug` is what a slot may be equipped with beside presence and link; `errors` is AER and DPC of the port.

mod errors;
mod hot_plug;

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use crate::capability::{self, EXP, Link, Msi};
use crate::config::{ConfigSpace, Identity, offset};
use crate::happening::{Event, ResetKind};
use crate::seam::{Ctx, PciFunction};
use crate::slot::Slot;

pub use hot_plug::{CommandCompletion, Equipment};

/// What a port is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortProfile {
    /// Vendor, device, class.
    pub identity: Identity,
    /// The physical slot number a guest prints (`Slot(8)`).
    pub slot_number: u16,
    /// The link's best speed and width.
    pub link: Link,
    /// What slot and port have beside what every one has here.
    pub equipment: Equipment,
}

impl Default for PortProfile {
    /// Slot 8, as in the report; Red Hat's generic root port, which no quirk of Linux knows.
    fn default() -> Self {
        Self {
            identity: Identity {
                vendor: 0x1b36,
                device: 0x000c,
                class: 0x06_04_00,
                revision: 0,
                subsystem: (0, 0),
            },
            slot_number: 8,
            link: Link { speed: 3, width: 1 },
            equipment: Equipment::default(),
        }
    }
}

/// Where the port sits on its bus: 1c.0, as in the report. Device in bits 7:3, function in bits 2:0.
pub const DEVFN: u8 = 0x1c << 3;

/// Offset of the PCI Express capability.
const EXPRESS: u16 = 0x70;
const BRIDGE_CONTROL_BUS_RESET: u32 = 1 << 6;
/// Interrupt sources of the port.
const HOT_PLUG: u32 = 1 << 0;
const PME: u32 = 1 << 1;
const ERRORS: u32 = 1 << 2;
const CONTAINED: u32 = 1 << 3;

/// A root port and its slot.
#[derive(Debug)]
pub struct RootPort<F> {
    config: ConfigSpace,
    msi: Msi,
    link: Link,
    slot: Slot<F>,
    controller: hot_plug::Controller,
    /// The function below has asked to be woken, and its message has been received.
    pme_received: bool,
    /// The requester of a PME that came while RTSTA held an earlier one. There is one function below, so one is enough.
    pme_pending: Option<u16>,
}

impl<F: PciFunction> RootPort<F> {
    /// A port with `function` in its slot and the link up.
    #[must_use]
    pub fn new(profile: PortProfile, function: F) -> Self {
        let mut config = ConfigSpace::bridge(profile.identity);
        capability::power_management(&mut config, 0x40);
        let msi = Msi::add(&mut config, 0x50);
        let PortProfile { identity: _, slot_number, link, equipment } = profile;
        capability::express_root_port(&mut config, EXPRESS, link, slot_number, equipment);
        errors::add_capabilities(&mut config, equipment);
        Self {
            config,
            msi,
            link,
            slot: Slot::occupied(function),
            controller: hot_plug::Controller::new(equipment),
            pme_received: false,
            pme_pending: None,
        }
    }

    /// The slot.
    pub fn slot(&self) -> &Slot<F> {
        &self.slot
    }

    /// The link trains or drops; latches DLLSC and interrupts if DLLLA changed.
    pub fn set_link(&mut self, ctx: &mut Ctx<'_>, up: bool) {
        if self.slot.set_trained(ctx, up) {
            self.latch(ctx, EXP::SLTSTA_DLLSC);
        }
    }

    /// The link begins to train, and does not come to an end: LNKSTA shows Link Training until [`Self::set_link`].
    pub fn train_without_end(&mut self) {
        self.slot.train_without_end();
    }

    /// Presence detect changes; latches PDC and interrupts if it did.
    pub fn set_presence(&mut self, ctx: &mut Ctx<'_>, present: bool) {
        if self.slot.set_present(present) {
            ctx.event(Event::PresenceChanged { present });
            self.latch(ctx, EXP::SLTSTA_PDC);
        }
    }

    /// The function's memory stops or starts answering. No status register tells.
    pub fn set_bar_vanished(&mut self, ctx: &mut Ctx<'_>, vanished: bool) {
        self.slot.set_bar_vanished(ctx, vanished);
    }

    /// The function's configuration space stops or starts answering, likewise.
    pub fn set_config_vanished(&mut self, vanished: bool) {
        self.slot.set_config_vanished(vanished);
    }

    /// Calls `act` on the function in the slot with the context it gets from this port.
    pub fn with_function<R>(
        &mut self,
        ctx: &mut Ctx<'_>,
        act: impl FnOnce(&mut F, &mut Ctx<'_>) -> R,
    ) -> Option<R> {
        let result = self.slot.with_function(ctx, act);
        self.look_for_pme(ctx);
        result
    }

    fn latch(&mut self, ctx: &mut Ctx<'_>, bits: u32) {
        let status = self.config.read(EXPRESS + EXP::SLTSTA, 2) | bits;
        self.config.store(EXPRESS + EXP::SLTSTA, 2, u64::from(status));
        self.update_interrupt(ctx);
    }

    /// LNKSTA and SLTSTA as the slot makes them; of SLTSTA, the latched bits are what is stored.
    fn derived(&self) -> (u32, u32) {
        let other_end = self.slot.function().and_then(|function| function.config().link);
        let trained = other_end.map_or(self.link, |other| self.link.trained_with(other));
        let link = match (self.slot.link_active(), self.slot.link_trains()) {
            (true, _) => trained.lnksta() | EXP::LNKSTA_DLLLA,
            (false, true) => EXP::LNKSTA_SLC | EXP::LNKSTA_LT,
            (false, false) => EXP::LNKSTA_SLC,
        };
        let latched = self.config.read(EXPRESS + EXP::SLTSTA, 2) & !(EXP::SLTSTA_PDS | EXP::SLTSTA_MRLSS);
        let present = if self.slot.is_present() { EXP::SLTSTA_PDS } else { 0 };
        (link, latched | present | self.controller.status())
    }

    /// Receives the PM_PME message of the function below, if something has made it send one. To be called after whatever
    /// may have: the function asks by its PMCSR, and once for each time that it begins to.
    fn look_for_pme(&mut self, ctx: &mut Ctx<'_>) {
        let requests = self.slot.requests_pme();
        if requests && !self.pme_received {
            let secondary = self.config.read(offset::SECONDARY_BUS, 1) & 0xff;
            // Device 0, function 0.
            let requester = (secondary << 8) as u16;
            ctx.event(Event::PmeReceived { requester });
            self.receive_pme(ctx, requester);
        }
        self.pme_received = requests;
    }

    /// RTSTA tells of one PME at a time (PCIe 7.5.3.14).
    fn receive_pme(&mut self, ctx: &mut Ctx<'_>, requester: u16) {
        let status = self.config.read(EXPRESS + EXP::RTSTA, 4);
        let status = if status & EXP::RTSTA_PME == 0 {
            u32::from(requester) | EXP::RTSTA_PME
        } else {
            self.pme_pending = Some(requester);
            status | EXP::RTSTA_PENDING
        };
        self.config.store(EXPRESS + EXP::RTSTA, 4, u64::from(status));
        self.update_interrupt(ctx);
    }

    /// The guest has cleared the PME that RTSTA told of: it tells of the next, which interrupts again.
    fn next_pme(&mut self, ctx: &mut Ctx<'_>) {
        let status = self.config.read(EXPRESS + EXP::RTSTA, 4);
        if status & EXP::RTSTA_PME == 0 {
            if let Some(requester) = self.pme_pending.take() {
                self.update_interrupt(ctx);
                self.config.store(EXPRESS + EXP::RTSTA, 4, u64::from(status & EXP::RTSTA_REQUESTER));
                self.receive_pme(ctx, requester);
            }
        }
    }

    /// Hot-plug interrupts are the OR of the enabled events (PCIe 6.7.3.4); PME is one of its own (6.1.6).
    fn update_interrupt(&mut self, ctx: &mut Ctx<'_>) {
        let control = self.config.read(EXPRESS + EXP::SLTCTL, 2);
        let status = self.config.read(EXPRESS + EXP::SLTSTA, 2);
        // Enables 0..4 stand at the same bits as their events; DLLSC is enabled by bit 12.
        let mut enabled = control & 0x1f;
        if control & EXP::SLTCTL_DLLSCE != 0 {
            enabled |= EXP::SLTSTA_DLLSC;
        }
        let mut active = 0;
        if control & EXP::SLTCTL_HPIE != 0 && status & enabled != 0 {
            active |= HOT_PLUG;
        }
        if self.config.read(EXPRESS + EXP::RTCTL, 2) & EXP::RTCTL_PMEIE != 0
            && self.config.read(EXPRESS + EXP::RTSTA, 4) & EXP::RTSTA_PME != 0
        {
            active |= PME;
        }
        active |= errors::wanted(&self.config);
        self.msi.set_active(&self.config, ctx, active);
    }

    /// Buses below this port, as the guest numbered them; `None` while it has not.
    fn buses(&self) -> Option<RangeInclusive<u8>> {
        let byte = |at| (self.config.read(at, 1) & 0xff) as u8;
        let (secondary, subordinate) = (byte(offset::SECONDARY_BUS), byte(offset::SUBORDINATE_BUS));
        (secondary != 0).then_some(secondary..=subordinate)
    }

    /// Whether configuration accesses to `bus` go through this port.
    #[must_use]
    pub fn claims_bus(&self, bus: u8) -> bool {
        self.buses().is_some_and(|buses| buses.contains(&bus))
    }

    /// Whether `bus` is the one right below this port.
    fn is_secondary(&self, bus: u8) -> bool {
        self.buses().is_some_and(|buses| *buses.start() == bus)
    }

    /// Whether memory accesses to `address` go through this port: Memory Space Enable, and one of the two windows.
    #[must_use]
    pub fn claims_memory(&self, address: u64) -> bool {
        self.config.memory_enabled()
            && (self.memory_window().contains(&address) || self.prefetchable_window().contains(&address))
    }

    fn memory_window(&self) -> RangeInclusive<u64> {
        let register = |at| u64::from(self.config.read(at, 2) & 0xfff0) << 16;
        register(offset::MEMORY_BASE)..=(register(offset::MEMORY_LIMIT) | 0xf_ffff)
    }

    fn prefetchable_window(&self) -> RangeInclusive<u64> {
        let register = |low, high| {
            u64::from(self.config.read(high, 4)) << 32 | u64::from(self.config.read(low, 2) & 0xfff0) << 16
        };
        let base = register(offset::PREF_MEMORY_BASE, offset::PREF_BASE_UPPER32);
        let limit = register(offset::PREF_MEMORY_LIMIT, offset::PREF_LIMIT_UPPER32);
        base..=(limit | 0xf_ffff)
    }

    /// The context for what is below: this port's Bus Master Enable forwards requests upstream (PCIe 7.5.1.1.3).
    fn below<'b>(&self, ctx: &'b mut Ctx<'_>) -> Ctx<'b> {
        ctx.child(self.name(), self.config.bus_master())
    }

    /// Forwards a configuration read; `None` if no device is there.
    pub fn forward_config_read(
        &mut self,
        above: &mut Ctx<'_>,
        bus: u8,
        devfn: u8,
        offset: u16,
        size: u8,
    ) -> Option<u32> {
        if devfn != 0 || !self.is_secondary(bus) || self.slot.function().is_none() {
            return None;
        }
        let mut ctx = self.below(above);
        Some(self.slot.config_read(&mut ctx, offset, size))
    }

    /// Forwards a configuration write; `None` if no device is there.
    pub fn forward_config_write(
        &mut self,
        above: &mut Ctx<'_>,
        bus: u8,
        devfn: u8,
        offset: u16,
        size: u8,
        value: u32,
    ) -> Option<()> {
        if devfn != 0 || !self.is_secondary(bus) || self.slot.function().is_none() {
            return None;
        }
        let mut ctx = self.below(above);
        self.slot.config_write(&mut ctx, offset, size, value);
        self.look_for_pme(&mut ctx);
        Some(())
    }

    /// Forwards a memory read; `None` if no BAR decodes the address.
    pub fn forward_memory_read(&mut self, above: &mut Ctx<'_>, address: u64, size: u8) -> Option<u64> {
        let mut ctx = self.below(above);
        self.slot.memory_read(&mut ctx, address, size)
    }

    /// Forwards a memory write; `None` if no BAR decodes the address.
    pub fn forward_memory_write(
        &mut self,
        above: &mut Ctx<'_>,
        address: u64,
        size: u8,
        value: u64,
    ) -> Option<()> {
        let mut ctx = self.below(above);
        let done = self.slot.memory_write(&mut ctx, address, size, value);
        self.look_for_pme(&mut ctx);
        done
    }
}

impl<F: PciFunction> PciFunction for RootPort<F> {
    fn name(&self) -> &'static str {
        "port"
    }

    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_read(&mut self, at: u16, size: u8) -> u32 {
        // What is derived is put in place before it is read.
        let derived = self.derived();
        store_derived(&mut self.config, derived);
        self.config.read(at, size)
    }

    fn config_written(&mut self, ctx: &mut Ctx<'_>, at: u16, size: u8, before: u32) {
        let touched = |register: u16| at <= register && register < at + u16::from(size);
        // Secondary bus reset resets while it is set; what counts is the edge. It is no event for the slot: a guest
        // resets the bus during probe and must not take that for a removal.
        if touched(offset::BRIDGE_CONTROL) {
            let shift = 8 * u32::from(offset::BRIDGE_CONTROL - at);
            let was = before >> shift & BRIDGE_CONTROL_BUS_RESET != 0;
            let is = self.config.read(offset::BRIDGE_CONTROL, 2) & BRIDGE_CONTROL_BUS_RESET != 0;
            if is && !was {
                self.slot.reset(ctx, ResetKind::Hot);
            }
        }
        if touched(EXPRESS + EXP::LNKCTL) {
            let disabled = self.config.read(EXPRESS + EXP::LNKCTL, 2) & EXP::LNKCTL_LD != 0;
            if self.slot.set_link_disabled(ctx, disabled) {
                self.latch(ctx, EXP::SLTSTA_DLLSC);
            }
        }
        if touched(EXPRESS + EXP::SLTCTL) || touched(EXPRESS + EXP::SLTCTL + 1) {
            self.command_written(ctx);
        }
        if touched(EXPRESS + EXP::SLTSTA) {
            self.keep_power_fault();
        }
        if touched(EXPRESS + EXP::RTSTA + 2) {
            self.next_pme(ctx);
        }
        self.containment_written(ctx);
        self.update_interrupt(ctx);
    }

    fn bar_register(&self, _bar: u8, _offset: u64) -> Option<&'static str> {
        None
    }

    // A bridge of this kind has no BAR, so nothing decodes to these two.
    fn bar_read(&mut self, _ctx: &mut Ctx<'_>, _bar: u8, _offset: u64, size: u8) -> u64 {
        crate::register::mask_of_size(size)
    }

    fn bar_write(&mut self, _ctx: &mut Ctx<'_>, _bar: u8, _offset: u64, _size: u8, _value: u64) {}

    fn wake(&mut self, ctx: &mut Ctx<'_>) {
        self.slot.wake(ctx);
        self.look_for_pme(ctx);
        self.complete_command(ctx);
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, kind: ResetKind) {
        let Self { config, msi, link: _, slot, controller, pme_received, pme_pending } = self;
        ctx.event(Event::Reset { kind });
        config.reset(kind);
        msi.reset();
        controller.reset(kind);
        *pme_received = false;
        *pme_pending = None;
        slot.set_link_disabled(ctx, false);
        slot.set_contained(ctx, false);
        // Power Controller Control is on again.
        if !controller.has_power_fault() {
            slot.set_powered(ctx, true);
        }
        // Nothing is latched, and nobody to be interrupted: the status begins with what is there.
        if kind == ResetKind::Cold {
            slot.power_on(ctx);
        }
        slot.reset(ctx, kind);
    }

    fn send_spurious(&mut self, ctx: &mut Ctx<'_>, vector: u16) {
        self.msi.send_spurious(&self.config, ctx, vector);
    }

    fn snapshot(&self) -> Value {
        let mut config = self.config.clone();
        store_derived(&mut config, self.derived());
        json!({
            "config": config.snapshot(),
            "slot": self.slot.snapshot(),
        })
    }
}

fn store_derived(config: &mut ConfigSpace, (link, slot): (u32, u32)) {
    config.store(EXPRESS + EXP::LNKSTA, 2, u64::from(link));
    config.store(EXPRESS + EXP::SLTSTA, 2, u64::from(slot));
}
