//! The root bus: routes a configuration or memory access to the port, the function behind it, or nobody.

use crate::happening::{Access, Answer, Direction, Space};
use crate::port::{DEVFN, RootPort};
use crate::register::mask_of_size;
use crate::seam::{self, Ctx, PciFunction};

/// A place in a bus, as a configuration request carries it. The numbers are the guest's: it may renumber buses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutedId {
    /// Bus number.
    pub bus: u8,
    /// Device in bits 7:3, function in bits 2:0.
    pub devfn: u8,
}

/// The root bus of a domain, with one port.
#[derive(Debug)]
pub struct RootBus<F> {
    /// The bus number of the root bus itself.
    number: u8,
    port: RootPort<F>,
}

impl<F: PciFunction> RootBus<F> {
    /// A root bus numbered `number` with `port` at [`DEVFN`].
    #[must_use]
    pub fn new(number: u8, port: RootPort<F>) -> Self {
        Self { number, port }
    }

    /// The port.
    pub fn port(&self) -> &RootPort<F> {
        &self.port
    }

    /// The port, to be told of events.
    pub fn port_mut(&mut self) -> &mut RootPort<F> {
        &mut self.port
    }

    /// Routes a configuration read. Nobody there: all-ones (PCIe 2.3.2), which a guest's bus scan asks for often.
    pub fn config_read(&mut self, ctx: &mut Ctx<'_>, id: RoutedId, offset: u16, size: u8) -> u32 {
        if id.bus == self.number {
            if id.devfn == DEVFN {
                return seam::config_read(&mut self.port, ctx, offset, size);
            }
        } else if self.port.claims_bus(id.bus) {
            let answer = self.port.forward_config_read(ctx, id.bus, id.devfn, offset, size);
            if let Some(value) = answer {
                return value;
            }
        }
        (absent(ctx, Space::Config, Direction::Read, u64::from(offset), size, 0) & 0xffff_ffff) as u32
    }

    /// Routes a configuration write.
    pub fn config_write(&mut self, ctx: &mut Ctx<'_>, id: RoutedId, offset: u16, size: u8, value: u32) {
        if id.bus == self.number && id.devfn == DEVFN {
            return seam::config_write(&mut self.port, ctx, offset, size, value);
        }
        let claimed = id.bus != self.number && self.port.claims_bus(id.bus);
        let done = claimed
            .then(|| self.port.forward_config_write(ctx, id.bus, id.devfn, offset, size, value))
            .flatten();
        if done.is_none() {
            absent(ctx, Space::Config, Direction::Write, u64::from(offset), size, u64::from(value));
        }
    }

    /// Routes a memory read at a bus address.
    pub fn memory_read(&mut self, ctx: &mut Ctx<'_>, space: Space, address: u64, size: u8) -> u64 {
        let claimed = self.port.claims_memory(address);
        let answer = claimed.then(|| self.port.forward_memory_read(ctx, address, size)).flatten();
        answer.unwrap_or_else(|| absent(ctx, space, Direction::Read, address, size, 0))
    }

    /// Routes a memory write at a bus address.
    pub fn memory_write(&mut self, ctx: &mut Ctx<'_>, space: Space, address: u64, size: u8, value: u64) {
        let claimed = self.port.claims_memory(address);
        let done = claimed.then(|| self.port.forward_memory_write(ctx, address, size, value)).flatten();
        if done.is_none() {
            absent(ctx, space, Direction::Write, address, size, value);
        }
    }
}

fn absent(ctx: &mut Ctx<'_>, space: Space, direction: Direction, offset: u64, size: u8, written: u64) -> u64 {
    let value = if direction == Direction::Read { mask_of_size(size) } else { written };
    let access = Access { space, direction, offset, size, register: None, value, answer: Answer::Absent };
    match direction {
        Direction::Read => ctx.observe_read(access),
        Direction::Write => {
            ctx.observe_write(access);
            0
        }
    }
}
