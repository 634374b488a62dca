//! The device that every server serves: a page of memory. The least a device can be that QEMU takes.

use std::time::Instant;

/// BAR 0.
pub(crate) const BAR0_BYTES: usize = 4096;
/// Configuration space.
pub(crate) const CONFIG_BYTES: usize = 256;
/// Register whose reads are timed.
pub(crate) const READ_REGISTER: u64 = 0;
/// Register that a guest writes when it has done its reads.
pub(crate) const DONE_REGISTER: u64 = 8;

/// Index of BAR 0 among the regions of a PCI device, and of configuration space (`<linux/vfio.h>`).
pub(crate) const BAR0: u32 = 0;
pub(crate) const CONFIG: u32 = 7;
/// Regions and interrupt types of a PCI device.
pub(crate) const REGIONS: u32 = 9;
pub(crate) const IRQS: u32 = 5;

const COMMAND: usize = 0x04;
const BASE_ADDRESS_0: usize = 0x10;

/// Bytes of a region; 0 if the device has no such region.
pub(crate) const fn region_bytes(region: u32) -> usize {
    match region {
        BAR0 => BAR0_BYTES,
        CONFIG => CONFIG_BYTES,
        _ => 0,
    }
}

/// An access that the device does not have.
#[derive(Debug)]
pub(crate) struct NoSuchRegister;

/// A page of memory behind BAR 0.
pub(crate) struct Page {
    config: [u8; CONFIG_BYTES],
    page: [u8; BAR0_BYTES],
    /// When [`READ_REGISTER`] was read, if that is wanted.
    arrivals: Option<Vec<Instant>>,
    /// Called when [`DONE_REGISTER`] is written.
    done: fn(),
}

impl Page {
    pub(crate) fn new(keep_arrivals: bool, done: fn()) -> Self {
        Self { config: config_space(), page: [0; BAR0_BYTES], arrivals: keep_arrivals.then(Vec::new), done }
    }

    pub(crate) fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), NoSuchRegister> {
        if let (Some(arrivals), BAR0, READ_REGISTER) = (&mut self.arrivals, region, offset) {
            arrivals.push(Instant::now());
        }
        data.copy_from_slice(self.bytes(region, offset, data.len())?);
        Ok(())
    }

    pub(crate) fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), NoSuchRegister> {
        self.bytes(region, offset, data.len())?.copy_from_slice(data);
        match region {
            CONFIG => self.keep_what_is_writable(),
            BAR0 if offset == DONE_REGISTER => (self.done)(),
            _ => {}
        }
        Ok(())
    }

    /// The times between the reads that have arrived so far, in nanoseconds. Takes them away.
    pub(crate) fn take_intervals_ns(&mut self) -> Vec<u64> {
        let arrivals = self.arrivals.as_mut().map(std::mem::take).unwrap_or_default();
        let pairs = arrivals.iter().zip(arrivals.iter().skip(1));
        pairs.map(|(one, next)| crate::statistics::nanoseconds(next.duration_since(*one))).collect()
    }

    pub(crate) fn reset(&mut self) {
        (self.config, self.page) = (config_space(), [0; BAR0_BYTES]);
    }

    fn bytes(&mut self, region: u32, offset: u64, length: usize) -> Result<&mut [u8], NoSuchRegister> {
        let all = match region {
            BAR0 => &mut self.page[..],
            CONFIG => &mut self.config[..],
            _ => return Err(NoSuchRegister),
        };
        let at = usize::try_from(offset).map_err(|_| NoSuchRegister)?;
        let end = at.checked_add(length).ok_or(NoSuchRegister)?;
        all.get_mut(at..end).ok_or(NoSuchRegister)
    }

    /// After a write anywhere in configuration space: memory decoding, bus mastering and the address bits of BAR 0 are
    /// kept, everything else is as it was.
    fn keep_what_is_writable(&mut self) {
        let was = config_space();
        for (at, (byte, was)) in self.config.iter_mut().zip(was).enumerate() {
            let writable = match at {
                COMMAND => 0x06,
                at if at == BASE_ADDRESS_0 + 1 => 0xf0,
                at if at == BASE_ADDRESS_0 + 2 || at == BASE_ADDRESS_0 + 3 => 0xff,
                _ => 0,
            };
            *byte = *byte & writable | was & !writable;
        }
    }
}

/// 1234:11e9, a device of no class, with a 32-bit memory BAR.
fn config_space() -> [u8; CONFIG_BYTES] {
    let mut config = [0; CONFIG_BYTES];
    let fields = [(0x00, 0x34), (0x01, 0x12), (0x02, 0xe9), (0x03, 0x11), (0x0b, 0xff)];
    for (at, value) in fields {
        if let Some(byte) = config.get_mut(at) {
            *byte = value;
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_is_sized_by_all_ones_and_only_the_writable_bits_change() {
        let mut page = Page::new(false, || {});
        page.write(CONFIG, 0x10, &[0xff; 4]).unwrap();
        let mut bar = [0; 4];
        page.read(CONFIG, 0x10, &mut bar).unwrap();
        assert_eq!(u32::from_le_bytes(bar), 0xffff_f000);
        page.write(CONFIG, 0, &[0; 64]).unwrap();
        let mut id = [0; 4];
        page.read(CONFIG, 0, &mut id).unwrap();
        assert_eq!(u32::from_le_bytes(id), 0x11e9_1234);
    }

    #[test]
    fn reads_of_one_register_are_timed_and_taken_once() {
        let mut page = Page::new(true, || {});
        for offset in [0, 0, 4, 0] {
            page.read(BAR0, offset, &mut [0; 4]).unwrap();
        }
        assert_eq!(page.take_intervals_ns().len(), 2);
        assert_eq!(page.take_intervals_ns().len(), 0);
    }

    #[test]
    fn access_outside_a_region_is_refused() {
        let mut page = Page::new(false, || {});
        assert!(page.read(BAR0, 4094, &mut [0; 4]).is_err());
        assert!(page.read(BAR0, u64::MAX, &mut [0; 4]).is_err());
        assert!(page.write(1, 0, &[0]).is_err());
    }
}
