//! Which rules care about what: the index that makes an access nobody cares about cost one look-up.

use std::collections::{BTreeMap, HashMap};

use sdmorph_pci::mask_of_size;
use sdmorph_pci::{Access, Answer, DataChange, Direction};

use crate::read_data::Seen;
use crate::registry::RegisterInfo;
use crate::rule::{Pattern, RuleName};

/// A rule's number in the engine, in the order they were added.
pub(crate) type RuleId = u64;

/// Function and name of a register.
pub(crate) type RegisterKey = (&'static str, &'static str);

/// What a rule's trigger became when its names were looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    Register(RegisterKey, Option<Direction>),
    Event(&'static str),
    Command(String),
    Message(u16),
    Rule(RuleName),
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
    readers: Vec<RuleId>,
    writers: Vec<RuleId>,
}

/// Everything that rules wait for. Lists are in the order the rules were added.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watches {
    registers: HashMap<RegisterKey, RegisterWatch>,
    events: HashMap<&'static str, Vec<RuleId>>,
    /// Rules that are not armed before this event.
    arming: HashMap<&'static str, Vec<RuleId>>,
    commands: HashMap<String, Vec<RuleId>>,
    /// By the number of the command on the wire.
    messages: BTreeMap<u16, Vec<RuleId>>,
    chained: HashMap<RuleName, Vec<RuleId>>,
}

impl Watches {
    pub(crate) fn register(&self, key: RegisterKey) -> Option<&RegisterWatch> {
        self.registers.get(&key)
    }

    pub(crate) fn event(&self, name: &str) -> &[RuleId] {
        self.events.get(name).map_or(&[], Vec::as_slice)
    }

    /// Takes the rules that this event arms: it does so once.
    pub(crate) fn armed_by(&mut self, event: &str) -> Vec<RuleId> {
        self.arming.remove(event).unwrap_or_default()
    }

    pub(crate) fn command(&self, name: &str) -> &[RuleId] {
        self.commands.get(name).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn message(&self, number: u16) -> &[RuleId] {
        self.messages.get(&number).map_or(&[], Vec::as_slice)
    }

    /// The messages that rules wait for.
    pub(crate) fn messages(&self) -> impl Iterator<Item = u16> + '_ {
        self.messages.iter().filter(|(_, rules)| !rules.is_empty()).map(|(number, _)| *number)
    }

    pub(crate) fn chained_to(&self, name: &RuleName) -> &[RuleId] {
        self.chained.get(name).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn add(
        &mut self,
        id: RuleId,
        key: &Key,
        after: Option<&'static str>,
        info: Option<RegisterInfo>,
    ) {
        match (key, info) {
            (Key::Register(key, direction), Some(info)) => {
                let watch = self.registers.entry(*key).or_insert_with(|| RegisterWatch::new(info));
                if *direction != Some(Direction::Write) {
                    watch.readers.push(id);
                }
                if *direction != Some(Direction::Read) {
                    watch.writers.push(id);
                }
            }
            (Key::Event(name), _) => self.events.entry(name).or_default().push(id),
            (Key::Command(name), _) => self.commands.entry(name.clone()).or_default().push(id),
            (Key::Message(number), _) => self.messages.entry(*number).or_default().push(id),
            (Key::Rule(name), _) => self.chained.entry(name.clone()).or_default().push(id),
            (Key::Register(..), None) | (Key::Start, _) => {}
        }
        if let Some(event) = after {
            self.arming.entry(event).or_default().push(id);
        }
    }

    pub(crate) fn remove(&mut self, id: RuleId, key: &Key, after: Option<&'static str>) {
        let without = |list: Option<&mut Vec<RuleId>>| {
            if let Some(list) = list {
                list.retain(|other| *other != id);
            }
        };
        match key {
            Key::Register(key, _) => {
                if let Some(watch) = self.registers.get_mut(key) {
                    without(Some(&mut watch.readers));
                    without(Some(&mut watch.writers));
                    self.drop_if_idle(*key);
                }
            }
            Key::Event(name) => without(self.events.get_mut(name)),
            Key::Command(name) => without(self.commands.get_mut(name)),
            Key::Message(number) => without(self.messages.get_mut(number)),
            Key::Rule(name) => without(self.chained.get_mut(name)),
            Key::Start => {}
        }
        if let Some(event) = after {
            without(self.arming.get_mut(event));
        }
    }

    /// Changes what reads of a register answer, given what the last one has.
    pub(crate) fn change(&mut self, info: RegisterInfo, change: impl FnOnce(DataChange, Seen) -> DataChange) {
        let key = (info.function, info.name);
        let watch = self.registers.entry(key).or_insert_with(|| RegisterWatch::new(info));
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
        Self { info, change, keepers: 0, seen, readers: Vec::new(), writers: Vec::new() }
    }

    pub(crate) fn rules(&self, direction: Direction) -> &[RuleId] {
        match direction {
            Direction::Read => &self.readers,
            Direction::Write => &self.writers,
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
    pub(crate) fn data_of(&self, access: &Access, value: u64) -> Data {
        let width = mask_of_size(self.info.size);
        let lanes = mask_of_size(access.size);
        Data {
            bits: shift(value & lanes, access.offset, self.info.address) & width,
            covered: shift(lanes, access.offset, self.info.address) & width,
            width,
        }
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

/// The number that a trigger's value is compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Data {
    bits: u64,
    /// The bits that the access carried.
    covered: u64,
    /// The bits there are.
    width: u64,
}

impl Data {
    /// A command's argument.
    pub(crate) fn of_argument(argument: u32) -> Self {
        let all = u64::from(u32::MAX);
        Self { bits: u64::from(argument), covered: all, width: all }
    }

    /// Whether every bit that the pattern compares is there and as wanted.
    pub(crate) fn matches(&self, pattern: Option<Pattern>) -> bool {
        pattern.is_none_or(|pattern| {
            let mask = pattern.mask.unwrap_or(u64::MAX) & self.width;
            mask & !self.covered == 0 && (self.bits ^ pattern.value) & mask == 0
        })
    }
}

#[cfg(test)]
mod tests {
    use sdmorph_pci::{Answer, Space};

    use super::*;

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
        let byte_three = watch(0).data_of(&read(0x13, 1), 0x80);
        assert!(byte_three.matches(Some(Pattern { value: 0x8000_0000, mask: Some(0x8000_0000) })));
        assert!(!byte_three.matches(Some(Pattern { value: 0x8000_0000, mask: None })));
        assert!(byte_three.matches(None));
        let wide = watch(0).data_of(&read(0x0c, 8), 0x1234_5678_0000_0000);
        assert!(wide.matches(Some(Pattern { value: 0x1234_5678, mask: None })));
    }
}
