//! Images that were let go of and are not closed yet: their workers still have writes to finish.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Device and inode of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImageKey(u64, u64);

impl ImageKey {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self(metadata.dev(), metadata.ino()))
    }
}

/// An image is here once for each medium that is being closed.
static CLOSING: Mutex<Vec<ImageKey>> = Mutex::new(Vec::new());
static CLOSED: Condvar = Condvar::new();

fn lock() -> MutexGuard<'static, Vec<ImageKey>> {
    CLOSING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lives as long as an image is open. Put it behind the image's file in a struct: fields are dropped in order.
#[derive(Debug)]
pub(crate) struct ClosedSignal {
    key: ImageKey,
    announced: AtomicBool,
}

impl ClosedSignal {
    pub(crate) fn new(key: ImageKey) -> Self {
        Self { key, announced: AtomicBool::new(false) }
    }

    /// From now on, whoever opens the image waits until this is dropped.
    pub(crate) fn announce(&self) {
        if !self.announced.swap(true, Relaxed) {
            lock().push(self.key);
        }
    }
}

impl Drop for ClosedSignal {
    fn drop(&mut self) {
        if *self.announced.get_mut() {
            let mut closing = lock();
            if let Some(place) = closing.iter().position(|key| *key == self.key) {
                closing.swap_remove(place);
            }
            drop(closing);
            CLOSED.notify_all();
        }
    }
}

/// Waits until `key` is not being closed. False if it took longer than `limit`.
pub(crate) fn wait_for(key: ImageKey, limit: Duration) -> bool {
    wait_while(limit, |closing| closing.contains(&key))
}

/// Waits until every image of this process that was let go of is closed: its writes are done, and its locks are gone.
/// False if that took longer than `limit`. To be called before the process ends.
#[must_use]
pub fn wait_until_closed(limit: Duration) -> bool {
    wait_while(limit, |closing| !closing.is_empty())
}

fn wait_while(limit: Duration, condition: impl Fn(&Vec<ImageKey>) -> bool) -> bool {
    let waited = CLOSED.wait_timeout_while(lock(), limit, |closing| condition(closing));
    !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
}
