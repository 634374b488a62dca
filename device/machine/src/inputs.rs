//! What comes into the machine from outside: with it a record can be replayed.
//!
//! A machine that is told to ([`Setup::with_inputs_recorded`](crate::Setup::with_inputs_recorded)) records each call of
//! [`Machine`] that may have changed something, after what it led to, and before that line what the host was asked
//! during the call ([`HostAnswer`]). All of it is a function of these, so that a replay makes the same record again.
//!
//! As JSON the lines are, beside `seq` and `t_ns`:
//!
//! | `kind` | fields |
//! |---|---|
//! | `setup` | `format`, `version` (of the program), `chip`, `vendor-settings`, `slot-equipment`; the first line |
//! | `memory` | `at`, `dir`, `address`, `length`; `data` (of a read), `digest` (of a write) or `error` |
//! | `medium` | `at`, `request` (`begun`, `ended`), `tag`; `data` or `error`, neither if it ends later |
//! | `call` | `call`, and what the call has |

use std::time::Duration;

use sdmorph_faults::rule::Action;
use sdmorph_faults::{Rule, WireAction};
use sdmorph_pci::media::MediaError;
use sdmorph_pci::{Disturbance, DmaError};
use sdmorph_rtsx::vendor_config::Settings;
use serde_json::{Map, Value, json};

use crate::machine::{Machine, Region};
use crate::record::{hex, hex_bytes, put, space_name};
use crate::tap::{Answered, Answers, HostAnswer, Tap};
use crate::{CardKind, Setup};

mod parse;

pub use parse::ParseError;
pub(crate) use parse::{call, host_answer, setup};

/// The form of the lines. Counts up when a line is not understood as before.
pub const FORMAT: u64 = 1;

/// A call of [`Machine`], with what it was given and what it answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// [`Machine::read`].
    Read {
        /// Of which region.
        region: Region,
        /// From where.
        offset: u64,
        /// The bytes that were read.
        answer: Vec<u8>,
        /// The latency that was asked for.
        delay: Duration,
    },
    /// [`Machine::write`].
    Write {
        /// To which region.
        region: Region,
        /// To where.
        offset: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// [`Machine::set_vector_masked`].
    VectorMasked {
        /// Which vector of the host's.
        vector: u16,
        /// Whether the host has taken the route away.
        masked: bool,
    },
    /// [`Machine::message`].
    Message {
        /// The number of its command.
        number: u16,
        /// What was to become of it.
        wire: Option<WireAction>,
    },
    /// [`Machine::reset`].
    Reset,
    /// [`Machine::power_cycle`].
    PowerCycle,
    /// [`Machine::storage_ended`].
    StorageEnded,
    /// [`Machine::advance`], or a call that was refused and did only that.
    Advance,
    /// [`Machine::look`].
    Look {
        /// Whether there was something to do.
        worked: bool,
    },
    /// [`Machine::rest`].
    Rest {
        /// Whether there was something to do.
        worked: bool,
    },
    /// [`Machine::marker`].
    Marker {
        /// The text.
        text: String,
    },
    /// [`Machine::card_insert`].
    CardInsert(CardPlan),
    /// [`Machine::card_prepare`].
    CardPrepare(CardPlan),
    /// [`Machine::card_eject`].
    CardEject,
    /// [`Machine::card_disturb`].
    CardDisturb(Disturbance),
    /// [`Machine::over_current`].
    OverCurrent {
        /// Whether the reader has noticed.
        detected: bool,
    },
    /// [`Machine::link_set`].
    LinkSet {
        /// Up or down.
        up: bool,
    },
    /// [`Machine::rule_add`].
    RuleAdd(Rule),
    /// [`Machine::rule_remove`].
    RuleRemove {
        /// The rule's name.
        name: String,
    },
    /// [`Machine::scenario_load`].
    ScenarioLoad {
        /// The scenario's name.
        name: String,
        /// Its rules.
        rules: Vec<Rule>,
        /// Whether the rules of before went.
        replace: bool,
    },
    /// [`Machine::inject`].
    Inject(Rule),
}

/// A card, as far as a replay has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardPlan {
    /// What it is.
    pub kind: CardKind,
    /// The switch on its edge is at "lock".
    pub write_protect: bool,
    /// Its serial number.
    pub serial: u32,
    /// Its medium, if it was given one.
    pub medium: Option<MediumPlan>,
}

/// A medium, likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediumPlan {
    /// Its size.
    pub blocks: u64,
    /// Whether nothing on it can be changed.
    pub read_only: bool,
    /// The host keeps it, and each of its answers is in the record. Otherwise it is in memory, and begins empty.
    pub host: bool,
}

/// What records the calls of a machine.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) tap: Tap,
    /// Something was due in this call.
    due: bool,
    /// The number that the first record of this call has or would have.
    first: u64,
    /// What the host answered in a look that came to nothing, if that was the last call.
    idle: Option<Vec<HostAnswer>>,
}

impl Inputs {
    pub(crate) fn new(tap: Tap) -> Self {
        Self { tap, due: false, first: 0, idle: None }
    }

    /// A call begins, before which `first` records were made.
    pub(crate) fn begin(&mut self, first: u64, due: bool) {
        self.first = first;
        self.due = due;
    }

    /// Whether nothing came of the call, so that it need not be replayed.
    fn is_idle(&mut self, call: &Call, answers: &Answers, next: u64) -> bool {
        let before = self.idle.take();
        if self.due || self.first != next || answers.lost {
            return false;
        }
        match call {
            Call::Advance => {
                self.idle = before;
                answers.list.is_empty()
            }
            // One is like the other as long as the guest has changed nothing.
            Call::Look { worked: false } => {
                let same = before.as_ref() == Some(&answers.list);
                self.idle = Some(answers.list.clone());
                same
            }
            _ => false,
        }
    }
}

impl Machine {
    /// Records the call that has ended, if calls are recorded.
    pub(crate) fn note(&mut self, call: impl FnOnce() -> Call) {
        let Some(inputs) = &mut self.inputs else { return };
        let (call, answers) = (call(), inputs.tap.take());
        let recorder = &mut self.bench.recorder;
        if !inputs.is_idle(&call, &answers, recorder.next_seq()) {
            recorder.push_call(sdmorph_pci::Clock::now(&self.clock), answers, call);
        }
    }
}

/// The first line's fields.
pub(crate) fn setup_json(setup: Setup) -> Value {
    json!({
        "kind": "setup",
        "format": FORMAT,
        "version": env!("CARGO_PKG_VERSION"),
        "chip": setup.model().name,
        "vendor-settings": setup.settings().map(Settings::snapshot),
        "slot-equipment": setup.equipment().words(),
    })
}

impl HostAnswer {
    /// The fields of its line.
    pub(crate) fn to_json(&self) -> Value {
        let mut map = Map::new();
        let (fields, result) = match &self.what {
            Answered::MemoryRead { address, length, result } => (
                json!({"kind": "memory", "at": self.at, "dir": "read", "address": hex(*address), "length": length}),
                Some(match result {
                    Ok(data) => json!({"data": hex_bytes(data)}),
                    Err(error) => json!({"error": dma_error_json(*error)}),
                }),
            ),
            Answered::MemoryWritten { address, length, result } => (
                json!({"kind": "memory", "at": self.at, "dir": "write", "address": hex(*address), "length": length}),
                Some(match result {
                    Ok(digest) => json!({"digest": hex(*digest)}),
                    Err(error) => json!({"error": dma_error_json(*error)}),
                }),
            ),
            Answered::MediumBegun { tag, result } => (
                json!({"kind": "medium", "at": self.at, "request": "begun", "tag": tag}),
                result.as_ref().map(medium_json),
            ),
            Answered::MediumEnded { tag, result } => (
                json!({"kind": "medium", "at": self.at, "request": "ended", "tag": tag}),
                Some(medium_json(result)),
            ),
        };
        put(&mut map, fields);
        put(&mut map, result.unwrap_or_default());
        Value::Object(map)
    }
}

fn medium_json(result: &Result<std::sync::Arc<[u8]>, MediaError>) -> Value {
    match result {
        Ok(data) => json!({"data": hex_bytes(data)}),
        Err(error) => json!({"error": media_error_name(*error)}),
    }
}

fn media_error_name(error: MediaError) -> &'static str {
    match error {
        MediaError::OutOfRange => "out-of-range",
        MediaError::ReadOnly => "read-only",
        MediaError::Full => "full",
        MediaError::Io => "io",
    }
}

fn dma_error_json(error: DmaError) -> Value {
    match error {
        DmaError::NotBusMaster => json!({"name": "not-bus-master"}),
        DmaError::Unmapped { address, length } => {
            json!({"name": "unmapped", "address": hex(address), "length": length})
        }
        DmaError::ReadOnly { address } => json!({"name": "read-only", "address": hex(address)}),
        DmaError::WriteOnly { address } => json!({"name": "write-only", "address": hex(address)}),
        DmaError::Refused { address } => json!({"name": "refused", "address": hex(address)}),
        DmaError::TimedOut { address } => json!({"name": "timed-out", "address": hex(address)}),
    }
}

impl CardPlan {
    fn to_json(&self) -> Value {
        let Self { kind, write_protect, serial, medium } = self;
        let medium = medium.map(|MediumPlan { blocks, read_only, host }| {
            json!({"blocks": blocks, "read-only": read_only, "host": host})
        });
        json!({"card": kind.name(), "write-protect": write_protect, "serial": serial, "medium": medium})
    }
}

/// Bytes of the traces of rules. All else of a rule is short.
fn trace_bytes(rules: &[Rule]) -> usize {
    let latencies: usize = rules.iter().map(Rule::latencies).sum();
    latencies * size_of::<Duration>()
}

impl Call {
    /// Bytes of contents.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Call::Read { answer: bytes, .. } | Call::Write { data: bytes, .. } => bytes.len(),
            Call::RuleAdd(rule) | Call::Inject(rule) => trace_bytes(std::slice::from_ref(rule)),
            Call::ScenarioLoad { rules, .. } => trace_bytes(rules),
            _ => 0,
        }
    }

    /// The call's name in records.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Call::Read { .. } => "read",
            Call::Write { .. } => "write",
            Call::VectorMasked { .. } => "vector-masked",
            Call::Message { .. } => "message",
            Call::Reset => "reset",
            Call::PowerCycle => "power-cycle",
            Call::StorageEnded => "storage-ended",
            Call::Advance => "advance",
            Call::Look { .. } => "look",
            Call::Rest { .. } => "rest",
            Call::Marker { .. } => "marker",
            Call::CardInsert(_) => "card-insert",
            Call::CardPrepare(_) => "card-prepare",
            Call::CardEject => "card-eject",
            Call::CardDisturb(_) => "card-disturb",
            Call::OverCurrent { .. } => "over-current",
            Call::LinkSet { .. } => "link-set",
            Call::RuleAdd(_) => "rule-add",
            Call::RuleRemove { .. } => "rule-remove",
            Call::ScenarioLoad { .. } => "scenario-load",
            Call::Inject(_) => "inject",
        }
    }

    /// The fields of its line.
    pub(crate) fn to_json(&self) -> Value {
        let mut map = Map::new();
        put(&mut map, json!({"kind": "call", "call": self.name()}));
        let fields = match self {
            Call::Read { region, offset, answer, delay } => {
                let answer = hex_bytes(answer);
                put(
                    &mut map,
                    json!({"region": space_name((*region).into()), "offset": hex(*offset), "answer": answer}),
                );
                if delay.is_zero() { Value::Null } else { json!({"delay_ns": delay.as_nanos() as u64}) }
            }
            Call::Write { region, offset, data } => {
                json!({"region": space_name((*region).into()), "offset": hex(*offset), "data": hex_bytes(data)})
            }
            Call::VectorMasked { vector, masked } => json!({"vector": vector, "masked": masked}),
            Call::Message { number, wire } => {
                let wire = wire.map(|wire| Action::Wire(wire).to_json());
                json!({"number": number, "action": wire})
            }
            Call::Look { worked } | Call::Rest { worked } => json!({"worked": worked}),
            Call::Marker { text } => json!({"text": text}),
            Call::CardInsert(card) | Call::CardPrepare(card) => card.to_json(),
            Call::CardDisturb(disturbance) => Action::CardCorrupt(*disturbance).to_json(),
            Call::OverCurrent { detected } => json!({"detected": detected}),
            Call::LinkSet { up } => json!({"up": up}),
            Call::RuleAdd(rule) | Call::Inject(rule) => json!({"rule": rule.to_json()}),
            Call::RuleRemove { name } => json!({"name": name}),
            Call::ScenarioLoad { name, rules, replace } => {
                let rules: Vec<Value> = rules.iter().map(Rule::to_json).collect();
                json!({"name": name, "rules": rules, "replace": replace})
            }
            Call::Reset | Call::PowerCycle | Call::StorageEnded | Call::Advance | Call::CardEject => {
                Value::Null
            }
        };
        put(&mut map, fields);
        Value::Object(map)
    }
}
