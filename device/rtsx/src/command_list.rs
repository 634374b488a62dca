//! Command lists: internal register accesses in guest memory, run one after the other.
//!
//! A list is little-endian dwords: type in 31:30, the register's address in 29:16, mask in 15:8, data in 7:0. Every read
//! and every check gives one byte, and these go back to the start of the same buffer when the list ends.
//!
//! A check waits while the SD host has something under way: the driver starts a transfer in a list, checks for its end in
//! the same list, and only then sets the DMA going that the transfer needs.

use sdmorph_pci::Ctx;

use crate::chip::Chip;

/// Longest list in bytes. The driver's buffer has 1024; a list that is longer than a page is a guest's mistake.
pub const MAX_BYTES: usize = 4096;

const COMMAND_BYTES: usize = 4;
const READ: u32 = 0;
const WRITE: u32 = 1;
const CHECK: u32 = 2;

/// A list that has been fetched and has not ended.
#[derive(Debug, Clone)]
pub(crate) struct CommandList {
    base: u32,
    bytes: Vec<u8>,
    /// Commands that are done.
    done: usize,
    /// Whether answers go back to the buffer.
    answered: bool,
    answers: Vec<u8>,
}

/// How far a list has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It waits at a check for the SD host; whether it came further before.
    Waits { advanced: bool },
    /// It has ended, and its answers are in the buffer.
    Ended,
    /// It has failed. What came before has been done, and is answered.
    Failed,
}

impl CommandList {
    /// Fetches the list of `length` bytes at `base`. `None` if it is not whole dwords on a dword boundary, is too long, or
    /// cannot be read by DMA.
    pub(crate) fn fetch(ctx: &mut Ctx<'_>, base: u32, length: usize, answered: bool) -> Option<Self> {
        if length > MAX_BYTES || length % COMMAND_BYTES != 0 || base as usize % COMMAND_BYTES != 0 {
            return None;
        }
        let mut bytes = vec![0; length];
        // Fetching nothing is no DMA, and a list of no commands has nothing that could fail.
        if length != 0 && ctx.dma_read(u64::from(base), &mut bytes).is_err() {
            return None;
        }
        let answers = Vec::with_capacity(length / COMMAND_BYTES);
        Some(Self { base, bytes, done: 0, answered, answers })
    }

    /// Runs it until it waits or ends.
    ///
    /// It fails if a command has no type, if a check does not hold with the SD host at rest, or if its answers cannot be
    /// written.
    ///
    /// DEVNOTE: on hardware a check waits until it holds, or for ever. Here nothing but the SD host takes time, so a check
    /// that does not hold without it never will.
    pub(crate) fn run(&mut self, chip: &mut Chip, ctx: &mut Ctx<'_>) -> Progress {
        let first = self.done;
        let ended_well = loop {
            let Some(command) = self.next() else { break true };
            let address = command >> 16;
            let [data, mask, ..] = command.to_le_bytes();
            match command >> 30 {
                READ => self.answers.push(chip.read(ctx, address)),
                WRITE => chip.write(ctx, address, mask, data),
                CHECK => {
                    if chip.transfer.is_under_way() && chip.shown(ctx, address) & mask != data & mask {
                        return Progress::Waits { advanced: self.done != first };
                    }
                    let value = chip.read(ctx, address);
                    self.answers.push(value);
                    if value & mask != data & mask {
                        break false;
                    }
                }
                _ => break false,
            }
            self.done += 1;
        };
        if self.answered
            && !self.answers.is_empty()
            && ctx.dma_write(u64::from(self.base), &self.answers).is_err()
        {
            return Progress::Failed;
        }
        if ended_well { Progress::Ended } else { Progress::Failed }
    }

    fn next(&self) -> Option<u32> {
        let bytes = self.bytes.chunks_exact(COMMAND_BYTES).nth(self.done)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }
}
