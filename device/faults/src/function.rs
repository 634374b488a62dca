//! Faults of the function in the slot that are more than one access: interrupts, DMA, NVMe commands.
//!
//! Each stays until an action takes it back or, with `times`, until it has met so many. The [engine](crate::Engine) keeps
//! them; what it is shown meets the one that fits.

use std::num::NonZeroU64;
use std::time::Duration;

use sdmorph_pci::{Direction, Disturbance};
use serde_json::{Map, Value, json};

use crate::duration;
use crate::rule::{hexadecimal, insert_some};

/// `interrupt`: what becomes of interrupt messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterruptAction {
    /// What.
    pub what: InterruptFault,
    /// Whose messages; `None` is the function in the slot.
    pub function: Option<String>,
    /// Only this message's; `None` is any. Of [`InterruptFault::Spurious`], the message that is sent; `None` is 0.
    pub vector: Option<u16>,
    /// How many it meets; `None` is all from now on.
    pub times: Option<NonZeroU64>,
}

/// What becomes of interrupt messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterruptFault {
    /// They are lost.
    Drop,
    /// They arrive twice.
    Duplicate,
    /// They arrive this much later.
    Delay(Duration),
    /// One is sent now that nothing has asked for.
    Spurious,
    /// They arrive, as ever.
    Normal,
}

/// `dma`: what becomes of the DMA of the function in the slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DmaAction {
    /// What.
    pub what: DmaChange,
    /// Only this direction's, as the function sees it; `None` is both.
    pub direction: Option<Direction>,
    /// How many transfers it meets; `None` is all from now on.
    pub times: Option<NonZeroU64>,
}

impl DmaAction {
    /// Whether it begins or ends a time in which transfers are held up. Such a time is of both directions.
    #[must_use]
    pub fn is_about_hold(&self) -> bool {
        match self.what {
            DmaChange::Delay(_) => true,
            DmaChange::Normal => self.direction.is_none(),
            DmaChange::Drop | DmaChange::Corrupt { .. } | DmaChange::Fail(_) => false,
        }
    }
}

/// What becomes of DMA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DmaChange {
    /// Data to guest memory do not arrive, and those from there do not come (Completion Timeout).
    Drop,
    /// So many bits of the data of each are inverted, at places drawn from the seed.
    Corrupt {
        /// How many, at most [`MAX_BITS`].
        bits: u32,
        /// Start of the sequence.
        seed: u64,
    },
    /// It is not done.
    Fail(DmaFailure),
    /// For so long from now on the function does not get to guest memory; what it would move it moves then.
    Delay(Duration),
    /// It is done, as ever.
    Normal,
}

/// Most bits that are inverted in one transfer.
pub const MAX_BITS: u32 = 64;

/// How a DMA fails, as the function sees it (PCIe 2.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DmaFailure {
    /// Nothing is at the address.
    UnsupportedRequest,
    /// The completer refuses.
    CompleterAbort,
    /// No completion comes.
    CompletionTimeout,
}

impl DmaFailure {
    pub(crate) const NAMES: &[(&str, Self)] = &[
        ("unsupported-request", Self::UnsupportedRequest),
        ("completer-abort", Self::CompleterAbort),
        ("completion-timeout", Self::CompletionTimeout),
    ];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, failure)| *failure == self).map_or("", |(name, _)| name)
    }
}

/// `nvme`: what becomes of the drive in the slot and of its commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvmeAction {
    /// What.
    pub what: NvmeFault,
    /// Only commands of this name; `None` is any.
    pub command: Option<String>,
    /// How many commands it meets; `None` is all from now on.
    pub times: Option<NonZeroU64>,
}

/// What becomes of the drive in the slot and of its commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NvmeFault {
    /// Commands are not done, and end with the status of that name.
    Fail(String),
    /// Commands are done, and their completions are never posted.
    DropCompletion,
    /// The controller cannot go on now (CSTS.CFS), until it is reset.
    Fatal,
    /// CSTS.RDY stays what it is, whatever CC.EN becomes.
    ReadyStuck,
    /// None of these.
    Normal,
}

fn or_word(mut table: Map<String, Value>, what: &str) -> Value {
    if table.is_empty() {
        return json!(what);
    }
    table.insert("what".into(), json!(what));
    Value::Object(table)
}

impl InterruptAction {
    pub(crate) fn to_json(&self) -> Value {
        let mut table = Map::new();
        let what = match self.what {
            InterruptFault::Drop => "drop",
            InterruptFault::Duplicate => "duplicate",
            InterruptFault::Delay(time) => {
                table.insert("time".into(), json!(duration::text(time)));
                "delay"
            }
            InterruptFault::Spurious => "spurious",
            InterruptFault::Normal => "normal",
        };
        insert_some(&mut table, "function", self.function.as_ref());
        insert_some(&mut table, "vector", self.vector);
        insert_some(&mut table, "times", self.times);
        or_word(table, what)
    }
}

impl DmaAction {
    pub(crate) fn to_json(&self) -> Value {
        let mut table = Map::new();
        let what = match self.what {
            DmaChange::Drop => "drop",
            DmaChange::Corrupt { bits, seed } => {
                table.insert("bits".into(), json!(bits));
                table.insert("seed".into(), json!(hexadecimal(seed)));
                "corrupt"
            }
            DmaChange::Fail(failure) => {
                table.insert("error".into(), json!(failure.name()));
                "fail"
            }
            DmaChange::Delay(time) => {
                table.insert("time".into(), json!(duration::text(time)));
                "delay"
            }
            DmaChange::Normal => "normal",
        };
        insert_some(&mut table, "direction", self.direction);
        insert_some(&mut table, "times", self.times);
        or_word(table, what)
    }
}

impl NvmeAction {
    pub(crate) fn to_json(&self) -> Value {
        let mut table = Map::new();
        let what = match &self.what {
            NvmeFault::Fail(status) => {
                table.insert("status".into(), json!(status));
                "fail"
            }
            NvmeFault::DropCompletion => "drop-completion",
            NvmeFault::Fatal => "fatal",
            NvmeFault::ReadyStuck => "ready-stuck",
            NvmeFault::Normal => "normal",
        };
        insert_some(&mut table, "command", self.command.as_ref());
        insert_some(&mut table, "times", self.times);
        or_word(table, what)
    }
}

/// A disturbance in the form that `card-corrupt` has, as action and as command.
pub(crate) fn disturbance_to_json(disturbance: Disturbance) -> Value {
    match disturbance {
        Disturbance::ResponseCrc(times) => json!({ "what": "response-crc", "times": times }),
        Disturbance::ResponseTimeout(times) => json!({ "what": "response-timeout", "times": times }),
        Disturbance::DataCrc(times) => json!({ "what": "data-crc", "times": times }),
        Disturbance::DataTimeout(times) => json!({ "what": "data-timeout", "times": times }),
        Disturbance::Busy(time) => json!({ "what": "busy", "duration": duration::text(time) }),
        Disturbance::BadBlocks { first, count } => {
            json!({ "what": "bad-blocks", "first": first, "count": count })
        }
        Disturbance::Heal => json!({ "what": "heal" }),
    }
}
