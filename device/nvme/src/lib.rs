//! An NVM Express controller with one namespace: the face that an SD Express card shows on PCIe.
//!
//! Specification: NVM Express Base Specification 1.4. Sections are cited without its name.

mod config;
mod identity;
pub mod registers;

use std::fmt;

use sdmorph_pci::capability::{Msi, MsiX};
use sdmorph_pci::{
    ConfigSpace, Ctx, Event, Media, PciFunction, Register, RegisterFile, ResetKind, mask_of_size,
};
use serde_json::{Value, json};

pub use crate::identity::Identity;

/// Rows of BAR 0, but for the MSI-X table and its pending bits.
pub const BAR_REGISTERS: &[Register] = registers::REGISTERS;

/// The function's name in records and rules.
pub const NAME: &str = "nvme";

/// The controller.
pub struct Nvme {
    config: ConfigSpace,
    bar: RegisterFile,
    msi: Msi,
    msi_x: MsiX,
    medium: Box<dyn Media>,
}

impl Nvme {
    /// A controller that has just been powered, whose namespace has the blocks of `medium`.
    #[must_use]
    pub fn new(identity: Identity, medium: Box<dyn Media>) -> Self {
        let (config, msi, msi_x) = config::build(&identity);
        Self { config, bar: RegisterFile::new(BAR_REGISTERS), msi, msi_x, medium }
    }

    /// Looks for commands that the guest has announced by shadow doorbells (Doorbell Buffer Config), and goes on with what
    /// is under way.
    ///
    /// True as long as it pays to call again soon: the guest has not been asked to write doorbell registers. After false it
    /// has been, and there is nothing to do before the next access or wake-up.
    pub fn poll(&mut self, _ctx: &mut Ctx<'_>) -> bool {
        false
    }
}

impl fmt::Debug for Nvme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nvme").field("medium", &self.medium).finish_non_exhaustive()
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
        }
        self.msi.config_written(&self.config, ctx);
        self.msi_x.config_written(&self.config, ctx);
    }

    fn bar_register(&self, bar: u8, offset: u64) -> Option<&'static str> {
        let at = u32::try_from(offset).ok().filter(|_| bar == 0)?;
        self.bar.row(at).map(|row| row.name).or_else(|| self.msi_x.register(bar, offset))
    }

    fn bar_read(&mut self, _ctx: &mut Ctx<'_>, bar: u8, offset: u64, size: u8) -> u64 {
        if let Some(value) = self.msi_x.bar_read(bar, offset, size) {
            return value;
        }
        let at = (offset & !3 & 0xffff_ffff) as u32;
        let dword = |at: u32| {
            let row = self.bar.row(at)?;
            Some(self.bar.get(at)? >> (8 * (at - row.address)) & 0xffff_ffff)
        };
        let dwords = dword(at).unwrap_or(0) | dword(at + 4).unwrap_or(0) << 32;
        dwords >> (8 * (offset & 3)) & mask_of_size(size)
    }

    fn bar_write(&mut self, ctx: &mut Ctx<'_>, bar: u8, offset: u64, size: u8, value: u64) {
        self.msi_x.bar_write(&self.config, ctx, bar, offset, size, value);
    }

    fn wake(&mut self, _ctx: &mut Ctx<'_>) {}

    fn reset(&mut self, _ctx: &mut Ctx<'_>, kind: ResetKind) {
        let Self { config, bar, msi, msi_x, medium: _ } = self;
        config.reset(kind);
        bar.reset();
        msi.reset();
        msi_x.reset();
    }

    fn snapshot(&self) -> Value {
        json!({
            "config": self.config.snapshot(),
            "bar0": self.bar.snapshot(),
            "msi-x": self.msi_x.snapshot(),
        })
    }
}
