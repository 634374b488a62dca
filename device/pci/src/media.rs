//! The seam between a storage device (an SD card, an NVMe namespace) and what keeps its blocks.
//!
//! A medium may end a request at once or later. Later means: whoever owns the machine is told from outside, by a thread
//! of the medium's own, and has every function woken ([`PciFunction::wake`](crate::PciFunction::wake)), which then asks
//! for what has ended. So a medium in memory makes a machine without threads, and the same calls give the same results.

use std::fmt;

/// Bytes of a block. Devices with larger blocks use several.
pub const BLOCK_BYTES: usize = 512;

/// Most blocks of one [`MediaRequest::Read`] or [`MediaRequest::Write`]: 1 MiB. A device cuts what is longer.
pub const MAX_TRANSFER_BLOCKS: u32 = 2048;

/// Blocks of [`BLOCK_BYTES`], numbered from 0.
///
/// Requests under way at the same time may be done in any order, also those for the same block; who needs an order waits.
pub trait Media: fmt::Debug + Send {
    /// How many blocks there are. Never changes.
    fn blocks(&self) -> u64;

    /// Whether every request that changes something ends with [`MediaError::ReadOnly`].
    fn is_read_only(&self) -> bool;

    /// Begins a request. `Some` if it has ended already; otherwise it ends later, and [`Media::ended`] gives it back under
    /// `tag`, which is the caller's to choose. Never blocks. Any block number is legal to ask for.
    fn begin(&mut self, tag: u64, request: MediaRequest) -> Option<MediaResult>;

    /// One of the requests that have ended since, with its tag; `None` if no more have.
    fn ended(&mut self) -> Option<(u64, MediaResult)>;
}

/// What a medium is asked for.
#[derive(Clone, PartialEq, Eq)]
pub enum MediaRequest {
    /// The contents of `count` blocks from `first` on.
    Read {
        /// First block.
        first: u64,
        /// How many, from 1 to [`MAX_TRANSFER_BLOCKS`].
        count: u32,
        /// A buffer to put them into, of any length and with any contents: it may be a new one, and is used again if it
        /// is not.
        buffer: Vec<u8>,
    },
    /// New contents, for as many blocks as `data` has.
    Write {
        /// First block.
        first: u64,
        /// Whole blocks, from 1 to [`MAX_TRANSFER_BLOCKS`].
        data: Vec<u8>,
    },
    /// What was written by requests that have ended is to survive a crash of the host.
    Flush,
    /// The contents of these blocks are not wanted any more; they read as zeros from then on.
    Discard {
        /// First block.
        first: u64,
        /// How many.
        count: u64,
    },
}

/// How a request has ended: with the contents of what was read, and with the emptied or the same buffer for others.
pub type MediaResult = Result<Vec<u8>, MediaError>;

/// Why a request was not done. Which blocks of a write that failed have new contents is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum MediaError {
    /// A block of the request is not there.
    #[error("no such block")]
    OutOfRange,
    /// Nothing can be changed.
    #[error("the medium is read-only")]
    ReadOnly,
    /// There is no room for it: the host's file system is full, or a limit is reached.
    #[error("no space left for the contents")]
    Full,
    /// The host cannot do it. The medium has logged why.
    #[error("input/output error")]
    Io,
}

impl fmt::Debug for MediaRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MediaRequest::Read { first, count, .. } => write!(f, "Read {{ {count} from {first} }}"),
            MediaRequest::Write { first, data } => {
                write!(f, "Write {{ {} from {first} }}", data.len() / BLOCK_BYTES)
            }
            MediaRequest::Flush => f.write_str("Flush"),
            MediaRequest::Discard { first, count } => write!(f, "Discard {{ {count} from {first} }}"),
        }
    }
}
