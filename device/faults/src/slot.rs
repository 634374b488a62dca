//! Actions on the slot and its port that need more than a word.

use std::time::Duration;

use sdmorph_pci::capability::AerError;
use sdmorph_pci::port::CommandCompletion;
use serde_json::{Value, json};

use crate::duration;

/// What a rule does to the slot or to its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotAction {
    /// `presence`: presence detect changes again and again.
    PresenceBounces(Bounce),
    /// `absence-lead`: how long before the link goes down presence is lost, from now on.
    AbsenceLead(Duration),
    /// `absence-lag`: how long after the link has gone down presence is lost, from now on.
    AbsenceLag(Duration),
    /// `attention-button`: somebody presses it.
    AttentionButton,
    /// `mrl-sensor`: the retention latch is open or closed.
    MrlSensor {
        /// Which of both.
        open: bool,
    },
    /// `power-fault`: the main power has a fault, or no longer has.
    PowerFault(bool),
    /// `command-completed`: when hot-plug commands complete, from now on.
    CommandCompleted(CommandCompletion),
    /// `aer`: a function detects an error.
    Aer(Aer),
    /// `dpc`: the port contains an error.
    Dpc,
}

/// A presence detect state that changes again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounce {
    /// How many changes; after an odd number of them it is the opposite of what it was.
    pub changes: u32,
    /// From one to the next; the first is at once.
    pub every: Duration,
}

impl Bounce {
    /// Most changes of one bounce.
    pub const MAX_CHANGES: u32 = 1000;
}

/// An error that a function detects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aer {
    /// The error.
    pub error: &'static AerError,
    /// Who; `None` is the function in the slot.
    pub function: Option<String>,
}

impl Aer {
    /// The root port's name among the functions.
    pub const PORT: &'static str = "port";
}

impl SlotAction {
    /// The key that the action has in a rule.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            SlotAction::PresenceBounces(_) => "presence",
            SlotAction::AbsenceLead(_) => "absence-lead",
            SlotAction::AbsenceLag(_) => "absence-lag",
            SlotAction::AttentionButton => "attention-button",
            SlotAction::MrlSensor { .. } => "mrl-sensor",
            SlotAction::PowerFault(_) => "power-fault",
            SlotAction::CommandCompleted(_) => "command-completed",
            SlotAction::Aer(_) => "aer",
            SlotAction::Dpc => "dpc",
        }
    }

    /// What the slot or the port has to be equipped with, as [`Equipment::WORDS`] has it.
    ///
    /// [`Equipment::WORDS`]: sdmorph_pci::port::Equipment::WORDS
    #[must_use]
    pub fn needs(&self) -> Option<&'static str> {
        match self {
            SlotAction::AttentionButton => Some("attention-button"),
            SlotAction::MrlSensor { .. } => Some("mrl-sensor"),
            SlotAction::PowerFault(_) => Some("power-controller"),
            SlotAction::CommandCompleted(_) => Some("command-completed"),
            SlotAction::Aer(aer) if aer.function.as_deref() == Some(Aer::PORT) => Some("aer"),
            SlotAction::Dpc => Some("dpc"),
            SlotAction::PresenceBounces(_)
            | SlotAction::AbsenceLead(_)
            | SlotAction::AbsenceLag(_)
            | SlotAction::Aer(_) => None,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let text = |time: &Duration| json!(duration::text(*time));
        let value = match self {
            SlotAction::PresenceBounces(Bounce { changes, every }) => {
                json!({ "bounce": changes, "every": text(every) })
            }
            SlotAction::AbsenceLead(time) | SlotAction::AbsenceLag(time) => text(time),
            SlotAction::AttentionButton => json!("press"),
            SlotAction::MrlSensor { open } => json!(if *open { "open" } else { "closed" }),
            SlotAction::PowerFault(fault) => json!(fault),
            SlotAction::CommandCompleted(CommandCompletion::AtOnce) => json!("0s"),
            SlotAction::CommandCompleted(CommandCompletion::After(time)) => text(time),
            SlotAction::CommandCompleted(CommandCompletion::Untold) => json!("lost"),
            SlotAction::Aer(Aer { error, function: None }) => json!(error.name),
            SlotAction::Aer(Aer { error, function: Some(function) }) => {
                json!({ "error": error.name, "function": function })
            }
            SlotAction::Dpc => json!("trigger"),
        };
        json!({ self.key(): value })
    }
}
