//! Guest memory for tests.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sdmorph_pci::{DmaError, GuestMemory};

/// A run of guest memory that starts at any address; ranges of it can be made read-only or made to fail.
#[derive(Debug)]
pub struct TestMemory {
    base: u64,
    length: usize,
    bytes: Bytes,
    read_only: Vec<Range<u64>>,
    failing: Vec<Range<u64>>,
}

#[derive(Debug)]
enum Bytes {
    Own(Mutex<Vec<u8>>),
    /// By system calls: a mapping that others write as well would take `unsafe`.
    File(File),
}

fn locked(bytes: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    bytes.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bytes {
    /// False if they are not all there.
    fn load(&self, span: Range<usize>, data: &mut [u8]) -> bool {
        match self {
            Self::Own(bytes) => locked(bytes).get(span).map(|place| data.copy_from_slice(place)).is_some(),
            Self::File(file) => file.read_exact_at(data, span.start as u64).is_ok(),
        }
    }

    /// Likewise.
    fn store(&self, span: Range<usize>, data: &[u8]) -> bool {
        match self {
            Self::Own(bytes) => {
                locked(bytes).get_mut(span).map(|place| place.copy_from_slice(data)).is_some()
            }
            Self::File(file) => file.write_all_at(data, span.start as u64).is_ok(),
        }
    }
}

impl TestMemory {
    /// `length` zero bytes at `base`.
    #[must_use]
    pub fn new(base: u64, length: usize) -> Self {
        Self::of(base, length, Bytes::Own(Mutex::new(vec![0; length])))
    }

    /// The first `length` bytes of `file` at `base`: memory that a device in another process has as well. Nothing here is
    /// atomic beyond a byte, so whoever waits for a device looks at what it writes last before at the rest.
    #[must_use]
    pub fn in_file(base: u64, length: usize, file: File) -> Self {
        Self::of(base, length, Bytes::File(file))
    }

    fn of(base: u64, length: usize, bytes: Bytes) -> Self {
        Self { base, length, bytes, read_only: Vec::new(), failing: Vec::new() }
    }

    /// Address of the first byte.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Address behind the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.base + self.length as u64
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
        self.span(address, data.len()).is_some_and(|span| self.bytes.store(span, data))
    }

    /// Loads bytes as the guest does; `None` if they are not all in this memory.
    #[must_use]
    pub fn peek(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let span = self.span(address, length)?;
        let mut data = vec![0; length];
        self.bytes.load(span, &mut data).then_some(data)
    }

    /// Where in the memory these bytes are, if all of them are there.
    fn span(&self, address: u64, length: usize) -> Option<Range<usize>> {
        let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
        let end = start.checked_add(length)?;
        (end <= self.length).then_some(start..end)
    }

    fn check(&self, address: u64, length: usize) -> Result<Range<usize>, DmaError> {
        let unmapped = DmaError::Unmapped { address, length: length as u64 };
        let span = self.span(address, length).ok_or(unmapped)?;
        if touches(&self.failing, address, length) { Err(unmapped) } else { Ok(span) }
    }
}

fn touches(ranges: &[Range<u64>], address: u64, length: usize) -> bool {
    let end = address.saturating_add(length as u64);
    ranges.iter().any(|range| address < range.end && range.start < end)
}

impl GuestMemory for TestMemory {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        let span = self.check(address, data.len())?;
        self.bytes.load(span, data);
        Ok(())
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        let span = self.check(address, data.len())?;
        if touches(&self.read_only, address, data.len()) {
            return Err(DmaError::ReadOnly { address });
        }
        self.bytes.store(span, data);
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
