//! Physical region pages (4.3).

use sdmorph_pci::Ctx;

use crate::segments::Segments;
use crate::status::Status;

/// Bytes of an entry.
const ENTRY_BYTES: u64 = 8;

/// Follows PRP1 and PRP2 for `length` bytes, which is not zero and at most what MDTS allows.
///
/// The lists that are read are as long as the length needs, so their number is limited.
pub(crate) fn follow(
    ctx: &mut Ctx<'_>,
    [first, second]: [u64; 2],
    length: usize,
    page_bytes: u64,
) -> Result<Segments, Status> {
    let in_page = page_bytes - 1;
    // Bits 1:0 of the first entry's offset are zero (figure 108).
    if first & 3 != 0 {
        return Err(Status::PRP_OFFSET_INVALID);
    }
    let mut segments = Segments::default();
    let mut left = length as u64;
    let take = |segments: &mut Segments, left: &mut u64, address: u64, most: u64| {
        let bytes = most.min(*left);
        segments.push(Some(address), bytes as usize);
        *left -= bytes;
    };
    take(&mut segments, &mut left, first, page_bytes - (first & in_page));
    if left == 0 {
        return Ok(segments);
    }
    if left <= page_bytes {
        if second & in_page != 0 {
            return Err(Status::PRP_OFFSET_INVALID);
        }
        take(&mut segments, &mut left, second, page_bytes);
        return Ok(segments);
    }
    let mut list = second;
    while left > 0 {
        if list & (ENTRY_BYTES - 1) != 0 {
            return Err(Status::PRP_OFFSET_INVALID);
        }
        let room = (page_bytes - (list & in_page)) / ENTRY_BYTES;
        let wanted = left.div_ceil(page_bytes);
        // The last entry of a page leads to the next list if more is to come than the page has room for.
        let chained = wanted > room;
        let entries = read(ctx, list, wanted.min(room))?;
        let pages = if chained { entries.len().saturating_sub(1) } else { entries.len() };
        for entry in entries.iter().take(pages) {
            if entry & in_page != 0 {
                return Err(Status::PRP_OFFSET_INVALID);
            }
            take(&mut segments, &mut left, *entry, page_bytes);
        }
        if chained {
            list = entries.last().copied().unwrap_or_default();
            // Only the first list may begin inside a page; so each one after it makes progress.
            if list & in_page != 0 {
                return Err(Status::PRP_OFFSET_INVALID);
            }
        }
    }
    Ok(segments)
}

fn read(ctx: &mut Ctx<'_>, address: u64, entries: u64) -> Result<Vec<u64>, Status> {
    let mut bytes = vec![0; (entries * ENTRY_BYTES) as usize];
    ctx.dma_read(address, &mut bytes).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
    let entry = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    Ok(bytes.chunks_exact(ENTRY_BYTES as usize).map(entry).collect())
}
