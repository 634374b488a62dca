//! The threads that do what could block, and the two queues between them and the medium.

// Files belong to the host, and so does the time that they take.
#![allow(clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sdmorph_pci::media::MediaResult;

use crate::Waker;
use crate::helper::{self, Errand};
use crate::image::{Image, Step, Work};
use crate::request::Kind;
use crate::status::{By, Record};

/// A write that took a helper so long has waited for something.
const SLOW: Duration = Duration::from_millis(5);
/// After one, so many are done by workers.
const WRITES_AFTER_A_SLOW_ONE: u32 = 64;

/// A request that a worker is to end.
#[derive(Debug)]
struct Job {
    tag: u64,
    work: Work,
}

#[derive(Debug, Default)]
struct Begun {
    jobs: VecDeque<Job>,
    /// Nobody waits for results any more: writes and flushes are done to their end, and nothing else is.
    closing: bool,
}

#[derive(Debug, Default)]
struct Ended {
    results: VecDeque<(u64, MediaResult)>,
    /// The waker was called, and the results were not all taken since.
    woken: bool,
}

/// What a medium shares with its workers.
pub(crate) struct Shared {
    begun: Mutex<Begun>,
    news: Condvar,
    ended: Mutex<Ended>,
    /// Writes that no helper does, since one has waited.
    not_helped: AtomicU32,
    waker: Waker,
    record: Arc<Record>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("begun", &self.begun)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The workers of one medium. When this is dropped they finish the writes that have begun, close the image and end;
/// nobody waits for them.
#[derive(Debug)]
pub(crate) struct Workers {
    shared: Arc<Shared>,
}

impl Workers {
    /// Starts `count` threads.
    pub(crate) fn start(
        image: &Arc<Image>,
        count: usize,
        waker: Waker,
        record: Arc<Record>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            begun: Mutex::default(),
            news: Condvar::new(),
            ended: Mutex::default(),
            not_helped: AtomicU32::new(0),
            waker,
            record,
        });
        // Those that were started end if one could not be.
        let workers = Self { shared };
        for number in 0..count {
            let (shared, image) = (Arc::clone(&workers.shared), Arc::clone(image));
            thread::Builder::new().name(format!("media-{number}")).spawn(move || shared.run(&image))?;
        }
        Ok(workers)
    }

    #[cfg(test)]
    pub(crate) fn helped(&self, took: Duration) {
        self.shared.helped(took);
    }

    /// Hands over a request.
    pub(crate) fn begin(&self, tag: u64, image: &Arc<Image>, work: Work) {
        self.shared.record.handed_over();
        let helped = self.is_helped(tag, image, &work);
        lock(&self.shared.begun).jobs.push_back(Job { tag, work });
        if !helped {
            self.shared.call_one();
        }
    }

    /// Whether the thread that asks will do it: nobody is woken for it then.
    fn is_helped(&self, tag: u64, image: &Arc<Image>, work: &Work) -> bool {
        let Work::Write { data, done, .. } = work else { return false };
        if !image.takes_help() {
            return false;
        }
        if self.shared.are_slow() {
            // One more or less, if several threads begin at once.
            let _ = self.shared.not_helped.fetch_update(Relaxed, Relaxed, |writes| writes.checked_sub(1));
            return false;
        }
        let (workers, image) = (Arc::downgrade(&self.shared), Arc::downgrade(image));
        helper::leave(Errand { workers, image, tag, bytes: data.len().saturating_sub(*done) })
    }

    /// A request that a worker has ended.
    pub(crate) fn ended(&self) -> Option<(u64, MediaResult)> {
        let mut ended = lock(&self.shared.ended);
        let result = ended.results.pop_front();
        if ended.results.is_empty() {
            ended.woken = false;
        }
        drop(ended);
        if result.is_some() {
            self.shared.record.given_back();
        }
        result
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        lock(&self.shared.begun).closing = true;
        self.shared.news.notify_all();
    }
}

impl Shared {
    fn run(&self, image: &Image) {
        while let Some(job) = self.next() {
            self.perform(image, job, By::Worker);
        }
    }

    fn perform(&self, image: &Image, Job { tag, work }: Job, by: By) {
        let kind = work.kind();
        let (offset, bytes) = work.range();
        let mut changed = false;
        // Whom a helper serves waits meanwhile; nobody waits for a worker.
        let begun = (by == By::Helper).then(Instant::now);
        let step = image.perform(work);
        if let Some(begun) = begun {
            self.helped(begun.elapsed());
        }
        match step {
            // Behind the others: one large discard does not keep the rest waiting.
            Step::More(work) => {
                lock(&self.begun).jobs.push_back(Job { tag, work });
                self.call_one();
            }
            Step::Ended(Ok(data)) => {
                changed = matches!(kind, Kind::Write | Kind::Discard);
                self.record.done(kind, bytes, by);
                self.give(tag, Ok(data));
            }
            Step::Ended(Err(error)) => {
                let error = self.record.failed(kind, offset, bytes, &error, by);
                self.give(tag, Err(error));
            }
        }
        // With nothing else to do, what the image's driver has kept back goes to the file, and survives this process.
        if changed && lock(&self.begun).jobs.is_empty() {
            if let Err(error) = image.settle() {
                self.record.failed(Kind::Flush, 0, 0, &error, by);
            }
        }
    }

    /// A helper was kept for so long.
    fn helped(&self, took: Duration) {
        if took > SLOW {
            self.not_helped.store(WRITES_AFTER_A_SLOW_ONE, Relaxed);
        }
    }

    /// A write has taken a helper long, a while ago.
    pub(crate) fn are_slow(&self) -> bool {
        self.not_helped.load(Relaxed) > 0
    }

    /// Wakes a worker.
    pub(crate) fn call_one(&self) {
        self.news.notify_one();
    }

    /// Does the write with this tag, if no worker was there first.
    pub(crate) fn run_errand(&self, image: &Image, tag: u64) {
        let job = {
            let mut begun = lock(&self.begun);
            let place = begun.jobs.iter().position(|job| job.tag == tag && job.work.kind() == Kind::Write);
            place.and_then(|place| begun.jobs.remove(place))
        };
        if let Some(job) = job {
            self.perform(image, job, By::Helper);
        }
    }

    /// Waits for something to do. `None` when all is done and the medium is gone.
    fn next(&self) -> Option<Job> {
        let mut begun = lock(&self.begun);
        loop {
            match begun.jobs.pop_front() {
                // Without the medium, nobody could see what comes of it.
                Some(job) if begun.closing && matches!(job.work.kind(), Kind::Read | Kind::Discard) => {}
                Some(job) => return Some(job),
                None if begun.closing => return None,
                None => begun = self.news.wait(begun).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn give(&self, tag: u64, result: MediaResult) {
        let mut ended = lock(&self.ended);
        ended.results.push_back((tag, result));
        let woken = std::mem::replace(&mut ended.woken, true);
        drop(ended);
        if !woken {
            (self.waker)();
        }
    }
}
