//! Submission and completion queues (4.1) in guest memory.

use std::collections::VecDeque;
use std::sync::atomic::{Ordering, fence};

use sdmorph_pci::{Ctx, DmaError};
use serde_json::{Value, json};

use crate::command::{COMMAND_BYTES, COMPLETION_BYTES, Command, Completion};
use crate::registers::MAX_IO_QUEUES;

/// Most commands that are fetched at once from one queue.
const MAX_FETCH: u32 = 16;

/// Why a doorbell's value is not one that the queue could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidDoorbell;

/// A submission queue. Indices count entries.
#[derive(Debug)]
pub(crate) struct SubmissionQueue {
    base: u64,
    entries: u32,
    pub(crate) head: u32,
    pub(crate) tail: u32,
    /// Its completion queue.
    pub(crate) completion: u16,
    /// Commands that were fetched and have not ended.
    pub(crate) under_way: u32,
    /// The slot of the command that deletes the queue, while it waits for those.
    pub(crate) deleted_by: Option<usize>,
    /// The event index that the guest was last given.
    asked_for: Option<u32>,
    /// The last value of the doorbell that was refused.
    refused: Option<u32>,
}

impl SubmissionQueue {
    pub(crate) fn new(base: u64, entries: u32, completion: u16) -> Self {
        Self {
            base,
            entries,
            head: 0,
            tail: 0,
            completion,
            under_way: 0,
            deleted_by: None,
            asked_for: None,
            refused: None,
        }
    }

    /// Commands that were submitted and not fetched.
    pub(crate) fn submitted(&self) -> u32 {
        distance(self.head, self.tail, self.entries)
    }

    pub(crate) fn entries(&self) -> u32 {
        self.entries
    }

    /// The guest's new tail. It cannot be outside the queue, and cannot take back what was submitted. True if it is news.
    pub(crate) fn set_tail(&mut self, tail: u32) -> Result<bool, InvalidDoorbell> {
        if tail >= self.entries || distance(self.head, tail, self.entries) < self.submitted() {
            self.refused = Some(tail);
            return Err(InvalidDoorbell);
        }
        self.refused = None;
        Ok(std::mem::replace(&mut self.tail, tail) != tail)
    }

    /// The event index that makes the guest announce the next command; `None` if it has it.
    pub(crate) fn index_to_ask(&mut self) -> Option<u32> {
        let asked_for = self.asked_for.replace(self.tail);
        (asked_for != Some(self.tail)).then_some(self.tail)
    }

    /// The event index that the guest does not go past before a whole turn; `None` if what it has will do for now.
    pub(crate) fn index_to_keep_quiet(&mut self) -> Option<u32> {
        index_to_keep_quiet(&mut self.asked_for, self.tail, self.entries)
    }

    /// The same for a shadow doorbell, which is read again and again: a bad value is refused once.
    pub(crate) fn set_shadow_tail(&mut self, tail: u32) -> Result<bool, InvalidDoorbell> {
        if self.refused == Some(tail) { Ok(false) } else { self.set_tail(tail) }
    }

    /// Fetches up to `most` of the commands that are submitted, as far as they lie one behind another.
    pub(crate) fn fetch(&mut self, ctx: &mut Ctx<'_>, most: u32) -> Result<Vec<Command>, DmaError> {
        let count = self.submitted().min(self.entries - self.head).min(most).min(MAX_FETCH);
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut bytes = [0; MAX_FETCH as usize * COMMAND_BYTES];
        let place = bytes.get_mut(..count as usize * COMMAND_BYTES).unwrap_or_default();
        ctx.dma_read(self.base.wrapping_add(u64::from(self.head) * COMMAND_BYTES as u64), place)?;
        self.head = (self.head + count) % self.entries;
        Ok(place
            .chunks_exact(COMMAND_BYTES)
            .filter_map(|entry| entry.first_chunk())
            .map(Command::parse)
            .collect())
    }

    pub(crate) fn snapshot(&self) -> Value {
        json!({
            "base": format!("{:#x}", self.base),
            "entries": self.entries,
            "head": self.head,
            "tail": self.tail,
            "completion-queue": self.completion,
            "under-way": self.under_way,
        })
    }
}

/// A completion queue.
#[derive(Debug)]
pub(crate) struct CompletionQueue {
    base: u64,
    entries: u32,
    pub(crate) head: u32,
    tail: u32,
    phase: bool,
    /// The interrupt vector, if interrupts are enabled.
    pub(crate) vector: Option<u16>,
    /// Completions for which there was no room.
    pub(crate) waiting: VecDeque<Completion>,
    /// Submission queues that use it.
    pub(crate) users: u16,
    asked_for: Option<u32>,
    refused: Option<u32>,
}

impl CompletionQueue {
    pub(crate) fn new(base: u64, entries: u32, vector: Option<u16>) -> Self {
        Self {
            base,
            entries,
            head: 0,
            tail: 0,
            phase: true,
            vector,
            waiting: VecDeque::new(),
            users: 0,
            asked_for: None,
            refused: None,
        }
    }

    pub(crate) fn entries(&self) -> u32 {
        self.entries
    }

    fn is_full(&self) -> bool {
        (self.tail + 1) % self.entries == self.head
    }

    /// The event index that makes the guest announce that it has taken a completion.
    pub(crate) fn index_to_ask(&mut self) -> u32 {
        self.asked_for = Some(self.head);
        self.head
    }

    /// Whether the guest may soon go past the event index that it has.
    pub(crate) fn wants_quiet(&self) -> bool {
        self.asked_for.is_none_or(|asked_for| distance(asked_for, self.tail, self.entries) > self.entries / 2)
    }

    /// The event index that the guest does not go past before a whole turn; `None` if what it has will do for now.
    pub(crate) fn index_to_keep_quiet(&mut self) -> Option<u32> {
        index_to_keep_quiet(&mut self.asked_for, self.head, self.entries)
    }

    /// Whether completions wait for room.
    pub(crate) fn is_stuck(&self) -> bool {
        !self.waiting.is_empty() && self.is_full()
    }

    /// The guest's new head: it has taken the completions before it, which must be there. True if it is news.
    pub(crate) fn set_head(&mut self, head: u32) -> Result<bool, InvalidDoorbell> {
        let posted = distance(self.head, self.tail, self.entries);
        if head >= self.entries || distance(self.head, head, self.entries) > posted {
            self.refused = Some(head);
            return Err(InvalidDoorbell);
        }
        self.refused = None;
        Ok(std::mem::replace(&mut self.head, head) != head)
    }

    /// The same for a shadow doorbell.
    pub(crate) fn set_shadow_head(&mut self, head: u32) -> Result<bool, InvalidDoorbell> {
        if self.refused == Some(head) { Ok(false) } else { self.set_head(head) }
    }

    /// Writes the oldest completion that waits, if there is room. `submission_head` is that of its submission queue.
    /// Returns whether it did.
    pub(crate) fn post(
        &mut self,
        ctx: &mut Ctx<'_>,
        submission_head: impl FnOnce(&Completion) -> u32,
    ) -> Result<bool, DmaError> {
        if self.is_full() {
            return Ok(false);
        }
        let Some(completion) = self.waiting.front() else { return Ok(false) };
        let bytes = completion.bytes(submission_head(completion) as u16, self.phase);
        let at = self.base.wrapping_add(u64::from(self.tail) * COMPLETION_BYTES as u64);
        // The guest sees the data before the completion that announces it.
        fence(Ordering::Release);
        ctx.dma_write(at, &bytes)?;
        self.waiting.pop_front();
        self.tail += 1;
        if self.tail == self.entries {
            self.tail = 0;
            self.phase = !self.phase;
        }
        Ok(true)
    }

    pub(crate) fn snapshot(&self) -> Value {
        json!({
            "base": format!("{:#x}", self.base),
            "entries": self.entries,
            "head": self.head,
            "tail": self.tail,
            "phase": self.phase,
            "vector": self.vector,
            "waiting": self.waiting.len(),
        })
    }
}

/// The value before `doorbell`, if the event index `asked_for` is so far behind that the guest will come to it.
fn index_to_keep_quiet(asked_for: &mut Option<u32>, doorbell: u32, entries: u32) -> Option<u32> {
    let is_near = |asked_for: u32| (1..=entries / 2).contains(&distance(asked_for, doorbell, entries));
    if asked_for.is_some_and(is_near) {
        return None;
    }
    let before = doorbell.checked_sub(1).unwrap_or(entries - 1);
    *asked_for = Some(before);
    Some(before)
}

/// The places that hold something, as a list of bits: looking at the queues may change them.
fn ids<T>(places: &[Option<T>]) -> impl Iterator<Item = u16> + use<T> {
    let bits = (0u16..).zip(places).fold(0u32, |bits, (id, place)| bits | u32::from(place.is_some()) << id);
    (0..32).filter(move |id| bits >> id & 1 != 0)
}

/// Entries from `from` to `to`, going up.
fn distance(from: u32, to: u32, entries: u32) -> u32 {
    if to >= from { to - from } else { entries.saturating_sub(from) + to }
}

/// All queues, by identifier; 0 are the admin queues.
#[derive(Debug)]
pub(crate) struct Queues {
    submission: Vec<Option<SubmissionQueue>>,
    completion: Vec<Option<CompletionQueue>>,
}

impl Queues {
    pub(crate) fn new() -> Self {
        let places = usize::from(MAX_IO_QUEUES) + 1;
        Self {
            submission: (0..places).map(|_| None).collect(),
            completion: (0..places).map(|_| None).collect(),
        }
    }

    pub(crate) fn submission(&mut self, id: u16) -> Option<&mut SubmissionQueue> {
        self.submission.get_mut(usize::from(id))?.as_mut()
    }

    pub(crate) fn completion(&mut self, id: u16) -> Option<&mut CompletionQueue> {
        self.completion.get_mut(usize::from(id))?.as_mut()
    }

    /// Adds a submission queue, whose completion queue must be there.
    pub(crate) fn add_submission(&mut self, id: u16, queue: SubmissionQueue) {
        if let Some(completion) = self.completion(queue.completion) {
            completion.users += 1;
        }
        if let Some(place) = self.submission.get_mut(usize::from(id)) {
            *place = Some(queue);
        }
    }

    pub(crate) fn remove_submission(&mut self, id: u16) {
        let removed = self.submission.get_mut(usize::from(id)).and_then(Option::take);
        if let Some(completion) = removed.and_then(|queue| self.completion(queue.completion)) {
            completion.users = completion.users.saturating_sub(1);
        }
    }

    pub(crate) fn add_completion(&mut self, id: u16, queue: CompletionQueue) {
        if let Some(place) = self.completion.get_mut(usize::from(id)) {
            *place = Some(queue);
        }
    }

    pub(crate) fn remove_completion(&mut self, id: u16) {
        if let Some(place) = self.completion.get_mut(usize::from(id)) {
            *place = None;
        }
    }

    /// Identifiers of the submission queues that are there.
    pub(crate) fn submission_ids(&self) -> impl Iterator<Item = u16> + use<> {
        ids(&self.submission)
    }

    /// Likewise of the completion queues.
    pub(crate) fn completion_ids(&self) -> impl Iterator<Item = u16> + use<> {
        ids(&self.completion)
    }

    /// What shadow doorbells can change: commands that are submitted, and completion queues without room.
    pub(crate) fn news(&self) -> (u32, usize) {
        let submitted = self.submission.iter().flatten().map(SubmissionQueue::submitted).sum();
        let stuck = self.completion.iter().flatten().filter(|queue| queue.is_stuck()).count();
        (submitted, stuck)
    }

    /// Whether any I/O queue is there.
    pub(crate) fn has_io_queues(&self) -> bool {
        let submission = self.submission.iter().skip(1).any(Option::is_some);
        submission || self.completion.iter().skip(1).any(Option::is_some)
    }

    /// Writes the completions that wait in queue `id`, as far as there is room. Returns how many.
    pub(crate) fn post(&mut self, ctx: &mut Ctx<'_>, id: u16) -> Result<u32, DmaError> {
        let Self { submission, completion } = self;
        let Some(queue) = completion.get_mut(usize::from(id)).and_then(Option::as_mut) else { return Ok(0) };
        let mut posted = 0;
        let head = |completion: &Completion| {
            let queue = submission.get(usize::from(completion.queue)).and_then(Option::as_ref);
            queue.map_or(0, |queue| queue.head)
        };
        while queue.post(ctx, head)? {
            posted += 1;
        }
        Ok(posted)
    }

    pub(crate) fn snapshot(&self) -> Value {
        let submission = self.submission.iter().map(|queue| queue.as_ref().map(SubmissionQueue::snapshot));
        let completion = self.completion.iter().map(|queue| queue.as_ref().map(CompletionQueue::snapshot));
        let there: Vec<Value> = (0u16..)
            .zip(submission.zip(completion))
            .filter(|(_, (submission, completion))| submission.is_some() || completion.is_some())
            .map(|(id, (submission, completion))| {
                json!({"id": id, "submission": submission, "completion": completion})
            })
            .collect();
        Value::Array(there)
    }
}
