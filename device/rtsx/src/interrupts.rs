//! Interrupts: BIPR, BIER and the one MSI message.

use sdmorph_pci::capability::Msi;
use sdmorph_pci::{ConfigSpace, Ctx, Event, RegisterFile};

use crate::bar::{BIER, BIPR, interrupt};

/// What remembers edges, and whether a driver is at work.
#[derive(Debug, Clone)]
pub(crate) struct Interrupts {
    msi: Msi,
    /// A source has been enabled since reset.
    driver_bound: bool,
}

impl Interrupts {
    pub(crate) fn new(msi: Msi) -> Self {
        Self { msi, driver_bound: false }
    }

    pub(crate) fn reset(&mut self) {
        let Self { msi, driver_bound } = self;
        msi.reset();
        *driver_bound = false;
    }

    /// BIPR, BIER or both have changed: sends the message if a source has become pending and enabled.
    ///
    /// Each source has its own edge. The driver reads BIPR and clears what it saw; a source that comes up between
    /// the two would be lost if the message waited until all others are gone.
    pub(crate) fn update(&mut self, bar: &RegisterFile, config: &ConfigSpace, ctx: &mut Ctx<'_>) {
        let pending = bar.get(BIPR).unwrap_or(0);
        let enabled = bar.get(BIER).unwrap_or(0);
        self.msi.set_active(config, ctx, (pending & enabled) as u32 & interrupt::ALL);
    }

    /// BIER has been written: the first source that is enabled is the mark of a driver at work.
    pub(crate) fn enabled(&mut self, bar: &RegisterFile, ctx: &mut Ctx<'_>) {
        if !self.driver_bound && bar.get(BIER).unwrap_or(0) != 0 {
            self.driver_bound = true;
            ctx.event(Event::DriverBound);
        }
    }

    pub(crate) fn config_written(&mut self, config: &ConfigSpace, ctx: &mut Ctx<'_>) {
        self.msi.config_written(config, ctx);
    }

    /// The message, though no source is pending.
    pub(crate) fn send_spurious(&self, config: &ConfigSpace, ctx: &mut Ctx<'_>, vector: u16) {
        self.msi.send_spurious(config, ctx, vector);
    }

    pub(crate) fn driver_bound(&self) -> bool {
        self.driver_bound
    }
}
