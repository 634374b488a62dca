//! The hot-plug slot: who is in it, whether its link is up, and whether the function's BAR answers.
//!
//! Link and presence are held here and nowhere else; the port derives LNKSTA and SLTSTA from them.

use std::ops::Range;

use serde_json::{Value, json};

use crate::config::{command, offset};
use crate::happening::{Access, Answer, Direction, Event, ResetKind, Space};
use crate::register::mask_of_size;
use crate::seam::{self, Ctx, PciFunction};

/// The base address registers of an endpoint.
const BARS: Range<u16> = offset::BASE_ADDRESS_0..offset::BASE_ADDRESS_0 + 4 * 6;

/// A slot and the function in it. Device 0, function 0 of the bus below the port.
#[derive(Debug)]
pub struct Slot<F> {
    function: Option<F>,
    present: bool,
    trained: bool,
    /// The link's training goes on without an end.
    training: bool,
    link_disabled: bool,
    /// The port holds the link down since it has contained an error.
    contained: bool,
    /// Main power.
    powered: bool,
    bar_vanished: bool,
    config_vanished: bool,
    stale: Option<Stale>,
}

/// The memory BARs of a function as the guest had them when the link fell.
///
/// The reset that follows clears them, but a driver's mapping goes on naming these addresses, and its accesses are still
/// accesses of that function's registers: until a guest places a function anew, which it does when that driver is gone.
/// Nobody answers them, whether or not the link has come up again.
#[derive(Debug)]
struct Stale {
    /// The function's name. Another one may have taken its place since.
    function: &'static str,
    bars: Vec<(u8, Range<u64>)>,
}

impl<F: PciFunction> Slot<F> {
    /// A slot with a function whose link is up.
    pub fn occupied(function: F) -> Self {
        Self {
            function: Some(function),
            present: true,
            trained: true,
            training: false,
            link_disabled: false,
            contained: false,
            powered: true,
            bar_vanished: false,
            config_vanished: false,
            stale: None,
        }
    }

    /// The function, whether or not it can be reached.
    pub fn function(&self) -> Option<&F> {
        self.function.as_ref()
    }

    /// SLTSTA.PDS.
    pub fn is_present(&self) -> bool {
        self.present
    }

    /// LNKSTA.DLLLA: the two ends have trained, the port does not hold the link down, and somebody with power is there.
    pub fn link_active(&self) -> bool {
        self.trained && !self.link_disabled && !self.contained && self.powered && self.function.is_some()
    }

    /// LNKSTA.LT: the two ends train, and do not come to an end.
    pub fn link_trains(&self) -> bool {
        self.training && !self.link_disabled && !self.contained && self.powered
    }

    /// Whether memory accesses to the function are lost although its link may be up.
    pub fn bar_vanished(&self) -> bool {
        self.bar_vanished
    }

    /// Whether the function sends PM_PME messages up its link.
    pub(crate) fn requests_pme(&self) -> bool {
        self.link_active() && self.function.as_ref().is_some_and(|function| function.config().requests_pme())
    }

    /// Whether a memory access would be answered.
    fn answers_memory(&self) -> bool {
        self.link_active()
            && !self.bar_vanished
            && self.function.as_ref().is_some_and(|function| function.config().power_state() == 0)
    }

    /// Whether a configuration access would be answered.
    fn answers_config(&self) -> bool {
        self.link_active() && !self.config_vanished
    }

    /// Sets presence detect; true if that changed it.
    pub(crate) fn set_present(&mut self, present: bool) -> bool {
        std::mem::replace(&mut self.present, present) != present
    }

    /// Trains or drops the link from the function's side; true if DLLLA changed. Without power nobody trains.
    pub(crate) fn set_trained(&mut self, ctx: &mut Ctx<'_>, trained: bool) -> bool {
        self.training = false;
        self.change_link(ctx, |slot| slot.trained = trained && slot.powered)
    }

    /// The two ends begin to train, and do not come to an end.
    pub(crate) fn train_without_end(&mut self) {
        self.training = !self.trained;
    }

    /// The port holds the link down, or lets it go; true if DLLLA changed.
    pub(crate) fn set_contained(&mut self, ctx: &mut Ctx<'_>, contained: bool) -> bool {
        self.change_link(ctx, |slot| slot.contained = contained)
    }

    /// Gives or takes main power; true if DLLLA changed. Who is in the slot has to train anew.
    pub(crate) fn set_powered(&mut self, ctx: &mut Ctx<'_>, on: bool) -> bool {
        if self.powered == on {
            return false;
        }
        ctx.event(Event::SlotPower { on });
        if on {
            self.powered = true;
            return false;
        }
        self.training = false;
        let fell = self.change_link(ctx, |slot| {
            slot.powered = false;
            slot.trained = false;
        });
        let stale = self.stale.take();
        self.reset(ctx, ResetKind::Cold);
        self.stale = stale;
        fell
    }

    /// LNKCTL.LD of the port; true if DLLLA changed.
    pub(crate) fn set_link_disabled(&mut self, ctx: &mut Ctx<'_>, disabled: bool) -> bool {
        self.change_link(ctx, |slot| slot.link_disabled = disabled)
    }

    /// A link that goes down resets what is below it (PCIe 2.9.1).
    fn change_link(&mut self, ctx: &mut Ctx<'_>, change: impl FnOnce(&mut Self)) -> bool {
        let before = self.link_active();
        change(self);
        let after = self.link_active();
        if before && !after {
            ctx.event(Event::LinkDown);
            // One that a guest has not placed again is still meant by the mapping of the one before.
            let stale = self.function.as_ref().and_then(mapped_bars).or(self.stale.take());
            self.reset(ctx, ResetKind::Hot);
            self.stale = stale;
        } else if after && !before {
            ctx.event(Event::LinkUp);
        }
        before != after
    }

    /// Makes the function's memory stop or start answering.
    pub(crate) fn set_bar_vanished(&mut self, ctx: &mut Ctx<'_>, vanished: bool) {
        if std::mem::replace(&mut self.bar_vanished, vanished) != vanished {
            ctx.event(if vanished { Event::BarVanished } else { Event::BarReturned });
        }
    }

    /// Makes the function's configuration space stop or start answering.
    pub(crate) fn set_config_vanished(&mut self, vanished: bool) {
        self.config_vanished = vanished;
    }

    /// Power was off: whoever is in the slot is there again, and answers.
    pub(crate) fn power_on(&mut self, ctx: &mut Ctx<'_>) {
        self.set_bar_vanished(ctx, false);
        self.set_config_vanished(false);
        if self.set_present(true) {
            ctx.event(Event::PresenceChanged { present: true });
        }
        self.set_powered(ctx, true);
        self.set_trained(ctx, true);
    }

    /// Resets the function in the slot.
    pub(crate) fn reset(&mut self, ctx: &mut Ctx<'_>, kind: ResetKind) {
        self.stale = None;
        if let Some(function) = &mut self.function {
            let mut ctx = seam::inside(function, ctx);
            ctx.event(Event::Reset { kind });
            function.reset(&mut ctx, kind);
        }
    }

    /// Gives the function its chance after time has passed.
    pub(crate) fn wake(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(function) = &mut self.function {
            function.wake(&mut seam::inside(function, ctx));
        }
    }

    /// Calls `act` on the function with the context it would get from a bridge.
    pub(crate) fn with_function<R>(
        &mut self,
        above: &mut Ctx<'_>,
        act: impl FnOnce(&mut F, &mut Ctx<'_>) -> R,
    ) -> Option<R> {
        let function = self.function.as_mut()?;
        let mut ctx = seam::inside(function, above);
        Some(act(function, &mut ctx))
    }

    /// Configuration read of device 0 function 0.
    pub(crate) fn config_read(&mut self, above: &mut Ctx<'_>, offset: u16, size: u8) -> u32 {
        let reachable = self.answers_config();
        match &mut self.function {
            Some(function) if reachable => seam::config_read(function, above, offset, size),
            Some(function) => {
                let register = function.config().register_at(offset);
                let mut ctx = seam::inside(function, above);
                let at = u64::from(offset);
                let value = dead(&mut ctx, Space::Config, Direction::Read, at, size, register, 0);
                (value & 0xffff_ffff) as u32
            }
            None => (mask_of_size(size) & 0xffff_ffff) as u32,
        }
    }

    /// Configuration write of device 0 function 0.
    pub(crate) fn config_write(&mut self, above: &mut Ctx<'_>, offset: u16, size: u8, value: u32) {
        let reachable = self.answers_config();
        match &mut self.function {
            Some(function) if reachable => {
                seam::config_write(function, above, offset, size, value);
                if BARS.contains(&offset) {
                    self.stale = None;
                }
            }
            Some(function) => {
                let register = function.config().register_at(offset);
                let mut ctx = seam::inside(function, above);
                let at = u64::from(offset);
                dead(&mut ctx, Space::Config, Direction::Write, at, size, register, u64::from(value));
            }
            None => {}
        }
    }

    /// Memory read at a bus address; `None` if no BAR decodes it.
    pub(crate) fn memory_read(&mut self, above: &mut Ctx<'_>, address: u64, size: u8) -> Option<u64> {
        let answers = self.answers_memory();
        if let Some((function, bar, offset)) = self.decode_stale(address) {
            return Some(dead_memory(function, above, Direction::Read, bar, offset, size, 0));
        }
        let (function, bar, offset) = self.decode(address)?;
        Some(if answers {
            seam::bar_read(function, above, bar, offset, size)
        } else {
            dead_memory(function, above, Direction::Read, bar, offset, size, 0)
        })
    }

    /// Memory write at a bus address; `None` if no BAR decodes it.
    pub(crate) fn memory_write(
        &mut self,
        above: &mut Ctx<'_>,
        address: u64,
        size: u8,
        value: u64,
    ) -> Option<()> {
        let answers = self.answers_memory();
        if let Some((function, bar, offset)) = self.decode_stale(address) {
            dead_memory(function, above, Direction::Write, bar, offset, size, value);
            return Some(());
        }
        let (function, bar, offset) = self.decode(address)?;
        if answers {
            seam::bar_write(function, above, bar, offset, size, value);
        } else {
            dead_memory(function, above, Direction::Write, bar, offset, size, value);
        }
        Some(())
    }

    /// Who a mapping of before the link's fall means.
    fn decode_stale(&self, address: u64) -> Option<(&dyn PciFunction, u8, u64)> {
        let stale = self.stale.as_ref()?;
        let (bar, range) = stale.bars.iter().find(|(_, range)| range.contains(&address))?;
        let function = self.function.as_ref()?;
        let meant = function.in_turn(stale.function).unwrap_or(function);
        Some((meant, *bar, address - range.start))
    }

    fn decode(&mut self, address: u64) -> Option<(&mut F, u8, u64)> {
        let function = self.function.as_mut()?;
        if function.config().command() & command::MEMORY == 0 {
            return None;
        }
        let (bar, offset) = function.config().decode(address)?;
        Some((function, bar, offset))
    }

    /// The slot's state as JSON.
    pub fn snapshot(&self) -> Value {
        json!({
            "present": self.present,
            "link-active": self.link_active(),
            "link-disabled": self.link_disabled,
            "link-trains": self.link_trains(),
            "contained": self.contained,
            "powered": self.powered,
            "bar-vanished": self.bar_vanished,
            "config-vanished": self.config_vanished,
            "function": self.function.as_ref().map(|function| json!({
                "name": function.name(),
                "power-state": if function.config().power_state() == 0 { "D0" } else { "D3hot" },
                "state": function.snapshot(),
            })),
        })
    }
}

/// The memory BARs that a function decodes now; `None` if it decodes none.
fn mapped_bars<F: PciFunction>(function: &F) -> Option<Stale> {
    let config = function.config();
    if config.command() & command::MEMORY == 0 {
        return None;
    }
    let bars: Vec<_> = (0..6).filter_map(|bar| Some((bar, config.memory_bar(bar)?))).collect();
    (!bars.is_empty()).then(|| Stale { function: function.name(), bars })
}

/// Reports an access to a BAR that the function cannot answer; what a read gets.
fn dead_memory(
    function: &dyn PciFunction,
    above: &mut Ctx<'_>,
    direction: Direction,
    bar: u8,
    offset: u64,
    size: u8,
    written: u64,
) -> u64 {
    let register = function.bar_register(bar, offset);
    let mut ctx = seam::inside(function, above);
    dead(&mut ctx, Space::Bar(bar), direction, offset, size, register, written)
}

/// Reports an access that nobody can answer; what a read gets.
fn dead(
    ctx: &mut Ctx<'_>,
    space: Space,
    direction: Direction,
    offset: u64,
    size: u8,
    register: Option<&'static str>,
    written: u64,
) -> u64 {
    let value = if direction == Direction::Read { mask_of_size(size) } else { written };
    let access = Access { space, direction, offset, size, register, value, answer: Answer::Dead };
    match direction {
        Direction::Read => ctx.observe_read(access),
        Direction::Write => {
            ctx.observe_write(access);
            0
        }
    }
}
