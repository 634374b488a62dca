//! Command lists: internal register accesses in guest memory, run one after the other.
//!
//! A list is little-endian dwords: type in 31:30, the register's address in 29:16, mask in 15:8, data in 7:0. Every read
//! and every check gives one byte, and these go back to the start of the same buffer when the list ends.

use sdmorph_pci::Ctx;

use crate::chip::Chip;

/// Longest list in bytes. The driver's buffer has 1024; a list that is longer than a page is a guest's mistake.
pub const MAX_BYTES: usize = 4096;

const COMMAND_BYTES: usize = 4;
const READ: u32 = 0;
const WRITE: u32 = 1;
const CHECK: u32 = 2;

/// Runs the list of `length` bytes at `base`; false if it failed.
///
/// It fails if it is not whole dwords on a dword boundary or is too long, if it cannot be read or answered by DMA, if a
/// command has no type, or if a check does not hold. What comes before the failure has been done, and is answered.
///
/// DEVNOTE: on hardware a check waits until it holds. Everything here has ended when its register write returns, so a
/// check that does not hold never will.
pub(crate) fn run(chip: &mut Chip, ctx: &mut Ctx<'_>, base: u32, length: usize, answer: bool) -> bool {
    if length > MAX_BYTES || length % COMMAND_BYTES != 0 || base as usize % COMMAND_BYTES != 0 {
        return false;
    }
    let mut list = vec![0; length];
    // Fetching nothing is no DMA, and a list of no commands has nothing that could fail.
    if length != 0 && ctx.dma_read(u64::from(base), &mut list).is_err() {
        return false;
    }
    let mut answers = Vec::with_capacity(length / COMMAND_BYTES);
    let ended_well = list.chunks_exact(COMMAND_BYTES).all(|bytes| {
        let command = bytes.iter().rev().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
        step(chip, ctx, command, &mut answers)
    });
    if answer && !answers.is_empty() && ctx.dma_write(u64::from(base), &answers).is_err() {
        return false;
    }
    ended_well
}

fn step(chip: &mut Chip, ctx: &mut Ctx<'_>, command: u32, answers: &mut Vec<u8>) -> bool {
    let address = command >> 16;
    let [data, mask, ..] = command.to_le_bytes();
    match command >> 30 {
        READ => {
            answers.push(chip.read(ctx, address));
            true
        }
        WRITE => {
            chip.write(ctx, address, mask, data);
            true
        }
        CHECK => {
            let value = chip.read(ctx, address);
            answers.push(value);
            value & mask == data & mask
        }
        _ => false,
    }
}
