//! Guest memory: the ranges of a client's address space that the device may use.
//!
//! A range that came with a descriptor is mapped, if its file cannot shrink any more (`F_SEAL_SHRINK`; QEMU's
//! `memory-backend-memfd` sees to that). To touch a mapping behind the end of its file would end this process with
//! SIGBUS, so files that can shrink are read and written by system calls instead. A range without a descriptor is read
//! and written by messages to the client, which is slower still: [`Port`].

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};

use rustix::fs::{OFlags, SealFlags, fcntl_get_seals, fcntl_getfl};
use rustix::io::Errno;
use thiserror::Error;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

use crate::header::Refusal;
use crate::request::{DmaMap, DmaUnmap};

/// `mmap` protections and flags (`man 2 mmap`), as the builder takes them.
const PROT_READ: i32 = 1;
const PROT_WRITE: i32 = 2;
const MAP_SHARED: i32 = 1;

/// The page size that clients are told of.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// Why a device cannot reach guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DmaError {
    /// Nothing is mapped there, or not all of it.
    #[error("{length} bytes at {address:#x} are not all mapped")]
    Unmapped {
        /// First address.
        address: u64,
        /// Bytes.
        length: u64,
    },
    /// The client lets the device only read there.
    #[error("{address:#x} is read-only")]
    ReadOnly {
        /// The first such address.
        address: u64,
    },
    /// The client lets the device only write there.
    #[error("{address:#x} is write-only")]
    WriteOnly {
        /// The first such address.
        address: u64,
    },
    /// The client answered a DMA message with this error.
    #[error("the client refused: {0}")]
    Refused(Errno),
    /// The client did not answer a DMA message in time.
    #[error("the client did not answer in time")]
    TimedOut,
    /// The connection ended.
    #[error("the client is gone")]
    Gone,
}

/// Whoever sends DMA_READ and DMA_WRITE, and waits for the answers.
pub trait Port: Send + Sync {
    /// Fills `data` from `address` on.
    ///
    /// # Errors
    /// [`DmaError::Refused`], [`DmaError::TimedOut`], [`DmaError::Gone`].
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError>;

    /// Writes `data` from `address` on.
    ///
    /// # Errors
    /// As [`Port::read`].
    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError>;
}

/// What a device wants to do with memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    Read,
    /// Write it.
    Write,
}

#[derive(Debug)]
struct Range {
    start: u64,
    /// Bytes; `start + size` does not wrap.
    size: u64,
    readable: bool,
    writable: bool,
    backing: Backing,
}

/// How a range is reached.
#[derive(Debug)]
enum Backing {
    /// Directly.
    Mapping(MmapRegion<()>),
    /// By system calls, from that offset in the file on.
    File(File, u64),
    /// By messages to the client.
    Messages,
}

struct Table {
    /// Sorted by `start`, without overlaps.
    ranges: RwLock<Vec<Arc<Range>>>,
    port: RwLock<Option<Arc<dyn Port>>>,
    /// How many wait for buffers to be let go.
    unmapping: Mutex<u32>,
    let_go: Condvar,
}

/// The DMA table of a device, shared by whoever does DMA and the server, which fills it.
#[derive(Clone)]
pub struct GuestMemory {
    table: Arc<Table>,
}

/// A range that cannot be unmapped for as long as this lives.
struct Lease {
    /// None only while it is dropped.
    range: Option<Arc<Range>>,
    table: Arc<Table>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // First the range, then the news: whoever is waiting looks at how many hold the range.
        self.range = None;
        if *self.table.unmapping.lock().unwrap_or_else(PoisonError::into_inner) != 0 {
            self.table.let_go.notify_all();
        }
    }
}

/// Guest memory that stays mapped while it is held: a client's DMA_UNMAP is answered when it is let go.
///
/// DEVNOTE: do not keep one in the thread that serves, from one call of the device to the next: it would wait for
/// itself.
pub struct Buffer {
    address: u64,
    length: usize,
    access: Access,
    /// Offset in the range, bytes, the range; in order, and together `length` bytes.
    pieces: Vec<(u64, usize, Lease)>,
}

impl std::fmt::Debug for GuestMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestMemory").field("ranges", &self.ranges()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({:#x}+{:#x}, {:?})", self.address, self.length, self.access)
    }
}

impl Default for GuestMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl GuestMemory {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self {
            table: Arc::new(Table {
                ranges: RwLock::default(),
                port: RwLock::default(),
                unmapping: Mutex::default(),
                let_go: Condvar::new(),
            }),
        }
    }

    /// Fills `data` from `address` on.
    ///
    /// # Errors
    /// [`DmaError`]; `data` is as it was if not all of it is mapped, and may be filled in part otherwise.
    pub fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        self.hold(address, data.len(), Access::Read)?.read(data)
    }

    /// Writes `data` from `address` on.
    ///
    /// # Errors
    /// [`DmaError`]; nothing is written if not all of it is mapped, and a part may be otherwise.
    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        self.hold(address, data.len(), Access::Write)?.write(data)
    }

    /// Holds `length` bytes from `address` on.
    ///
    /// # Errors
    /// [`DmaError`]: not all of it is mapped for that access.
    pub fn hold(&self, address: u64, length: usize, access: Access) -> Result<Buffer, DmaError> {
        let unmapped = DmaError::Unmapped { address, length: length as u64 };
        address.checked_add(length as u64).ok_or(unmapped)?;
        let mut buffer = Buffer { address, length, access, pieces: Vec::with_capacity(1) };
        let ranges = self.table.ranges.read().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        while done < length {
            let at = address + done as u64;
            let index = ranges.partition_point(|range| range.start <= at).checked_sub(1).ok_or(unmapped)?;
            let range = ranges.get(index).ok_or(unmapped)?;
            let inside = at - range.start;
            if inside >= range.size {
                return Err(unmapped);
            }
            match access {
                Access::Read if !range.readable => return Err(DmaError::WriteOnly { address: at }),
                Access::Write if !range.writable => return Err(DmaError::ReadOnly { address: at }),
                _ => {}
            }
            let left = usize::try_from(range.size - inside).unwrap_or(usize::MAX);
            let count = (length - done).min(left);
            let lease = Lease { range: Some(range.clone()), table: self.table.clone() };
            buffer.pieces.push((inside, count, lease));
            done += count;
        }
        Ok(buffer)
    }

    /// How many ranges there are.
    #[must_use]
    pub fn ranges(&self) -> usize {
        self.table.ranges.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// DMA messages go this way from now on; None: nowhere, such ranges fail.
    pub fn set_port(&self, port: Option<Arc<dyn Port>>) {
        *self.table.port.write().unwrap_or_else(PoisonError::into_inner) = port;
    }

    /// Adds a range: `fd` mapped, or by messages if there is none.
    ///
    /// # Errors
    /// EINVAL: a range that is empty, wraps, or is not wholly in the file; EACCES: the descriptor does not allow what the
    /// range does; EEXIST: it overlaps another; else what `mmap` says.
    pub fn map(&self, map: &DmaMap, fd: Option<OwnedFd>) -> Result<(), Refusal> {
        let DmaMap { readable, writable, address, size, .. } = *map;
        let end = address.checked_add(size).filter(|_| size != 0);
        let end =
            end.ok_or_else(|| Refusal::invalid(format!("{size:#x} bytes at {address:#x} are no range")))?;
        place(&self.table.ranges.read().unwrap_or_else(PoisonError::into_inner), address, end)?;
        // What the client's descriptor does takes as long as it takes: nobody else waits for that.
        let backing = match fd {
            Some(fd) => back(File::from(fd), map)?,
            None => Backing::Messages,
        };
        let mut ranges = self.table.ranges.write().unwrap_or_else(PoisonError::into_inner);
        let at = place(&ranges, address, end)?;
        ranges.insert(at, Arc::new(Range { start: address, size, readable, writable, backing }));
        Ok(())
    }

    /// Takes away every range that lies inside the one named, or all of them; returns when nobody holds any of them.
    /// Returns how many there were.
    ///
    /// # Errors
    /// ENOENT: none lies inside. EINVAL: one lies only partly inside, or all are meant and a range is named.
    /// EOPNOTSUPP: a dirty page bitmap is wanted. Nothing is taken away then.
    pub fn unmap(&self, unmap: &DmaUnmap) -> Result<usize, Refusal> {
        let DmaUnmap { address, size, .. } = *unmap;
        if unmap.dirty_bitmap() {
            return Err(Refusal::not_offered("DMA_UNMAP with a dirty page bitmap: no dirty page logging"));
        }
        if unmap.all() {
            if (address, size) != (0, 0) {
                return Err(Refusal::invalid(format!(
                    "DMA_UNMAP of all and of {size:#x} bytes at {address:#x}"
                )));
            }
            return Ok(self.clear());
        }
        let end = address.saturating_add(size);
        let inside = |range: &Range| address <= range.start && range.start + range.size <= end;
        let mut ranges = self.table.ranges.write().unwrap_or_else(PoisonError::into_inner);
        let touched = |range: &Range| range.start < end && address < range.start + range.size;
        if let Some(range) = ranges.iter().find(|range| touched(range) && !inside(range)) {
            let (start, size) = (range.start, range.size);
            let why = format!("{address:#x}..{end:#x} would cut {start:#x}+{size:#x} in two");
            return Err(Refusal::invalid(why));
        }
        let (gone, left) = std::mem::take(&mut *ranges).into_iter().partition(|range| inside(range));
        *ranges = left;
        drop(ranges);
        if gone.is_empty() {
            return Err(Refusal::new(Errno::NOENT, format!("nothing is mapped in {address:#x}..{end:#x}")));
        }
        Ok(self.wait_for(gone))
    }

    /// Takes every range away; returns when nobody holds any of them. Returns how many there were.
    pub fn clear(&self) -> usize {
        let gone = std::mem::take(&mut *self.table.ranges.write().unwrap_or_else(PoisonError::into_inner));
        self.wait_for(gone)
    }

    /// Waits until these ranges, which are in the table no more, are held by nobody else, and lets them go.
    fn wait_for(&self, mut gone: Vec<Arc<Range>>) -> usize {
        let mut unmapping = self.table.unmapping.lock().unwrap_or_else(PoisonError::into_inner);
        *unmapping += 1;
        for range in &mut gone {
            while Arc::get_mut(range).is_none() {
                unmapping = self.table.let_go.wait(unmapping).unwrap_or_else(PoisonError::into_inner);
            }
        }
        *unmapping -= 1;
        // To unmap takes a while; whoever lets another buffer go does not wait for it.
        drop(unmapping);
        gone.len()
    }
}

/// Where among `ranges` the one from `address` to `end` belongs.
fn place(ranges: &[Arc<Range>], address: u64, end: u64) -> Result<usize, Refusal> {
    let at = ranges.partition_point(|range| range.start < address);
    let before = at.checked_sub(1).and_then(|index| ranges.get(index));
    let overlaps = before.is_some_and(|range| range.start + range.size > address)
        || ranges.get(at).is_some_and(|range| range.start < end);
    if overlaps {
        let why = format!("{address:#x}..{end:#x} overlaps a range that is mapped");
        return Err(Refusal::new(Errno::EXIST, why));
    }
    Ok(at)
}

impl Buffer {
    /// Its bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Has it no bytes?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn check(&self, length: usize) -> Result<(), DmaError> {
        let (address, is_longer) = (self.address, length > self.length);
        if is_longer { Err(DmaError::Unmapped { address, length: length as u64 }) } else { Ok(()) }
    }

    /// Fills `data` from the buffer's beginning on.
    ///
    /// # Errors
    /// What a DMA message can end with, [`DmaError::WriteOnly`] if it is held for writing, and [`DmaError::Unmapped`] if
    /// `data` is longer.
    pub fn read(&self, data: &mut [u8]) -> Result<(), DmaError> {
        if self.access != Access::Read {
            return Err(DmaError::WriteOnly { address: self.address });
        }
        self.check(data.len())?;
        let mut rest = data;
        for (offset, count, lease) in &self.pieces {
            let (part, after) = rest.split_at_mut((*count).min(rest.len()));
            lease.read(*offset, part)?;
            rest = after;
        }
        Ok(())
    }

    /// Writes `data` from the buffer's beginning on.
    ///
    /// # Errors
    /// What a DMA message can end with, [`DmaError::ReadOnly`] if it is held for reading, and [`DmaError::Unmapped`] if
    /// `data` is longer.
    pub fn write(&self, data: &[u8]) -> Result<(), DmaError> {
        if self.access != Access::Write {
            return Err(DmaError::ReadOnly { address: self.address });
        }
        self.check(data.len())?;
        let mut rest = data;
        for (offset, count, lease) in &self.pieces {
            let (part, after) = rest.split_at((*count).min(rest.len()));
            lease.write(*offset, part)?;
            rest = after;
        }
        Ok(())
    }
}

impl Lease {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), DmaError> {
        let range = self.range.as_ref().ok_or(DmaError::Gone)?;
        let address = range.start + offset;
        let unmapped = DmaError::Unmapped { address, length: data.len() as u64 };
        match &range.backing {
            Backing::Mapping(mapping) => {
                mapping.as_volatile_slice().read_slice(data, to_usize(offset)).map_err(|_| unmapped)
            }
            Backing::File(file, start) => file.read_exact_at(data, start + offset).map_err(|_| unmapped),
            Backing::Messages => self.port()?.read(address, data),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), DmaError> {
        let range = self.range.as_ref().ok_or(DmaError::Gone)?;
        let address = range.start + offset;
        let unmapped = DmaError::Unmapped { address, length: data.len() as u64 };
        match &range.backing {
            Backing::Mapping(mapping) => {
                mapping.as_volatile_slice().write_slice(data, to_usize(offset)).map_err(|_| unmapped)
            }
            Backing::File(file, start) => write_inside(file, start + offset, data).ok_or(unmapped),
            Backing::Messages => self.port()?.write(address, data),
        }
    }

    fn port(&self) -> Result<Arc<dyn Port>, DmaError> {
        self.table.port.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(DmaError::Gone)
    }
}

/// Writes `data` at `at`, unless that is behind the file's end by now: it must not grow.
fn write_inside(file: &File, at: u64, data: &[u8]) -> Option<()> {
    let end = at.checked_add(data.len() as u64)?;
    if file.metadata().ok()?.len() < end { None } else { file.write_all_at(data, at).ok() }
}

/// What a range of `file` is reached by.
fn back(file: File, map: &DmaMap) -> Result<Backing, Refusal> {
    let DmaMap { offset, size, writable, .. } = *map;
    let length = file.metadata().map_or(0, |is| is.len());
    if offset.checked_add(size).is_none_or(|end| end > length) {
        let why = format!("the file has {length:#x} bytes, not {size:#x} from {offset:#x} on");
        return Err(Refusal::invalid(why));
    }
    if offset % PAGE_BYTES != 0 {
        return Err(Refusal::invalid(format!("offset {offset:#x} is inside a page")));
    }
    let flags = fcntl_getfl(&file)?;
    let mode = flags & OFlags::ACCMODE;
    // Appending takes no notice of where it is told to write.
    if flags.contains(OFlags::APPEND) || mode == OFlags::WRONLY || (writable && mode != OFlags::RDWR) {
        return Err(Refusal::new(Errno::ACCESS, "the descriptor cannot be used as the range's flags say"));
    }
    if !fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK)) {
        return Ok(Backing::File(file, offset));
    }
    let bytes = usize::try_from(size).map_err(|_| Refusal::invalid(format!("{size:#x} bytes do not fit")))?;
    MmapRegionBuilder::new(bytes)
        .with_mmap_prot(if writable { PROT_READ | PROT_WRITE } else { PROT_READ })
        .with_mmap_flags(MAP_SHARED)
        .with_file_offset(FileOffset::new(file, offset))
        .build()
        .map(Backing::Mapping)
        .map_err(|error| Refusal::new(errno_of(&error), format!("mmap: {error}")))
}

fn errno_of(error: &vm_memory::mmap::MmapRegionError) -> Errno {
    match error {
        vm_memory::mmap::MmapRegionError::Mmap(error) => Errno::from_io_error(error).unwrap_or(Errno::INVAL),
        _ => Errno::INVAL,
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that unmaps what is at `address`, and does so by the time it sleeps.
    fn unmap(memory: &GuestMemory, address: u64) -> std::thread::JoinHandle<usize> {
        let memory = memory.clone();
        let (this, thread) = std::sync::mpsc::channel();
        let unmapping = std::thread::spawn(move || {
            this.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap();
            memory.unmap(&DmaUnmap { argsz: 24, flags: 0, address, size: 0x1000 }).unwrap()
        });
        let stat = std::path::Path::new("/proc").join(thread.recv().unwrap()).join("stat");
        while !std::fs::read_to_string(&stat).unwrap().contains(") S ") {
            std::thread::yield_now();
        }
        unmapping
    }

    #[test]
    fn each_of_two_unmaps_at_one_time_ends_when_its_own_range_is_let_go() {
        let memory = GuestMemory::new();
        let mut held = Vec::new();
        for address in [0x1000, 0x2000] {
            let map = DmaMap { readable: true, writable: true, offset: 0, address, size: 0x1000 };
            memory.map(&map, None).unwrap();
            held.push(memory.hold(address, 8, Access::Read).unwrap());
        }
        let first = unmap(&memory, 0x1000);
        let second = unmap(&memory, 0x2000);
        drop(held.pop());
        assert_eq!(second.join().unwrap(), 1);
        drop(held.pop());
        assert_eq!(first.join().unwrap(), 1);
    }
}
