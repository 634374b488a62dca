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

use sdmorph_pci::Direction;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::error::RuleError;
use crate::latency::ReadLatency;
use crate::slot::SlotAction;
use crate::wire::WireAction;
use crate::{duration, parse};

/// When something happens, do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it is called; no two rules of an engine share a name.
    pub name: RuleName,
    /// `on`: when.
    pub on: Trigger,
    /// `do`: what, in this order; one or more.
    pub actions: Vec<Action>,
    /// The most hits it may have; `None` is without limit.
    pub times: Option<NonZeroU64>,
}

/// A rule's name: words of lower-case letters and digits joined by single hyphens, at most 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RuleName(String);

/// When a rule matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// What must happen.
    pub cause: Cause,
    /// Only the n-th match counts, 1 being the first since the rule was armed; the rule then has one hit at most.
    pub nth: Option<NonZeroU64>,
    /// The rule is armed by the first event of this name after it was added; `None` arms it at once.
    pub after: Option<String>,
    /// How long after the match the rule hits.
    pub delay: Duration,
}

/// What a rule waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// `read`, `write`, `access`: an access to a register.
    Access {
        /// Which kind of access; `None` is both.
        direction: Option<Direction>,
        /// The register.
        register: String,
        /// Its function, where several have a register of that name.
        function: Option<String>,
        /// The data; `None` is any.
        value: Option<Pattern>,
    },
    /// `event`: an event of that name.
    Event {
        /// One of [`sdmorph_pci::Event::NAMES`].
        name: String,
        /// Only this function's; `None` is anybody's.
        function: Option<String>,
    },
    /// `command`: a storage command that reached the card.
    Command {
        /// Name as its specification spells it.
        name: String,
        /// Its argument; `None` is any.
        argument: Option<Pattern>,
    },
    /// `message`: a message of the vfio-user client, before it is acted on.
    Message(String),
    /// `rule`: another rule's hit.
    Rule(RuleName),
    /// `start`: the moment the rule is added.
    Start,
}

/// Which numbers match: those that have the bits of `mask` as `value` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    /// The bits wanted; none outside of `mask`.
    pub value: u64,
    /// The bits compared; `None` is all.
    pub mask: Option<u64>,
}

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
    /// `wire`: what becomes of the message that the rule waits for. Only in a rule with [`Cause::Message`] and without
    /// `delay`, and once in it.
    Wire(WireAction),
}

/// What becomes of a BAR.
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
        let actions: Vec<Value> = self.actions.iter().map(Action::to_json).collect();
        let only = if actions.len() == 1 { actions.first().cloned() } else { None };
        table.insert("do".into(), only.unwrap_or(Value::Array(actions)));
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

impl Trigger {
    fn to_json(&self) -> Value {
        let mut table = Map::new();
        let pattern = match &self.cause {
            Cause::Access { direction, register, function, value } => {
                let key = match direction {
                    Some(Direction::Read) => "read",
                    Some(Direction::Write) => "write",
                    None => "access",
                };
                table.insert(key.into(), json!(register));
                insert_some(&mut table, "function", function.as_ref());
                *value
            }
            Cause::Event { name, function } => {
                table.insert("event".into(), json!(name));
                insert_some(&mut table, "function", function.as_ref());
                None
            }
            Cause::Command { name, argument } => {
                table.insert("command".into(), json!(name));
                *argument
            }
            Cause::Message(name) => {
                table.insert("message".into(), json!(name));
                None
            }
            Cause::Rule(name) => {
                table.insert("rule".into(), json!(name));
                None
            }
            Cause::Start => {
                table.insert("start".into(), json!(true));
                None
            }
        };
        insert_some(&mut table, "value", pattern.map(|pattern| hexadecimal(pattern.value)));
        insert_some(&mut table, "mask", pattern.and_then(|pattern| pattern.mask).map(hexadecimal));
        insert_some(&mut table, "nth", self.nth);
        insert_some(&mut table, "after", self.after.as_ref());
        if !self.delay.is_zero() {
            table.insert("delay".into(), json!(duration::text(self.delay)));
        }
        Value::Object(table)
    }
}

impl Action {
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
        let value = match *self {
            ReadLatency::Off => json!("0s"),
            ReadLatency::Fixed(latency) => json!(text(latency)),
            ReadLatency::Uniform { min, max, seed } => {
                json!({ "min": text(min), "max": text(max), "seed": hexadecimal(seed) })
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

fn insert_some(table: &mut Map<String, Value>, key: &str, value: Option<impl Serialize>) {
    if let Some(value) = value {
        table.insert(key.into(), json!(value));
    }
}

/// A number as rules write it: TOML has no unsigned 64-bit integers, so a text.
pub(crate) fn hexadecimal(value: u64) -> String {
    format!("{value:#x}")
}
