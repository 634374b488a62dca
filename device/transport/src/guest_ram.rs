//! Guest memory that the client shares: ranges of guest physical addresses, each a mapped memfd.

use std::fs::File;
use std::io;
use std::sync::{PoisonError, RwLock};

use sdmorph_pci::{DmaError, GuestMemory};
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

/// `mmap` protections and flags (`man 2 mmap`), as the builder takes them.
const PROT_READ: i32 = 1;
const PROT_WRITE: i32 = 2;
const MAP_SHARED: i32 = 1;

/// Most ranges a client may map: QEMU maps a dozen.
const MAX_RANGES: usize = 4096;

#[derive(Debug)]
struct Range {
    start: u64,
    /// Bytes; `start + size` does not wrap.
    size: u64,
    writable: bool,
    mapping: MmapRegion<()>,
}

/// The DMA table: which guest physical addresses are memory that the device may touch.
#[derive(Debug, Default)]
pub struct GuestRam {
    /// Sorted by `start`, without overlaps.
    ranges: RwLock<Vec<Range>>,
}

impl GuestRam {
    /// Maps `size` bytes of `file` from `offset` on at guest address `start`.
    ///
    /// # Errors
    /// A range that is empty, wraps, overlaps one that is mapped, is not wholly in the file, or is one too many; or a
    /// failing `mmap`.
    ///
    /// DEVNOTE: a client that shrinks its file later still ends this process with SIGBUS. QEMU seals its memfds
    /// against that (`memory-backend-memfd`, `seal=on` by default).
    pub fn map(&self, start: u64, size: u64, file: File, offset: u64, writable: bool) -> io::Result<()> {
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        let end = start.checked_add(size).filter(|_| size != 0);
        let end = end.ok_or_else(|| invalid(format!("{size:#x} bytes at {start:#x} are no range")))?;
        let length =
            usize::try_from(size).map_err(|_| invalid(format!("{size:#x} bytes do not fit here")))?;
        // Touching a mapping behind the end of its file is SIGBUS, for the whole process.
        let behind =
            offset.checked_add(size).filter(|behind| file.metadata().is_ok_and(|is| *behind <= is.len()));
        if behind.is_none() {
            return Err(invalid(format!("the file ends before {size:#x} bytes from {offset:#x} on")));
        }
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        if ranges.len() >= MAX_RANGES {
            return Err(invalid(format!("more than {MAX_RANGES} ranges")));
        }
        let at = ranges.partition_point(|range| range.start < start);
        let after_previous = at
            .checked_sub(1)
            .and_then(|previous| ranges.get(previous))
            .is_none_or(|previous| previous.start + previous.size <= start);
        let before_next = ranges.get(at).is_none_or(|next| end <= next.start);
        if !(after_previous && before_next) {
            return Err(invalid(format!("{start:#x}..{end:#x} overlaps a range that is mapped")));
        }
        let protection = if writable { PROT_READ | PROT_WRITE } else { PROT_READ };
        let mapping = MmapRegionBuilder::<()>::new(length)
            .with_mmap_prot(protection)
            .with_mmap_flags(MAP_SHARED)
            .with_file_offset(FileOffset::new(file, offset))
            .build()
            .map_err(io::Error::other)?;
        ranges.insert(at, Range { start, size, writable, mapping });
        Ok(())
    }

    /// Takes away every range that lies inside `start..start + size`. Returns how many there were.
    ///
    /// # Errors
    /// A range lies only partly inside; nothing is taken away then.
    pub fn unmap(&self, start: u64, size: u64) -> io::Result<usize> {
        let end = start.saturating_add(size);
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        let touched = |range: &Range| range.start < end && start < range.start + range.size;
        let inside = |range: &Range| start <= range.start && range.start + range.size <= end;
        if let Some(range) = ranges.iter().find(|range| touched(range) && !inside(range)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{start:#x}..{end:#x} would cut {:#x}+{:#x} in two", range.start, range.size),
            ));
        }
        let before = ranges.len();
        ranges.retain(|range| !inside(range));
        Ok(before - ranges.len())
    }

    /// Takes everything away. Returns how many ranges there were.
    pub fn clear(&self) -> usize {
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *ranges).len()
    }

    /// Runs `piece` over the mapped parts of `address..address + length`, in order: mapping, offset in it, offset in
    /// the caller's buffer, bytes.
    fn walk(
        &self,
        address: u64,
        length: usize,
        write: bool,
        mut piece: impl FnMut(&MmapRegion<()>, usize, usize, usize) -> bool,
    ) -> Result<(), DmaError> {
        let unmapped = DmaError::Unmapped { address, length: length as u64 };
        address.checked_add(length as u64).ok_or(unmapped)?;
        let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        while done < length {
            let at = address + done as u64;
            let index = ranges.partition_point(|range| range.start <= at).checked_sub(1).ok_or(unmapped)?;
            let range = ranges.get(index).ok_or(unmapped)?;
            let inside = at - range.start;
            if inside >= range.size {
                return Err(unmapped);
            }
            if write && !range.writable {
                return Err(DmaError::ReadOnly { address: at });
            }
            let count = (length - done).min((range.size - inside) as usize);
            if !piece(&range.mapping, inside as usize, done, count) {
                return Err(unmapped);
            }
            done += count;
        }
        Ok(())
    }
}

impl GuestMemory for GuestRam {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        self.walk(address, data.len(), false, |mapping, offset, done, count| {
            data.get_mut(done..done + count)
                .is_some_and(|part| mapping.as_volatile_slice().read_slice(part, offset).is_ok())
        })
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        self.walk(address, data.len(), true, |mapping, offset, done, count| {
            data.get(done..done + count)
                .is_some_and(|part| mapping.as_volatile_slice().write_slice(part, offset).is_ok())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memfd(size: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        file
    }

    #[test]
    fn bytes_cross_from_one_range_into_the_next() {
        let ram = GuestRam::default();
        ram.map(0x1000, 0x1000, memfd(0x1000), 0, true).unwrap();
        ram.map(0x2000, 0x1000, memfd(0x1000), 0, true).unwrap();
        ram.write(0x1ffe, &[1, 2, 3, 4]).unwrap();
        let mut back = [0; 4];
        ram.read(0x1ffe, &mut back).unwrap();
        assert_eq!(back, [1, 2, 3, 4]);
    }

    #[test]
    fn hole_and_wrap_are_unmapped_and_read_only_refuses_writes() {
        let ram = GuestRam::default();
        ram.map(0x1000, 0x1000, memfd(0x1000), 0, false).unwrap();
        assert!(matches!(ram.read(0x1ffe, &mut [0; 4]), Err(DmaError::Unmapped { .. })));
        assert!(matches!(ram.read(u64::MAX - 1, &mut [0; 4]), Err(DmaError::Unmapped { .. })));
        assert!(matches!(ram.write(0x1000, &[0]), Err(DmaError::ReadOnly { address: 0x1000 })));
        assert!(matches!(ram.read(0xfff, &mut [0]), Err(DmaError::Unmapped { .. })));
    }

    #[test]
    fn overlapping_empty_and_wrapping_ranges_are_refused() {
        let ram = GuestRam::default();
        ram.map(0x1000, 0x2000, memfd(0x2000), 0, true).unwrap();
        for (start, size) in [(0x2000, 0x1000), (0x0, 0x1001), (0x1000, 0), (u64::MAX, 2)] {
            assert!(ram.map(start, size, memfd(0x2000), 0, true).is_err(), "{start:#x}+{size:#x}");
        }
    }

    #[test]
    fn range_that_is_not_wholly_in_its_file_is_refused() {
        let ram = GuestRam::default();
        for (size, offset) in [(0x1001, 0), (0x1000, 0x1000), (0x1000, u64::MAX)] {
            assert!(
                ram.map(0x1000, size, memfd(0x1000), offset, true).is_err(),
                "{size:#x} from {offset:#x}"
            );
        }
    }

    #[test]
    fn unmap_takes_whole_ranges_inside_and_clear_takes_all() {
        let ram = GuestRam::default();
        ram.map(0x1000, 0x1000, memfd(0x1000), 0, true).unwrap();
        ram.map(0x2000, 0x1000, memfd(0x1000), 0, true).unwrap();
        for (start, size) in [(0x1000, 0x800), (0x1800, 0x800), (0x1400, 0x10), (0x1000, 0x1800)] {
            assert!(ram.unmap(start, size).is_err(), "{start:#x}+{size:#x}");
        }
        assert_eq!(ram.unmap(0x3000, 0x1000).unwrap(), 0);
        assert_eq!(ram.unmap(0, 0x1000).unwrap(), 0);
        assert_eq!(ram.unmap(0x1000, 0x1000).unwrap(), 1);
        assert!(ram.read(0x1000, &mut [0]).is_err());
        assert!(ram.read(0x2000, &mut [0]).is_ok());
        assert_eq!(ram.clear(), 1);
        assert!(ram.read(0x2000, &mut [0]).is_err());
    }
}
