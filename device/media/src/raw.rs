//! Raw images and block devices: block n is at byte 512 n.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2};

use crate::lock::LockedFile;
use crate::sync::DataSync;

/// Most bytes of one hole: it takes long if all of them have contents.
const HOLE_BYTES: u64 = 1 << 30;
/// Most bytes of zeros that are written in one go where there are no holes.
const ZERO_BYTES: u64 = 4 << 20;

#[derive(Debug)]
pub(crate) struct RawImage {
    file: LockedFile,
    /// Whether to try what answers at once.
    read_now: AtomicBool,
    write_now: AtomicBool,
    /// Whether to try holes.
    holes: AtomicBool,
    sync: DataSync,
}

impl RawImage {
    pub(crate) fn new(file: LockedFile) -> Self {
        Self {
            file,
            read_now: AtomicBool::new(true),
            write_now: AtomicBool::new(true),
            holes: AtomicBool::new(true),
            sync: DataSync::default(),
        }
    }

    /// As in a file system that does not tell whether a write would have to wait.
    #[cfg(test)]
    pub(crate) fn without_writes_at_once(self) -> Self {
        self.write_now.store(false, Relaxed);
        self
    }

    pub(crate) fn reads_now(&self) -> bool {
        self.read_now.load(Relaxed)
    }

    /// Reads what the page cache has, without waiting. How many bytes from the beginning of `buffer` on have been filled.
    pub(crate) fn read_now(&self, offset: u64, buffer: &mut [u8]) -> usize {
        if !self.reads_now() {
            return 0;
        }
        let read = preadv2(&*self.file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT);
        at_once(read, &self.read_now)
    }

    /// Writes what the page cache takes, without waiting. How many bytes from the beginning of `data` on it took.
    pub(crate) fn write_now(&self, offset: u64, data: &[u8]) -> usize {
        if !self.write_now.load(Relaxed) {
            return 0;
        }
        let written = pwritev2(&*self.file, &[IoSlice::new(data)], offset, ReadWriteFlags::NOWAIT);
        at_once(written, &self.write_now)
    }

    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.file.read_exact_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.too_short(error)),
            other => other,
        }
    }

    pub(crate) fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        self.sync.sync(&self.file)
    }

    /// Makes zeros of a beginning of these bytes; gives back of how many.
    pub(crate) fn discard(&self, offset: u64, length: u64) -> io::Result<u64> {
        if self.holes.load(Relaxed) {
            let length = length.min(HOLE_BYTES);
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match fallocate(&*self.file, flags, offset, length) {
                Ok(()) => return Ok(length),
                // Nowhere in this file.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV) => self.holes.store(false, Relaxed),
                // A device whose blocks are larger than these.
                Err(Errno::INVAL) => {}
                Err(Errno::INTR) => return Ok(0),
                Err(error) => return Err(error.into()),
            }
        }
        let length = length.min(ZERO_BYTES);
        self.write(offset, &vec![0; length as usize])?;
        Ok(length)
    }

    fn too_short(&self, error: io::Error) -> io::Error {
        match self.file.metadata() {
            Ok(metadata) => {
                let text = format!("the image now ends at byte {}", metadata.len());
                io::Error::new(io::ErrorKind::UnexpectedEof, text)
            }
            Err(_) => error,
        }
    }
}

/// Bytes that were done at once. Remembers in `possible` if they never are.
fn at_once(result: Result<usize, Errno>, possible: &AtomicBool) -> usize {
    match result {
        Ok(count) => count,
        Err(error) => {
            if matches!(error, Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) {
                possible.store(false, Relaxed);
            }
            // A worker will meet the same error, and report it.
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(bytes: &[u8]) -> RawImage {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        RawImage::new(LockedFile::new(file, None).unwrap())
    }

    #[test]
    fn zeros_are_written_where_there_are_no_holes() {
        let image = image(&[7; 3 * 4096]);
        image.holes.store(false, Relaxed);
        assert_eq!(image.discard(512, 4096).unwrap(), 4096);
        let mut data = vec![1; 3 * 4096];
        image.read(0, &mut data).unwrap();
        assert_eq!(data[..512], [7; 512]);
        assert_eq!(data[512..4608], [0; 4096]);
        assert_eq!(data[4608..], [7; 3 * 4096 - 4608]);
    }

    #[test]
    fn large_discard_is_done_in_pieces() {
        let image = image(&[7; 4096]);
        assert_eq!(image.discard(0, 1 << 41).unwrap(), HOLE_BYTES);
        image.holes.store(false, Relaxed);
        assert_eq!(image.discard(0, 1 << 41).unwrap(), ZERO_BYTES);
    }

    #[test]
    fn what_cannot_be_done_at_once_is_not_tried_again() {
        let possible = AtomicBool::new(true);
        assert_eq!(at_once(Err(Errno::AGAIN), &possible), 0);
        assert!(possible.load(Relaxed));
        assert_eq!(at_once(Err(Errno::OPNOTSUPP), &possible), 0);
        assert!(!possible.load(Relaxed));
    }
}
