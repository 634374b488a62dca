//! An open image of either format, and one request to it at a time.

use std::io;
use std::sync::Arc;

use sdmorph_pci::media::BLOCK_BYTES;

use crate::closing::ClosedSignal;
use crate::qcow2::Qcow2Image;
use crate::raw::RawImage;
use crate::request::Kind;
use crate::status::Record;

/// What does the work.
#[derive(Debug)]
pub(crate) enum Driver {
    Raw(RawImage),
    Qcow2(Qcow2Image),
}

/// An image, shared by a medium and its workers.
#[derive(Debug)]
pub(crate) struct Image {
    driver: Driver,
    /// Behind the driver: an image is closed when its file is.
    closed: ClosedSignal,
    record: Arc<Record>,
}

impl Drop for Image {
    fn drop(&mut self) {
        let closed = match &self.driver {
            Driver::Raw(_) => Ok(()),
            Driver::Qcow2(qcow2) => qcow2.close(),
        };
        if let Err(error) = closed {
            self.record.not_closed(&error);
        }
    }
}

/// A request as far as it has been done. All places are in bytes.
#[derive(Debug)]
pub(crate) enum Work {
    /// The first `done` bytes of `buffer` are there; it may be empty instead.
    Read { offset: u64, length: usize, buffer: Vec<u8>, done: usize },
    /// The first `done` bytes of `data` are written.
    Write { offset: u64, data: Vec<u8>, done: usize },
    /// Nothing of it is done.
    Flush,
    /// What is left starts at `offset`; `done` bytes in front of it are discarded.
    Discard { offset: u64, length: u64, done: u64 },
}

/// What became of some work.
#[derive(Debug)]
pub(crate) enum Step {
    Ended(io::Result<Vec<u8>>),
    /// There is more to do.
    More(Work),
}

impl Work {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Work::Read { .. } => Kind::Read,
            Work::Write { .. } => Kind::Write,
            Work::Flush => Kind::Flush,
            Work::Discard { .. } => Kind::Discard,
        }
    }

    /// Where it begins, and how long it is, with what is done already.
    pub(crate) fn range(&self) -> (u64, u64) {
        match self {
            Work::Read { offset, length, .. } => (*offset, *length as u64),
            Work::Write { offset, data, .. } => (*offset, data.len() as u64),
            Work::Flush => (0, 0),
            Work::Discard { offset, length, done } => {
                (offset.saturating_sub(*done), length.saturating_add(*done))
            }
        }
    }
}

impl Image {
    pub(crate) fn new(driver: Driver, closed: ClosedSignal, record: Arc<Record>) -> Self {
        Self { driver, closed, record }
    }

    /// See [`ClosedSignal::announce`].
    pub(crate) fn announce_closing(&self) {
        self.closed.announce();
    }

    /// Whether a write is short enough work for the thread that asked for it: a copy into the page cache is.
    pub(crate) fn takes_help(&self) -> bool {
        match &self.driver {
            Driver::Raw(_) => true,
            Driver::Qcow2(_) => false,
        }
    }

    /// Begins to read. Does not wait; what cannot be done without is left.
    pub(crate) fn read_now(&self, offset: u64, length: usize, mut buffer: Vec<u8>) -> Step {
        match &self.driver {
            Driver::Raw(raw) if raw.reads_now() => {
                buffer.resize(length, 0);
                let done = raw.read_now(offset, &mut buffer);
                if done == length {
                    return Step::Ended(Ok(buffer));
                }
                if done > 0 {
                    return Step::More(Work::Read { offset, length, buffer, done });
                }
            }
            Driver::Raw(_) | Driver::Qcow2(_) => {}
        }
        // Without the buffer: this may wait for long, and there may be many.
        Step::More(Work::Read { offset, length, buffer: Vec::new(), done: 0 })
    }

    /// Begins to write. Does not wait; what cannot be done without is left.
    pub(crate) fn write_now(&self, offset: u64, data: Vec<u8>) -> Step {
        let done = match &self.driver {
            Driver::Raw(raw) => raw.write_now(offset, &data),
            Driver::Qcow2(_) => 0,
        };
        if done == data.len() {
            return Step::Ended(Ok(data));
        }
        Step::More(Work::Write { offset, data, done })
    }

    /// Does some work to its end, or a fair part of it. May wait for as long as the host likes.
    pub(crate) fn perform(&self, work: Work) -> Step {
        match work {
            Work::Read { offset, length, mut buffer, done } => {
                buffer.resize(length, 0);
                let rest = buffer.get_mut(done..).unwrap_or_default();
                let read = self.read(offset.saturating_add(done as u64), rest);
                Step::Ended(read.map(|()| buffer))
            }
            Work::Write { offset, data, done } => {
                let rest = data.get(done..).unwrap_or_default();
                let written = self.write(offset.saturating_add(done as u64), rest);
                Step::Ended(written.map(|()| data))
            }
            Work::Flush => Step::Ended(self.flush().map(|()| Vec::new())),
            Work::Discard { offset, length, done } => match self.discard(offset, length) {
                Ok(count) if count >= length => Step::Ended(Ok(Vec::new())),
                Ok(count) => Step::More(Work::Discard {
                    offset: offset.saturating_add(count),
                    length: length.saturating_sub(count),
                    done: done.saturating_add(count),
                }),
                Err(error) => Step::Ended(Err(error)),
            },
        }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match &self.driver {
            Driver::Raw(raw) => raw.read(offset, buffer),
            Driver::Qcow2(qcow2) => qcow2.read(offset, buffer),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match &self.driver {
            Driver::Raw(raw) => raw.write(offset, data),
            Driver::Qcow2(qcow2) => qcow2.write(offset, data),
        }
    }

    /// What the image's driver keeps back, to the file. Not to the disk: that is a flush.
    pub(crate) fn settle(&self) -> io::Result<()> {
        match &self.driver {
            Driver::Raw(_) => Ok(()),
            Driver::Qcow2(qcow2) => qcow2.settle(),
        }
    }

    fn flush(&self) -> io::Result<()> {
        match &self.driver {
            Driver::Raw(raw) => raw.flush(),
            Driver::Qcow2(qcow2) => qcow2.flush(),
        }
    }

    /// Makes zeros of a beginning of these bytes; gives back of how many.
    fn discard(&self, offset: u64, length: u64) -> io::Result<u64> {
        match &self.driver {
            Driver::Raw(raw) => raw.discard(offset, length),
            Driver::Qcow2(qcow2) => qcow2.discard(offset, length),
        }
    }
}

/// The byte where a block begins. The block is on the image, whose length in bytes fits an `u64`.
pub(crate) fn byte_of(block: u64) -> u64 {
    block.saturating_mul(BLOCK_BYTES as u64)
}
