//! Commands that were fetched and have not ended, each with what it still has to do.

use std::collections::VecDeque;

use sdmorph_pci::{MediaRequest, MediaResult};

use crate::command::{Command, Ended};
use crate::io::Work;

/// Most commands under way. Others wait in their submission queues. It limits the memory that a guest can make the
/// controller use: each command has one transfer of at most MDTS.
pub(crate) const MAX_COMMANDS: usize = 128;

/// How a command goes on.
#[derive(Debug)]
pub(crate) enum Step {
    /// It has ended.
    Ended(Ended),
    /// It asks the medium for something, and does the work when that has ended.
    Asks(MediaRequest, Work),
    /// It waits for something other than the medium.
    Waits,
}

/// A command under way.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) queue: u16,
    pub(crate) command: Command,
    /// What is done when the medium has ended its request.
    pub(crate) work: Option<Work>,
}

/// Commands under way, by slot.
#[derive(Debug)]
pub(crate) struct Commands {
    slots: Vec<Option<InFlight>>,
    free: Vec<usize>,
    /// Results of the medium that have not been looked at, with the slots of their commands.
    pub(crate) results: VecDeque<(usize, MediaResult)>,
}

impl Commands {
    pub(crate) fn new() -> Self {
        Self {
            slots: (0..MAX_COMMANDS).map(|_| None).collect(),
            free: (0..MAX_COMMANDS).rev().collect(),
            results: VecDeque::new(),
        }
    }

    /// How many more there is room for.
    pub(crate) fn room(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Takes a command and returns its slot; `None` if there is no room.
    pub(crate) fn add(&mut self, queue: u16, command: Command) -> Option<usize> {
        let slot = self.free.pop()?;
        *self.slots.get_mut(slot)? = Some(InFlight { queue, command, work: None });
        Some(slot)
    }

    pub(crate) fn get(&mut self, slot: usize) -> Option<&mut InFlight> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// The command in `slot`, which is free from then on.
    pub(crate) fn remove(&mut self, slot: usize) -> Option<InFlight> {
        let command = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        Some(command)
    }

    /// Whether a command of `queue` has this identifier.
    pub(crate) fn has(&self, queue: u16, id: u16) -> bool {
        self.slots.iter().flatten().any(|flight| flight.queue == queue && flight.command.id == id)
    }
}
