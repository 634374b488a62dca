//! What is asked of a medium before anything is done: is it there, and may it be changed?

use sdmorph_pci::media::{BLOCK_BYTES, MAX_TRANSFER_BLOCKS, Media, MediaError, MediaRequest};

/// The sort of a request, for counters and log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Flush,
    Discard,
}

impl Kind {
    pub(crate) fn of(request: &MediaRequest) -> Self {
        match request {
            MediaRequest::Read { .. } => Kind::Read,
            MediaRequest::Write { .. } => Kind::Write,
            MediaRequest::Flush => Kind::Flush,
            MediaRequest::Discard { .. } => Kind::Discard,
        }
    }

    /// For a person.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Flush => "flush",
            Kind::Discard => "discard",
        }
    }
}

/// Refuses what cannot be done on `medium` whatever its state: blocks that are not there, changes of what is
/// read-only, and transfers of no block, of a part of one, or of more than [`MAX_TRANSFER_BLOCKS`].
pub(crate) fn check(medium: &impl Media, request: &MediaRequest) -> Result<(), MediaError> {
    let (first, count) = match request {
        MediaRequest::Flush => return Ok(()),
        MediaRequest::Read { first, count, .. } => (*first, transfer(u64::from(*count))?),
        MediaRequest::Write { .. } | MediaRequest::Discard { .. } if medium.is_read_only() => {
            return Err(MediaError::ReadOnly);
        }
        MediaRequest::Write { first, data } if data.len() % BLOCK_BYTES == 0 => {
            (*first, transfer((data.len() / BLOCK_BYTES) as u64)?)
        }
        MediaRequest::Write { .. } => return Err(MediaError::OutOfRange),
        MediaRequest::Discard { first, count } => (*first, *count),
    };
    match first.checked_add(count) {
        Some(end) if end <= medium.blocks() => Ok(()),
        _ => Err(MediaError::OutOfRange),
    }
}

fn transfer(count: u64) -> Result<u64, MediaError> {
    if (1..=u64::from(MAX_TRANSFER_BLOCKS)).contains(&count) {
        Ok(count)
    } else {
        Err(MediaError::OutOfRange)
    }
}
