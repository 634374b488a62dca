//! Shadow doorbells (5.7, 7.13): the guest writes its doorbells into memory, and into the register only when asked to.
//!
//! The guest writes the register when its doorbell goes past the value in the EventIdx buffer (Linux:
//! `nvme_dbbuf_need_event`). So a value that it has just passed keeps it from writing for a whole turn of the queue, and
//! the value that it is at asks it to write the next one. Linux keeps the admin queue out of this: its doorbells are
//! always the registers.

use sdmorph_pci::{Ctx, DmaError, DoorbellKind};

/// Bytes of a doorbell.
const DOORBELL_BYTES: u64 = 4;

/// Which doorbell of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doorbell {
    /// The tail of submission queue.
    Tail(u16),
    /// The head of a completion queue.
    Head(u16),
}

impl Doorbell {
    /// Offset in either buffer: as the registers' (CAP.DSTRD is 0).
    fn offset(self) -> u64 {
        let (queue, second) = match self {
            Doorbell::Tail(queue) => (queue, 0),
            Doorbell::Head(queue) => (queue, 1),
        };
        (2 * u64::from(queue) + second) * DOORBELL_BYTES
    }

    /// As recorders and rules are told that the queue is at `value` now, which is below the number of its entries.
    pub(crate) fn rung(self, value: u32) -> sdmorph_pci::Doorbell {
        let (kind, queue) = match self {
            Doorbell::Tail(queue) => (DoorbellKind::SubmissionTail, queue),
            Doorbell::Head(queue) => (DoorbellKind::CompletionHead, queue),
        };
        sdmorph_pci::Doorbell { kind, queue, value: value as u16 }
    }
}

/// The two buffers: a memory page each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DoorbellBuffers {
    pub(crate) shadows: u64,
    pub(crate) event_indices: u64,
}

impl DoorbellBuffers {
    /// The value of a doorbell. A read is not reported: it is one of very many.
    pub(crate) fn shadow(&self, ctx: &mut Ctx<'_>, doorbell: Doorbell) -> Result<u32, DmaError> {
        let mut bytes = [0; 4];
        ctx.dma_poll(self.shadows.wrapping_add(doorbell.offset()), &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Asks the guest to write the register when the doorbell goes past `value`.
    pub(crate) fn ask_for(&self, ctx: &mut Ctx<'_>, doorbell: Doorbell, value: u32) -> Result<(), DmaError> {
        ctx.dma_write(self.event_indices.wrapping_add(doorbell.offset()), &value.to_le_bytes())
    }

    /// Sets both values of a queue that the buffers are new to, whose doorbell is `value`.
    pub(crate) fn begin(&self, ctx: &mut Ctx<'_>, doorbell: Doorbell, value: u32) -> Result<(), DmaError> {
        ctx.dma_write(self.shadows.wrapping_add(doorbell.offset()), &value.to_le_bytes())?;
        self.ask_for(ctx, doorbell, value)
    }
}
