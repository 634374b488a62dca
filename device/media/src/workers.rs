//! The threads that do what could block, and the two queues between them and the medium.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use sdmorph_pci::media::MediaResult;

use crate::Waker;
use crate::image::{Image, Step, Work};
use crate::request::Kind;
use crate::status::{By, Record};

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

struct Shared {
    begun: Mutex<Begun>,
    news: Condvar,
    ended: Mutex<Ended>,
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

    /// Hands over a request.
    pub(crate) fn begin(&self, tag: u64, work: Work) {
        self.shared.record.handed_over();
        lock(&self.shared.begun).jobs.push_back(Job { tag, work });
        self.shared.news.notify_one();
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
        while let Some(Job { tag, work }) = self.next() {
            let kind = work.kind();
            let (offset, bytes) = work.range();
            let mut changed = false;
            match image.perform(work) {
                // Behind the others: one large discard does not keep the rest waiting.
                Step::More(work) => {
                    lock(&self.begun).jobs.push_back(Job { tag, work });
                    self.news.notify_one();
                }
                Step::Ended(Ok(data)) => {
                    changed = matches!(kind, Kind::Write | Kind::Discard);
                    self.record.done(kind, bytes, By::Worker);
                    self.give(tag, Ok(data));
                }
                Step::Ended(Err(error)) => {
                    let error = self.record.failed(kind, offset, bytes, &error, By::Worker);
                    self.give(tag, Err(error));
                }
            }
            // With nothing else to do, what the image's driver has kept back goes to the file, and survives this process.
            if changed && lock(&self.begun).jobs.is_empty() {
                if let Err(error) = image.settle() {
                    self.record.failed(Kind::Flush, 0, 0, &error, By::Worker);
                }
            }
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
