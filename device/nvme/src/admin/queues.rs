//! Create and delete I/O queues (5.3 to 5.6).

use sdmorph_pci::Ctx;

use crate::Nvme;
use crate::command::{COMMAND_BYTES_LOG2, COMPLETION_BYTES_LOG2, Command, Ended};
use crate::doorbell_buffers::Doorbell;
use crate::in_flight::Step;
use crate::queues::{CompletionQueue, SubmissionQueue};
use crate::registers::{CC, MAX_QUEUE_ENTRIES, cc};
use crate::status::Status;

/// Physically contiguous, in dword 11.
const CONTIGUOUS: u32 = 1;
/// Interrupts enabled, in dword 11 of a completion queue.
const INTERRUPTS: u32 = 1 << 1;

/// Where and how long a queue is to be.
struct Wanted {
    id: u16,
    entries: u32,
    base: u64,
}

impl Nvme {
    /// What both kinds of queue are made of, checked in the order of the statuses' numbers.
    fn wanted(&self, command: &Command, most: u16, there: bool) -> Result<Wanted, Status> {
        let [i0, i1, s0, s1] = command.dword(10).to_le_bytes();
        let id = u16::from_le_bytes([i0, i1]);
        let entries = u32::from(u16::from_le_bytes([s0, s1])) + 1;
        if id == 0 || id > most || there {
            return Err(Status::INVALID_QUEUE_ID);
        }
        if !(2..=MAX_QUEUE_ENTRIES).contains(&entries) {
            return Err(Status::INVALID_QUEUE_SIZE);
        }
        // CAP.CQR is 1.
        if command.dword(11) & CONTIGUOUS == 0 {
            return Err(Status::INVALID_FIELD);
        }
        let [base, _] = command.data;
        if base & (self.page_bytes - 1) != 0 {
            return Err(Status::PRP_OFFSET_INVALID);
        }
        Ok(Wanted { id, entries, base })
    }

    /// Create I/O Completion Queue (5.3).
    pub(super) fn create_completion_queue(&mut self, ctx: &mut Ctx<'_>, command: &Command) -> Ended {
        let id = command.dword(10) as u16;
        let there = self.queues.completion(id).is_some();
        let wanted = self.wanted(command, self.features.completion_queues, there)?;
        if cc::completion_entry(self.dword(CC)) != COMPLETION_BYTES_LOG2 {
            return Err(Status::INVALID_QUEUE_SIZE);
        }
        let vector = (command.dword(11) >> 16) as u16;
        if vector >= self.interrupts.vectors(&self.config) {
            return Err(Status::INVALID_VECTOR);
        }
        self.begin_doorbell(ctx, Doorbell::Head(wanted.id))?;
        let vector = (command.dword(11) & INTERRUPTS != 0).then_some(vector);
        self.queues.add_completion(wanted.id, CompletionQueue::new(wanted.base, wanted.entries, vector));
        Ok(0)
    }

    /// Create I/O Submission Queue (5.4). Its priority is not looked at: all queues have the same (CAP.AMS is 0).
    pub(super) fn create_submission_queue(&mut self, ctx: &mut Ctx<'_>, command: &Command) -> Ended {
        let completion = (command.dword(11) >> 16) as u16;
        if completion == 0 || completion > self.features.completion_queues {
            return Err(Status::INVALID_QUEUE_ID);
        }
        if self.queues.completion(completion).is_none() {
            return Err(Status::COMPLETION_QUEUE_INVALID);
        }
        let id = command.dword(10) as u16;
        let there = self.queues.submission(id).is_some();
        let wanted = self.wanted(command, self.features.submission_queues, there)?;
        if cc::submission_entry(self.dword(CC)) != COMMAND_BYTES_LOG2 {
            return Err(Status::INVALID_QUEUE_SIZE);
        }
        self.begin_doorbell(ctx, Doorbell::Tail(wanted.id))?;
        let queue = SubmissionQueue::new(wanted.base, wanted.entries, completion);
        self.queues.add_submission(wanted.id, queue);
        Ok(0)
    }

    fn begin_doorbell(&self, ctx: &mut Ctx<'_>, doorbell: Doorbell) -> Result<(), Status> {
        match self.doorbell_buffers {
            Some(buffers) => buffers.begin(ctx, doorbell, 0).map_err(|_| Status::DATA_TRANSFER_ERROR),
            None => Ok(()),
        }
    }

    /// Delete I/O Submission Queue (5.6): it ends when the commands under way have. What was not fetched is forgotten.
    pub(super) fn delete_submission_queue(&mut self, slot: usize, command: &Command) -> Result<Step, Status> {
        let id = command.dword(10) as u16;
        let queue = self.queues.submission(id).filter(|queue| id != 0 && queue.deleted_by.is_none());
        let queue = queue.ok_or(Status::INVALID_QUEUE_ID)?;
        if queue.under_way > 0 {
            queue.deleted_by = Some(slot);
            return Ok(Step::Waits);
        }
        self.queues.remove_submission(id);
        Ok(Step::Ended(Ok(0)))
    }

    /// Delete I/O Completion Queue (5.5).
    pub(super) fn delete_completion_queue(&mut self, command: &Command) -> Ended {
        let id = command.dword(10) as u16;
        let queue = self.queues.completion(id).filter(|_| id != 0).ok_or(Status::INVALID_QUEUE_ID)?;
        if queue.users > 0 {
            return Err(Status::INVALID_QUEUE_DELETION);
        }
        self.queues.remove_completion(id);
        Ok(0)
    }
}
