//! PCI functions of the root bus, as firmware would set them up: configuration mechanism 1.

use crate::qtest::Qtest;

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;

pub(crate) const COMMAND: u8 = 0x04;
/// COMMAND: memory space, bus master.
pub(crate) const MEMORY: u32 = 1 << 1;
pub(crate) const MASTER: u32 = 1 << 2;
pub(crate) const BAR0: u8 = 0x10;

/// Where the tests put BARs: above guest memory, below the I/O APIC.
pub(crate) const WINDOW: u64 = 0xe000_0000;

/// A function.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Function {
    pub(crate) bus: u8,
    pub(crate) slot: u8,
}

impl Function {
    /// The first vfio-user device of a machine.
    pub(crate) const DEVICE: Self = Self { bus: 0, slot: 5 };

    fn select(self, qtest: &mut Qtest, register: u8) -> u16 {
        let address =
            1 << 31 | u32::from(self.bus) << 16 | u32::from(self.slot) << 11 | u32::from(register & !3);
        qtest.port_out(CONFIG_ADDRESS, 4, address);
        CONFIG_DATA + u16::from(register & 3)
    }

    pub(crate) fn read(self, qtest: &mut Qtest, register: u8, bytes: usize) -> u32 {
        let port = self.select(qtest, register);
        let mask = u32::MAX >> (32 - 8 * bytes);
        qtest.port_in(port, bytes) & mask
    }

    pub(crate) fn write(self, qtest: &mut Qtest, register: u8, bytes: usize, value: u32) {
        let port = self.select(qtest, register);
        qtest.port_out(port, bytes, value);
    }

    /// As [`Function::write`], and does not wait for it to be done.
    pub(crate) fn post(self, qtest: &mut Qtest, register: u8, bytes: usize, value: u32) {
        let port = self.select(qtest, register);
        qtest.post_port_out(port, bytes, value);
    }

    /// Puts 32-bit BAR `bar` at `address`.
    pub(crate) fn place(self, qtest: &mut Qtest, bar: u8, address: u64) {
        self.write(qtest, BAR0 + 4 * bar, 4, u32::try_from(address).unwrap());
    }

    /// Sets COMMAND.
    pub(crate) fn command(self, qtest: &mut Qtest, bits: u32) {
        self.write(qtest, COMMAND, 2, bits);
    }
}
