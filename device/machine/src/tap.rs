//! What the host answers while the machine is called: the contents of guest memory, and how requests to a medium of the
//! host's end. It is written down on its way, for a replay that has no host.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sdmorph_pci::media::{MediaError, MediaRequest, MediaResult};
use sdmorph_pci::{DmaError, GuestMemory, Media};

/// Most bytes of contents that one call may leave here. What one call moves is bounded by the device; this is for the day
/// when it is not.
const LIMIT_BYTES: usize = 128 << 20;

/// One answer of the host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostAnswer {
    /// Which of the machine's questions in this call it answers, from 0.
    pub at: u64,
    /// The answer.
    pub what: Answered,
}

/// What the host was asked, and what it said.
#[derive(Debug, Clone, PartialEq)]
pub enum Answered {
    /// Guest memory was read.
    MemoryRead {
        /// Guest physical address.
        address: u64,
        /// Bytes asked for.
        length: u64,
        /// What was there.
        result: Result<Arc<[u8]>, DmaError>,
    },
    /// Guest memory was written.
    MemoryWritten {
        /// Guest physical address.
        address: u64,
        /// Bytes written.
        length: u64,
        /// The [`digest`] of these bytes, or why they were not written.
        result: Result<u64, DmaError>,
    },
    /// A request to a medium was begun. `None`: it ends later.
    MediumBegun {
        /// The request's tag.
        tag: u64,
        /// How it ended.
        result: Option<Result<Arc<[u8]>, MediaError>>,
    },
    /// A request to a medium had ended.
    MediumEnded {
        /// The request's tag.
        tag: u64,
        /// How.
        result: Result<Arc<[u8]>, MediaError>,
    },
}

impl Answered {
    /// Bytes of contents.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Answered::MemoryRead { result: Ok(data), .. }
            | Answered::MediumBegun { result: Some(Ok(data)), .. }
            | Answered::MediumEnded { result: Ok(data), .. } => data.len(),
            _ => 0,
        }
    }
}

/// A number that tells contents apart: FNV-1a of 64 bits.
#[must_use]
pub fn digest(data: &[u8]) -> u64 {
    data.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Where answers are written down. Clones are the same place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tap(Arc<Mutex<Answers>>);

/// The answers of one call.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    asked: u64,
    bytes: usize,
    pub(crate) list: Vec<HostAnswer>,
    /// There were more than could be kept.
    pub(crate) lost: bool,
}

impl Tap {
    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answers since the last time.
    pub(crate) fn take(&self) -> Answers {
        std::mem::take(&mut *self.lock())
    }

    /// Counts a question, and keeps the answer if there is something to it.
    fn put(&self, answered: Option<Answered>) {
        let mut answers = self.lock();
        let at = answers.asked;
        answers.asked += 1;
        let Some(what) = answered else { return };
        answers.bytes += what.bytes();
        if answers.bytes > LIMIT_BYTES {
            answers.lost = true;
            answers.list = Vec::new();
        } else {
            answers.list.push(HostAnswer { at, what });
        }
    }
}

/// Guest memory whose contents are written down when the machine reads them.
pub(crate) struct TappedMemory {
    pub(crate) memory: Arc<dyn GuestMemory + Send + Sync>,
    pub(crate) tap: Tap,
}

impl GuestMemory for TappedMemory {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        let result = self.memory.read(address, data);
        let length = data.len() as u64;
        let kept = result.map(|()| Arc::from(&*data));
        self.tap.put(Some(Answered::MemoryRead { address, length, result: kept }));
        result
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        let result = self.memory.write(address, data);
        let length = data.len() as u64;
        let kept = result.map(|()| digest(data));
        self.tap.put(Some(Answered::MemoryWritten { address, length, result: kept }));
        result
    }
}

/// A medium whose answers are written down.
#[derive(Debug)]
pub(crate) struct TappedMedia {
    media: Box<dyn Media>,
    tap: Tap,
    /// Tags of reads that end later.
    reads: BTreeSet<u64>,
}

impl TappedMedia {
    pub(crate) fn new(media: Box<dyn Media>, tap: Tap) -> Self {
        Self { media, tap, reads: BTreeSet::new() }
    }
}

impl Media for TappedMedia {
    fn blocks(&self) -> u64 {
        self.media.blocks()
    }

    fn is_read_only(&self) -> bool {
        self.media.is_read_only()
    }

    fn begin(&mut self, tag: u64, request: MediaRequest) -> Option<MediaResult> {
        let reads = matches!(request, MediaRequest::Read { .. });
        let result = self.media.begin(tag, request);
        if reads && result.is_none() {
            self.reads.insert(tag);
        }
        let kept = result.as_ref().map(|result| contents(result, reads));
        self.tap.put(Some(Answered::MediumBegun { tag, result: kept }));
        result
    }

    fn ended(&mut self) -> Option<(u64, MediaResult)> {
        let ended = self.media.ended();
        // That nothing has ended is what most answers are, and what a replay takes for granted.
        let kept = ended.as_ref().map(|(tag, result)| {
            let result = contents(result, self.reads.remove(tag));
            Answered::MediumEnded { tag: *tag, result }
        });
        self.tap.put(kept);
        ended
    }
}

/// What was read; the buffer that comes back from another request says nothing.
fn contents(result: &MediaResult, reads: bool) -> Result<Arc<[u8]>, MediaError> {
    match result {
        Ok(data) if reads => Ok(Arc::from(data.as_slice())),
        Ok(_) => Ok(Arc::from([])),
        Err(error) => Err(*error),
    }
}
