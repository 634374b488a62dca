//! A world for one function.

use std::time::Duration;

use sdmorph_pci::{Clock, Ctx, PciFunction, World, seam};

use crate::{EventLog, ManualClock, MessageLog, TestMemory};

/// Guest memory, interrupts, clock and log, and the way to a function through them.
#[derive(Debug)]
pub struct Bench {
    /// Guest memory: 1 MiB at 1 MiB unless replaced.
    pub memory: TestMemory,
    /// Interrupt messages.
    pub interrupts: MessageLog,
    /// The clock.
    pub clock: ManualClock,
    /// What the function reported.
    pub log: EventLog,
}

impl Default for Bench {
    fn default() -> Self {
        Self {
            memory: TestMemory::new(1 << 20, 1 << 20),
            interrupts: MessageLog::default(),
            clock: ManualClock::default(),
            log: EventLog::default(),
        }
    }
}

impl Bench {
    /// The context of a bridge that lets everything through.
    pub fn above(&mut self) -> Ctx<'_> {
        let world = World {
            memory: &self.memory,
            irq: &mut self.interrupts,
            clock: &self.clock,
            observer: &mut self.log,
        };
        Ctx::new(world, "bench", true)
    }

    /// Calls `act` on `function` with the context that it gets from its bridge.
    pub fn with<F: PciFunction, R>(
        &mut self,
        function: &mut F,
        act: impl FnOnce(&mut F, &mut Ctx<'_>) -> R,
    ) -> R {
        let mut above = self.above();
        let mut ctx = seam::inside(function, &mut above);
        act(function, &mut ctx)
    }

    /// Reads 4 bytes of BAR 0.
    pub fn read(&mut self, function: &mut dyn PciFunction, offset: u64) -> u32 {
        self.read_bar(function, 0, offset)
    }

    /// Reads 4 bytes of a BAR.
    pub fn read_bar(&mut self, function: &mut dyn PciFunction, bar: u8, offset: u64) -> u32 {
        (seam::bar_read(function, &mut self.above(), bar, offset, 4) & 0xffff_ffff) as u32
    }

    /// Writes 4 bytes of BAR 0.
    pub fn write(&mut self, function: &mut dyn PciFunction, offset: u64, value: u32) {
        self.write_bar(function, 0, offset, value);
    }

    /// Writes 4 bytes of a BAR.
    pub fn write_bar(&mut self, function: &mut dyn PciFunction, bar: u8, offset: u64, value: u32) {
        seam::bar_write(function, &mut self.above(), bar, offset, 4, u64::from(value));
    }

    /// Reads `size` bytes of configuration space.
    pub fn config_read(&mut self, function: &mut dyn PciFunction, offset: u16, size: u8) -> u32 {
        seam::config_read(function, &mut self.above(), offset, size)
    }

    /// Writes `size` bytes of configuration space.
    pub fn config_write(&mut self, function: &mut dyn PciFunction, offset: u16, size: u8, value: u32) {
        seam::config_write(function, &mut self.above(), offset, size, value);
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Wakes the function, as the machine does when a medium has ended a request.
    pub fn wake(&mut self, function: &mut dyn PciFunction) {
        let mut above = self.above();
        let mut ctx = seam::inside(function, &mut above);
        function.wake(&mut ctx);
    }

    /// Moves the clock, and wakes the function if it asked for a time that has come.
    pub fn advance(&mut self, function: &mut dyn PciFunction, by: Duration) {
        self.clock.advance(by);
        if self.clock.take_due() {
            self.wake(function);
        }
    }
}
