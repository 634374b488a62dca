//! Opening an image: what it is, whether it is free, and how large its medium is.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use sdmorph_pci::media::BLOCK_BYTES;
use serde::Serialize;
use thiserror::Error;

use crate::Waker;
use crate::closing::{self, ClosedSignal, ImageKey};
use crate::file::FileMedia;
use crate::image::{Driver, Image};
use crate::lock::{LockError, LockedFile};
use crate::qcow2::Qcow2Image;
use crate::raw::RawImage;
use crate::status::Record;
use crate::workers::Workers;

/// First bytes of a qcow2 image (QEMU, `docs/interop/qcow2.rst`).
const QCOW2_MAGIC: [u8; 4] = *b"QFI\xfb";

/// Threads for a raw image: one may wait for the disk while another answers.
const RAW_WORKERS: usize = 2;

/// Threads for a qcow2 image, which is read and written by one at a time.
const QCOW2_WORKERS: usize = 1;

/// How long to wait for a medium of this process that is being closed.
const CLOSING_LIMIT: Duration = Duration::from_secs(10);

/// How an image keeps its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Block n is at byte 512 n; also block devices.
    Raw,
    /// QEMU's format, version 2 or 3 (QEMU, `docs/interop/qcow2.rst`). Takes the crate's feature `qcow2`.
    Qcow2,
}

impl Format {
    /// As QEMU's tools name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
        }
    }
}

/// What a flush is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cache {
    /// What has ended before the flush survives a crash of the host when the flush has ended.
    #[default]
    Writeback,
    /// Nothing: a flush ends at once. For tests, whose images nobody needs afterwards.
    Unsafe,
}

/// How to open an image.
#[derive(Clone)]
pub struct OpenOptions {
    /// What is in the file. `None`: qcow2 if it begins like that, raw otherwise. Say what it is where a guest may write a
    /// raw image: it can make one look like qcow2.
    pub format: Option<Format>,
    /// Whether nothing may be changed. Others may then read the image at the same time.
    pub read_only: bool,
    /// What a flush is to do.
    pub cache: Cache,
    /// Whether to lock the image. Without locks nobody is kept from writing it at the same time, which destroys it; for
    /// file systems that have none.
    pub lock: bool,
    /// Called by a thread of the medium when a request has ended that did not end at once. It may call into the medium, but
    /// must not keep alive what the medium is in: that would never be dropped.
    /// After a call there is no further one before [`Media::ended`](sdmorph_pci::Media::ended) was called until it gave
    /// the last of what has ended, or `None`. It may be called once more while the medium is dropped, and after.
    pub waker: Waker,
}

impl OpenOptions {
    /// Detects the format, reads and writes, flushes, locks.
    #[must_use]
    pub fn new(waker: Waker) -> Self {
        Self { format: None, read_only: false, cache: Cache::Writeback, lock: true, waker }
    }
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenOptions")
            .field("format", &self.format)
            .field("read_only", &self.read_only)
            .field("cache", &self.cache)
            .field("lock", &self.lock)
            .finish_non_exhaustive()
    }
}

/// Why an image could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It is not there, or it may not be opened like that.
    #[error("cannot open {}{}: {source}", path.display(), if *read_only { "" } else { " for writing" })]
    Open {
        /// The image.
        path: PathBuf,
        /// Whether it was to be opened only for reading.
        read_only: bool,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, a pipe or the like.
    #[error("{} is neither a regular file nor a block device", path.display())]
    NotAnImage {
        /// The image.
        path: PathBuf,
    },
    /// Another program has it, or another medium of this one.
    #[error("{} is in use: {how}", path.display())]
    InUse {
        /// The image.
        path: PathBuf,
        /// What they do with it, for a person.
        how: &'static str,
    },
    /// The file system does not lock.
    #[error("{} cannot be locked: {source}; without locks it can be opened nevertheless", path.display())]
    NoLocks {
        /// The image.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its size is no number of blocks.
    #[error("{} has {bytes} bytes, which is {} of {BLOCK_BYTES} bytes", path.display(), size_fault(*bytes))]
    Size {
        /// The image.
        path: PathBuf,
        /// The size of its medium.
        bytes: u64,
    },
    /// It cannot be read, or what is in it makes no sense.
    #[error("cannot read the {} image {}: {source}", format.name(), path.display())]
    Contents {
        /// The image.
        path: PathBuf,
        /// What it was taken for.
        format: Format,
        /// Why.
        source: io::Error,
    },
    /// It is right, but nothing that is supported.
    #[error("the {} image {} is not supported: it {feature}", format.name(), path.display())]
    Unsupported {
        /// The image.
        path: PathBuf,
        /// What it is.
        format: Format,
        /// What it has, in words that begin with a verb.
        feature: String,
    },
    /// There are no threads to be had.
    #[error("cannot start threads for {}: {source}", path.display())]
    Threads {
        /// The image.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn size_fault(bytes: u64) -> &'static str {
    if bytes == 0 { "no block" } else { "not a whole number of blocks" }
}

/// Opens an image.
///
/// May block, and waits up to ten seconds for a medium of this process that had the image and was dropped.
///
/// # Errors
/// [`OpenError`]; an image that is empty or ends with a part of a block is refused.
pub fn open(path: impl AsRef<Path>, options: OpenOptions) -> Result<FileMedia, OpenError> {
    let path = path.as_ref();
    let OpenOptions { format, read_only, cache, lock, waker } = options;
    let cannot_open = |source| OpenError::Open { path: path.into(), read_only, source };

    // O_NONBLOCK: to open a pipe would wait for somebody at its other end.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let file =
        File::options().read(true).write(!read_only).custom_flags(flags).open(path).map_err(cannot_open)?;
    let metadata = file.metadata().map_err(cannot_open)?;
    if !metadata.is_file() && !metadata.file_type().is_block_device() {
        return Err(OpenError::NotAnImage { path: path.into() });
    }
    let key = ImageKey::of(&file).map_err(cannot_open)?;
    if !closing::wait_for(key, CLOSING_LIMIT) {
        return Err(OpenError::InUse { path: path.into(), how: "this program has not closed it yet" });
    }
    let file = LockedFile::new(file, lock.then_some(read_only)).map_err(|error| match error {
        LockError::InUse(how) => OpenError::InUse { path: path.into(), how },
        LockError::Failed(source) => OpenError::NoLocks { path: path.into(), source },
    })?;

    let format = match format {
        Some(format) => format,
        None => detect(&file).map_err(|source| contents(path, Format::Raw, source))?,
    };
    let (driver, bytes, workers) = match format {
        Format::Raw => {
            let bytes = length_of(&file).map_err(|source| contents(path, format, source))?;
            (Driver::Raw(RawImage::new(file)), bytes, RAW_WORKERS)
        }
        Format::Qcow2 => {
            let (image, bytes) = Qcow2Image::open(path, file, read_only)?;
            (Driver::Qcow2(image), bytes, QCOW2_WORKERS)
        }
    };
    let blocks = bytes / BLOCK_BYTES as u64;
    if blocks == 0 || bytes % BLOCK_BYTES as u64 != 0 {
        return Err(OpenError::Size { path: path.into(), bytes });
    }
    let record = Arc::new(Record::new(format.name(), Some(path.into()), blocks, read_only));
    let image = Arc::new(Image::new(driver, ClosedSignal::new(key), Arc::clone(&record)));
    let workers = Workers::start(&image, workers, waker, Arc::clone(&record))
        .map_err(|source| OpenError::Threads { path: path.into(), source })?;
    Ok(FileMedia::new(image, workers, cache, record))
}

fn contents(path: &Path, format: Format, source: io::Error) -> OpenError {
    OpenError::Contents { path: path.into(), format, source }
}

fn detect(file: &File) -> io::Result<Format> {
    let mut magic = [0; 4];
    match file.read_exact_at(&mut magic, 0) {
        Ok(()) if magic == QCOW2_MAGIC => Ok(Format::Qcow2),
        Ok(()) => Ok(Format::Raw),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Format::Raw),
        Err(error) => Err(error),
    }
}

/// In bytes; for a block device, too, whose metadata says 0.
fn length_of(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}
