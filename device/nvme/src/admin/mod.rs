//! Admin commands (5).

pub(crate) mod features;
mod format;
mod identify;
mod log_pages;
mod queues;

use sdmorph_pci::Ctx;

use crate::Nvme;
use crate::command::{Command, Ended, Pointer};
use crate::doorbell_buffers::{Doorbell, DoorbellBuffers};
use crate::in_flight::Step;
use crate::opcode::admin;
use crate::segments::Segments;
use crate::status::Status;

impl Nvme {
    /// Begins the admin command in `slot`.
    pub(crate) fn execute_admin(&mut self, ctx: &mut Ctx<'_>, slot: usize, command: &Command) -> Step {
        self.try_admin(ctx, slot, command).unwrap_or_else(|status| Step::Ended(Err(status)))
    }

    fn try_admin(&mut self, ctx: &mut Ctx<'_>, slot: usize, command: &Command) -> Result<Step, Status> {
        if !admin::TABLE.iter().any(|row| row.opcode == command.opcode) {
            return Err(Status::INVALID_OPCODE);
        }
        // No admin command is fused, and over PCIe none has an SGL (figure 104).
        if command.fused != 0 || command.pointer != Pointer::Prp {
            return Err(Status::INVALID_FIELD);
        }
        let ended = match command.opcode {
            admin::DELETE_SQ => return self.delete_submission_queue(slot, command),
            admin::CREATE_SQ => self.create_submission_queue(ctx, command),
            admin::DELETE_CQ => self.delete_completion_queue(command),
            admin::CREATE_CQ => self.create_completion_queue(ctx, command),
            admin::IDENTIFY => self.identify(ctx, command),
            admin::GET_LOG_PAGE => self.get_log_page(ctx, command),
            admin::SET_FEATURES => return self.set_features(ctx, command),
            admin::GET_FEATURES => self.get_features(ctx, command),
            admin::ABORT => Ok(self.abort(ctx, command)),
            admin::DOORBELL_BUFFER_CONFIG => self.configure_doorbell_buffers(ctx, command),
            admin::FORMAT_NVM => return self.format(command),
            // Asynchronous Event Request has no slot: it was taken when it was fetched.
            _ => Err(Status::INVALID_OPCODE),
        };
        ended.map(|result| Step::Ended(Ok(result)))
    }

    /// Writes a data structure to where a command wants it.
    fn give(&self, ctx: &mut Ctx<'_>, command: &Command, data: &[u8]) -> Ended {
        if !data.is_empty() {
            Segments::of(ctx, command, data.len(), self.page_bytes, true)?.store(ctx, data)?;
        }
        Ok(0)
    }

    /// Reads a data structure of `N` bytes that comes with a command.
    fn take<const N: usize>(&self, ctx: &mut Ctx<'_>, command: &Command) -> Result<[u8; N], Status> {
        let mut data = [0; N];
        Segments::of(ctx, command, N, self.page_bytes, false)?.load(ctx, &mut data)?;
        Ok(data)
    }

    /// Abort (5.1). What waits for the medium is not aborted: nothing can be taken back from the medium. So dword 0 says that
    /// it was not, but for an Asynchronous Event Request.
    fn abort(&mut self, ctx: &mut Ctx<'_>, command: &Command) -> u32 {
        const NOT_ABORTED: u32 = 1;
        let [q0, q1, i0, i1] = command.dword(10).to_le_bytes();
        let (queue, id) = (u16::from_le_bytes([q0, q1]), u16::from_le_bytes([i0, i1]));
        if queue == 0 && self.events.abort(id) {
            self.end_event_request(ctx, id, Err(Status::ABORT_REQUESTED));
            return 0;
        }
        NOT_ABORTED
    }

    /// Doorbell Buffer Config (5.7). I/O queues that are there already begin with what their doorbells say.
    fn configure_doorbell_buffers(&mut self, ctx: &mut Ctx<'_>, command: &Command) -> Ended {
        let [shadows, event_indices] = command.data;
        if (shadows | event_indices) & (self.page_bytes - 1) != 0 {
            return Err(Status::INVALID_FIELD);
        }
        let buffers = DoorbellBuffers { shadows, event_indices };
        for id in self.queues.submission_ids().filter(|id| *id != 0) {
            if let Some(queue) = self.queues.submission(id) {
                let tail = queue.tail;
                let written = buffers.begin(ctx, Doorbell::Tail(id), tail);
                written.map_err(|_| Status::DATA_TRANSFER_ERROR)?;
            }
        }
        for id in self.queues.completion_ids().filter(|id| *id != 0) {
            if let Some(queue) = self.queues.completion(id) {
                let head = queue.head;
                let written = buffers.begin(ctx, Doorbell::Head(id), head);
                written.map_err(|_| Status::DATA_TRANSFER_ERROR)?;
            }
        }
        self.doorbell_buffers = Some(buffers);
        Ok(0)
    }
}
