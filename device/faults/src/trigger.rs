//! When a rule matches, as data.

use std::num::NonZeroU64;
use std::time::Duration;

use sdmorph_pci::{Direction, DoorbellKind, Space};
use serde_json::{Map, Value, json};

use crate::duration;
use crate::rule::{RuleName, hexadecimal, insert_some};

/// When a rule matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// What must happen.
    pub cause: Cause,
    /// `while`: what the machine must be like then.
    pub conditions: Conditions,
    /// `probability`: only some of the matches count, as chance has it.
    pub chance: Option<Chance>,
    /// Only the n-th match counts, 1 being the first since the rule was armed.
    pub nth: Option<NonZeroU64>,
    /// Only every k-th match counts, the k-th since the rule was armed being the first.
    pub every: Option<NonZeroU64>,
    /// The rule is armed from this moment on; `None` arms it at once.
    pub after: Option<Moment>,
    /// The rule is armed no longer from this moment on, until the next `after`.
    pub until: Option<Moment>,
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
    /// The same with `"*"`: an access to any register, one without a name included.
    AnyAccess {
        /// Which kind of access; `None` is both.
        direction: Option<Direction>,
        /// Only this function's registers.
        function: Option<String>,
        /// Only registers there.
        space: Option<SpaceKind>,
        /// Only these, by their offsets in the space.
        offset: Option<Span>,
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
    /// `phase`: the slot enters that phase of the switch.
    Phase(String),
    /// `command`: a storage command that reached the card.
    Command {
        /// Name as its specification spells it.
        name: String,
        /// Its argument; `None` is any.
        argument: Option<Pattern>,
    },
    /// `doorbell`: an NVMe controller takes a doorbell's new value.
    Doorbell {
        /// Which of a queue's; `None` is both.
        kind: Option<DoorbellKind>,
        /// Only this queue's.
        queue: Option<u16>,
        /// The new value; `None` is any.
        value: Option<Pattern>,
    },
    /// `interrupt`: an interrupt message leaves a function.
    Interrupt {
        /// Its number in the function; `None` is any.
        vector: Option<u16>,
        /// Only this function's.
        function: Option<String>,
        /// The message's data; `None` is any.
        data: Option<Pattern>,
    },
    /// `dma`: a function reads or writes guest memory, or tries to.
    Dma {
        /// Read is from guest memory; `None` is both.
        direction: Option<Direction>,
        /// Only this function.
        function: Option<String>,
        /// Only these guest physical addresses.
        address: Option<Span>,
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

/// A range of offsets or addresses, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub from: u64,
    /// The last; not below `from`.
    pub to: u64,
}

/// Where registers are: [`Space`], whichever BAR it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpaceKind {
    /// Configuration space.
    Config,
    /// A memory BAR.
    Bar,
    /// Behind an index register.
    Internal,
}

/// What arms a rule, or ends that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// An event of that name, one of [`sdmorph_pci::Event::NAMES`].
    Event(String),
    /// A hit of another rule.
    Rule(RuleName),
}

/// What the machine must be like for a match to count; what is `None` or empty does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The slot is in one of these phases of the switch.
    pub phase: Vec<String>,
    /// The slot's link is up, or down.
    pub link_up: Option<bool>,
    /// The slot detects presence, or does not.
    pub presence: Option<bool>,
    /// The BAR of the function in the slot has not vanished, or has.
    pub bar_answers: Option<bool>,
    /// A card is in the reader, or none is.
    pub card_in: Option<bool>,
    /// That function is in D0.
    pub d0: Option<String>,
    /// That function is in D3hot.
    pub d3hot: Option<String>,
}

/// How many matches count, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance {
    /// In [`Chance::WHOLE`] matches, on average; from 1 to that.
    pub parts: u32,
    /// Start of the sequence: the same seed picks the same matches.
    pub seed: u64,
}

impl Chance {
    /// What a probability is counted in: nine decimals.
    pub const WHOLE: u32 = 1_000_000_000;
}

impl Span {
    /// Everything.
    pub(crate) const ALL: Self = Self { from: 0, to: u64::MAX };

    fn to_json(self) -> Value {
        let Self { from, to } = self;
        match to {
            u64::MAX => json!({ "from": hexadecimal(from) }),
            to if to == from => json!(hexadecimal(from)),
            to => json!({ "from": hexadecimal(from), "to": hexadecimal(to) }),
        }
    }
}

impl SpaceKind {
    /// All of them, by their names.
    pub(crate) const NAMES: &[(&str, Self)] =
        &[("config", Self::Config), ("bar", Self::Bar), ("internal", Self::Internal)];

    pub(crate) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl From<Space> for SpaceKind {
    fn from(space: Space) -> Self {
        match space {
            Space::Config => Self::Config,
            Space::Bar(_) => Self::Bar,
            Space::Internal => Self::Internal,
        }
    }
}

impl Moment {
    fn to_json(&self) -> Value {
        match self {
            Moment::Event(name) => json!(name),
            Moment::Rule(name) => json!({ "rule": name }),
        }
    }
}

impl Conditions {
    fn to_json(&self) -> Value {
        let mut table = Map::new();
        let Self { phase, link_up, presence, bar_answers, card_in, d0, d3hot } = self;
        match phase.as_slice() {
            [] => {}
            [only] => insert_some(&mut table, "phase", Some(only)),
            several => insert_some(&mut table, "phase", Some(several)),
        }
        let word = |is: Option<bool>, [yes, no]: [&'static str; 2]| is.map(|is| if is { yes } else { no });
        insert_some(&mut table, "link", word(*link_up, LINK));
        insert_some(&mut table, "presence", *presence);
        insert_some(&mut table, "bar", word(*bar_answers, BAR));
        insert_some(&mut table, "card", word(*card_in, CARD));
        insert_some(&mut table, "d0", d0.as_ref());
        insert_some(&mut table, "d3hot", d3hot.as_ref());
        Value::Object(table)
    }
}

/// Words for yes and no, of those conditions that have some.
pub(crate) const LINK: [&str; 2] = ["up", "down"];
pub(crate) const BAR: [&str; 2] = ["answers", "vanished"];
pub(crate) const CARD: [&str; 2] = ["inserted", "ejected"];

impl From<Cause> for Trigger {
    /// Every time that happens, at once.
    fn from(cause: Cause) -> Self {
        Self {
            cause,
            conditions: Conditions::default(),
            chance: None,
            nth: None,
            every: None,
            after: None,
            until: None,
            delay: Duration::ZERO,
        }
    }
}

impl Trigger {
    /// The rules without whose hits it can have none.
    pub(crate) fn needs(&self) -> impl Iterator<Item = &RuleName> {
        let cause = match &self.cause {
            Cause::Rule(name) => Some(name),
            _ => None,
        };
        let after = match &self.after {
            Some(Moment::Rule(name)) => Some(name),
            Some(Moment::Event(_)) | None => None,
        };
        cause.into_iter().chain(after)
    }

    /// Whether the rule is armed again and again, so that `nth` is not the only hit.
    pub(crate) fn comes_again(&self) -> bool {
        self.after.is_some() && self.until.is_some()
    }

    /// The key of the cause, as rules write it.
    pub(crate) fn key(&self) -> &'static str {
        match &self.cause {
            Cause::Access { direction, .. } | Cause::AnyAccess { direction, .. } => match direction {
                Some(Direction::Read) => "read",
                Some(Direction::Write) => "write",
                None => "access",
            },
            Cause::Event { .. } => "event",
            Cause::Phase(_) => "phase",
            Cause::Command { .. } => "command",
            Cause::Doorbell { .. } => "doorbell",
            Cause::Interrupt { .. } => "interrupt",
            Cause::Dma { .. } => "dma",
            Cause::Message(_) => "message",
            Cause::Rule(_) => "rule",
            Cause::Start => "start",
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut table = Map::new();
        let mut pattern = None;
        let target = match &self.cause {
            Cause::Access { register, function, value, .. } => {
                insert_some(&mut table, "function", function.as_ref());
                pattern = *value;
                json!(register)
            }
            Cause::AnyAccess { function, space, offset, value, .. } => {
                insert_some(&mut table, "function", function.as_ref());
                insert_some(&mut table, "space", space.map(SpaceKind::name));
                insert_some(&mut table, "offset", offset.map(Span::to_json));
                pattern = *value;
                json!(ANY)
            }
            Cause::Event { name, function } => {
                insert_some(&mut table, "function", function.as_ref());
                json!(name)
            }
            Cause::Phase(name) | Cause::Message(name) => json!(name),
            Cause::Command { name, argument } => {
                pattern = *argument;
                json!(name)
            }
            Cause::Doorbell { kind, queue, value } => {
                insert_some(&mut table, "queue", *queue);
                pattern = *value;
                kind.map_or(json!(ANY), |kind| json!(kind))
            }
            Cause::Interrupt { vector, function, data } => {
                insert_some(&mut table, "function", function.as_ref());
                pattern = *data;
                vector.map_or(json!(ANY), |vector| json!(vector))
            }
            Cause::Dma { direction, function, address } => {
                insert_some(&mut table, "function", function.as_ref());
                insert_some(&mut table, "address", address.map(Span::to_json));
                direction.map_or(json!(ANY), |direction| json!(direction))
            }
            Cause::Rule(name) => json!(name),
            Cause::Start => json!(true),
        };
        table.insert(self.key().into(), target);
        insert_some(&mut table, "value", pattern.map(|pattern| hexadecimal(pattern.value)));
        insert_some(&mut table, "mask", pattern.and_then(|pattern| pattern.mask).map(hexadecimal));
        if self.conditions != Conditions::default() {
            table.insert("while".into(), self.conditions.to_json());
        }
        if let Some(Chance { parts, seed }) = self.chance {
            table.insert("probability".into(), json!(f64::from(parts) / f64::from(Chance::WHOLE)));
            insert_some(&mut table, "seed", (seed != 0).then(|| hexadecimal(seed)));
        }
        insert_some(&mut table, "nth", self.nth);
        insert_some(&mut table, "every", self.every);
        insert_some(&mut table, "after", self.after.as_ref().map(Moment::to_json));
        insert_some(&mut table, "until", self.until.as_ref().map(Moment::to_json));
        if !self.delay.is_zero() {
            table.insert("delay".into(), json!(duration::text(self.delay)));
        }
        Value::Object(table)
    }
}

/// Any register, vector, doorbell or direction.
pub(crate) const ANY: &str = "*";
