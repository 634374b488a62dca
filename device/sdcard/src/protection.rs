//! Write protection: of groups (4.3.6) and of the whole card, by bits of the CSD (4.3.4, 5.3.2).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::capacity::BLOCK_BYTES;
use crate::card::MemoryCard;
use crate::profile::Profile;
use crate::registers::csd::{self, ProgramError};
use crate::state::State;
use crate::status;
use crate::table::Outcome;
use crate::transfer::Then;

/// CMD30 tells of so many groups.
const GROUPS_SENT: u64 = 32;

/// The write protect groups of a standard-capacity card; other cards have none.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// Blocks of a group; 0 if there are no groups.
    size: u64,
    count: u64,
    /// At most [`Groups::count`], which is at most 256.
    protected: BTreeSet<u64>,
}

impl Groups {
    pub(crate) fn new(profile: &Profile) -> Self {
        let size = csd::group_blocks(profile).unwrap_or(0);
        let count = if size == 0 { 0 } else { profile.capacity.blocks().div_ceil(size) };
        Self { size, count, protected: BTreeSet::new() }
    }

    fn group(&self, block: u64) -> Option<u64> {
        block.checked_div(self.size)
    }

    pub(crate) fn is_protected(&self, block: u64) -> bool {
        self.group(block).is_some_and(|group| self.protected.contains(&group))
    }

    /// How many blocks from `first` on are not protected, up to `count`.
    pub(crate) fn writable_blocks(&self, first: u64, count: u32) -> u32 {
        let (Some(group), false) = (self.group(first), self.protected.is_empty()) else { return count };
        let Some(next) = self.protected.range(group..).next() else { return count };
        let writable = next.saturating_mul(self.size).saturating_sub(first);
        u32::try_from(writable).map_or(count, |writable| writable.min(count))
    }

    /// The runs of blocks between `first` and `last`, both included, that are not protected, from the last one to the
    /// first; and whether any are.
    pub(crate) fn runs(&self, first: u64, last: u64) -> (Vec<(u64, u64)>, bool) {
        let end = last.saturating_add(1);
        let mut runs = Vec::new();
        let mut at = first;
        let mut skips = false;
        let from = self.group(first).unwrap_or(0);
        for group in self.protected.range(from..) {
            let start = group.saturating_mul(self.size);
            if start >= end {
                break;
            }
            skips = true;
            if start > at {
                runs.push((at, start - at));
            }
            at = start.saturating_add(self.size);
        }
        if end > at {
            runs.push((at, end - at));
        }
        runs.reverse();
        (runs, skips)
    }

    fn set(&mut self, block: u64, protect: bool) {
        if let Some(group) = self.group(block) {
            if protect {
                self.protected.insert(group);
            } else {
                self.protected.remove(&group);
            }
        }
    }

    /// The group of `block` in bit 0, and the ones that follow it.
    fn bits(&self, block: u64) -> u32 {
        let Some(first) = self.group(block) else { return 0 };
        (0..GROUPS_SENT)
            .filter(|number| first + number < self.count && self.protected.contains(&(first + number)))
            .fold(0, |bits, number| bits | 1 << number)
    }

    pub(crate) fn clear(&mut self) {
        self.protected.clear();
    }

    pub(crate) fn protected(&self) -> usize {
        self.protected.len()
    }
}

impl MemoryCard {
    /// CMD28.
    pub(crate) fn set_write_protection(&mut self, _now: Duration, argument: u32) -> Outcome {
        self.protect(argument, true)
    }

    /// CMD29.
    pub(crate) fn clear_write_protection(&mut self, _now: Duration, argument: u32) -> Outcome {
        self.protect(argument, false)
    }

    fn protect(&mut self, argument: u32, protect: bool) -> Outcome {
        match self.protected_block(argument) {
            Some(block) => {
                self.durable.groups.set(block, protect);
                self.session.state = State::Programming;
            }
            None => self.session.raise(status::OUT_OF_RANGE),
        }
        Outcome::Answer
    }

    /// CMD30.
    pub(crate) fn send_write_protection(&mut self, _now: Duration, argument: u32) -> Outcome {
        match self.protected_block(argument) {
            Some(block) => {
                let bits = self.durable.groups.bits(block);
                self.send_block(bits.to_be_bytes().to_vec(), Then::Nothing)
            }
            None => {
                self.session.raise(status::OUT_OF_RANGE);
                Outcome::Answer
            }
        }
    }

    fn protected_block(&mut self, argument: u32) -> Option<u64> {
        let address = self.user_address(argument);
        (address < self.profile.capacity.bytes()).then_some(address / u64::from(BLOCK_BYTES))
    }

    /// The block of CMD27.
    pub(crate) fn take_csd(&mut self, data: &[u8]) {
        let Ok(new) = data.try_into() else { return };
        match csd::program(&self.profile, self.durable.programmed, new) {
            Ok(programmed) => self.durable.programmed = programmed,
            Err(ProgramError::Overwrite) => self.session.raise(status::CSD_OVERWRITE),
            Err(ProgramError::Crc) => self.session.raise(status::ERROR),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::Capacity;

    fn groups(protected: &[u64]) -> Groups {
        let profile = Profile::legacy(1, Capacity::new(64 << 20).unwrap());
        let mut groups = Groups::new(&profile);
        assert_eq!((groups.size, groups.count), (16384, 8));
        for group in protected {
            groups.set(group * 16384 + 5, true);
        }
        groups
    }

    #[test]
    fn writable_blocks_end_at_the_next_protected_group() {
        let groups = groups(&[1, 3]);
        let writable = |first| groups.writable_blocks(first, 100);
        assert_eq!(
            [0, 16380, 16384, 2 * 16384 - 1, 2 * 16384, 4 * 16384].map(writable),
            [100, 4, 0, 0, 100, 100]
        );
    }

    #[test]
    fn runs_leave_protected_groups_out() {
        let groups = groups(&[1, 3]);
        assert_eq!(groups.runs(0, 10), (vec![(0, 11)], false));
        assert_eq!(groups.runs(16380, 16390), (vec![(16380, 4)], true));
        assert_eq!(groups.runs(20000, 4 * 16384), (vec![(4 * 16384, 1), (2 * 16384, 16384)], true));
        assert_eq!(groups.runs(17000, 17001), (vec![], true));
        assert_eq!(groups.runs(16384, 2 * 16384), (vec![(2 * 16384, 1)], true));
    }

    #[test]
    fn bits_count_from_the_addressed_group() {
        let groups = groups(&[1, 7]);
        assert_eq!(groups.bits(0), 0b1000_0010);
        assert_eq!(groups.bits(16384), 0b0100_0001);
    }

    #[test]
    fn other_cards_have_no_groups() {
        let groups = Groups::new(&Profile::legacy(1, Capacity::DEFAULT));
        assert_eq!(groups.writable_blocks(7, 9), 9);
        assert_eq!(groups.runs(7, 9), (vec![(7, 3)], false));
    }
}
