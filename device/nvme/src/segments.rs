//! Where a command's data is in guest memory, once its PRPs or its SGL have been followed.

use sdmorph_pci::Ctx;

use crate::command::{Command, Pointer};
use crate::status::Status;
use crate::{prp, sgl};

/// A run of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    /// Guest physical address; `None` is a bit bucket, whose data is thrown away.
    address: Option<u64>,
    length: usize,
}

/// The places of a command's data, in order. Their lengths add up to the length that the command has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Segments {
    list: Vec<Segment>,
}

impl Segments {
    /// Follows the data pointer of `command` for `length` bytes, more than none. The guest's memory pages have `page_bytes`
    /// bytes.
    pub(crate) fn of(
        ctx: &mut Ctx<'_>,
        command: &Command,
        length: usize,
        page_bytes: u64,
        to_guest: bool,
    ) -> Result<Self, Status> {
        match command.pointer {
            Pointer::Prp => prp::follow(ctx, command.data, length, page_bytes),
            Pointer::Sgl => sgl::follow(ctx, command.data, length, to_guest),
            Pointer::Unsupported => Err(Status::INVALID_FIELD),
        }
    }

    /// Adds a run, and joins it with the one before if it goes on where that one ends.
    pub(crate) fn push(&mut self, address: Option<u64>, length: usize) {
        if let Some(last) = self.list.last_mut() {
            let goes_on = match (last.address, address) {
                (Some(before), Some(address)) => before.checked_add(last.length as u64) == Some(address),
                (None, None) => true,
                _ => false,
            };
            if goes_on {
                last.length = last.length.saturating_add(length);
                return;
            }
        }
        self.list.push(Segment { address, length });
    }

    /// Reads as many bytes from guest memory as `data` has room for.
    pub(crate) fn load(&self, ctx: &mut Ctx<'_>, data: &mut [u8]) -> Result<(), Status> {
        let mut rest = data;
        for segment in &self.list {
            let Some((piece, more)) = rest.split_at_mut_checked(segment.length.min(rest.len())) else {
                break;
            };
            rest = more;
            if let (Some(address), false) = (segment.address, piece.is_empty()) {
                ctx.dma_read(address, piece).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
            }
        }
        Ok(())
    }

    /// Writes `data` to guest memory.
    pub(crate) fn store(&self, ctx: &mut Ctx<'_>, data: &[u8]) -> Result<(), Status> {
        let mut rest = data;
        for segment in &self.list {
            let Some((piece, more)) = rest.split_at_checked(segment.length.min(rest.len())) else { break };
            rest = more;
            if let (Some(address), false) = (segment.address, piece.is_empty()) {
                ctx.dma_write(address, piece).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
            }
        }
        Ok(())
    }
}
