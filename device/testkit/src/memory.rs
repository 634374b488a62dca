//! Guest memory for tests.

use std::cell::RefCell;
use std::ops::Range;

use sdmorph_pci::{DmaError, GuestMemory};

/// A run of guest memory that starts at any address; ranges of it can be made read-only or made to fail.
#[derive(Debug)]
pub struct TestMemory {
    base: u64,
    bytes: RefCell<Vec<u8>>,
    read_only: Vec<Range<u64>>,
    failing: Vec<Range<u64>>,
}

impl TestMemory {
    /// `length` zero bytes at `base`.
    #[must_use]
    pub fn new(base: u64, length: usize) -> Self {
        Self { base, bytes: RefCell::new(vec![0; length]), read_only: Vec::new(), failing: Vec::new() }
    }

    /// Address of the first byte.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Address behind the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.base + self.bytes.borrow().len() as u64
    }

    /// Lets devices only read `range`.
    pub fn make_read_only(&mut self, range: Range<u64>) {
        self.read_only.push(range);
    }

    /// Lets every device access that touches `range` fail.
    pub fn make_failing(&mut self, range: Range<u64>) {
        self.failing.push(range);
    }

    /// Stores bytes as the guest does, whatever devices may write. False if they are not all in this memory.
    pub fn poke(&self, address: u64, data: &[u8]) -> bool {
        let mut bytes = self.bytes.borrow_mut();
        match self.span(address, data.len()).and_then(|span| bytes.get_mut(span)) {
            Some(place) => {
                place.copy_from_slice(data);
                true
            }
            None => false,
        }
    }

    /// Loads bytes as the guest does; `None` if they are not all in this memory.
    #[must_use]
    pub fn peek(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        self.bytes.borrow().get(self.span(address, length)?).map(<[u8]>::to_vec)
    }

    fn span(&self, address: u64, length: usize) -> Option<Range<usize>> {
        let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
        Some(start..start.checked_add(length)?)
    }

    fn check(&self, address: u64, length: usize) -> Result<Range<usize>, DmaError> {
        let unmapped = DmaError::Unmapped { address, length: length as u64 };
        let span = self.span(address, length).ok_or(unmapped)?;
        if span.end > self.bytes.borrow().len() || touches(&self.failing, address, length) {
            return Err(unmapped);
        }
        Ok(span)
    }
}

fn touches(ranges: &[Range<u64>], address: u64, length: usize) -> bool {
    let end = address.saturating_add(length as u64);
    ranges.iter().any(|range| address < range.end && range.start < end)
}

impl GuestMemory for TestMemory {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        let span = self.check(address, data.len())?;
        if let Some(place) = self.bytes.borrow().get(span) {
            data.copy_from_slice(place);
        }
        Ok(())
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        let span = self.check(address, data.len())?;
        if touches(&self.read_only, address, data.len()) {
            return Err(DmaError::ReadOnly { address });
        }
        if let Some(place) = self.bytes.borrow_mut().get_mut(span) {
            place.copy_from_slice(data);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_past_either_end_or_around_the_address_space_fails() {
        let memory = TestMemory::new(0x1000, 0x100);
        let mut data = [0; 4];
        for address in [0xffc, 0xffe, 0x10fd, u64::MAX - 1] {
            assert_eq!(memory.read(address, &mut data), Err(DmaError::Unmapped { address, length: 4 }));
            assert!(memory.write(address, &data).is_err());
        }
        assert_eq!(memory.read(0x10fc, &mut data), Ok(()));
    }

    #[test]
    fn read_only_range_can_be_read_and_not_written() {
        let mut memory = TestMemory::new(0, 0x100);
        memory.make_read_only(0x10..0x20);
        assert_eq!(memory.write(0x1f, &[1]), Err(DmaError::ReadOnly { address: 0x1f }));
        assert_eq!(memory.write(0x20, &[1]), Ok(()));
        assert!(memory.poke(0x10, &[7]));
        let mut data = [0];
        memory.read(0x10, &mut data).unwrap();
        assert_eq!(data, [7]);
    }

    #[test]
    fn failing_range_fails_for_any_access_that_touches_it() {
        let mut memory = TestMemory::new(0, 0x100);
        memory.make_failing(0x10..0x11);
        assert!(memory.read(0xe, &mut [0; 4]).is_err());
        assert!(memory.write(0x10, &[0]).is_err());
        assert!(memory.read(0x11, &mut [0; 4]).is_ok());
    }
}
