//! A rule as data, the same in TOML and in JSON.
//!
//! ```toml
//! [[rule]]
//! name = "bar-dies"
//! on = { write = "L1SUB_CONFIG3", after = "express-switch-requested" }
//! do = { bar = "vanish" }
//! times = 1
//! ```
//!
//! Reading a rule checks its form; whether the registers, events, commands, messages and rules that it names exist is
//! the engine's business, which knows them. What is written is what was read, in its shortest form.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use sdmorph_pci::Disturbance;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::error::RuleError;
use crate::function::{DmaAction, InterruptAction, NvmeAction, disturbance_to_json};
use crate::latency::ReadLatency;
use crate::read_data::ReadData;
use crate::slot::SlotAction;
use crate::wire::WireAction;
use crate::{duration, parse};

pub use crate::trigger::{Cause, Chance, Conditions, Moment, Pattern, SpaceKind, Span, Trigger};

/// When something happens, do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it is called; no two rules of an engine share a name.
    pub name: RuleName,
    /// `on`: when.
    pub on: Trigger,
    /// `do`: what, in this order; a rule without any only counts, for other rules to refer to.
    pub actions: Vec<Action>,
    /// The most hits it may have; `None` is without limit.
    pub times: Option<NonZeroU64>,
}

/// A rule's name: words of lower-case letters and digits joined by single hyphens, at most 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RuleName(String);

/// What a rule does when it hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `bar`: the BAR of the function in the slot stops answering, or answers again.
    Bar(BarAction),
    /// `read-latency`: reads of the BAR of the function in the slot take this long from now on.
    ReadLatency(ReadLatency),
    /// `link`: the slot's data link goes down or comes up.
    Link(LinkAction),
    /// `presence`: the slot's presence detect state.
    Presence(bool),
    /// More on the slot and its port.
    Slot(SlotAction),
    /// `relink`: from the request of an SD Express switch to the link's fall, instead of what the driver programmed; for
    /// a switch that is under way from now on.
    Relink(Duration),
    /// `relink = "fail"`: the next switch fails: the link falls, and the reader comes back and says so.
    RelinkFails,
    /// `presence-lead`: how long before the link comes up presence is detected, from now on.
    PresenceLead(Duration),
    /// `presence-lag`: how long after the link has come up presence is detected, from now on.
    PresenceLag(Duration),
    /// `card`: what becomes of the card in the reader.
    Card(CardAction),
    /// `stuck-busy`: bits of a register read as set from now on, or no longer.
    StuckBusy(StuckBusy),
    /// `read-data`: reads answer something else from now on, or no longer.
    ReadData(ReadData),
    /// `interrupt`: what becomes of interrupt messages.
    Interrupt(InterruptAction),
    /// `dma`: what becomes of the DMA of the function in the slot.
    Dma(DmaAction),
    /// `nvme`: what becomes of the drive in the slot and of its commands.
    Nvme(NvmeAction),
    /// `card-corrupt`: the card in the reader is disturbed.
    CardCorrupt(Disturbance),
    /// `config`: the configuration space of the function in the slot stops answering, or answers again.
    Config(BarAction),
    /// `power-state`: the function in the slot stays in the D-state that it is in, or no longer.
    PowerState {
        /// It stays.
        stuck: bool,
    },
    /// `wire`: what becomes of the message that the rule waits for. Only in a rule with [`Cause::Message`] and without
    /// `delay`, and once in it.
    Wire(WireAction),
}

/// What becomes of a BAR, or of configuration space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarAction {
    /// Reads are all-ones and writes are lost.
    Vanish,
    /// It answers again.
    Return,
}

/// What becomes of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkAction {
    /// It goes down.
    Down,
    /// It comes up.
    Up,
    /// It goes down and, this long after, up again. Who is at the other end stays present.
    Flap(Duration),
    /// The next time that it would come up, its training does not come to an end.
    TrainFails,
}

/// What becomes of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardAction {
    /// It is taken out.
    Eject,
    /// The one at hand goes in, if there is one and the reader is empty.
    Insert,
    /// It draws too much current.
    OverCurrent,
}

/// Busy bits that do not clear by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StuckBusy {
    /// The register.
    pub register: String,
    /// Its function, where several have a register of that name.
    pub function: Option<String>,
    /// Which bits; `None` is the register's known busy bits, or when they are released all that are stuck.
    pub mask: Option<u64>,
    /// `clear = true`: the bits are released.
    pub clear: bool,
}

impl Rule {
    /// How many latencies its traces have.
    #[must_use]
    pub fn latencies(&self) -> usize {
        let latencies = |action: &Action| match action {
            Action::ReadLatency(ReadLatency::Trace(trace)) => trace.len(),
            _ => 0,
        };
        self.actions.iter().map(latencies).sum()
    }

    /// Reads a rule from its JSON form.
    ///
    /// # Errors
    /// [`RuleError::Malformed`], with the place and what is right there.
    pub fn from_json(value: &Value) -> Result<Self, RuleError> {
        parse::rule(value)
    }

    /// The rule in its JSON form.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut table = Map::new();
        table.insert("name".into(), json!(self.name));
        table.insert("on".into(), self.on.to_json());
        match self.actions.as_slice() {
            [] => {}
            [only] => drop(table.insert("do".into(), only.to_json())),
            several => drop(table.insert("do".into(), several.iter().map(Action::to_json).collect())),
        }
        if let Some(times) = self.times {
            table.insert("times".into(), json!(times));
        }
        Value::Object(table)
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By way of a tree, because what a key may be depends on its neighbours, and because serde's own messages for
        // that ("data did not match any variant") say nothing about where and why.
        let value = Value::deserialize(deserializer)?;
        Self::from_json(&value).map_err(serde::de::Error::custom)
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl RuleName {
    /// Longest name, in characters.
    pub const MAX_LENGTH: usize = 64;

    /// A name.
    ///
    /// # Errors
    /// [`RuleError::Malformed`] if it is not a rule's name.
    pub fn new(name: &str) -> Result<Self, RuleError> {
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if name.len() <= Self::MAX_LENGTH && name.split('-').all(is_word) {
            return Ok(Self(name.to_owned()));
        }
        let message = format!(
            "{} is not a rule's name: it takes words of a-z and 0-9 joined by hyphens, {} characters at most, such as \"bar-dies\"",
            crate::nearest::quoted(name),
            Self::MAX_LENGTH
        );
        Err(RuleError::Malformed { rule: None, message })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for RuleName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Action {
    /// Reads an action from its JSON form, as it stands in a rule's `do`. Whether it fits a trigger is not looked at.
    ///
    /// # Errors
    /// [`RuleError::Malformed`], with the place and what is right there.
    pub fn from_json(value: &Value) -> Result<Self, RuleError> {
        parse::action("do", value).map_err(|message| RuleError::Malformed { rule: None, message })
    }

    /// The action as the record of a hit has it: its JSON form, but of a trace only how many latencies it has.
    #[must_use]
    pub fn to_brief_json(&self) -> Value {
        match self {
            Action::ReadLatency(ReadLatency::Trace(trace)) => {
                json!({ "read-latency": { "trace-latencies": trace.len() } })
            }
            _ => self.to_json(),
        }
    }

    /// The action in its JSON form.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Action::Bar(BarAction::Vanish) => json!({ "bar": "vanish" }),
            Action::Bar(BarAction::Return) => json!({ "bar": "return" }),
            Action::ReadLatency(latency) => json!({ "read-latency": latency }),
            Action::Link(LinkAction::Down) => json!({ "link": "down" }),
            Action::Link(LinkAction::Up) => json!({ "link": "up" }),
            Action::Link(LinkAction::Flap(time)) => json!({ "link": { "flap": duration::text(*time) } }),
            Action::Link(LinkAction::TrainFails) => json!({ "link": "train-fail" }),
            Action::Presence(present) => json!({ "presence": present }),
            Action::Slot(slot) => slot.to_json(),
            Action::Relink(time) => json!({ "relink": duration::text(*time) }),
            Action::RelinkFails => json!({ "relink": "fail" }),
            Action::PresenceLead(time) => json!({ "presence-lead": duration::text(*time) }),
            Action::PresenceLag(time) => json!({ "presence-lag": duration::text(*time) }),
            Action::Card(CardAction::Eject) => json!({ "card": "eject" }),
            Action::Card(CardAction::Insert) => json!({ "card": "insert" }),
            Action::Card(CardAction::OverCurrent) => json!({ "card": "over-current" }),
            Action::StuckBusy(stuck) => json!({ "stuck-busy": stuck.to_json() }),
            Action::ReadData(data) => json!({ "read-data": data.to_json() }),
            Action::Interrupt(interrupt) => json!({ "interrupt": interrupt.to_json() }),
            Action::Dma(dma) => json!({ "dma": dma.to_json() }),
            Action::Nvme(nvme) => json!({ "nvme": nvme.to_json() }),
            Action::CardCorrupt(disturbance) => json!({ "card-corrupt": disturbance_to_json(*disturbance) }),
            Action::Config(BarAction::Vanish) => json!({ "config": "vanish" }),
            Action::Config(BarAction::Return) => json!({ "config": "return" }),
            Action::PowerState { stuck } => {
                json!({ "power-state": if *stuck { "stuck" } else { "normal" } })
            }
            Action::Wire(wire) => json!({ "wire": wire.to_json() }),
        }
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl Serialize for ReadLatency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = duration::text;
        let value = match self {
            ReadLatency::Off => json!("0s"),
            ReadLatency::Fixed(latency) => json!(text(*latency)),
            ReadLatency::Uniform { min, max, seed } => {
                json!({ "min": text(*min), "max": text(*max), "seed": hexadecimal(*seed) })
            }
            ReadLatency::Exponential { mean, seed } => {
                json!({ "mean": text(*mean), "seed": hexadecimal(*seed) })
            }
            ReadLatency::Trace(trace) => {
                let nanoseconds: Vec<u64> = trace.iter().map(|time| time.as_nanos() as u64).collect();
                json!({ "trace-ns": nanoseconds })
            }
        };
        value.serialize(serializer)
    }
}

impl StuckBusy {
    fn to_json(&self) -> Value {
        if self.function.is_none() && self.mask.is_none() && !self.clear {
            return json!(self.register);
        }
        let mut table = Map::new();
        table.insert("register".into(), json!(self.register));
        insert_some(&mut table, "function", self.function.as_ref());
        insert_some(&mut table, "mask", self.mask.map(hexadecimal));
        if self.clear {
            table.insert("clear".into(), json!(true));
        }
        Value::Object(table)
    }
}

/// Writes what is there.
pub(crate) fn insert_some(table: &mut Map<String, Value>, key: &str, value: Option<impl Serialize>) {
    if let Some(value) = value {
        table.insert(key.into(), json!(value));
    }
}

/// A number as rules write it: TOML has no unsigned 64-bit integers, so a text.
pub(crate) fn hexadecimal(value: u64) -> String {
    format!("{value:#x}")
}
