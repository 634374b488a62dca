//! A storage device for tests.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sdmorph_pci::media::{BLOCK_BYTES, MAX_TRANSFER_BLOCKS};
use sdmorph_pci::{Media, MediaError, MediaRequest, MediaResult};

/// A medium in memory, sparse, that ends requests at once or when the test says so.
///
/// A clone is another handle on the same contents: one goes into the device, the other stays with the test.
#[derive(Debug, Clone)]
pub struct TestMedia {
    shared: Arc<Mutex<Shared>>,
    /// Whether this handle is a device's that must not change anything.
    read_only: bool,
}

#[derive(Debug)]
struct Shared {
    blocks: u64,
    contents: BTreeMap<u64, [u8; BLOCK_BYTES]>,
    failing: Vec<(Range<u64>, MediaError)>,
    flush_error: Option<MediaError>,
    holds: bool,
    held: VecDeque<(u64, MediaRequest)>,
    ended: VecDeque<(u64, MediaResult)>,
    requests: Vec<String>,
}

impl TestMedia {
    /// `blocks` blocks of zeros. Requests end at once.
    #[must_use]
    pub fn new(blocks: u64) -> Self {
        let shared = Shared {
            blocks,
            contents: BTreeMap::new(),
            failing: Vec::new(),
            flush_error: None,
            holds: false,
            held: VecDeque::new(),
            ended: VecDeque::new(),
            requests: Vec::new(),
        };
        Self { shared: Arc::new(Mutex::new(shared)), read_only: false }
    }

    /// Another handle, which can only read.
    #[must_use]
    pub fn read_only(&self) -> Self {
        Self { read_only: true, ..self.clone() }
    }

    /// From now on, requests are under way until [`TestMedia::release`].
    pub fn hold(&self) {
        self.shared().holds = true;
    }

    /// Ends what is under way, in the order it came; from now on, requests end at once.
    pub fn release(&self) {
        self.shared().holds = false;
        while self.release_one() {}
    }

    /// Ends the oldest request that is under way. False if there is none.
    pub fn release_one(&self) -> bool {
        self.release_at(0)
    }

    /// Ends the one that is the `index`th oldest, counted from 0. False if there is none.
    pub fn release_at(&self, index: usize) -> bool {
        let mut shared = self.shared();
        let Some((tag, request)) = shared.held.remove(index) else { return false };
        let result = shared.carry_out(request, self.read_only);
        shared.ended.push_back((tag, result));
        true
    }

    /// How many requests are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.shared().held.len()
    }

    /// Lets every request that touches `blocks` end with `error`.
    pub fn fail(&self, blocks: Range<u64>, error: MediaError) {
        self.shared().failing.push((blocks, error));
    }

    /// Lets every flush end with `error`.
    pub fn fail_flushes(&self, error: MediaError) {
        self.shared().flush_error = Some(error);
    }

    /// Takes all of [`TestMedia::fail`] and [`TestMedia::fail_flushes`] back.
    pub fn heal(&self) {
        let mut shared = self.shared();
        shared.failing.clear();
        shared.flush_error = None;
    }

    /// The requests since the last time, as `Debug` shows them.
    #[must_use]
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.shared().requests)
    }

    /// The contents of `count` blocks from `first` on.
    #[must_use]
    pub fn peek(&self, first: u64, count: u32) -> Vec<u8> {
        self.shared().load(first, count)
    }

    /// Puts whole blocks there, whatever devices may write.
    pub fn poke(&self, first: u64, data: &[u8]) {
        self.shared().store(first, data);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn load(&self, first: u64, count: u32) -> Vec<u8> {
        let blocks = first..first.saturating_add(u64::from(count));
        blocks.flat_map(|block| self.contents.get(&block).copied().unwrap_or([0; BLOCK_BYTES])).collect()
    }

    fn store(&mut self, first: u64, data: &[u8]) {
        for (block, contents) in (first..).zip(data.chunks_exact(BLOCK_BYTES)) {
            if let Ok(contents) = contents.try_into() {
                self.contents.insert(block, contents);
            }
        }
    }

    fn carry_out(&mut self, request: MediaRequest, read_only: bool) -> MediaResult {
        let (first, count, changes) = match &request {
            MediaRequest::Read { first, count, .. } => (*first, u64::from(*count), false),
            MediaRequest::Write { first, data } => (*first, (data.len() / BLOCK_BYTES) as u64, true),
            MediaRequest::Discard { first, count } => (*first, *count, true),
            MediaRequest::Flush => (0, 0, false),
        };
        let end = first.checked_add(count).filter(|end| *end <= self.blocks).ok_or(MediaError::OutOfRange)?;
        if changes && read_only {
            return Err(MediaError::ReadOnly);
        }
        if let Some((_, error)) =
            self.failing.iter().find(|(range, _)| first < range.end && range.start < end)
        {
            return Err(*error);
        }
        match request {
            MediaRequest::Read { first, count, .. } => Ok(self.load(first, count)),
            MediaRequest::Write { first, mut data } => {
                self.store(first, &data);
                data.clear();
                Ok(data)
            }
            MediaRequest::Discard { .. } => {
                let mut rest = self.contents.split_off(&first);
                let mut behind = rest.split_off(&end);
                self.contents.append(&mut behind);
                Ok(Vec::new())
            }
            MediaRequest::Flush => self.flush_error.map_or(Ok(Vec::new()), Err),
        }
    }
}

impl Media for TestMedia {
    fn blocks(&self) -> u64 {
        self.shared().blocks
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// # Panics
    /// If the request is longer than a medium must take.
    #[allow(clippy::panic)]
    fn begin(&mut self, tag: u64, request: MediaRequest) -> Option<MediaResult> {
        let read_only = self.read_only;
        let mut shared = self.shared();
        shared.requests.push(format!("{request:?}"));
        let blocks = match &request {
            MediaRequest::Read { count, .. } => *count as usize,
            MediaRequest::Write { data, .. } => data.len().div_ceil(BLOCK_BYTES),
            _ => 1,
        };
        assert!(blocks > 0 && blocks <= MAX_TRANSFER_BLOCKS as usize, "{request:?}");
        if shared.holds {
            shared.held.push_back((tag, request));
            return None;
        }
        Some(shared.carry_out(request, read_only))
    }

    fn ended(&mut self) -> Option<(u64, MediaResult)> {
        self.shared().ended.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(first: u64, byte: u8, count: usize) -> MediaRequest {
        MediaRequest::Write { first, data: vec![byte; count * BLOCK_BYTES] }
    }

    #[test]
    fn requests_end_at_once_until_they_are_held() {
        let handle = TestMedia::new(8);
        let mut device = handle.clone();
        assert_eq!(device.begin(1, write(7, 5, 1)), Some(Ok(vec![])));
        assert_eq!(handle.peek(7, 1), [5; 512]);
        handle.hold();
        assert_eq!(device.begin(2, MediaRequest::Read { first: 7, count: 1, buffer: Vec::new() }), None);
        assert_eq!(device.ended(), None);
        handle.release();
        assert_eq!(device.ended(), Some((2, Ok(vec![5; 512]))));
        assert_eq!(device.ended(), None);
    }

    #[test]
    fn discarded_blocks_read_as_zeros_and_their_neighbours_stay() {
        let handle = TestMedia::new(8);
        handle.poke(0, &[9; 8 * 512]);
        assert!(handle.clone().begin(0, MediaRequest::Discard { first: 2, count: 3 }).unwrap().is_ok());
        let zeros: Vec<_> = (0..8).filter(|block| handle.peek(*block, 1) == [0; 512]).collect();
        assert_eq!(zeros, [2, 3, 4]);
    }

    #[test]
    fn failing_read_only_and_missing_blocks_have_their_errors() {
        let mut handle = TestMedia::new(8);
        handle.fail(3..4, MediaError::Io);
        assert_eq!(handle.begin(0, write(2, 1, 3)), Some(Err(MediaError::Io)));
        assert_eq!(handle.begin(0, write(6, 1, 3)), Some(Err(MediaError::OutOfRange)));
        assert_eq!(handle.read_only().begin(0, write(6, 1, 1)), Some(Err(MediaError::ReadOnly)));
        handle.heal();
        assert!(handle.begin(0, write(2, 1, 3)).unwrap().is_ok());
    }
}
