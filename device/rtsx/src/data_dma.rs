//! Data transfer by DMA: between the ring buffer behind the SD host and guest memory.
//!
//! HDBAR is the address of a buffer (SDMA) or of a scatter list (ADMA): little-endian entries of 8 bytes, address in 63:32,
//! length and options below, the last one marked. The list is read as a whole when the transfer starts.

use std::collections::VecDeque;

use sdmorph_pci::Ctx;

use crate::bar::hdbctlr;
use crate::model::ScatterFormat;

/// Most entries of a scatter list, with those that do nothing. The driver's table has room for 384.
pub const MAX_ENTRIES: usize = 4096;

const ENTRY_BYTES: u64 = 8;
/// Entries are fetched in pieces that do not cross a boundary of this many bytes: what is in one piece is readable as a
/// whole if its first byte is.
const FETCH_BYTES: u64 = 512;

/// Options of an entry (RTSX_SG_*).
mod option {
    pub(super) const VALID: u64 = 0x01;
    pub(super) const END: u64 = 0x02;
    /// What the entry does, in bits 5:4.
    pub(super) const ACTION: u64 = 0x30;
    pub(super) const NO_OPERATION: u64 = 0x00;
    pub(super) const TRANSFER: u64 = 0x20;
    pub(super) const LINK: u64 = 0x30;
}

/// Nothing more can be moved: an address is no guest memory, or the list is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed;

#[derive(Debug, Clone, Copy)]
struct Segment {
    address: u64,
    bytes: u64,
}

/// A data transfer, or none.
#[derive(Debug, Clone, Default)]
pub(crate) struct DataDma {
    /// What is left. Empty if nothing runs.
    segments: VecDeque<Segment>,
    /// The sum of their lengths.
    left_bytes: u64,
    to_host: bool,
}

impl DataDma {
    /// Starts the transfer that HDBAR and HDBCTLR name.
    pub(crate) fn start(
        &mut self,
        ctx: &mut Ctx<'_>,
        format: ScatterFormat,
        base: u32,
        control: u32,
    ) -> Result<(), Failed> {
        self.stop();
        let segments = match control & hdbctlr::MODE {
            hdbctlr::SDMA => {
                let bytes = u64::from(control & hdbctlr::LENGTH_BYTES);
                VecDeque::from([Segment { address: base.into(), bytes }])
            }
            hdbctlr::ADMA => scatter_list(ctx, format, base)?,
            _ => return Err(Failed),
        };
        self.left_bytes = segments.iter().fold(0, |sum: u64, segment| sum.saturating_add(segment.bytes));
        if self.left_bytes == 0 {
            return Err(Failed);
        }
        self.segments = segments;
        self.to_host = control & hdbctlr::TO_HOST != 0;
        Ok(())
    }

    /// Forgets the transfer.
    pub(crate) fn stop(&mut self) {
        *self = Self::default();
    }

    /// Whether there is something left to move.
    pub(crate) fn is_running(&self) -> bool {
        self.left_bytes != 0
    }

    /// How many bytes can be moved in this direction.
    pub(crate) fn left_bytes(&self, to_host: bool) -> u64 {
        if self.to_host == to_host { self.left_bytes } else { 0 }
    }

    /// Moves `data` to guest memory.
    pub(crate) fn put(&mut self, ctx: &mut Ctx<'_>, mut data: &[u8]) -> Result<(), Failed> {
        while !data.is_empty() {
            let (address, bytes) = self.piece(data.len())?;
            let (now, later) = data.split_at_checked(bytes).ok_or(Failed)?;
            ctx.dma_write(address, now).map_err(|_| Failed)?;
            data = later;
        }
        Ok(())
    }

    /// Takes `count` bytes from guest memory.
    pub(crate) fn take(&mut self, ctx: &mut Ctx<'_>, count: usize) -> Result<Vec<u8>, Failed> {
        let mut data = vec![0; count];
        let mut rest = data.as_mut_slice();
        while !rest.is_empty() {
            let (address, bytes) = self.piece(rest.len())?;
            let (now, later) = rest.split_at_mut_checked(bytes).ok_or(Failed)?;
            ctx.dma_read(address, now).map_err(|_| Failed)?;
            rest = later;
        }
        Ok(data)
    }

    /// The next piece of at most `most` bytes: where it is and how long. It counts as moved.
    fn piece(&mut self, most: usize) -> Result<(u64, usize), Failed> {
        let segment = self.segments.front_mut().ok_or(Failed)?;
        let bytes = segment.bytes.min(most as u64);
        let address = segment.address;
        segment.address = address.saturating_add(bytes);
        segment.bytes -= bytes;
        self.left_bytes -= bytes;
        if segment.bytes == 0 {
            self.segments.pop_front();
        }
        Ok((address, usize::try_from(bytes).map_err(|_| Failed)?))
    }
}

/// The scatter list at `base`. Entries of no length move nothing.
fn scatter_list(ctx: &mut Ctx<'_>, format: ScatterFormat, base: u32) -> Result<VecDeque<Segment>, Failed> {
    let mut segments = VecDeque::new();
    let mut at = u64::from(base);
    if at % ENTRY_BYTES != 0 {
        return Err(Failed);
    }
    let mut count = 0;
    let mut fetched = [0; FETCH_BYTES as usize];
    'fetch: while count < MAX_ENTRIES {
        let piece = (FETCH_BYTES - at % FETCH_BYTES) as usize;
        let bytes = fetched.get_mut(..piece).ok_or(Failed)?;
        ctx.dma_read(at, bytes).map_err(|_| Failed)?;
        for entry in bytes.chunks_exact(ENTRY_BYTES as usize) {
            let entry = entry.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
            at += ENTRY_BYTES;
            count += 1;
            if entry & option::VALID == 0 {
                return Err(Failed);
            }
            let address = entry >> 32;
            match entry & option::ACTION {
                option::TRANSFER => {
                    let bytes = format.length_bytes(entry);
                    if bytes != 0 {
                        segments.push_back(Segment { address, bytes });
                    }
                }
                option::NO_OPERATION => {}
                option::LINK if address % ENTRY_BYTES == 0 => {
                    at = address;
                    continue 'fetch;
                }
                _ => return Err(Failed),
            }
            if entry & option::END != 0 {
                return Ok(segments);
            }
        }
    }
    Err(Failed)
}
