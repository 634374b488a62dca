//! The seams: the traits between a device and whatever it is plugged into.
//!
//! A function never stores any of these. They come in with each call, as one [`Ctx`], and are gone when it returns.
//! Time is the time since the machine was made; nothing below `machine` sleeps or reads a clock of the host.

use std::time::Duration;

use serde_json::Value;

use crate::config::ConfigSpace;
use crate::happening::{
    Access, Answer, Direction, DmaError, DmaFault, Doorbell, Effect, Event, Happening, Message, NvmeCommand,
    ResetKind, Space,
};
use crate::register::mask_of_size;

/// Guest memory as a bus master sees it: physical addresses of the guest, any length.
pub trait GuestMemory {
    /// Fills `data` from guest memory at `address`.
    ///
    /// # Errors
    /// Any [`DmaError`] but [`DmaError::NotBusMaster`]: not every byte of the range is memory that can be read, or the
    /// host does not answer; `data` may be partly filled then.
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError>;

    /// Stores `data` in guest memory at `address`.
    ///
    /// # Errors
    /// Likewise; nothing or a leading part may have been written then.
    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError>;
}

/// Where interrupt messages go.
pub trait InterruptSink {
    /// Takes one message. Never blocks; a message nobody wants is the receiver's to count.
    fn send(&mut self, message: Message);
}

/// Virtual time.
pub trait Clock {
    /// Time since the machine was made.
    fn now(&self) -> Duration;
    /// Asks for [`PciFunction::wake`] at `at` or soon after. Every call counts; there is no way to take one back, so a
    /// function that is woken looks at its own deadlines.
    fn wake_at(&self, at: Duration);
}

/// Sees everything that happens, before it has its effect, and may change what comes of it.
///
/// The recorder and the fault rules are both behind this one hook, so that a fault needs no second copy of a device.
pub trait Observer {
    /// `function` did or suffered `what` at `now`.
    fn happened(&mut self, now: Duration, function: &'static str, what: &Happening<'_>) -> Effect;

    /// `function` is about to read or write `length` bytes of guest memory: what becomes of that. It is reported
    /// ([`Happening::Dma`]) when it is over.
    fn dma_fault(
        &mut self,
        function: &'static str,
        direction: Direction,
        address: u64,
        length: u64,
    ) -> Option<DmaFault> {
        let _ = (function, direction, address, length);
        None
    }

    /// When `function` can use guest memory again, if something holds it up at `now`.
    fn dma_held_until(&self, now: Duration, function: &'static str) -> Option<Duration> {
        let _ = (now, function);
        None
    }
}

/// One call's world. See the module's text.
pub struct Ctx<'a> {
    world: World<'a>,
    function: &'static str,
    bus_master: bool,
}

/// What a [`Ctx`] is made of; the same for every function of the machine but for `irq`, which a bridge replaces.
pub struct World<'a> {
    /// Guest memory.
    pub memory: &'a dyn GuestMemory,
    /// Where interrupts go.
    pub irq: &'a mut dyn InterruptSink,
    /// Virtual time.
    pub clock: &'a dyn Clock,
    /// The recorder and the fault rules.
    pub observer: &'a mut dyn Observer,
}

impl World<'_> {
    /// The same world for a shorter time.
    pub fn reborrow(&mut self) -> World<'_> {
        World { memory: self.memory, irq: &mut *self.irq, clock: self.clock, observer: &mut *self.observer }
    }
}

impl<'a> Ctx<'a> {
    /// A context for `function`; `bus_master` says whether it and every bridge above it may master the bus.
    #[must_use]
    pub fn new(world: World<'a>, function: &'static str, bus_master: bool) -> Self {
        Self { world, function, bus_master }
    }

    /// A context for a function below this one (a bridge's child), which masters the bus only if both may.
    pub fn child(&mut self, function: &'static str, bus_master: bool) -> Ctx<'_> {
        let bus_master = bus_master && self.bus_master;
        Ctx { world: self.world.reborrow(), function, bus_master }
    }

    /// The same context with another receiver for interrupts (a bridge that remaps them).
    pub fn with_irq<'b>(&'b mut self, irq: &'b mut dyn InterruptSink) -> Ctx<'b> {
        let world = World {
            memory: self.world.memory,
            irq,
            clock: self.world.clock,
            observer: &mut *self.world.observer,
        };
        Ctx { world, function: self.function, bus_master: self.bus_master }
    }

    /// Time since the machine was made.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.world.clock.now()
    }

    /// Whether the function, and every bridge above it, may master the bus.
    #[must_use]
    pub fn is_bus_master(&self) -> bool {
        self.bus_master
    }

    /// Asks to be woken `after` from now and returns that time, for the caller to keep as its deadline.
    pub fn wake_after(&mut self, after: Duration) -> Duration {
        let at = self.now().saturating_add(after);
        self.world.clock.wake_at(at);
        at
    }

    /// Reads guest memory as a bus master.
    ///
    /// # Errors
    /// [`DmaError`]; a device reports it in its status.
    pub fn dma_read(&mut self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        let result = match self.dma_fault(Direction::Read, address, data.len()) {
            None => self.dma_poll(address, data),
            Some(DmaFault::Lost) => Err(DmaError::TimedOut { address }),
            Some(DmaFault::Failed(error)) => Err(error),
            Some(DmaFault::Flipped(bits)) => {
                let result = self.dma_poll(address, data);
                invert(data, &bits);
                result
            }
        };
        self.dma_happened(Direction::Read, address, data.len(), result)
    }

    /// Reads guest memory as a bus master, without a report: for what is read again and again until it changes.
    ///
    /// # Errors
    /// [`DmaError`]; a device reports it in its status.
    pub fn dma_poll(&mut self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        if self.bus_master { self.world.memory.read(address, data) } else { Err(DmaError::NotBusMaster) }
    }

    /// Writes guest memory as a bus master.
    ///
    /// # Errors
    /// [`DmaError`]; a device reports it in its status.
    pub fn dma_write(&mut self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        let result = match self.dma_fault(Direction::Write, address, data.len()) {
            None if self.bus_master => self.world.memory.write(address, data),
            None => Err(DmaError::NotBusMaster),
            Some(DmaFault::Lost) => Ok(()),
            Some(DmaFault::Failed(error)) => Err(error),
            Some(DmaFault::Flipped(bits)) => {
                let mut data = data.to_vec();
                invert(&mut data, &bits);
                self.world.memory.write(address, &data)
            }
        };
        self.dma_happened(Direction::Write, address, data.len(), result)
    }

    /// What a rule makes of a DMA; one that the function may not do meets no rule.
    fn dma_fault(&mut self, direction: Direction, address: u64, length: usize) -> Option<DmaFault> {
        if !self.bus_master {
            return None;
        }
        self.world.observer.dma_fault(self.function, direction, address, length as u64)
    }

    /// When the function can use guest memory again, if something holds it up: what it would move, it moves then. A
    /// function asks before it goes on with a transfer, and to be woken at that time.
    #[must_use]
    pub fn dma_held_until(&self) -> Option<Duration> {
        self.world.observer.dma_held_until(self.now(), self.function)
    }

    fn dma_happened(
        &mut self,
        direction: Direction,
        address: u64,
        length: usize,
        result: Result<(), DmaError>,
    ) -> Result<(), DmaError> {
        self.happened(&Happening::Dma { direction, address, length: length as u64, result });
        result
    }

    /// Sends an interrupt message, which is a memory write: it needs bus mastering. Returns whether it left; it may still
    /// be lost, or be [passed on](Self::pass_on) later.
    pub fn send(&mut self, message: Message) -> bool {
        if self.bus_master {
            let copies = match self.happened(&Happening::Interrupt(message)) {
                Effect::Lost | Effect::Late(_) => 0,
                Effect::Twice => 2,
                _ => 1,
            };
            for _ in 0..copies {
                self.world.irq.send(message);
            }
        }
        self.bus_master
    }

    /// Passes on an interrupt message that has left its function before.
    pub fn pass_on(&mut self, message: Message) {
        self.world.irq.send(message);
    }

    /// Reports a read that would answer `access.value`; returns what it answers after the rules.
    pub fn observe_read(&mut self, access: Access) -> u64 {
        let value = match self.happened(&Happening::Access(access)) {
            Effect::Data(change) => change.apply(access.value),
            _ => access.value,
        };
        value & mask_of_size(access.size)
    }

    /// Reports a write that is about to take effect.
    pub fn observe_write(&mut self, access: Access) {
        self.happened(&Happening::Access(access));
    }

    /// Reports an event.
    pub fn event(&mut self, event: Event) {
        self.happened(&Happening::Event(event));
    }

    /// Reports a storage command and its response.
    pub fn command(&mut self, name: &str, argument: u32, response: Option<&[u8]>) {
        self.happened(&Happening::Command { name, argument, response });
    }

    /// Reports an NVMe command that was fetched or has ended; returns what becomes of it, or of its completion.
    pub fn nvme_command(&mut self, command: NvmeCommand) -> Effect {
        self.happened(&Happening::Nvme(command))
    }

    /// Reports a doorbell's new value.
    pub fn doorbell(&mut self, doorbell: Doorbell) {
        self.happened(&Happening::Doorbell(doorbell));
    }

    fn happened(&mut self, what: &Happening<'_>) -> Effect {
        let now = self.world.clock.now();
        self.world.observer.happened(now, self.function, what)
    }
}

/// A PCI function: the side of a device that a bridge or a host sees.
///
/// Offsets and sizes are checked by the caller: `size` is 1, 2, 4 or 8, and the access is inside the space. A guest can
/// call any of these in any order with any value, and none of them may panic or block.
pub trait PciFunction {
    /// Short name in records and rules: `vmd`, `port`, `reader`, `nvme`.
    fn name(&self) -> &'static str;

    /// The function's configuration space.
    fn config(&self) -> &ConfigSpace;

    /// The same, to be written by a guest through [`config_write`].
    fn config_mut(&mut self) -> &mut ConfigSpace;

    /// Reads `size` (1, 2 or 4) bytes of configuration space. A function whose status is derived overrides this.
    fn config_read(&mut self, offset: u16, size: u8) -> u32 {
        self.config().read(offset, size)
    }

    /// A guest wrote `size` bytes of configuration space at `offset`; `before` is what those bytes read as before.
    /// The function acts on what changed; `ctx` already follows the new Bus Master Enable.
    fn config_written(&mut self, ctx: &mut Ctx<'_>, offset: u16, size: u8, before: u32);

    /// The name of the register of memory BAR `bar` that holds byte `offset`, if a table has one.
    fn bar_register(&self, bar: u8, offset: u64) -> Option<&'static str>;

    /// Reads `size` (1, 2, 4 or 8) bytes of memory BAR `bar`.
    fn bar_read(&mut self, ctx: &mut Ctx<'_>, bar: u8, offset: u64, size: u8) -> u64;

    /// Writes `size` (1, 2, 4 or 8) bytes of memory BAR `bar`.
    fn bar_write(&mut self, ctx: &mut Ctx<'_>, bar: u8, offset: u64, size: u8, value: u64);

    /// Time has come that [`Clock::wake_at`] was asked for, by this function or another.
    fn wake(&mut self, ctx: &mut Ctx<'_>);

    /// Resets the function.
    fn reset(&mut self, ctx: &mut Ctx<'_>, kind: ResetKind);

    /// Sends the interrupt message of that number though nothing has asked for it, as a fault does. A function whose guest
    /// has not turned messages on, or that has none, sends nothing.
    fn send_spurious(&mut self, ctx: &mut Ctx<'_>, vector: u16) {
        let _ = (ctx, vector);
    }

    /// The whole state as JSON, registers by name.
    fn snapshot(&self) -> Value;

    /// Of several functions that take turns at one link, the one of this name. `None` from a function that is alone.
    ///
    /// A driver's mapping means the function that it was made for, also after another has come up in its place.
    fn in_turn(&self, name: &str) -> Option<&dyn PciFunction> {
        let _ = name;
        None
    }
}

// The five functions below are the one way into a function, for bridges and hosts. They take the context of the bridge
// above, let the function master the bus only if its own Bus Master Enable allows it too, and report the access.

/// Reads a function's configuration space and reports it.
pub fn config_read(function: &mut dyn PciFunction, above: &mut Ctx<'_>, offset: u16, size: u8) -> u32 {
    let value = function.config_read(offset, size);
    let access = Access {
        space: Space::Config,
        direction: Direction::Read,
        offset: u64::from(offset),
        size,
        register: function.config().register_at(offset),
        value: u64::from(value),
        answer: Answer::Modelled,
    };
    (inside(function, above).observe_read(access) & 0xffff_ffff) as u32
}

/// Reports a write to a function's configuration space and does it. Bytes that no register has are unmodelled.
pub fn config_write(function: &mut dyn PciFunction, above: &mut Ctx<'_>, offset: u16, size: u8, value: u32) {
    let register = function.config().register_at(offset);
    let answer = if register.is_some() { Answer::Modelled } else { Answer::Unmodelled };
    inside(function, above).observe_write(Access {
        space: Space::Config,
        direction: Direction::Write,
        offset: u64::from(offset),
        size,
        register,
        value: u64::from(value),
        answer,
    });
    let before = function.config().read(offset, size);
    let state_before = function.config().power_state();
    function.config_mut().write(offset, size, value);
    // Made anew: the write may have changed Bus Master Enable.
    let mut ctx = inside(function, above);
    let state = function.config().power_state();
    if state != state_before {
        ctx.event(if state == 0 { Event::D0Entered } else { Event::D3hotEntered });
    }
    function.config_written(&mut ctx, offset, size, before);
}

/// Reads a function's memory BAR and reports it.
pub fn bar_read(function: &mut dyn PciFunction, above: &mut Ctx<'_>, bar: u8, offset: u64, size: u8) -> u64 {
    let register = function.bar_register(bar, offset);
    let mut ctx = inside(function, above);
    let value = function.bar_read(&mut ctx, bar, offset, size);
    ctx.observe_read(bar_access(Direction::Read, bar, offset, size, register, value))
}

/// Reports a write to a function's memory BAR and does it.
pub fn bar_write(
    function: &mut dyn PciFunction,
    above: &mut Ctx<'_>,
    bar: u8,
    offset: u64,
    size: u8,
    value: u64,
) {
    let register = function.bar_register(bar, offset);
    let mut ctx = inside(function, above);
    ctx.observe_write(bar_access(Direction::Write, bar, offset, size, register, value));
    function.bar_write(&mut ctx, bar, offset, size, value);
}

/// The context that `function` gets from the one of the bridge above it.
pub fn inside<'b>(function: &dyn PciFunction, above: &'b mut Ctx<'_>) -> Ctx<'b> {
    above.child(function.name(), function.config().bus_master())
}

fn invert(data: &mut [u8], bits: &[u64]) {
    for bit in bits {
        let byte = usize::try_from(bit / 8).ok().and_then(|at| data.get_mut(at));
        if let Some(byte) = byte {
            *byte ^= 1 << (bit % 8);
        }
    }
}

fn bar_access(
    direction: Direction,
    bar: u8,
    offset: u64,
    size: u8,
    register: Option<&'static str>,
    value: u64,
) -> Access {
    let answer = if register.is_some() { Answer::Modelled } else { Answer::Unmodelled };
    Access { space: Space::Bar(bar), direction, offset, size, register, value, answer }
}
