//! Writes that are done by the thread that asked for them, once it has let go of what it holds.
//!
//! To wake a worker takes many times longer than to copy a few blocks into the page cache, and file systems as ext4 do
//! not say beforehand whether that would have to wait. So a thread that serves a device, and has time when it has
//! answered, does them itself. It promises to come back for them; a worker that is awake may be there first.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Weak;

use crate::image::Image;
use crate::workers::Shared;

/// Most bytes that wait for a helper: what is more, or longer, threads of the medium do.
const MOST_BYTES: usize = 256 << 10;

thread_local! {
    /// What waits for this thread; `None` if it does not help.
    static LEFT: RefCell<Option<Left>> = const { RefCell::new(None) };
}

#[derive(Debug, Default)]
struct Left {
    errands: VecDeque<Errand>,
    bytes: usize,
}

/// A write that waits in the queue of its medium's workers, who were not woken for it.
#[derive(Debug)]
pub(crate) struct Errand {
    /// Neither keeps a medium from being closed.
    pub(crate) workers: Weak<Shared>,
    pub(crate) image: Weak<Image>,
    pub(crate) tag: u64,
    pub(crate) bytes: usize,
}

/// Leaves a write to the thread that calls this. False if it does not help, or has enough to do.
pub(crate) fn leave(errand: Errand) -> bool {
    LEFT.with_borrow_mut(|left| {
        let Some(left) = left else { return false };
        if left.bytes + errand.bytes > MOST_BYTES {
            return false;
        }
        left.bytes += errand.bytes;
        left.errands.push_back(errand);
        true
    })
}

fn next() -> Option<Errand> {
    LEFT.with_borrow_mut(|left| {
        let left = left.as_mut()?;
        let errand = left.errands.pop_front()?;
        left.bytes -= errand.bytes;
        Some(errand)
    })
}

/// While this is alive, its thread does short writes itself that it asks media for: it calls [`Helper::help`] whenever it
/// has begun some, before it waits for anything. What is left when this is dropped the media's own threads do.
#[derive(Debug)]
pub struct Helper {
    /// It belongs to its thread.
    thread: PhantomData<*const ()>,
}

impl Default for Helper {
    fn default() -> Self {
        Self::new()
    }
}

impl Helper {
    /// The calling thread helps from now on.
    #[must_use]
    pub fn new() -> Self {
        LEFT.with_borrow_mut(|left| {
            left.get_or_insert_default();
        });
        Self { thread: PhantomData }
    }

    /// Does one of the writes that wait for this thread, and calls the medium's waker. False if none waits.
    ///
    /// May block as a file may that is written to; to be called without any lock that a waker takes. After one that took
    /// long, the media's own threads do what waits and what comes next.
    #[must_use]
    pub fn help(&self) -> bool {
        let Some(errand) = next() else { return false };
        if let (Some(workers), Some(image)) = (errand.workers.upgrade(), errand.image.upgrade()) {
            workers.run_errand(&image, errand.tag);
            if workers.are_slow() {
                self.hand_over();
            }
        }
        true
    }

    /// Leaves what waits for this thread to the media's own threads: it will not come back soon.
    pub fn hand_over(&self) {
        while let Some(errand) = next() {
            if let Some(workers) = errand.workers.upgrade() {
                workers.call_one();
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.hand_over();
        LEFT.set(None);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;
    use std::sync::mpsc::{Receiver, channel};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use sdmorph_pci::media::{BLOCK_BYTES, Media, MediaRequest};

    use super::*;
    use crate::closing::{ClosedSignal, ImageKey};
    use crate::file::FileMedia;
    use crate::image::Driver;
    use crate::lock::LockedFile;
    use crate::open::Cache;
    use crate::raw::RawImage;
    use crate::status::Record;
    use crate::workers::Workers;

    const BLOCKS: u64 = 8192;

    /// A medium with so many workers whose writes never end at once, and what hears that something has ended.
    fn medium(path: &Path, workers: usize) -> (FileMedia, Receiver<()>) {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        file.set_len(BLOCKS * BLOCK_BYTES as u64).unwrap();
        let key = ImageKey::of(&file).unwrap();
        let raw = RawImage::new(LockedFile::new(file, None).unwrap()).without_writes_at_once();
        let record = Arc::new(Record::new("raw", None, BLOCKS, false));
        let closed = ClosedSignal::new(key);
        let image = Arc::new(Image::new(Driver::Raw(raw), closed, Arc::clone(&record)));
        let (sender, woken) = channel();
        let sender = Mutex::new(sender);
        let waker = Arc::new(move || sender.lock().unwrap().send(()).unwrap_or_default());
        let workers = Workers::start(&image, workers, waker, Arc::clone(&record)).unwrap();
        (FileMedia::new(image, workers, Cache::Writeback, record), woken)
    }

    fn write(first: u64, blocks: usize) -> MediaRequest {
        MediaRequest::Write { first, data: vec![7; blocks * BLOCK_BYTES] }
    }

    /// Without a worker, what is done was done by the helper.
    #[test]
    fn write_is_done_by_the_thread_that_asked_when_it_comes_back_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("card.raw");
        let (mut medium, woken) = medium(&path, 0);
        let helper = Helper::new();
        assert!(!helper.help());
        assert_eq!(medium.begin(3, write(8, 2)), None);
        assert_eq!((medium.ended(), medium.status().info().under_way), (None, 1));
        assert!(helper.help());
        woken.try_recv().unwrap();
        assert_eq!(medium.ended(), Some((3, Ok(vec![7; 1024]))));
        assert!(!helper.help());
        let info = medium.status().info();
        assert_eq!((info.under_way, info.writes, info.written_bytes), (0, 1, 1024));
        assert_eq!((info.by_helper, info.by_worker), (1, 0));
        assert_eq!(std::fs::read(&path).unwrap()[8 * 512..10 * 512], [7; 1024]);
    }

    #[test]
    fn what_a_helper_does_not_come_back_for_workers_do() {
        let dir = tempfile::tempdir().unwrap();
        let (mut medium, woken) = medium(&dir.path().join("card.raw"), 1);
        let helper = Helper::new();
        assert_eq!(medium.begin(0, write(0, 1)), None);
        helper.hand_over();
        woken.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(medium.ended(), Some((0, Ok(vec![7; 512]))));
        assert!(!helper.help());
        assert_eq!(medium.begin(1, write(0, 1)), None);
        drop(helper);
        woken.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(medium.ended(), Some((1, Ok(vec![7; 512]))));
        // From now on nobody here helps.
        assert_eq!(medium.begin(2, write(0, 1)), None);
        woken.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(medium.ended(), Some((2, Ok(vec![7; 512]))));
        assert_eq!(medium.status().info().by_worker, 3);
    }

    #[test]
    fn helper_does_short_writes_and_no_more_of_them_than_it_can_do_soon() {
        let dir = tempfile::tempdir().unwrap();
        let (mut medium, _woken) = medium(&dir.path().join("card.raw"), 0);
        let mut left = |requests: &mut dyn Iterator<Item = MediaRequest>| {
            let _helper = Helper::new();
            requests.for_each(|request| drop(medium.begin(0, request)));
            LEFT.with_borrow(|left| left.as_ref().unwrap().errands.len())
        };
        let others = [MediaRequest::Flush, MediaRequest::Discard { first: 0, count: 8 }];
        assert_eq!(left(&mut others.into_iter()), 0);
        // 256 KiB of them, and none that is longer.
        assert_eq!(left(&mut (0..5).map(|place| write(256 * place, 256))), 2);
        assert_eq!(left(&mut (0..80).map(|place| write(8 * place, 8))), 64);
        assert_eq!(left(&mut [write(0, 2048), write(2048, 1)].into_iter()), 1);
    }

    #[test]
    fn after_a_write_that_took_long_workers_do_the_next_ones() {
        let dir = tempfile::tempdir().unwrap();
        let (mut medium, _woken) = medium(&dir.path().join("card.raw"), 0);
        let helper = Helper::new();
        medium.workers().helped(Duration::from_millis(1));
        medium.begin(0, write(0, 1));
        assert!(helper.help());
        medium.workers().helped(Duration::from_millis(100));
        for tag in 1..=64 {
            medium.begin(tag, write(0, 1));
            assert!(!helper.help());
        }
        medium.begin(65, write(0, 1));
        assert!(helper.help());
    }

    #[test]
    fn after_a_write_that_took_long_nothing_waits_for_the_helper() {
        let dir = tempfile::tempdir().unwrap();
        let (mut medium, _woken) = medium(&dir.path().join("card.raw"), 0);
        let helper = Helper::new();
        (0..3).for_each(|tag| drop(medium.begin(tag, write(0, 1))));
        medium.workers().helped(Duration::from_millis(100));
        assert_eq!((0..).take_while(|_| helper.help()).count(), 1);
        assert_eq!(medium.status().info().under_way, 3, "one has ended and was not taken");
    }

    #[test]
    fn medium_that_has_gone_leaves_a_helper_nothing_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("card.raw");
        let (mut medium, woken) = medium(&path, 1);
        let helper = Helper::new();
        medium.begin(0, write(1, 1));
        drop(medium);
        woken.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(crate::wait_until_closed(Duration::from_secs(60)));
        assert!(helper.help());
        assert!(!helper.help());
        assert_eq!(std::fs::read(&path).unwrap()[512..1024], [7; 512]);
    }
}
