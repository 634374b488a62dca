//! A submission queue and its completion queue.

use sdmorph_pci::PciFunction;

use super::command::{Completion, Entry};
use crate::Bench;

/// Addresses of the shadow doorbell page and the event index page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadow {
    /// Shadow doorbells.
    pub doorbells: u64,
    /// Event indices.
    pub indices: u64,
}

/// A pair of queues with the same identifier and size.
#[derive(Debug, Clone)]
pub struct QueuePair {
    /// Identifier; 0 is the admin queue.
    pub id: u16,
    /// Entries of each.
    pub entries: u32,
    /// Where the submission queue is.
    pub submission: u64,
    /// Where the completion queue is.
    pub completion: u64,
    /// Where the next command goes.
    pub tail: u32,
    /// Where the next completion comes.
    pub head: u32,
    /// The phase tag of a new completion.
    pub phase: bool,
    /// Shadow doorbells, if the controller has been told of them.
    pub shadow: Option<Shadow>,
    /// Doorbell registers written.
    pub doorbell_writes: u32,
}

impl QueuePair {
    /// An empty pair.
    #[must_use]
    pub fn new(id: u16, entries: u32, submission: u64, completion: u64) -> Self {
        Self {
            id,
            entries,
            submission,
            completion,
            tail: 0,
            head: 0,
            phase: true,
            shadow: None,
            doorbell_writes: 0,
        }
    }

    /// Puts a command into the submission queue, without a doorbell (`nvme_sq_copy_cmd`).
    pub fn put(&mut self, bench: &Bench, entry: &Entry) {
        bench.memory.poke(self.submission + 64 * u64::from(self.tail), &entry.bytes());
        self.tail = (self.tail + 1) % self.entries;
    }

    /// Rings the tail doorbell (`nvme_write_sq_db`).
    pub fn ring(&mut self, bench: &mut Bench, function: &mut dyn PciFunction) {
        self.doorbell(bench, function, 2 * u64::from(self.id), self.tail);
    }

    /// Takes the completions that are there, and rings the head doorbell if there was one (`nvme_poll_cq`).
    pub fn reap(&mut self, bench: &mut Bench, function: &mut dyn PciFunction) -> Vec<Completion> {
        let taken = self.take(bench);
        if !taken.is_empty() {
            self.doorbell(bench, function, 2 * u64::from(self.id) + 1, self.head);
        }
        taken
    }

    /// The same without the doorbell.
    pub fn take(&mut self, bench: &Bench) -> Vec<Completion> {
        let mut taken = Vec::new();
        while let Some(completion) = self.next(bench) {
            taken.push(completion);
            self.head += 1;
            if self.head == self.entries {
                self.head = 0;
                self.phase = !self.phase;
            }
        }
        taken
    }

    fn next(&self, bench: &Bench) -> Option<Completion> {
        let at = self.completion + 16 * u64::from(self.head);
        // The phase tag first (`nvme_cqe_pending`): before it is new, the rest may be half written.
        let is_new = bench.memory.peek(at + 14, 1)?.first()? & 1 == u8::from(self.phase);
        if !is_new {
            return None;
        }
        Completion::parse(&bench.memory.peek(at, 16)?).map(|(completion, _)| completion)
    }

    /// `nvme_dbbuf_update_and_check_event`, and the register if that says so.
    fn doorbell(&mut self, bench: &mut Bench, function: &mut dyn PciFunction, index: u64, value: u32) {
        if let Some(shadow) = self.shadow.filter(|_| self.id != 0) {
            let word = |at: u64| {
                let bytes = bench.memory.peek(at, 4).unwrap_or_default();
                bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
            };
            let old = word(shadow.doorbells + 4 * index);
            bench.memory.poke(shadow.doorbells + 4 * index, &value.to_le_bytes());
            let event = word(shadow.indices + 4 * index);
            let (new, old, event) = (value as u16, old as u16, event as u16);
            if new.wrapping_sub(event).wrapping_sub(1) >= new.wrapping_sub(old) {
                return;
            }
        }
        self.doorbell_writes += 1;
        bench.write(function, 0x1000 + 4 * index, value);
    }
}
