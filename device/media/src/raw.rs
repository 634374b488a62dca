//! Raw images and block devices: block n is at byte 512 n.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2};

/// Most bytes of one hole: it takes long if all of them have contents.
const HOLE_BYTES: u64 = 1 << 30;
/// Most bytes of zeros that are written in one go where there are no holes.
const ZERO_BYTES: u64 = 4 << 20;

#[derive(Debug)]
pub(crate) struct RawImage {
    file: File,
    /// Whether to try what answers at once.
    read_now: AtomicBool,
    write_now: AtomicBool,
    /// Whether to try holes.
    holes: AtomicBool,
    flush_failed: OnceLock<i32>,
}

impl RawImage {
    pub(crate) fn new(file: File) -> Self {
        Self {
            file,
            read_now: AtomicBool::new(true),
            write_now: AtomicBool::new(true),
            holes: AtomicBool::new(true),
            flush_failed: OnceLock::new(),
        }
    }

    pub(crate) fn reads_now(&self) -> bool {
        self.read_now.load(Relaxed)
    }

    /// Reads what the page cache has, without waiting. How many bytes from the beginning of `buffer` on have been filled.
    pub(crate) fn read_now(&self, offset: u64, buffer: &mut [u8]) -> usize {
        if !self.reads_now() {
            return 0;
        }
        let read = preadv2(&self.file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT);
        at_once(read, &self.read_now)
    }

    /// Writes what the page cache takes, without waiting. How many bytes from the beginning of `data` on it took.
    pub(crate) fn write_now(&self, offset: u64, data: &[u8]) -> usize {
        if !self.write_now.load(Relaxed) {
            return 0;
        }
        let written = pwritev2(&self.file, &[IoSlice::new(data)], offset, ReadWriteFlags::NOWAIT);
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

    /// What failed once fails for ever: the kernel may have forgotten what it could not write, and would say the next
    /// time that all is well (QEMU does the same: `page_cache_inconsistent` in `block/file-posix.c`).
    pub(crate) fn flush(&self) -> io::Result<()> {
        if let Some(code) = self.flush_failed.get() {
            let error = io::Error::from_raw_os_error(*code);
            return Err(io::Error::new(error.kind(), format!("an earlier flush failed: {error}")));
        }
        self.file.sync_data().inspect_err(|error| {
            self.flush_failed.get_or_init(|| error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()));
        })
    }

    /// Makes zeros of a beginning of these bytes; gives back of how many.
    pub(crate) fn discard(&self, offset: u64, length: u64) -> io::Result<u64> {
        if self.holes.load(Relaxed) {
            let length = length.min(HOLE_BYTES);
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match fallocate(&self.file, flags, offset, length) {
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
        RawImage::new(file)
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
    fn flush_that_failed_once_fails_for_ever() {
        // There is nothing behind it that could be synchronised.
        let image = RawImage::new(File::open("/dev/zero").unwrap());
        assert_eq!(image.flush().unwrap_err().raw_os_error(), Some(Errno::INVAL.raw_os_error()));
        let second = image.flush().unwrap_err();
        assert!(second.to_string().starts_with("an earlier flush failed: "), "{second}");
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
