//! What goes on: commands are fetched, go on when the medium has done its part, and are completed.
//!
//! Every way into the controller ends here, in [`Nvme::advance`], which does what can be done now, a limited amount of it,
//! and asks to be woken for the rest.

use std::sync::atomic::{Ordering, fence};

use sdmorph_pci::{Ctx, DmaError, Effect, MediaRequest, MediaResult, NvmeCommand};

use crate::Nvme;
use crate::command::{Command, Completion, Ended};
use crate::doorbell_buffers::Doorbell;
use crate::error_log::{self, Entry};
use crate::events::AsyncEvent;
use crate::in_flight::Step;
use crate::lifecycle::Shutdown;
use crate::medium::Owner;
use crate::opcode::{self, admin, io};
use crate::queues::InvalidDoorbell;
use crate::registers::MAX_IO_QUEUES;
use crate::status::Status;

/// Most bytes moved in one call, but for the commands fetched last. A guest that asks for more gets it in several, and
/// others get their turn between.
const MAX_BYTES_A_CALL: u64 = 4 << 20;
/// What a command counts as that moves nothing.
const COMMAND_COST: u64 = 4096;

impl Nvme {
    /// Does what there is to do, as far as one call may.
    pub(crate) fn advance(&mut self, ctx: &mut Ctx<'_>) {
        let mut left = MAX_BYTES_A_CALL;
        self.collect();
        self.settle(ctx);
        let held_until = ctx.dma_held_until();
        if ctx.is_bus_master() && held_until.is_none() {
            loop {
                let worked = self.turn(ctx, &mut left);
                if left == 0 || !self.processes_commands() {
                    break;
                }
                if !worked && (self.polled || !self.ask_for_doorbells(ctx)) {
                    break;
                }
            }
            self.settle(ctx);
        }
        self.smart.set_busy(ctx.now(), !self.commands.is_empty());
        // Whoever stops looking, for want of doorbells to look at, need not say so.
        let polled = self.polled && self.has_shadow_doorbells();
        let next_interrupt = self.interrupts.tell(&self.config, ctx, polled);
        let soon = left == 0 && self.processes_commands();
        let later = [next_interrupt, held_until].into_iter().flatten().min();
        let next = if soon { Some(ctx.now()) } else { later };
        if let Some(at) = next.filter(|at| self.wakes_at != Some(*at)) {
            self.wakes_at = Some(at);
            ctx.wake_after(at.saturating_sub(ctx.now()));
        }
    }

    /// Takes what the medium has ended.
    fn collect(&mut self) {
        while let Some((owner, result)) = self.medium.ended() {
            match owner {
                Owner::Command(slot) => self.commands.results.push_back((slot, result)),
                Owner::Shutdown => self.shutdown_flushed(&result),
                Owner::Nobody => {}
            }
        }
    }

    /// One turn of everything; whether anything was done.
    fn turn(&mut self, ctx: &mut Ctx<'_>, left: &mut u64) -> bool {
        let mut worked = false;
        while *left > 0 && self.processes_commands() {
            let Some((slot, result)) = self.commands.results.pop_front() else { break };
            worked = true;
            self.go_on_with(ctx, slot, result, left);
        }
        self.read_shadow_doorbells(ctx);
        worked |= self.fetch_round(ctx, left);
        self.report_events(ctx);
        worked |= self.post_all(ctx);
        self.has_worked |= worked;
        worked
    }

    fn go_on_with(&mut self, ctx: &mut Ctx<'_>, slot: usize, result: MediaResult, left: &mut u64) {
        let Some(work) = self.commands.get(slot).and_then(|flight| flight.work.take()) else { return };
        let moved = result.as_ref().map_or(0, Vec::len) as u64;
        *left = left.saturating_sub(moved.max(COMMAND_COST));
        let step = self.go_on(ctx, work, result);
        self.take_step(ctx, slot, step, left);
    }

    /// What a command has come to.
    fn take_step(&mut self, ctx: &mut Ctx<'_>, slot: usize, step: Step, left: &mut u64) {
        match step {
            Step::Ended(ended) => self.end(ctx, slot, ended),
            Step::Waits => {}
            Step::Asks(request, work) => {
                if let MediaRequest::Write { data, .. } = &request {
                    *left = left.saturating_sub(data.len() as u64);
                }
                if let Some(flight) = self.commands.get(slot) {
                    flight.work = Some(work);
                }
                if let Some(result) = self.medium.begin(Owner::Command(slot), request) {
                    // Not gone on with here: how much one call does is counted in one place.
                    self.commands.results.push_back((slot, result));
                }
            }
        }
    }

    /// Lets every queue with commands have its turn (4.13.1, round robin). Returns whether any was fetched.
    fn fetch_round(&mut self, ctx: &mut Ctx<'_>, left: &mut u64) -> bool {
        let first = self.next_queue;
        let places = MAX_IO_QUEUES + 1;
        let mut any = false;
        for turn in 0..places {
            let id = (first + turn) % places;
            if self.fetch(ctx, id, left) {
                any = true;
                // The next round goes on behind the last one that got something, also if there was no more to get.
                self.next_queue = (id + 1) % places;
            }
        }
        any
    }

    fn fetch(&mut self, ctx: &mut Ctx<'_>, id: u16, left: &mut u64) -> bool {
        let mut burst = self.features.arbitration_burst();
        let mut fetched = false;
        while burst > 0 && *left > 0 && self.processes_commands() && self.shutdown == Shutdown::None {
            // What would have to wait for room in the completion queue is left where it is.
            let room = self.commands.room() as u32;
            let Some(queue) = self.queues.submission(id).filter(|queue| queue.deleted_by.is_none()) else {
                break;
            };
            let completion = queue.completion;
            if self.queues.completion(completion).is_none_or(|queue| !queue.waiting.is_empty()) {
                break;
            }
            let affordable = u32::try_from(left.div_ceil(COMMAND_COST)).unwrap_or(u32::MAX);
            let most = burst.min(room).min(affordable);
            let Some(queue) = self.queues.submission(id) else { break };
            let commands = match queue.fetch(ctx, most) {
                Ok(commands) => commands,
                // Bus mastering is off: the commands stay where they are.
                Err(DmaError::NotBusMaster) => break,
                Err(_) => {
                    self.fail();
                    break;
                }
            };
            if commands.is_empty() {
                break;
            }
            fetched = true;
            burst = burst.saturating_sub(commands.len() as u32);
            for command in commands {
                *left = left.saturating_sub(COMMAND_COST);
                self.begin(ctx, id, command, left);
            }
            if let Some(vector) = self.queues.completion(completion).and_then(|queue| queue.vector) {
                self.interrupts.asked(ctx.now(), vector);
            }
        }
        fetched
    }

    /// Begins a command that was fetched.
    fn begin(&mut self, ctx: &mut Ctx<'_>, queue: u16, command: Command, left: &mut u64) {
        let effect = record(ctx, queue, &command, None);
        self.counters.commands += 1;
        if let Effect::Status(status) = effect {
            self.complete(ctx, queue, &command, Err(Status::of_field(status)));
            return;
        }
        let conflict =
            self.commands.has(queue, command.id) || queue == 0 && self.events.has_request(command.id);
        if conflict {
            self.complete(ctx, queue, &command, Err(Status::COMMAND_ID_CONFLICT));
            return;
        }
        if queue == 0 && command.opcode == admin::ASYNC_EVENT_REQUEST {
            if !self.events.request(command.id) {
                self.complete(ctx, queue, &command, Err(Status::EVENT_REQUEST_LIMIT));
            }
            return;
        }
        // There is room: no more were fetched than that.
        let Some(slot) = self.commands.add(queue, command) else { return };
        if let Some(queue) = self.queues.submission(queue) {
            queue.under_way += 1;
        }
        let step =
            if queue == 0 { self.execute_admin(ctx, slot, &command) } else { self.execute_io(ctx, &command) };
        self.take_step(ctx, slot, step, left);
    }

    /// A command that has a slot has ended.
    fn end(&mut self, ctx: &mut Ctx<'_>, slot: usize, ended: Ended) {
        let Some(flight) = self.commands.remove(slot) else { return };
        self.complete(ctx, flight.queue, &flight.command, ended);
        let Some(queue) = self.queues.submission(flight.queue) else { return };
        queue.under_way = queue.under_way.saturating_sub(1);
        if let (0, Some(deleter)) = (queue.under_way, queue.deleted_by) {
            self.queues.remove_submission(flight.queue);
            self.end(ctx, deleter, Ok(0));
        }
    }

    /// An Asynchronous Event Request has ended.
    pub(crate) fn end_event_request(&mut self, ctx: &mut Ctx<'_>, id: u16, ended: Ended) {
        let command = Command::asynchronous_event_request(id);
        self.complete(ctx, 0, &command, ended);
    }

    /// Puts a completion where it waits for its place in the queue.
    fn complete(&mut self, ctx: &mut Ctx<'_>, queue: u16, command: &Command, ended: Ended) {
        let (result, status) = match ended {
            Ok(result) => (result, Status::SUCCESS),
            Err(status) => (0, status),
        };
        let logged = !matches!(status, Status::SUCCESS | Status::ABORT_REQUESTED | Status::COMPARE_FAILURE);
        if logged {
            let names_blocks = queue != 0 && !matches!(command.opcode, io::FLUSH | io::DATASET_MANAGEMENT);
            self.errors.push(Entry {
                queue,
                id: command.id,
                status,
                lba: if names_blocks { command.argument() } else { 0 },
                namespace: command.namespace,
            });
        }
        if status != Status::SUCCESS {
            *self.counters.refused.entry(status).or_default() += 1;
        }
        self.smart.media_errors += u64::from(status.is_media_error());
        let status = status.field(logged);
        if record(ctx, queue, command, Some(status)) == Effect::Lost {
            return;
        }
        let completion = Completion { result, queue, id: command.id, status };
        let to = self.queues.submission(queue).map(|queue| queue.completion);
        if let Some(queue) = to.and_then(|id| self.queues.completion(id)) {
            queue.waiting.push_back(completion);
        }
    }

    /// Tells the guest what has happened, as far as it has asked.
    fn report_events(&mut self, ctx: &mut Ctx<'_>) {
        while let Some((request, event)) = self.events.take() {
            self.end_event_request(ctx, request, Ok(event.result()));
        }
    }

    /// Writes what waits into the completion queues. Returns whether anything was.
    fn post_all(&mut self, ctx: &mut Ctx<'_>) -> bool {
        let mut any = false;
        for id in self.queues.completion_ids() {
            if !self.processes_commands() {
                break;
            }
            let Some(queue) = self.queues.completion(id) else { continue };
            if queue.waiting.is_empty() {
                continue;
            }
            let vector = queue.vector;
            let posted = match self.queues.post(ctx, id) {
                Ok(posted) => posted,
                Err(DmaError::NotBusMaster) => 0,
                Err(_) => {
                    self.fail();
                    0
                }
            };
            if let (1.., Some(vector)) = (posted, vector) {
                self.interrupts.posted(ctx.now(), vector, posted, id == 0);
            }
            any |= posted > 0;
        }
        any
    }

    /// Looks at what the guest has written into the shadow doorbells.
    fn read_shadow_doorbells(&mut self, ctx: &mut Ctx<'_>) {
        let Some(buffers) = self.doorbell_buffers.filter(|_| self.processes_commands()) else { return };
        for id in self.queues.submission_ids().filter(|id| *id != 0) {
            let Ok(tail) = buffers.shadow(ctx, Doorbell::Tail(id)) else { return self.fail() };
            let set = self.queues.submission(id).map(|queue| queue.set_shadow_tail(tail));
            self.doorbell_set(ctx, Doorbell::Tail(id), tail, set.unwrap_or(Ok(false)));
        }
        // The commands are looked at after the doorbells that announce them.
        fence(Ordering::Acquire);
        // A head is of interest when there is no room.
        for id in self.queues.completion_ids().filter(|id| *id != 0) {
            let stuck = self.queues.completion(id).is_some_and(|queue| queue.is_stuck());
            if stuck {
                let Ok(head) = buffers.shadow(ctx, Doorbell::Head(id)) else { return self.fail() };
                let set = self.queues.completion(id).map(|queue| queue.set_shadow_head(head));
                self.doorbell_set(ctx, Doorbell::Head(id), head, set.unwrap_or(Ok(false)));
            }
        }
    }

    /// Asks the guest to write a doorbell register with the next command of every queue, and with the next completion that
    /// it takes from a full one. Returns whether something has come in between.
    fn ask_for_doorbells(&mut self, ctx: &mut Ctx<'_>) -> bool {
        let Some(buffers) = self.doorbell_buffers else { return false };
        let mut asked = Ok(());
        for id in self.queues.submission_ids().filter(|id| *id != 0) {
            if let Some(tail) = self.queues.submission(id).and_then(|queue| queue.index_to_ask()) {
                asked = asked.and_then(|()| buffers.ask_for(ctx, Doorbell::Tail(id), tail));
            }
        }
        for id in self.queues.completion_ids().filter(|id| *id != 0) {
            if let Some(queue) = self.queues.completion(id).filter(|queue| queue.is_stuck()) {
                let head = queue.index_to_ask();
                asked = asked.and_then(|()| buffers.ask_for(ctx, Doorbell::Head(id), head));
            }
        }
        if asked.is_err() {
            self.fail();
            return false;
        }
        // The guest writes its doorbell and then reads the index; here it is the other way round, so that one of the two
        // sees what the other has written.
        fence(Ordering::SeqCst);
        let before = self.queues.news();
        self.read_shadow_doorbells(ctx);
        self.queues.news() != before
    }

    /// Keeps event indices away from where the guest's doorbells are going, while they are looked at anyway.
    pub(crate) fn keep_quiet(&mut self, ctx: &mut Ctx<'_>) {
        let Some(buffers) = self.doorbell_buffers else { return };
        let mut asked = Ok(());
        for id in self.queues.submission_ids().filter(|id| *id != 0) {
            if let Some(index) = self.queues.submission(id).and_then(|queue| queue.index_to_keep_quiet()) {
                asked = asked.and_then(|()| buffers.ask_for(ctx, Doorbell::Tail(id), index));
            }
        }
        for id in self.queues.completion_ids().filter(|id| *id != 0) {
            let Some(queue) = self.queues.completion(id).filter(|queue| queue.wants_quiet()) else {
                continue;
            };
            let Ok(head) = buffers.shadow(ctx, Doorbell::Head(id)) else { return self.fail() };
            let set = queue.set_shadow_head(head);
            if let Some(index) = queue.index_to_keep_quiet() {
                asked = asked.and_then(|()| buffers.ask_for(ctx, Doorbell::Head(id), index));
            }
            self.doorbell_set(ctx, Doorbell::Head(id), head, set);
        }
        if asked.is_err() {
            self.fail();
        }
    }

    /// What a doorbell's `value` was to its queue: `set` is what that said.
    pub(crate) fn doorbell_set(
        &mut self,
        ctx: &mut Ctx<'_>,
        doorbell: Doorbell,
        value: u32,
        set: Result<bool, InvalidDoorbell>,
    ) {
        match set {
            Ok(true) => ctx.doorbell(doorbell.rung(value)),
            Ok(false) => {}
            Err(InvalidDoorbell) => {
                self.doorbell_error(AsyncEvent::InvalidDoorbellValue, Status::INVALID_FIELD);
            }
        }
    }

    /// A doorbell was written that cannot be: an event, and an entry in the error log that is of no command.
    pub(crate) fn doorbell_error(&mut self, event: AsyncEvent, status: Status) {
        self.counters.invalid_doorbells += 1;
        self.events.report(event);
        let (queue, id) = (error_log::NONE, error_log::NONE);
        self.errors.push(Entry { queue, id, status, lba: 0, namespace: 0 });
    }
}

fn record(ctx: &mut Ctx<'_>, queue: u16, command: &Command, status: Option<u16>) -> Effect {
    ctx.nvme_command(NvmeCommand {
        name: opcode::name(queue == 0, command.opcode),
        queue,
        id: command.id,
        namespace: command.namespace,
        argument: command.argument(),
        status,
    })
}
