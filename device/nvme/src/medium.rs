//! The medium, and who waits for which of its requests.

use std::collections::BTreeMap;

use sdmorph_pci::{Media, MediaError, MediaRequest, MediaResult};

use crate::status::Status;

/// Who wants to know how a request has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The command in this slot.
    Command(usize),
    /// The shutdown that is under way.
    Shutdown,
    /// Nobody any more: it was begun before a reset.
    Nobody,
}

/// Buffers kept for later requests, so that each does not have to get its memory anew.
const MAX_SPARE: usize = 16;

/// A medium whose requests have tags that are never used twice.
pub(crate) struct Medium {
    media: Box<dyn Media>,
    next_tag: u64,
    under_way: BTreeMap<u64, Owner>,
    spare: Vec<Vec<u8>>,
}

impl Medium {
    pub(crate) fn new(media: Box<dyn Media>) -> Self {
        Self { media, next_tag: 0, under_way: BTreeMap::new(), spare: Vec::new() }
    }

    /// Blocks of 512 bytes.
    pub(crate) fn blocks(&self) -> u64 {
        self.media.blocks()
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.media.is_read_only()
    }

    /// Begins a request; `Some` if it has ended.
    pub(crate) fn begin(&mut self, owner: Owner, request: MediaRequest) -> Option<MediaResult> {
        let tag = self.next_tag;
        self.next_tag += 1;
        let result = self.media.begin(tag, request);
        if result.is_none() {
            self.under_way.insert(tag, owner);
        }
        result
    }

    /// A request that has ended since, with its owner. One of before a reset only counts as ended.
    pub(crate) fn ended(&mut self) -> Option<(Owner, MediaResult)> {
        loop {
            let (tag, result) = self.media.ended()?;
            match self.under_way.remove(&tag) {
                Some(Owner::Nobody) | None => {}
                Some(owner) => return Some((owner, result)),
            }
        }
    }

    /// Nobody waits for what is under way any more.
    pub(crate) fn forget(&mut self) {
        for owner in self.under_way.values_mut() {
            *owner = Owner::Nobody;
        }
    }

    /// How many requests are under way, whoever began them.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// A buffer of any length, with any contents.
    pub(crate) fn spare_buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// A buffer of `length` bytes, with any contents.
    pub(crate) fn buffer(&mut self, length: usize) -> Vec<u8> {
        let mut buffer = self.spare_buffer();
        buffer.resize(length, 0);
        buffer
    }

    /// Takes a buffer back.
    pub(crate) fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < MAX_SPARE && buffer.capacity() > 0 {
            self.spare.push(buffer);
        }
    }
}

/// The status of a command whose request failed; `fault` is what an input/output error is to it.
pub(crate) fn status_of(error: MediaError, fault: Status) -> Status {
    match error {
        MediaError::OutOfRange => Status::LBA_OUT_OF_RANGE,
        MediaError::ReadOnly => Status::WRITE_PROTECTED,
        MediaError::Full => Status::CAPACITY_EXCEEDED,
        MediaError::Io => fault,
    }
}
