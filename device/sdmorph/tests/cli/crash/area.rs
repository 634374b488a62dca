//! The blocks that are written, and what may be in them.

use std::collections::BTreeSet;
use std::ops::Range;

pub(super) const BLOCK_BYTES: usize = 512;
/// Few blocks, so that each is written often.
pub(super) const BLOCKS: u64 = 256;
/// Blocks of a write, at most: a page.
const MOST_BLOCKS: u64 = 8;

/// What stands in for chance (splitmix64).
pub(super) struct Chance(pub(crate) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// The contents of a block after the write of this number: the two, over and over.
fn contents(block: u64, number: u64) -> Vec<u8> {
    let stamp = [block.to_le_bytes(), number.to_le_bytes()].concat();
    stamp.iter().copied().cycle().take(BLOCK_BYTES).collect()
}

/// What may be in a block.
#[derive(Debug, Clone)]
struct Block {
    /// The number of the last write that was acknowledged as safe.
    safe: u64,
    /// Of the last write that has ended, whether it is safe or not.
    ended: u64,
    /// Of all writes since `safe`, with that one. 0 is no write: zeros.
    written: BTreeSet<u64>,
}

impl Block {
    fn holding(number: u64) -> Self {
        Self { safe: number, ended: number, written: [number].into() }
    }
}

/// A write of some blocks. Its number is in each of them.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) blocks: Range<u64>,
    pub(super) number: u64,
}

impl Write {
    pub(super) fn data(&self) -> Vec<u8> {
        self.blocks.clone().flat_map(|block| contents(block, self.number)).collect()
    }
}

/// All of the blocks.
pub(super) struct Area {
    blocks: Vec<Block>,
    last_number: u64,
}

impl Area {
    pub(super) fn new() -> Self {
        Self { blocks: vec![Block::holding(0); BLOCKS as usize], last_number: 0 }
    }

    /// Some blocks.
    pub(super) fn any_blocks(chance: &mut Chance) -> Range<u64> {
        let count = 1 + chance.below(MOST_BLOCKS);
        let first = chance.below(BLOCKS - count + 1);
        first..first + count
    }

    /// From now on, they may have the contents of this write.
    pub(super) fn write(&mut self, blocks: Range<u64>) -> Write {
        self.last_number += 1;
        let write = Write { blocks, number: self.last_number };
        for block in self.of(&write) {
            block.written.insert(write.number);
        }
        write
    }

    fn of(&mut self, write: &Write) -> &mut [Block] {
        &mut self.blocks[write.blocks.start as usize..write.blocks.end as usize]
    }

    /// The write has ended, and a later flush has to make it safe.
    pub(super) fn ended(&mut self, write: &Write) {
        self.of(write).iter_mut().for_each(|block| block.ended = write.number);
    }

    /// The write has ended, and is safe.
    pub(super) fn ended_safely(&mut self, write: &Write) {
        self.ended(write);
        self.of(write).iter_mut().for_each(|block| block.safe = write.number);
    }

    /// What a flush that begins now makes safe.
    pub(super) fn all_ended(&self) -> Vec<u64> {
        self.blocks.iter().map(|block| block.ended).collect()
    }

    /// Such a flush has ended.
    pub(super) fn flushed(&mut self, ended: &[u64]) {
        for (block, number) in self.blocks.iter_mut().zip(ended) {
            block.safe = block.safe.max(*number);
        }
    }

    /// Judges the area, which is all that is known of it from then on.
    pub(super) fn judge(&mut self, area: &[u8], who: &str) {
        for (index, (block, found)) in (0..).zip(self.blocks.iter_mut().zip(area.chunks(BLOCK_BYTES))) {
            let number = u64::from_le_bytes(found[8..16].try_into().unwrap());
            let expected = if number == 0 { vec![0; BLOCK_BYTES] } else { contents(index, number) };
            assert!(found == expected, "{who}: block {index} has what was never written: {:?}", &found[..32]);
            assert!(
                block.written.contains(&number) && number >= block.safe,
                "{who}: block {index} has write {number}, {} was acknowledged as safe, and there were {:?}",
                block.safe,
                block.written
            );
            *block = Block::holding(number);
        }
    }
}
