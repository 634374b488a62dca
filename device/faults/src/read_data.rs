//! Reads that answer something else than what is there.

use std::collections::HashMap;

use sdmorph_pci::{Access, Answer, DataChange, Space, mask_of_size};
use serde_json::{Map, Value, json};

use crate::rule::{SpaceKind, hexadecimal, insert_some};

/// `read-data`: what reads of a register or of a space answer from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadData {
    /// Which reads.
    pub of: ReadTarget,
    /// Its function. `None` is the only one that has the register, or for a space the one in the slot.
    pub function: Option<String>,
    /// What they answer.
    pub answer: ReadAnswer,
}

/// Which reads answer something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadTarget {
    /// Those of the register of that name.
    Register(String),
    /// All of a space. Values are of 32 bits then, at each address that is a multiple of 4.
    Space(SpaceKind),
}

/// What reads answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadAnswer {
    /// All-ones.
    Ones,
    /// Zeros.
    Zeros,
    /// This value.
    Value(u64),
    /// Only these bits of what is there.
    And(u64),
    /// These bits as well.
    Or(u64),
    /// These bits inverted.
    Xor(u64),
    /// What the last read before answered, as far as there was one.
    Stale,
    /// What is there, as ever.
    Clear,
}

impl ReadAnswer {
    /// The number that it is written with.
    pub(crate) fn number(self) -> Option<u64> {
        match self {
            ReadAnswer::Value(value) | ReadAnswer::And(value) | ReadAnswer::Or(value) => Some(value),
            ReadAnswer::Xor(value) => Some(value),
            ReadAnswer::Ones | ReadAnswer::Zeros | ReadAnswer::Stale | ReadAnswer::Clear => None,
        }
    }

    /// What becomes of the bits of `width`, where `last` is what was answered before.
    pub(crate) fn change(self, width: u64, last: Seen) -> DataChange {
        match self {
            ReadAnswer::Ones => DataChange::give(width, u64::MAX),
            ReadAnswer::Zeros => DataChange::give(width, 0),
            ReadAnswer::Value(value) => DataChange::give(width, value),
            ReadAnswer::And(mask) => DataChange::give(width & !mask, 0),
            ReadAnswer::Or(mask) => DataChange::give(width & mask, u64::MAX),
            ReadAnswer::Xor(mask) => DataChange { flip: mask & width, ..DataChange::NONE },
            ReadAnswer::Stale => DataChange::give(last.known, last.bits),
            ReadAnswer::Clear => DataChange::NONE,
        }
    }
}

impl ReadData {
    pub(crate) fn to_json(&self) -> Value {
        let mut table = Map::new();
        match &self.of {
            ReadTarget::Register(register) => table.insert("register".into(), json!(register)),
            ReadTarget::Space(space) => table.insert("space".into(), json!(space.name())),
        };
        insert_some(&mut table, "function", self.function.as_ref());
        let (key, value) = match self.answer {
            ReadAnswer::Ones => ("give", json!("ones")),
            ReadAnswer::Zeros => ("give", json!("zeros")),
            ReadAnswer::Stale => ("give", json!("stale")),
            ReadAnswer::Value(value) => ("give", json!(hexadecimal(value))),
            ReadAnswer::And(mask) => ("and", json!(hexadecimal(mask))),
            ReadAnswer::Or(mask) => ("or", json!(hexadecimal(mask))),
            ReadAnswer::Xor(mask) => ("xor", json!(hexadecimal(mask))),
            ReadAnswer::Clear => ("clear", json!(true)),
        };
        table.insert(key.into(), value);
        Value::Object(table)
    }
}

/// Bits that reads have answered, and which bits there were.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) bits: u64,
    pub(crate) known: u64,
}

impl Seen {
    /// A read answered `bits`, of which it covered `known`.
    pub(crate) fn saw(&mut self, bits: u64, known: u64) {
        self.bits = self.bits & !known | bits & known;
        self.known |= known;
    }
}

/// Eight bytes of a function.
type Place = (&'static str, Space, u64);

fn place(function: &'static str, access: &Access) -> (Place, u32) {
    ((function, access.space, access.offset & !7), 8 * (access.offset & 7) as u32)
}

/// Whether `function` is in the slot.
pub(crate) fn is_in_slot(function: &str) -> bool {
    !matches!(function, "port" | "vmd")
}

/// What a fault of a space is about.
pub(crate) type SpaceKey = (Option<&'static str>, SpaceKind);

/// The spaces whose reads answer something else.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spaces {
    faults: Vec<SpaceFault>,
    /// How many rules may ask for stale data: only then it is kept what reads answer.
    keepers: u32,
    /// What each place has answered last. A guest cannot make it larger than its spaces are.
    last: HashMap<Place, Seen>,
}

#[derive(Debug, Clone)]
struct SpaceFault {
    key: SpaceKey,
    answer: ReadAnswer,
    /// With [`ReadAnswer::Stale`]: what there was when it began.
    stale: HashMap<Place, Seen>,
}

impl Spaces {
    /// One rule more, or less, may ask for what reads have answered.
    pub(crate) fn keep(&mut self, more: bool) {
        self.keepers = if more { self.keepers + 1 } else { self.keepers.saturating_sub(1) };
        if self.keepers == 0 {
            self.last = HashMap::new();
        }
    }

    /// Sets what reads of a space answer, in place of what was set for it before.
    pub(crate) fn set(&mut self, key: SpaceKey, answer: ReadAnswer) {
        self.faults.retain(|fault| fault.key != key);
        if answer != ReadAnswer::Clear {
            let stale = if answer == ReadAnswer::Stale { self.last.clone() } else { HashMap::new() };
            self.faults.push(SpaceFault { key, answer, stale });
        }
    }

    /// What becomes of the data of a read.
    pub(crate) fn change(&self, function: &'static str, access: &Access) -> DataChange {
        if self.faults.is_empty() || access.answer == Answer::Dead {
            return DataChange::NONE;
        }
        let meets = |(wanted, space): SpaceKey| {
            space == SpaceKind::from(access.space)
                && wanted.map_or_else(|| is_in_slot(function), |wanted| wanted == function)
        };
        let faults = self.faults.iter().filter(|fault| meets(fault.key));
        faults.fold(DataChange::NONE, |change, fault| change.then(fault.change(function, access)))
    }

    /// A read has answered `value`.
    pub(crate) fn saw(&mut self, function: &'static str, access: &Access, value: u64) {
        if self.keepers != 0 && access.answer != Answer::Dead {
            let (place, shift) = place(function, access);
            self.last.entry(place).or_default().saw(value << shift, mask_of_size(access.size) << shift);
        }
    }

    /// The faults in the form of the actions that set them.
    pub(crate) fn to_json(&self) -> Vec<Value> {
        let action = |fault: &SpaceFault| {
            let (function, space) = fault.key;
            let (of, function) = (ReadTarget::Space(space), function.map(str::to_owned));
            ReadData { of, function, answer: fault.answer }.to_json()
        };
        self.faults.iter().map(action).collect()
    }
}

impl SpaceFault {
    fn change(&self, function: &'static str, access: &Access) -> DataChange {
        let (place, shift) = place(function, access);
        let seen = self.stale.get(&place).copied().unwrap_or_default();
        let seen = Seen { bits: seen.bits >> shift, known: seen.known >> shift };
        // A number is that of each dword: the access has a part of one, or two of them.
        let in_access = |number: u64| (number | number << 32).rotate_right(8 * (access.offset & 3) as u32);
        let answer = match self.answer {
            ReadAnswer::Value(value) => ReadAnswer::Value(in_access(value)),
            ReadAnswer::And(mask) => ReadAnswer::And(in_access(mask)),
            ReadAnswer::Or(mask) => ReadAnswer::Or(in_access(mask)),
            ReadAnswer::Xor(mask) => ReadAnswer::Xor(in_access(mask)),
            other => other,
        };
        answer.change(mask_of_size(access.size), seen)
    }
}
