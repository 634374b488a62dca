//! A medium in memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use sdmorph_pci::media::{BLOCK_BYTES, Media, MediaRequest, MediaResult};

use crate::request::{Kind, check};
use crate::status::{By, MediaStatus, Record};

/// Blocks of a page, the unit that memory is taken in.
const PAGE_BLOCKS: u64 = 8;
const PAGE_BYTES: usize = PAGE_BLOCKS as usize * BLOCK_BYTES;

/// Blocks in memory. Every request ends at once, and the same requests always give the same results.
///
/// It is sparse: what was never written, was written with zeros or was discarded takes no memory, so it can be as large as
/// one likes. What it holds is limited, in pages of 4096 bytes with anything but zeros in them; a write that needs more
/// changes nothing and ends with [`MediaError::Full`](sdmorph_pci::MediaError::Full).
#[derive(Debug)]
pub struct RamMedia {
    blocks: u64,
    read_only: bool,
    /// Most of [`RamMedia::held_bytes`].
    limit_bytes: u64,
    /// By number, [`PAGE_BYTES`] each. A page that is not here is all zeros.
    pages: BTreeMap<u64, Box<[u8]>>,
    record: Arc<Record>,
}

impl RamMedia {
    /// `blocks` blocks of zeros, which may come to hold `limit_bytes` of contents.
    #[must_use]
    pub fn new(blocks: u64, limit_bytes: u64) -> Self {
        let record = Arc::new(Record::new("ram", None, blocks, false));
        Self { blocks, read_only: false, limit_bytes, pages: BTreeMap::new(), record }
    }

    /// A medium with these contents, in as many blocks as they need; the last one is filled up with zeros. It may come to
    /// hold `limit_bytes`, and these contents in any case.
    #[must_use]
    pub fn from_bytes(contents: &[u8], limit_bytes: u64) -> Self {
        let mut medium = Self::new(contents.len().div_ceil(BLOCK_BYTES) as u64, limit_bytes);
        for (number, piece) in (0u64..).zip(contents.chunks(PAGE_BYTES)) {
            if piece.iter().any(|byte| *byte != 0) {
                let mut page = piece.to_vec();
                page.resize(PAGE_BYTES, 0);
                medium.pages.insert(number, page.into_boxed_slice());
            }
        }
        medium.limit_bytes = medium.limit_bytes.max(medium.held_bytes());
        medium
    }

    /// The same medium, which nothing can change any more.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self.record = Arc::new(Record::new("ram", None, self.blocks, true));
        self
    }

    /// Memory that the contents take, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        (self.pages.len() * PAGE_BYTES) as u64
    }

    /// Tells about this medium from elsewhere.
    #[must_use]
    pub fn status(&self) -> MediaStatus {
        MediaStatus::new(Arc::clone(&self.record))
    }

    fn read(&self, first: u64, count: u64, mut data: Vec<u8>) -> Vec<u8> {
        data.clear();
        data.reserve(count as usize * BLOCK_BYTES);
        for piece in pieces(first, first.saturating_add(count)) {
            match self.pages.get(&piece.page).and_then(|page| page.get(piece.start..piece.end)) {
                Some(contents) => data.extend_from_slice(contents),
                None => data.resize(data.len() + (piece.end - piece.start), 0),
            }
        }
        data
    }

    fn write(&mut self, first: u64, data: &[u8]) -> io::Result<()> {
        let end = first.saturating_add((data.len() / BLOCK_BYTES) as u64);
        let mut places = Vec::new();
        let mut rest = data;
        for piece in pieces(first, end) {
            let Some((contents, more)) = rest.split_at_checked(piece.end - piece.start) else { break };
            rest = more;
            // Zeros where nothing is are there already.
            if self.pages.contains_key(&piece.page) || contents.iter().any(|byte| *byte != 0) {
                places.push((piece, contents));
            }
        }
        let new = places.iter().filter(|(piece, _)| !self.pages.contains_key(&piece.page)).count();
        if self.held_bytes().saturating_add((new * PAGE_BYTES) as u64) > self.limit_bytes {
            let text = format!("the memory may hold {} bytes of contents", self.limit_bytes);
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        for (piece, contents) in places {
            let page = self.pages.entry(piece.page).or_insert_with(|| vec![0; PAGE_BYTES].into_boxed_slice());
            if let Some(place) = page.get_mut(piece.start..piece.end) {
                place.copy_from_slice(contents);
            }
        }
        Ok(())
    }

    fn discard(&mut self, first: u64, count: u64) {
        let end = first.saturating_add(count);
        let whole = first.div_ceil(PAGE_BLOCKS)..end / PAGE_BLOCKS;
        if !whole.is_empty() {
            // By the pages that there are, not by those that could be: the range may be enormous.
            let numbers: Vec<u64> = self.pages.range(whole.clone()).map(|(number, _)| *number).collect();
            for number in numbers {
                self.pages.remove(&number);
            }
        }
        for number in [first / PAGE_BLOCKS, end / PAGE_BLOCKS] {
            let page_first = number.saturating_mul(PAGE_BLOCKS);
            let from = first.max(page_first);
            let to = end.min(page_first.saturating_add(PAGE_BLOCKS));
            if from >= to {
                continue;
            }
            let place = byte_in_page(from - page_first)..byte_in_page(to - page_first);
            let Some(page) = self.pages.get_mut(&number) else { continue };
            if let Some(place) = page.get_mut(place) {
                place.fill(0);
            }
            if page.iter().all(|byte| *byte == 0) {
                self.pages.remove(&number);
            }
        }
    }

    fn perform(&mut self, request: MediaRequest) -> io::Result<(Vec<u8>, u64)> {
        match request {
            MediaRequest::Read { first, count, buffer } => {
                let data = self.read(first, u64::from(count), buffer);
                let bytes = data.len() as u64;
                Ok((data, bytes))
            }
            MediaRequest::Write { first, data } => {
                self.write(first, &data)?;
                let bytes = data.len() as u64;
                Ok((data, bytes))
            }
            MediaRequest::Flush => Ok((Vec::new(), 0)),
            MediaRequest::Discard { first, count } => {
                self.discard(first, count);
                Ok((Vec::new(), count.saturating_mul(BLOCK_BYTES as u64)))
            }
        }
    }
}

impl Media for RamMedia {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn begin(&mut self, _tag: u64, request: MediaRequest) -> Option<MediaResult> {
        if let Err(error) = check(self, &request) {
            self.record.refused();
            return Some(Err(error));
        }
        let kind = Kind::of(&request);
        let (offset, bytes) = match &request {
            MediaRequest::Write { first, data } => {
                (first.saturating_mul(BLOCK_BYTES as u64), data.len() as u64)
            }
            _ => (0, 0),
        };
        Some(match self.perform(request) {
            Ok((data, bytes)) => {
                self.record.done(kind, bytes, By::Caller);
                Ok(data)
            }
            Err(error) => Err(self.record.failed(kind, offset, bytes, &error, By::Caller)),
        })
    }

    fn ended(&mut self) -> Option<(u64, MediaResult)> {
        None
    }
}

/// The part of a run of blocks that is in one page: bytes of it.
struct Piece {
    page: u64,
    start: usize,
    end: usize,
}

/// Cuts the blocks from `first` up to `end` at the borders of pages.
fn pieces(first: u64, end: u64) -> impl Iterator<Item = Piece> {
    let mut next = first;
    std::iter::from_fn(move || {
        let page = next / PAGE_BLOCKS;
        let page_first = page * PAGE_BLOCKS;
        let stop = end.min(page_first.saturating_add(PAGE_BLOCKS));
        let piece = Piece {
            page,
            start: byte_in_page(next - page_first),
            end: byte_in_page(stop.saturating_sub(page_first)),
        };
        (next < end).then(|| {
            next = stop;
            piece
        })
    })
}

/// Where a block of a page begins in it; `block` is at most [`PAGE_BLOCKS`].
fn byte_in_page(block: u64) -> usize {
    block as usize * BLOCK_BYTES
}

#[cfg(test)]
mod tests {
    use sdmorph_pci::MediaError;

    use super::*;

    fn read(medium: &mut RamMedia, first: u64, count: u32) -> MediaResult {
        medium.begin(0, MediaRequest::Read { first, count, buffer: Vec::new() }).unwrap()
    }

    fn write(medium: &mut RamMedia, first: u64, data: &[u8]) -> MediaResult {
        medium.begin(0, MediaRequest::Write { first, data: data.to_vec() }).unwrap()
    }

    fn discard(medium: &mut RamMedia, first: u64, count: u64) -> MediaResult {
        medium.begin(0, MediaRequest::Discard { first, count }).unwrap()
    }

    #[test]
    fn memory_is_taken_for_contents_only() {
        let mut medium = RamMedia::new(u64::MAX, 1 << 20);
        assert_eq!(medium.held_bytes(), 0);
        write(&mut medium, 1 << 60, &[0; 8192]).unwrap();
        assert_eq!(medium.held_bytes(), 0, "zeros are there already");
        write(&mut medium, u64::MAX - 1, &[7; 512]).unwrap();
        assert_eq!(medium.held_bytes(), 4096);
        assert_eq!(read(&mut medium, u64::MAX - 2, 2).unwrap(), [[0; 512], [7; 512]].concat());
        discard(&mut medium, 0, u64::MAX).unwrap();
        assert_eq!(medium.held_bytes(), 0);
        assert_eq!(read(&mut medium, u64::MAX - 2, 2).unwrap(), [0; 1024]);
    }

    #[test]
    fn write_beyond_the_limit_changes_nothing() {
        let mut medium = RamMedia::new(1 << 32, 8192);
        write(&mut medium, 7, &[1; 1024]).unwrap();
        assert_eq!(medium.held_bytes(), 8192);
        assert_eq!(write(&mut medium, 15, &[2; 1024]), Err(MediaError::Full));
        assert_eq!(read(&mut medium, 15, 2).unwrap(), [0; 1024]);
        write(&mut medium, 0, &[3; 512 * 16]).unwrap();
        discard(&mut medium, 0, 8).unwrap();
        write(&mut medium, 100, &[4; 512]).unwrap();
        let info = medium.status().info();
        assert_eq!((info.writes, info.errors, info.discards), (3, 1, 1));
        assert!(info.last_error.unwrap().contains("8192 bytes"));
    }

    #[test]
    fn part_of_a_page_can_be_discarded() {
        let mut medium = RamMedia::from_bytes(&[9; 4 * 4096], 0);
        discard(&mut medium, 5, 14).unwrap();
        let mut model = vec![9; 4 * 4096];
        model[5 * 512..19 * 512].fill(0);
        assert_eq!(read(&mut medium, 0, 32).unwrap(), model);
        assert_eq!(medium.held_bytes(), 3 * 4096);
        discard(&mut medium, 0, 5).unwrap();
        assert_eq!(medium.held_bytes(), 2 * 4096, "a page of zeros is let go");
    }

    #[test]
    fn contents_fill_up_to_a_whole_block() {
        let mut medium = RamMedia::from_bytes(&[5; 513], 0);
        assert_eq!(medium.blocks(), 2);
        let data = read(&mut medium, 0, 2).unwrap();
        assert_eq!(data[..513], [5; 513]);
        assert_eq!(data[513..], [0; 511]);
        assert_eq!(write(&mut medium, 0, &[6; 1024]), Ok(vec![6; 1024]));
    }

    #[test]
    fn what_can_never_be_done_is_refused() {
        let mut medium = RamMedia::new(100, 1 << 20);
        for (first, count) in [(100, 1), (99, 2), (u64::MAX, 1), (0, 0), (0, 2049), (0, u32::MAX)] {
            assert_eq!(read(&mut medium, first, count), Err(MediaError::OutOfRange), "{first} {count}");
        }
        assert_eq!(write(&mut medium, 99, &[1; 1024]), Err(MediaError::OutOfRange));
        assert_eq!(write(&mut medium, 0, &[]), Err(MediaError::OutOfRange));
        assert_eq!(write(&mut medium, 0, &[1; 100]), Err(MediaError::OutOfRange));
        assert_eq!(discard(&mut medium, 1, u64::MAX), Err(MediaError::OutOfRange));
        assert_eq!(discard(&mut medium, 100, 0), Ok(Vec::new()));
        assert_eq!(medium.status().info().refused, 10);

        let mut medium = medium.read_only();
        assert!(medium.is_read_only());
        assert_eq!(write(&mut medium, 0, &[1; 512]), Err(MediaError::ReadOnly));
        assert_eq!(discard(&mut medium, 0, 1), Err(MediaError::ReadOnly));
        assert_eq!(medium.begin(0, MediaRequest::Flush), Some(Ok(Vec::new())));
        assert_eq!(read(&mut medium, 0, 1), Ok(vec![0; 512]));
    }
}
