//! I/O commands (6): what each asks the medium for, and what becomes of the answer.

use std::collections::VecDeque;
use std::ops::Range;

use sdmorph_pci::media::{BLOCK_BYTES, MAX_TRANSFER_BLOCKS};
use sdmorph_pci::{Ctx, MediaRequest, MediaResult};

use crate::Nvme;
use crate::command::{BROADCAST, Command};
use crate::in_flight::Step;
use crate::medium::status_of;
use crate::namespace::NAMESPACE;
use crate::opcode::io;
use crate::segments::Segments;
use crate::status::Status;

/// MDTS: a command moves at most 2^this pages of 4096 bytes (CAP.MPSMIN is 0), which is less than a request of the medium
/// may have.
pub(crate) const MDTS: u8 = 7;
const MAX_TRANSFER_BYTES: usize = 4096 << MDTS;
const _: () = assert!(MAX_TRANSFER_BYTES <= MAX_TRANSFER_BLOCKS as usize * BLOCK_BYTES);

/// Force unit access, in dword 12.
const FUA: u32 = 1 << 30;
/// Dataset Management: attribute deallocate, in dword 11.
const DEALLOCATE: u32 = 1 << 2;
/// Bytes of a range of Dataset Management.
const RANGE_BYTES: usize = 16;

/// What a command does when its request to the medium has ended.
#[derive(Debug)]
pub(crate) enum Work {
    /// The contents go to the guest.
    Read { to: Segments },
    /// The contents are compared with the guest's.
    Compare { with: Segments },
    /// New contents are in; they may have to be flushed.
    Change { flush: bool },
    /// Ranges are deallocated one after another.
    Deallocate { ranges: VecDeque<Range<u64>>, flush: bool },
    /// Blocks are read and thrown away, piece by piece.
    Verify { rest: Range<u64> },
    /// Everything written before is safe.
    Flush,
    /// Format NVM has discarded everything; that is flushed next.
    FormatDiscard { format: u8 },
    /// That is flushed; the new format holds.
    FormatFlush { format: u8 },
    /// The volatile write cache is switched off once it is flushed.
    CacheOff,
}

/// The medium's blocks of a command.
fn count_of(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

impl Nvme {
    /// Begins an I/O command.
    pub(crate) fn execute_io(&mut self, ctx: &mut Ctx<'_>, command: &Command) -> Step {
        self.try_io(ctx, command).unwrap_or_else(|status| Step::Ended(Err(status)))
    }

    fn try_io(&mut self, ctx: &mut Ctx<'_>, command: &Command) -> Result<Step, Status> {
        if !io::TABLE.iter().any(|row| row.opcode == command.opcode) {
            return Err(Status::INVALID_OPCODE);
        }
        // FUSES is 0.
        if command.fused != 0 {
            return Err(Status::INVALID_FIELD);
        }
        let for_all = command.opcode == io::FLUSH && command.namespace == BROADCAST;
        if command.namespace != NAMESPACE && !for_all {
            return Err(Status::INVALID_NAMESPACE);
        }
        if self.namespace.is_being_formatted {
            return Err(Status::FORMAT_IN_PROGRESS);
        }
        match command.opcode {
            io::READ => self.read(ctx, command, |to| Work::Read { to }, true),
            io::COMPARE => self.read(ctx, command, |with| Work::Compare { with }, false),
            io::WRITE => self.write(ctx, command),
            io::WRITE_ZEROES => self.write_zeroes(command),
            io::DATASET_MANAGEMENT => self.dataset_management(ctx, command),
            io::VERIFY => {
                let rest = self.blocks_of(command)?;
                Ok(verify(rest, self.medium.spare_buffer()))
            }
            _ => Ok(Step::Asks(MediaRequest::Flush, Work::Flush)),
        }
    }

    /// The medium's blocks that a command names: SLBA and NLB.
    fn blocks_of(&self, command: &Command) -> Result<Range<u64>, Status> {
        self.namespace.media_range(command.argument(), u64::from(command.dword(12) & 0xffff) + 1)
    }

    /// The same for a command that moves data, with the data's length.
    fn transfer_of(&self, command: &Command) -> Result<(Range<u64>, usize), Status> {
        let blocks = (command.dword(12) & 0xffff) as usize + 1;
        let length = blocks * self.namespace.block_bytes();
        if length > MAX_TRANSFER_BYTES {
            return Err(Status::INVALID_FIELD);
        }
        Ok((self.blocks_of(command)?, length))
    }

    fn writable(&self) -> Result<(), Status> {
        if self.medium.is_read_only() { Err(Status::WRITE_PROTECTED) } else { Ok(()) }
    }

    /// Whether what a command changes is flushed before it ends: it says so, or there is no volatile write cache.
    fn must_flush(&self, command: &Command) -> bool {
        command.dword(12) & FUA != 0 || !self.features.write_cache
    }

    fn read(
        &mut self,
        ctx: &mut Ctx<'_>,
        command: &Command,
        work: impl FnOnce(Segments) -> Work,
        to_guest: bool,
    ) -> Result<Step, Status> {
        let (range, length) = self.transfer_of(command)?;
        let segments = Segments::of(ctx, command, length, self.page_bytes, to_guest)?;
        self.smart.read_commands += 1;
        let count = count_of(&range) as u32;
        let buffer = self.medium.spare_buffer();
        Ok(Step::Asks(MediaRequest::Read { first: range.start, count, buffer }, work(segments)))
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, command: &Command) -> Result<Step, Status> {
        // Directive type: none is supported (9).
        if command.dword(12) >> 20 & 0xf != 0 {
            return Err(Status::INVALID_FIELD);
        }
        let (range, length) = self.transfer_of(command)?;
        self.writable()?;
        let segments = Segments::of(ctx, command, length, self.page_bytes, false)?;
        let mut data = self.medium.buffer(length);
        segments.load(ctx, &mut data)?;
        self.smart.write_commands += 1;
        self.smart.blocks_written += count_of(&range);
        let flush = self.must_flush(command);
        Ok(Step::Asks(MediaRequest::Write { first: range.start, data }, Work::Change { flush }))
    }

    /// Zeros are what deallocated blocks read as, so they are deallocated, whether or not DEAC is set.
    fn write_zeroes(&mut self, command: &Command) -> Result<Step, Status> {
        let range = self.blocks_of(command)?;
        self.writable()?;
        let flush = self.must_flush(command);
        let request = MediaRequest::Discard { first: range.start, count: count_of(&range) };
        Ok(Step::Asks(request, Work::Change { flush }))
    }

    fn dataset_management(&mut self, ctx: &mut Ctx<'_>, command: &Command) -> Result<Step, Status> {
        let count = (command.dword(10) & 0xff) as usize + 1;
        let mut bytes = vec![0; count * RANGE_BYTES];
        Segments::of(ctx, command, bytes.len(), self.page_bytes, false)?.load(ctx, &mut bytes)?;
        let mut ranges = VecDeque::new();
        for entry in bytes.chunks_exact(RANGE_BYTES) {
            let [_, _, _, _, l0, l1, l2, l3, s0, s1, s2, s3, s4, s5, s6, s7] = entry else { continue };
            let blocks = u32::from_le_bytes([*l0, *l1, *l2, *l3]);
            let first = u64::from_le_bytes([*s0, *s1, *s2, *s3, *s4, *s5, *s6, *s7]);
            let range = self.namespace.media_range(first, u64::from(blocks))?;
            if !range.is_empty() {
                ranges.push_back(range);
            }
        }
        // The other attributes are hints.
        if command.dword(11) & DEALLOCATE == 0 {
            return Ok(Step::Ended(Ok(0)));
        }
        self.writable()?;
        Ok(deallocate(ranges, !self.features.write_cache))
    }

    /// Goes on with a command whose request to the medium has ended.
    pub(crate) fn go_on(&mut self, ctx: &mut Ctx<'_>, work: Work, result: MediaResult) -> Step {
        self.try_go_on(ctx, work, result).unwrap_or_else(|status| Step::Ended(Err(status)))
    }

    fn try_go_on(&mut self, ctx: &mut Ctx<'_>, work: Work, result: MediaResult) -> Result<Step, Status> {
        let with_fault = |fault| move |error| status_of(error, fault);
        match work {
            Work::Read { to } => {
                let data = result.map_err(with_fault(Status::UNRECOVERED_READ_ERROR))?;
                to.store(ctx, &data)?;
                self.smart.blocks_read += (data.len() / BLOCK_BYTES) as u64;
                self.medium.recycle(data);
                Ok(Step::Ended(Ok(0)))
            }
            Work::Compare { with } => {
                let data = result.map_err(with_fault(Status::UNRECOVERED_READ_ERROR))?;
                let mut expected = self.medium.buffer(data.len());
                with.load(ctx, &mut expected)?;
                let same = data == expected;
                self.smart.blocks_read += (data.len() / BLOCK_BYTES) as u64;
                self.medium.recycle(data);
                self.medium.recycle(expected);
                if same { Ok(Step::Ended(Ok(0))) } else { Err(Status::COMPARE_FAILURE) }
            }
            Work::Change { flush } => {
                let buffer = result.map_err(with_fault(Status::WRITE_FAULT))?;
                self.medium.recycle(buffer);
                Ok(if flush { Step::Asks(MediaRequest::Flush, Work::Flush) } else { Step::Ended(Ok(0)) })
            }
            Work::Deallocate { ranges, flush } => {
                result.map_err(with_fault(Status::WRITE_FAULT))?;
                Ok(deallocate(ranges, flush))
            }
            Work::Verify { rest } => {
                let data = result.map_err(with_fault(Status::UNRECOVERED_READ_ERROR))?;
                self.medium.recycle(data);
                Ok(verify(rest, self.medium.spare_buffer()))
            }
            Work::Flush => {
                result.map_err(with_fault(Status::WRITE_FAULT))?;
                Ok(Step::Ended(Ok(0)))
            }
            Work::CacheOff => {
                result.map_err(with_fault(Status::INTERNAL_ERROR))?;
                self.features.write_cache = false;
                Ok(Step::Ended(Ok(0)))
            }
            Work::FormatDiscard { format } => match result {
                Ok(_) => Ok(Step::Asks(MediaRequest::Flush, Work::FormatFlush { format })),
                Err(error) => self.formatted(format, Err(error)),
            },
            Work::FormatFlush { format } => self.formatted(format, result),
        }
    }
}

fn deallocate(mut ranges: VecDeque<Range<u64>>, flush: bool) -> Step {
    match ranges.pop_front() {
        Some(range) => {
            let request = MediaRequest::Discard { first: range.start, count: count_of(&range) };
            Step::Asks(request, Work::Deallocate { ranges, flush })
        }
        None if flush => Step::Asks(MediaRequest::Flush, Work::Flush),
        None => Step::Ended(Ok(0)),
    }
}

fn verify(rest: Range<u64>, buffer: Vec<u8>) -> Step {
    let count = count_of(&rest).min(u64::from(MAX_TRANSFER_BLOCKS)) as u32;
    if count == 0 {
        return Step::Ended(Ok(0));
    }
    let request = MediaRequest::Read { first: rest.start, count, buffer };
    Step::Asks(request, Work::Verify { rest: rest.start + u64::from(count)..rest.end })
}
