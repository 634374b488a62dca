//! Scatter gather lists (4.4).

use sdmorph_pci::Ctx;

use crate::segments::Segments;
use crate::status::Status;

/// Bytes of a descriptor.
const DESCRIPTOR_BYTES: u32 = 16;
/// Most descriptors of one command, those of segments included; Linux makes 128. What a guest can have read for nothing is
/// limited by it.
pub(crate) const MAX_DESCRIPTORS: u32 = 1024;

/// Bits 3:0 of the identifier byte are the sub type: 0 is an address.
const SUB_TYPE_ADDRESS: u8 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    DataBlock,
    BitBucket,
    Segment,
    LastSegment,
}

#[derive(Debug, Clone, Copy)]
struct Descriptor {
    kind: Kind,
    address: u64,
    length: u32,
}

impl Descriptor {
    fn parse([address, rest]: [u64; 2]) -> Result<Self, Status> {
        let [l0, l1, l2, l3, _, _, _, identifier] = rest.to_le_bytes();
        let kind = match identifier >> 4 {
            0 => Kind::DataBlock,
            1 => Kind::BitBucket,
            2 => Kind::Segment,
            3 => Kind::LastSegment,
            _ => return Err(Status::SGL_TYPE_INVALID),
        };
        if identifier & 0xf != SUB_TYPE_ADDRESS {
            return Err(Status::SGL_TYPE_INVALID);
        }
        Ok(Self { kind, address, length: u32::from_le_bytes([l0, l1, l2, l3]) })
    }
}

/// Follows the SGL that begins with the descriptor in a command for `length` bytes. It may have room for more; with less the
/// command fails. A bit bucket takes data that goes to the guest; it has none to give (4.4).
pub(crate) fn follow(
    ctx: &mut Ctx<'_>,
    first: [u64; 2],
    length: usize,
    to_guest: bool,
) -> Result<Segments, Status> {
    let mut segments = Segments::default();
    let mut left = length;
    let mut descriptor = Descriptor::parse(first)?;
    let mut count = 1u32;
    // Each turn follows one segment; a data block in the command itself is all of its SGL.
    loop {
        let is_last = match descriptor.kind {
            Kind::DataBlock | Kind::BitBucket => {
                take(&mut segments, &mut left, descriptor, to_guest);
                break;
            }
            Kind::Segment => false,
            Kind::LastSegment => true,
        };
        let Descriptor { address, length: bytes, .. } = descriptor;
        if bytes == 0 || bytes % DESCRIPTOR_BYTES != 0 {
            return Err(Status::INVALID_SGL_SEGMENT);
        }
        count = count.saturating_add(bytes / DESCRIPTOR_BYTES);
        if count > MAX_DESCRIPTORS {
            return Err(Status::INVALID_SGL_COUNT);
        }
        let descriptors = read(ctx, address, bytes)?;
        let mut next = None;
        let mut rest = descriptors.into_iter().peekable();
        while let Some(words) = rest.next() {
            let found = Descriptor::parse(words)?;
            match found.kind {
                Kind::DataBlock | Kind::BitBucket => take(&mut segments, &mut left, found, to_guest),
                // Only the last descriptor of a segment that is not the last one leads to another.
                Kind::Segment | Kind::LastSegment if is_last || rest.peek().is_some() => {
                    return Err(Status::INVALID_SGL_SEGMENT);
                }
                Kind::Segment | Kind::LastSegment => next = Some(found),
            }
        }
        match next {
            Some(found) => descriptor = found,
            None if is_last => break,
            None => return Err(Status::INVALID_SGL_SEGMENT),
        }
    }
    if left > 0 { Err(Status::DATA_SGL_LENGTH_INVALID) } else { Ok(segments) }
}

fn take(segments: &mut Segments, left: &mut usize, descriptor: Descriptor, to_guest: bool) {
    if descriptor.kind == Kind::BitBucket && !to_guest {
        return;
    }
    let bytes = (descriptor.length as usize).min(*left);
    *left -= bytes;
    if bytes > 0 {
        let address = (descriptor.kind == Kind::DataBlock).then_some(descriptor.address);
        segments.push(address, bytes);
    }
}

fn read(ctx: &mut Ctx<'_>, address: u64, bytes: u32) -> Result<Vec<[u64; 2]>, Status> {
    let mut data = vec![0; bytes as usize];
    ctx.dma_read(address, &mut data).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
    let words = |bytes: &[u8]| {
        let word = |at: usize| {
            let place = bytes.get(at..).and_then(|rest| rest.first_chunk());
            place.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        [word(0), word(8)]
    };
    Ok(data.chunks_exact(DESCRIPTOR_BYTES as usize).map(words).collect())
}
