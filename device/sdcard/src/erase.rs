//! Erasing (4.3.5): CMD32 and CMD33 choose blocks, CMD38 erases, discards or, with FULE, erases all.

use std::time::Duration;

use sdmorph_pci::MediaRequest;

use crate::capacity::BLOCK_BYTES;
use crate::card::MemoryCard;
use crate::state::State;
use crate::status;
use crate::table::Outcome;
use crate::transfer::Work;

/// CMD38: discard, if the SD Status says that the card can. Otherwise these are stuff bits.
const DISCARD: u32 = 1;
/// CMD38: full user area logical erase, if the SD Status says that the card can.
const FULL: u32 = 2;

impl MemoryCard {
    /// CMD32.
    pub(crate) fn erase_from(&mut self, _now: Duration, argument: u32) -> Outcome {
        self.session.erase_to = None;
        self.session.erase_from = self.erase_address(argument);
        Outcome::Answer
    }

    /// CMD33.
    pub(crate) fn erase_to(&mut self, _now: Duration, argument: u32) -> Outcome {
        let address = self.erase_address(argument);
        if self.session.erase_from.is_none() || self.session.erase_to.is_some() {
            self.forget_erase();
            self.session.raise(status::ERASE_SEQ_ERROR);
        } else if address.is_none() {
            self.forget_erase();
        } else {
            self.session.erase_to = address;
        }
        Outcome::Answer
    }

    /// CMD38. What was erased or discarded reads as zeros.
    pub(crate) fn erase(&mut self, _now: Duration, argument: u32) -> Outcome {
        let chosen = self.session.erase_from.zip(self.session.erase_to);
        self.forget_erase();
        let Some((first, last)) = chosen else {
            self.session.raise(status::ERASE_SEQ_ERROR);
            return Outcome::Answer;
        };
        let all = (0, self.profile.capacity.blocks().saturating_sub(1));
        let is_full = argument == FULL && self.profile.erase.full;
        if first > last || is_full && (first, last) != all {
            self.session.raise(status::ERASE_PARAM);
            return Outcome::Answer;
        }
        self.session.state = State::Programming;
        self.counters.erases = self.counters.erases.saturating_add(1);
        if argument == DISCARD && self.profile.erase.discard {
            self.counters.discards = self.counters.discards.saturating_add(1);
        }
        let (runs, skips) = if self.durable.programmed.is_write_protected() {
            (Vec::new(), true)
        } else {
            self.durable.groups.runs(first, last)
        };
        if skips {
            self.session.raise(status::WP_ERASE_SKIP);
        }
        if !runs.is_empty() {
            self.erase_next(runs, false);
        }
        Outcome::Answer
    }

    /// Has the medium erase the last of `runs`; the others follow. If there is none left, the erase is done.
    pub(crate) fn erase_next(&mut self, mut runs: Vec<(u64, u64)>, is_forced: bool) {
        match runs.pop() {
            Some((first, count)) => {
                self.session.work = Work::Erase { runs, is_forced };
                self.store.ask(MediaRequest::Discard { first, count });
            }
            None if is_forced => self.force_erased(),
            None => {}
        }
    }

    /// An erase sequence is not gone on with. True if there was one.
    pub(crate) fn forget_erase(&mut self) -> bool {
        self.session.erase_from.take().is_some() | self.session.erase_to.take().is_some()
    }

    /// The block that is meant; `None`, and an error, if it is not there.
    fn erase_address(&mut self, argument: u32) -> Option<u64> {
        let address = self.user_address(argument);
        if address >= self.profile.capacity.bytes() {
            self.session.raise(status::OUT_OF_RANGE);
            return None;
        }
        Some(address / u64::from(BLOCK_BYTES))
    }
}
