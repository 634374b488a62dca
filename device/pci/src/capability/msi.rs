//! Message Signalled Interrupts (PCIe 7.7.1): up to 32 messages, 64-bit address.

use crate::config::ConfigSpace;
use crate::happening::Message;
use crate::register::Register;
use crate::seam::Ctx;

const SOURCE: &str = "PCIe 7.7.1";

/// The behaviour of a function's MSI messages.
///
/// A function says at every change which of its sources want an interrupt; the message goes out on the rising edge of
/// "wanted and enabled" of each (PCIe 6.7.3.4 words it so for hot-plug, 6.1.6 for PME), so that a condition which comes up
/// while the guest has interrupts off is sent when it turns them on, and one that comes up beside another is not lost.
#[derive(Debug, Clone, Copy)]
pub struct Msi {
    at: u16,
    /// Sources of message 0 that want an interrupt.
    active: u32,
    /// A bit for each message.
    wanted: u32,
    sent: u32,
}

impl Msi {
    /// Adds the capability at `at`, with one message.
    #[must_use]
    pub fn add(config: &mut ConfigSpace, at: u16) -> Self {
        Self::add_messages(config, at, 0)
    }

    /// Adds the capability at `at`, with 2^`log2` messages; `log2` is at most 5.
    #[must_use]
    pub fn add_messages(config: &mut ConfigSpace, at: u16, log2: u8) -> Self {
        const ADDRESS_64BIT: u64 = 1 << 7;
        let flags = ADDRESS_64BIT | u64::from(log2.min(5)) << 1;
        config.add_capability(
            at,
            0x05,
            "MSI_CAP",
            &[
                // Enable, and Multiple Message Enable, which a guest may set to more than there is.
                Register::new("MSI_FLAGS", 0x2, 2, flags, SOURCE).rw(0x0071),
                Register::new("MSI_ADDRESS_LO", 0x4, 4, 0, SOURCE).rw(0xffff_fffc),
                Register::new("MSI_ADDRESS_HI", 0x8, 4, 0, SOURCE).rw(0xffff_ffff),
                Register::new("MSI_DATA_64", 0xc, 2, 0, SOURCE).rw(0xffff),
            ],
        );
        Self { at, active: 0, wanted: 0, sent: 0 }
    }

    /// Whether the guest has turned the messages on.
    #[must_use]
    pub fn enabled(&self, config: &ConfigSpace) -> bool {
        config.read(self.at + 2, 2) & 1 != 0
    }

    /// How many messages the guest lets the function send (Multiple Message Enable), a power of two.
    #[must_use]
    pub fn messages(&self, config: &ConfigSpace) -> u16 {
        let flags = config.read(self.at + 2, 2);
        1 << (flags >> 4 & 7).min(flags >> 1 & 7)
    }

    /// For a function with one message: these sources want an interrupt now, a bit for each, and no others.
    pub fn set_active(&mut self, config: &ConfigSpace, ctx: &mut Ctx<'_>, active: u32) {
        if active & !self.active != 0 {
            self.sent &= !1;
        }
        self.active = active;
        self.set_level_of(config, ctx, 0, active != 0);
    }

    /// For one with several: the function wants an interrupt by this message, or no longer does. A message that the guest
    /// has left no room for goes out as another one (PCIe 6.1.4.2).
    pub fn set_level_of(&mut self, config: &ConfigSpace, ctx: &mut Ctx<'_>, message: u16, level: bool) {
        let bit = 1 << (message & 31);
        self.wanted = self.wanted & !bit | if level { bit } else { 0 };
        self.update(config, ctx);
    }

    /// The guest wrote configuration space: it may have turned the messages, or bus mastering, on or off.
    pub fn config_written(&mut self, config: &ConfigSpace, ctx: &mut Ctx<'_>) {
        self.update(config, ctx);
    }

    fn update(&mut self, config: &ConfigSpace, ctx: &mut Ctx<'_>) {
        if !self.enabled(config) {
            self.sent = 0;
            return;
        }
        self.sent &= self.wanted;
        let mut rising = self.wanted & !self.sent;
        while rising != 0 {
            let message = rising.trailing_zeros() as u16;
            rising &= rising - 1;
            if self.send(config, ctx, message) {
                self.sent |= 1 << message;
            }
        }
    }

    fn send(&self, config: &ConfigSpace, ctx: &mut Ctx<'_>, message: u16) -> bool {
        // As many of the data's low bits as number the messages are the function's to set.
        let numbers = self.messages(config) - 1;
        let vector = message & numbers;
        let low = u64::from(config.read(self.at + 4, 4));
        let high = u64::from(config.read(self.at + 8, 4));
        let data = config.read(self.at + 0xc, 2) & !u32::from(numbers) | u32::from(vector);
        ctx.send(Message { vector, address: high << 32 | low, data })
    }

    /// Sends a message that no source asks for, if the guest has turned the messages on.
    pub fn send_spurious(&self, config: &ConfigSpace, ctx: &mut Ctx<'_>, message: u16) {
        if self.enabled(config) {
            self.send(config, ctx, message);
        }
    }

    /// Back to the state after reset.
    pub fn reset(&mut self) {
        let Self { at: _, active, wanted, sent } = self;
        *active = 0;
        *wanted = 0;
        *sent = 0;
    }
}
