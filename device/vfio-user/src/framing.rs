//! Messages out of a stream: bytes and descriptors in as they come, whole messages out. No I/O.
//!
//! The socket is read ahead, so one receive may end in the middle of a message, even of its header, or hold several.
//! Descriptors belong to the message that holds the last byte of the receive they came with: Linux ends a receive after
//! the piece that carries descriptors (`unix(7)`), and a client sends them with a message's first piece.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use thiserror::Error;

use crate::header::{Header, Refusal};
use crate::spec::{HEADER_BYTES, SCM_MAX_FDS};

/// Space for one receive.
const RECEIVE_BYTES: usize = 64 * 1024;

/// A stream in which the next message cannot be found any more: the connection has to end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unframed {
    /// A message that is shorter than its own header.
    #[error("a message claims to have {0} bytes, less than its header")]
    Short(u32),
    /// More descriptors than a message can have.
    #[error("a message came with more than {SCM_MAX_FDS} descriptors")]
    Descriptors,
}

/// One message.
#[derive(Debug, Default)]
pub struct Message {
    /// Its header.
    pub header: Header,
    /// What follows the header; nothing if the message was too long to be kept.
    pub body: Vec<u8>,
    /// The descriptors that came with it.
    pub fds: Vec<OwnedFd>,
    /// Why it cannot be what its sender meant, though the stream is in step: too long, or with descriptors lost.
    pub damage: Option<Refusal>,
}

/// Descriptors of one receive.
#[derive(Debug)]
struct Received {
    /// Position behind the last byte that they came with.
    end: u64,
    fds: Vec<OwnedFd>,
    /// The kernel dropped some.
    lost: bool,
}

/// A stream of messages.
#[derive(Debug)]
pub struct Framer {
    /// Longest message that is kept, header included.
    limit: usize,
    buffer: Vec<u8>,
    /// The received bytes that nobody took are `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Position of `buffer[start]` in the stream.
    position: u64,
    fds: VecDeque<Received>,
    /// A message that is too long, and how many bytes of it are still to be dropped.
    skipping: Option<(Header, u64)>,
}

impl Framer {
    /// A stream whose messages have at most `limit` bytes; longer ones are dropped as they come.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(HEADER_BYTES),
            buffer: vec![0; RECEIVE_BYTES],
            start: 0,
            end: 0,
            position: 0,
            fds: VecDeque::new(),
            skipping: None,
        }
    }

    /// Where to receive to. Never empty.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        // A message that began goes on at the front, with room for the whole of it: limited by what is kept at all.
        let wanted = self.header().map_or(HEADER_BYTES, |header| bytes_of(&header).min(self.limit));
        if self.start + wanted > self.buffer.len() || self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            let needed = wanted.max(self.end + 1);
            if needed > self.buffer.len() {
                self.buffer.resize(needed, 0);
            }
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Says that `bytes` bytes were received to [`Framer::space`], and `fds` with them. `lost` says that the kernel
    /// dropped descriptors for want of room (`MSG_CTRUNC`).
    pub fn received(&mut self, bytes: usize, fds: Vec<OwnedFd>, lost: bool) {
        self.end = self.end.saturating_add(bytes).min(self.buffer.len());
        if lost || !fds.is_empty() {
            let end = self.position + (self.end - self.start) as u64;
            self.fds.push_back(Received { end, fds, lost });
        }
    }

    /// Takes the next message to `message`, whose buffers are used again. False if it is not all there yet.
    ///
    /// # Errors
    /// [`Unframed`]; nothing sensible can come after that.
    pub fn take(&mut self, message: &mut Message) -> Result<bool, Unframed> {
        message.fds.clear();
        message.body.clear();
        message.damage = None;
        if !self.skip() {
            return Ok(false);
        }
        if let Some((header, _)) = self.skipping.take() {
            message.header = header;
            let (is, most) = (header.message_bytes, self.limit);
            message.damage = Some(Refusal::new(Errno::MSGSIZE, format!("{is} bytes are more than {most}")));
            return Ok(true);
        }
        let Some(header) = self.header() else { return self.not_yet() };
        let length = bytes_of(&header);
        if length < HEADER_BYTES {
            return Err(Unframed::Short(header.message_bytes));
        }
        if length > self.limit {
            self.skipping = Some((header, length as u64));
            return self.take(message);
        }
        let Some(bytes) = self.buffer.get(self.start..self.end).and_then(|all| all.get(..length)) else {
            return self.not_yet();
        };
        message.header = header;
        message.body.extend_from_slice(bytes.get(HEADER_BYTES..).unwrap_or_default());
        self.consume(length);
        self.take_fds(message)?;
        Ok(true)
    }

    /// Bytes that came of a message that began and is not all there, those that were dropped included.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        let dropped = self.skipping.map_or(0, |(header, left)| u64::from(header.message_bytes) - left);
        usize::try_from(dropped).unwrap_or(usize::MAX).saturating_add(self.end - self.start)
    }

    /// Bytes that are held to receive to.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    fn header(&self) -> Option<Header> {
        let bytes = self.buffer.get(self.start..self.end)?;
        Some(Header::decode(*bytes.first_chunk::<HEADER_BYTES>()?))
    }

    fn consume(&mut self, bytes: usize) {
        self.start = self.start.saturating_add(bytes).min(self.end);
        self.position += bytes as u64;
    }

    /// Drops what is there of a message that is too long. True if there is no such message, or if all of it is gone.
    fn skip(&mut self) -> bool {
        let Some((header, left)) = self.skipping else { return true };
        let here = self.end - self.start;
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(here);
        self.consume(now);
        // The descriptors go with the bytes.
        while self.fds.front().is_some_and(|received| received.end <= self.position) {
            self.fds.pop_front();
        }
        let left = left - now as u64;
        self.skipping = Some((header, left));
        left == 0
    }

    /// A message of which a part is missing: a sender that adds descriptors to it without end is stopped.
    fn not_yet(&self) -> Result<bool, Unframed> {
        let waiting: usize =
            self.fds.iter().map(|received| received.fds.len() + usize::from(received.lost)).sum();
        if waiting > SCM_MAX_FDS { Err(Unframed::Descriptors) } else { Ok(false) }
    }

    /// Gives the message that was just consumed its descriptors.
    fn take_fds(&mut self, message: &mut Message) -> Result<(), Unframed> {
        while self.fds.front().is_some_and(|received| received.end <= self.position) {
            let Some(received) = self.fds.pop_front() else { break };
            message.fds.extend(received.fds);
            if received.lost {
                let why = "descriptors were lost: too many are open here";
                message.damage = Some(Refusal::new(Errno::MFILE, why));
            }
        }
        if message.fds.len() > SCM_MAX_FDS { Err(Unframed::Descriptors) } else { Ok(()) }
    }
}

fn bytes_of(header: &Header) -> usize {
    usize::try_from(header.message_bytes).unwrap_or(usize::MAX)
}
