//! The namespace: blocks of the medium in one of two sizes.

use std::ops::Range;

use sdmorph_pci::media::BLOCK_BYTES;

use crate::status::Status;

/// The identifier of the only namespace.
pub(crate) const NAMESPACE: u32 = 1;

/// An LBA format (figure 247).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    /// LBADS: blocks have 2^this bytes.
    pub(crate) block_bytes_log2: u8,
    /// RP: relative performance, 0 is best.
    pub(crate) performance: u8,
}

/// The formats, by their number: the one of SD, and the one that Linux's page cache likes best.
pub(crate) const FORMATS: [Format; 2] =
    [Format { block_bytes_log2: 9, performance: 0 }, Format { block_bytes_log2: 12, performance: 0 }];

/// How the medium's blocks are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Namespace {
    /// Blocks of the medium.
    media_blocks: u64,
    format: u8,
    /// Format NVM is under way.
    pub(crate) is_being_formatted: bool,
}

impl Namespace {
    /// A namespace of this many blocks of the medium, with blocks of 512 bytes.
    pub(crate) fn new(media_blocks: u64) -> Self {
        Self { media_blocks, format: 0, is_being_formatted: false }
    }

    /// The number of the format in use.
    pub(crate) fn format(&self) -> u8 {
        self.format
    }

    /// Changes the format; one that is not there changes nothing.
    pub(crate) fn set_format(&mut self, format: u8) {
        if usize::from(format) < FORMATS.len() {
            self.format = format;
        }
    }

    fn block_bytes_log2(&self) -> u8 {
        FORMATS.get(usize::from(self.format)).map_or(9, |format| format.block_bytes_log2)
    }

    /// Bytes of a logical block.
    pub(crate) fn block_bytes(&self) -> usize {
        1 << self.block_bytes_log2()
    }

    /// Logical blocks.
    pub(crate) fn blocks(&self) -> u64 {
        self.media_blocks / self.media_blocks_per_block()
    }

    fn media_blocks_per_block(&self) -> u64 {
        (self.block_bytes() / BLOCK_BYTES) as u64
    }

    /// The medium's blocks that hold `count` logical blocks from `first` on.
    pub(crate) fn media_range(&self, first: u64, count: u64) -> Result<Range<u64>, Status> {
        let end = first.checked_add(count).filter(|end| *end <= self.blocks());
        let end = end.ok_or(Status::LBA_OUT_OF_RANGE)?;
        let scale = self.media_blocks_per_block();
        Ok(first * scale..end * scale)
    }

    /// All of the medium's blocks.
    pub(crate) fn media_blocks(&self) -> u64 {
        self.media_blocks
    }
}
