//! A medium in an image.

use std::sync::Arc;

use sdmorph_pci::media::{BLOCK_BYTES, Media, MediaRequest, MediaResult};

use crate::image::{Image, Step, Work, byte_of};
use crate::open::Cache;
use crate::request::{Kind, check};
use crate::status::{By, MediaStatus, Record};
use crate::workers::Workers;

/// An image on the host, as [`open`](crate::open()) gives it.
///
/// A read of a raw image that the page cache can answer ends at once, and so does a write where the file system can take
/// it without waiting. All else is done by threads of the medium's own, and ends later; short writes, by the thread that
/// asked, if it [helps](crate::Helper). How many requests are under way
/// is not limited here: the devices limit it, and a request that waits takes no memory but the data it came with.
///
/// A request that begins after a write has ended never sees what was there before the write.
///
/// Dropping a medium does not wait. What was begun and changes something is still done: writes and flushes to their end,
/// discards to the end of the piece that a worker is at. Whoever opens the image again in the same process waits for that;
/// [`wait_until_closed`](crate::wait_until_closed) waits for all images.
#[derive(Debug)]
pub struct FileMedia {
    // In this order: whoever lets go of the image last closes it, which can take long and is for a worker to do.
    image: Arc<Image>,
    workers: Workers,
    cache: Cache,
    record: Arc<Record>,
}

impl FileMedia {
    pub(crate) fn new(image: Arc<Image>, workers: Workers, cache: Cache, record: Arc<Record>) -> Self {
        Self { image, workers, cache, record }
    }

    #[cfg(test)]
    pub(crate) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Tells about this medium from elsewhere.
    #[must_use]
    pub fn status(&self) -> MediaStatus {
        MediaStatus::new(Arc::clone(&self.record))
    }
}

impl Drop for FileMedia {
    fn drop(&mut self) {
        self.image.announce_closing();
    }
}

impl Media for FileMedia {
    fn blocks(&self) -> u64 {
        self.record.blocks()
    }

    fn is_read_only(&self) -> bool {
        self.record.is_read_only()
    }

    fn begin(&mut self, tag: u64, request: MediaRequest) -> Option<MediaResult> {
        if let Err(error) = check(self, &request) {
            self.record.refused();
            return Some(Err(error));
        }
        let kind = Kind::of(&request);
        let step = match request {
            MediaRequest::Read { first, count, buffer } => {
                self.image.read_now(byte_of(first), count as usize * BLOCK_BYTES, buffer)
            }
            MediaRequest::Write { first, data } => self.image.write_now(byte_of(first), data),
            MediaRequest::Flush if self.cache == Cache::Unsafe || self.is_read_only() => {
                Step::Ended(Ok(Vec::new()))
            }
            MediaRequest::Flush => Step::More(Work::Flush),
            MediaRequest::Discard { count: 0, .. } => Step::Ended(Ok(Vec::new())),
            MediaRequest::Discard { first, count } => {
                Step::More(Work::Discard { offset: byte_of(first), length: byte_of(count), done: 0 })
            }
        };
        match step {
            Step::Ended(result) => Some(match result {
                Ok(data) => {
                    self.record.done(kind, data.len() as u64, By::Caller);
                    Ok(data)
                }
                Err(error) => Err(self.record.failed(kind, 0, 0, &error, By::Caller)),
            }),
            Step::More(work) => {
                self.workers.begin(tag, &self.image, work);
                None
            }
        }
    }

    fn ended(&mut self) -> Option<(u64, MediaResult)> {
        self.workers.ended()
    }
}
