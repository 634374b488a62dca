//! Which rules care about what: the index that makes an access nobody cares about cost one look-up.

use std::collections::HashMap;

use sdmorph_pci::mask_of_size;
use sdmorph_pci::{Access, Answer, DataChange, Direction, DoorbellKind};

use crate::candidates::{Candidates, Observed, Wanted};
use crate::read_data::Seen;
use crate::registry::RegisterInfo;
use crate::rule::SpaceKind;
use crate::state::State;

/// A rule's number in the engine, in the order they were added.
pub(crate) type RuleId = u64;

/// Function and name of a register.
pub(crate) type RegisterKey = (&'static str, &'static str);

/// Where things happen that rules wait for, but for registers by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// Registers of a function, by their offsets.
    Space(&'static str, SpaceKind, Direction),
    /// Guest memory as a function sees it.
    Memory(&'static str, Direction),
    /// Interrupt messages of a function, by their vectors.
    Interrupt(&'static str),
    /// Doorbells, by their queues.
    Doorbell(DoorbellKind),
    /// Events of a name, by the number of their function.
    Event(&'static str),
    /// A phase of the switch begins.
    Phase(&'static str),
    /// Commands, by their number in the registry.
    Command(usize),
    /// Messages of the client, by the number of the command on the wire.
    Message(u16),
    /// Hits of a rule.
    Rule(RuleId),
}

/// What a rule's trigger became when its names were looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    Register(RegisterInfo, Option<Direction>),
    Places(Vec<Place>),
    Start,
}

/// A register that rules wait for or whose reads answer something else.
#[derive(Debug, Clone)]
pub(crate) struct RegisterWatch {
    info: RegisterInfo,
    /// What becomes of its data when it is read.
    change: DataChange,
    /// How many rules may ask for stale data: only then it is kept what reads answer.
    keepers: u32,
    seen: Seen,
    readers: Candidates,
    writers: Candidates,
}

/// Everything that rules wait for. Only rules that are armed are in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watches {
    registers: HashMap<RegisterKey, RegisterWatch>,
    places: HashMap<Place, Candidates>,
}

impl Watches {
    pub(crate) fn register(&self, key: RegisterKey) -> Option<&RegisterWatch> {
        self.registers.get(&key)
    }

    /// Adds the rules to `found` that wait for what was `seen` there.
    pub(crate) fn find(&self, place: Place, seen: &Observed, state: State, found: &mut Vec<RuleId>) {
        if let Some(candidates) = self.places.get(&place) {
            candidates.find(seen, state, found);
        }
    }

    /// Puts an armed rule in.
    pub(crate) fn add(&mut self, id: RuleId, key: &Key, wanted: Wanted) {
        match key {
            Key::Register(info, direction) => {
                let watch = self.watch(*info);
                if *direction != Some(Direction::Write) {
                    watch.readers.add(id, wanted);
                }
                if *direction != Some(Direction::Read) {
                    watch.writers.add(id, wanted);
                }
            }
            Key::Places(places) => {
                for place in places {
                    self.places.entry(*place).or_default().add(id, wanted);
                }
            }
            Key::Start => {}
        }
    }

    /// Takes a rule out that is not armed any more.
    pub(crate) fn remove(&mut self, id: RuleId, key: &Key) {
        match key {
            Key::Register(info, _) => {
                let key = (info.function, info.name);
                if let Some(watch) = self.registers.get_mut(&key) {
                    watch.readers.remove(id);
                    watch.writers.remove(id);
                    self.drop_if_idle(key);
                }
            }
            Key::Places(places) => {
                for place in places {
                    if let Some(candidates) = self.places.get_mut(place) {
                        candidates.remove(id);
                        if candidates.is_empty() {
                            self.places.remove(place);
                        }
                    }
                }
            }
            Key::Start => {}
        }
    }

    fn watch(&mut self, info: RegisterInfo) -> &mut RegisterWatch {
        self.registers.entry((info.function, info.name)).or_insert_with(|| RegisterWatch::new(info))
    }

    /// Changes what reads of a register answer, given what the last one has.
    pub(crate) fn change(&mut self, info: RegisterInfo, change: impl FnOnce(DataChange, Seen) -> DataChange) {
        let key = (info.function, info.name);
        let watch = self.watch(info);
        watch.change = change(watch.change, watch.seen);
        self.drop_if_idle(key);
    }

    /// One rule more, or less, may ask for what reads of the register have answered.
    pub(crate) fn keep(&mut self, info: RegisterInfo, more: bool) {
        let key = (info.function, info.name);
        let watch = self.registers.entry(key).or_insert_with(|| RegisterWatch::new(info));
        watch.keepers = if more { watch.keepers + 1 } else { watch.keepers.saturating_sub(1) };
        self.drop_if_idle(key);
    }

    /// A read has answered `value`.
    pub(crate) fn saw(&mut self, key: RegisterKey, access: &Access, value: u64) {
        let keeper = self.registers.get_mut(&key).filter(|watch| watch.keepers != 0);
        if let Some(watch) = keeper.filter(|_| access.answer != Answer::Dead) {
            let data = watch.data_of(access, value);
            watch.seen.saw(data.bits, data.covered);
        }
    }

    fn drop_if_idle(&mut self, key: RegisterKey) {
        let idle = |watch: &RegisterWatch| {
            watch.change == DataChange::NONE
                && watch.keepers == 0
                && watch.readers.is_empty()
                && watch.writers.is_empty()
        };
        if self.registers.get(&key).is_some_and(idle) {
            self.registers.remove(&key);
        }
    }

    /// Registers whose reads answer something else, in the order of their names, with what becomes of their data.
    pub(crate) fn changes(&self) -> Vec<(RegisterKey, DataChange)> {
        let changes = self.registers.iter().filter(|(_, watch)| watch.change != DataChange::NONE);
        let mut changes: Vec<_> = changes.map(|(key, watch)| (*key, watch.change)).collect();
        changes.sort_unstable_by_key(|(key, _)| *key);
        changes
    }
}

impl RegisterWatch {
    fn new(info: RegisterInfo) -> Self {
        let (change, seen) = (DataChange::NONE, Seen::default());
        let (readers, writers) = (Candidates::default(), Candidates::default());
        Self { info, change, keepers: 0, seen, readers, writers }
    }

    /// Adds the rules to `found` that wait for this access, whose data is `value`.
    pub(crate) fn find(&self, access: &Access, value: u64, state: State, found: &mut Vec<RuleId>) {
        let candidates = match access.direction {
            Direction::Read => &self.readers,
            Direction::Write => &self.writers,
        };
        if !candidates.is_empty() {
            candidates.find(&self.data_of(access, value), state, found);
        }
    }

    /// Whether it has to be kept what reads answer.
    pub(crate) fn keeps(&self) -> bool {
        self.keepers != 0
    }

    /// What becomes of the data of this access, where it has the register.
    pub(crate) fn change_in(&self, access: &Access) -> DataChange {
        if access.answer == Answer::Dead || self.change == DataChange::NONE {
            return DataChange::NONE;
        }
        // The register's byte 0 is this many bits into the access; the other way round if it is not negative.
        let in_access = |bits: u64| shift(bits, self.info.address, access.offset) & mask_of_size(access.size);
        let cleared = in_access(!self.change.keep & mask_of_size(self.info.size));
        DataChange { keep: !cleared, flip: in_access(self.change.flip) }
    }

    /// The data of an access as bits of the register.
    fn data_of(&self, access: &Access, value: u64) -> Observed {
        let (lanes, width) = (mask_of_size(access.size), mask_of_size(self.info.size));
        let to_register = |bits| shift(bits, access.offset, self.info.address) & width;
        Observed { covered: to_register(lanes), ..Observed::data(to_register(value & lanes)) }
    }
}

/// Moves bits counted from byte `from` to where they are when counted from byte `to`.
fn shift(bits: u64, from: u64, to: u64) -> u64 {
    let distance = |bytes: u64| u32::try_from(bytes.saturating_mul(8)).unwrap_or(u32::MAX);
    if from >= to {
        bits.checked_shl(distance(from - to)).unwrap_or(0)
    } else {
        bits.checked_shr(distance(to - from)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use sdmorph_pci::{Answer, Space};

    use super::*;
    use crate::rule::Pattern;

    fn watch(stuck: u64) -> RegisterWatch {
        let info = RegisterInfo {
            function: "reader",
            space: Space::Bar(0),
            name: "HAIMR",
            address: 0x10,
            size: 4,
            busy: 0,
        };
        RegisterWatch { change: DataChange::give(stuck, u64::MAX), ..RegisterWatch::new(info) }
    }

    fn read(offset: u64, size: u8) -> Access {
        let (space, direction, answer) = (Space::Bar(0), Direction::Read, Answer::Modelled);
        Access { space, direction, offset, size, register: Some("HAIMR"), value: 0, answer }
    }

    #[test]
    fn stuck_bits_show_in_the_bytes_that_a_partial_read_covers() {
        let watch = watch(0x8000_00ff);
        let shown = |offset, size| watch.change_in(&read(offset, size)).apply(0);
        assert_eq!(shown(0x10, 4), 0x8000_00ff);
        assert_eq!(shown(0x13, 1), 0x80);
        assert_eq!(shown(0x11, 1), 0);
        assert_eq!(shown(0x0c, 8), 0x8000_00ff_0000_0000);
        assert_eq!(shown(u64::MAX, 1), 0);
        assert_eq!(shown(0, 8), 0);
    }

    #[test]
    fn value_of_a_partial_access_matches_only_if_it_covers_the_mask() {
        let (any, value) = (Wanted::ANY, |value, mask| Some(Pattern { value, mask }));
        let width = mask_of_size(4);
        let matches = |wanted, access: &Access, value| {
            let mut watch = watch(0);
            watch.readers.add(1, wanted);
            let mut found = Vec::new();
            watch.find(access, value, State::after_power_on(), &mut found);
            !found.is_empty()
        };
        let byte_three = read(0x13, 1);
        assert!(matches(any.data(value(0x8000_0000, Some(0x8000_0000)), width), &byte_three, 0x80));
        assert!(!matches(any.data(value(0x8000_0000, None), width), &byte_three, 0x80));
        assert!(matches(any, &byte_three, 0x80));
        let wide = read(0x0c, 8);
        assert!(matches(any.data(value(0x1234_5678, None), width), &wide, 0x1234_5678_0000_0000));
    }
}
