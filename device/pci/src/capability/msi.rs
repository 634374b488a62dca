//! Message Signalled Interrupts (PCIe 7.7.1): one message, 64-bit address.

use crate::config::ConfigSpace;
use crate::happening::Message;
use crate::register::Register;
use crate::seam::Ctx;

const SOURCE: &str = "PCIe 7.7.1";

/// The behaviour of a function's one MSI message.
///
/// A function says at every change which of its sources want an interrupt; the message goes out on the rising edge of
/// "wanted and enabled" of each (PCIe 6.7.3.4 words it so for hot-plug, 6.1.6 for PME), so that a condition which comes up
/// while the guest has interrupts off is sent when it turns them on, and one that comes up beside another is not lost.
#[derive(Debug, Clone, Copy)]
pub struct Msi {
    at: u16,
    /// Sources that want an interrupt.
    active: u32,
    sent: bool,
}

impl Msi {
    /// Adds the capability at `at`.
    #[must_use]
    pub fn add(config: &mut ConfigSpace, at: u16) -> Self {
        const ADDRESS_64BIT: u64 = 1 << 7;
        config.add_capability(
            at,
            0x05,
            "MSI_CAP",
            &[
                // Enable, and Multiple Message Enable, which a guest may set although one message is all there is.
                Register::new("MSI_FLAGS", 0x2, 2, ADDRESS_64BIT, SOURCE).rw(0x0071),
                Register::new("MSI_ADDRESS_LO", 0x4, 4, 0, SOURCE).rw(0xffff_fffc),
                Register::new("MSI_ADDRESS_HI", 0x8, 4, 0, SOURCE).rw(0xffff_ffff),
                Register::new("MSI_DATA_64", 0xc, 2, 0, SOURCE).rw(0xffff),
            ],
        );
        Self { at, active: 0, sent: false }
    }

    /// Whether the guest has turned the message on.
    #[must_use]
    pub fn enabled(&self, config: &ConfigSpace) -> bool {
        config.read(self.at + 2, 2) & 1 != 0
    }

    /// These sources want an interrupt now, a bit for each, and no others.
    pub fn set_active(&mut self, config: &ConfigSpace, ctx: &mut Ctx<'_>, active: u32) {
        if active & !self.active != 0 {
            self.sent = false;
        }
        self.active = active;
        self.update(config, ctx);
    }

    /// The guest wrote configuration space: it may have turned the message, or bus mastering, on or off.
    pub fn config_written(&mut self, config: &ConfigSpace, ctx: &mut Ctx<'_>) {
        self.update(config, ctx);
    }

    fn update(&mut self, config: &ConfigSpace, ctx: &mut Ctx<'_>) {
        if self.active == 0 || !self.enabled(config) {
            self.sent = false;
        } else if !self.sent {
            let low = u64::from(config.read(self.at + 4, 4));
            let high = u64::from(config.read(self.at + 8, 4));
            let data = config.read(self.at + 0xc, 2);
            self.sent = ctx.send(Message { vector: 0, address: high << 32 | low, data });
        }
    }

    /// Back to the state after reset.
    pub fn reset(&mut self) {
        let Self { at: _, active, sent } = self;
        *active = 0;
        *sent = false;
    }
}
