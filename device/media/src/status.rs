//! What a medium is and what it has done, for whoever wants to show it.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use sdmorph_pci::media::{BLOCK_BYTES, MediaError};
use serde::Serialize;

use crate::request::Kind;

/// A medium as it is at one moment.
///
/// The counters begin at 0 when the medium is opened. Each is right, but one may be a request ahead of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MediaInfo {
    /// `ram`, `raw` or `qcow2`.
    pub format: &'static str,
    /// The image, as it was named when it was opened; what is not UTF-8 in it is replaced. `None` for memory.
    pub path: Option<String>,
    /// Blocks of [`BLOCK_BYTES`].
    pub blocks: u64,
    /// The same in bytes.
    pub size_bytes: u64,
    /// Whether nothing can be changed.
    pub read_only: bool,
    /// Requests that have begun and were not given back yet.
    pub under_way: u64,
    /// Reads that were done.
    pub reads: u64,
    /// Bytes that they gave.
    pub read_bytes: u64,
    /// Writes that were done.
    pub writes: u64,
    /// Bytes that they took.
    pub written_bytes: u64,
    /// Flushes that were done.
    pub flushes: u64,
    /// Discards that were done.
    pub discards: u64,
    /// Bytes of the blocks that were discarded.
    pub discarded_bytes: u64,
    /// Requests that ended because no such block is there, or because nothing can be changed.
    pub refused: u64,
    /// Requests that failed on the host's side ([`MediaError::Full`], [`MediaError::Io`]).
    pub errors: u64,
    /// The latest of these, in words.
    pub last_error: Option<String>,
    /// Requests that ended when they began.
    pub at_once: u64,
    /// Writes that the thread which asked for them ended, later ([`Helper`](crate::Helper)).
    pub by_helper: u64,
    /// Requests that a worker thread ended.
    pub by_worker: u64,
}

/// Tells about a medium for as long as one likes, also from another thread and after the medium is gone.
#[derive(Debug, Clone)]
pub struct MediaStatus {
    record: Arc<Record>,
}

impl MediaStatus {
    pub(crate) fn new(record: Arc<Record>) -> Self {
        Self { record }
    }

    /// The medium as it is now.
    #[must_use]
    pub fn info(&self) -> MediaInfo {
        let record = &*self.record;
        MediaInfo {
            format: record.format,
            path: record.path.as_ref().map(|path| path.to_string_lossy().into_owned()),
            blocks: record.blocks,
            size_bytes: record.blocks.saturating_mul(BLOCK_BYTES as u64),
            read_only: record.read_only,
            under_way: record.under_way.load(Relaxed),
            reads: record.reads.load(Relaxed),
            read_bytes: record.read_bytes.load(Relaxed),
            writes: record.writes.load(Relaxed),
            written_bytes: record.written_bytes.load(Relaxed),
            flushes: record.flushes.load(Relaxed),
            discards: record.discards.load(Relaxed),
            discarded_bytes: record.discarded_bytes.load(Relaxed),
            refused: record.refused.load(Relaxed),
            errors: record.errors.load(Relaxed),
            last_error: record.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            at_once: record.at_once.load(Relaxed),
            by_helper: record.by_helper.load(Relaxed),
            by_worker: record.by_worker.load(Relaxed),
        }
    }
}

/// Which thread ended a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Caller,
    Helper,
    Worker,
}

/// What [`MediaStatus`] tells, and where failures are reported.
#[derive(Debug)]
pub(crate) struct Record {
    format: &'static str,
    path: Option<PathBuf>,
    blocks: u64,
    read_only: bool,
    under_way: AtomicU64,
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    flushes: AtomicU64,
    discards: AtomicU64,
    discarded_bytes: AtomicU64,
    refused: AtomicU64,
    errors: AtomicU64,
    last_error: Mutex<Option<String>>,
    at_once: AtomicU64,
    by_helper: AtomicU64,
    by_worker: AtomicU64,
    failed_reads: AtomicU64,
    failed_writes: AtomicU64,
    failed_flushes: AtomicU64,
    failed_discards: AtomicU64,
}

impl Record {
    pub(crate) fn new(format: &'static str, path: Option<PathBuf>, blocks: u64, read_only: bool) -> Self {
        Self {
            format,
            path,
            blocks,
            read_only,
            under_way: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            discards: AtomicU64::new(0),
            discarded_bytes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            last_error: Mutex::new(None),
            at_once: AtomicU64::new(0),
            by_helper: AtomicU64::new(0),
            by_worker: AtomicU64::new(0),
            failed_reads: AtomicU64::new(0),
            failed_writes: AtomicU64::new(0),
            failed_flushes: AtomicU64::new(0),
            failed_discards: AtomicU64::new(0),
        }
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.blocks
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// A request was handed to the workers.
    pub(crate) fn handed_over(&self) {
        self.under_way.fetch_add(1, Relaxed);
    }

    /// It was given back.
    pub(crate) fn given_back(&self) {
        self.under_way.fetch_sub(1, Relaxed);
    }

    /// A request was done; `bytes` is how much it was about.
    pub(crate) fn done(&self, kind: Kind, bytes: u64, by: By) {
        let (requests, sum) = match kind {
            Kind::Read => (&self.reads, Some(&self.read_bytes)),
            Kind::Write => (&self.writes, Some(&self.written_bytes)),
            Kind::Flush => (&self.flushes, None),
            Kind::Discard => (&self.discards, Some(&self.discarded_bytes)),
        };
        requests.fetch_add(1, Relaxed);
        if let Some(sum) = sum {
            sum.fetch_add(bytes, Relaxed);
        }
        self.ended(by);
    }

    /// A request ended because it can never be done.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
        self.ended(By::Caller);
    }

    /// A request failed. Says so in the log for the first of its kind, the second, the fourth, the eighth and so on:
    /// a guest can repeat it for as long as it likes.
    pub(crate) fn failed(
        &self,
        kind: Kind,
        offset: u64,
        bytes: u64,
        error: &io::Error,
        by: By,
    ) -> MediaError {
        let failures = match kind {
            Kind::Read => &self.failed_reads,
            Kind::Write => &self.failed_writes,
            Kind::Flush => &self.failed_flushes,
            Kind::Discard => &self.failed_discards,
        };
        let count = failures.fetch_add(1, Relaxed).saturating_add(1);
        if count.is_power_of_two() {
            let image = self.path.as_deref().unwrap_or_else(|| self.format.as_ref()).display();
            tracing::warn!(%image, request = kind.name(), offset, bytes, count, %error, "a request to an image failed");
        }
        let text = format!("{} of {bytes} bytes at {offset}: {error}", kind.name());
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        self.errors.fetch_add(1, Relaxed);
        self.ended(by);
        media_error(error)
    }

    /// The image could not be closed properly; there is no request to tell.
    pub(crate) fn not_closed(&self, error: &io::Error) {
        let image = self.path.as_deref().unwrap_or_else(|| self.format.as_ref()).display();
        tracing::error!(%image, %error, "an image was not closed properly");
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("closing: {error}"));
        self.errors.fetch_add(1, Relaxed);
    }

    fn ended(&self, by: By) {
        let ended = match by {
            By::Caller => &self.at_once,
            By::Helper => &self.by_helper,
            By::Worker => &self.by_worker,
        };
        ended.fetch_add(1, Relaxed);
    }
}

/// What a device is told of a failure on the host.
fn media_error(error: &io::Error) -> MediaError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            MediaError::Full
        }
        _ => MediaError::Io,
    }
}
