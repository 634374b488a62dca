//! The flight recorder: everything that happened, in order, with its time; the newest in bounded memory.
//!
//! As JSON a record is one object on one line. Always there: `seq` (counts from 0 without gaps), `t_ns` (nanoseconds of
//! virtual time), `kind`. Then, by kind:
//!
//! | `kind` | fields |
//! |---|---|
//! | `access` | `fn`, `space` (`config`, `bar0`, `internal`), `dir`, `reg` (or null), `offset`, `size`, `value`; `dead`, `absent` or `unmodelled`: true where that holds |
//! | `interrupt` | `fn`, `vector`, `address`, `data` |
//! | `dma` | `fn`, `dir`, `address`, `length`, `error` (or null) |
//! | `command` | `fn`, `name`, `argument`, `response` (hexadecimal bytes, or null for none) |
//! | `nvme` | `fn`, `name`, `queue`, `id`, `namespace`, `argument`; `status`, once the command has ended |
//! | `event` | `fn`, `name`, and the event's own fields |
//! | `fault` | `fn`, `what`: what a rule has made of the record before: `interrupt-lost`, `interrupt-delayed`, `interrupt-duplicated`, `dma-lost`, `dma-corrupted`, `dma-failed`, `command-failed`, `completion-lost` |
//! | `rule` | `name`, `hit` (counts from 1), `actions` |
//! | `marker` | `text` |
//!
//! A record that can be replayed has more kinds of lines: see [`inputs`].
//!
//! Offsets, addresses and values are hexadecimal strings.

use std::collections::VecDeque;
use std::time::Duration;

use sdmorph_pci::{Access, Answer, Direction, DmaError, Event, Happening, Message, NvmeCommand, Space};
use serde_json::{Map, Value, json};

use crate::Setup;
use crate::inputs::{self, Call};
use crate::tap::{Answers, HostAnswer};

/// Records kept; the oldest go first. A boot, an insertion and a removal make some 9,000,
/// or 16,000 with inputs.
pub const CAPACITY: usize = 1 << 18;

/// Bytes of contents (of guest memory, of media, of accesses) that are kept; likewise. Only inputs have any.
pub const CONTENTS_BYTES: usize = 256 << 20;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Counts from 0 without gaps; a gap in a file means that the ring was faster than its reader.
    pub seq: u64,
    /// Virtual time.
    pub time: Duration,
    /// What.
    pub what: Recorded,
}

/// What a [`Record`] tells of.
#[derive(Debug, Clone, PartialEq)]
pub enum Recorded {
    /// A register access of a function.
    Access(&'static str, Access),
    /// An interrupt message of a function.
    Interrupt(&'static str, Message),
    /// A DMA of a function.
    Dma {
        /// Whose.
        function: &'static str,
        /// Read is from guest memory.
        direction: Direction,
        /// Guest physical address.
        address: u64,
        /// Bytes.
        length: u64,
        /// Why it failed, if it did.
        error: Option<DmaError>,
    },
    /// A storage command.
    Command {
        /// The host controller.
        function: &'static str,
        /// `CMD8`.
        name: String,
        /// Its argument.
        argument: u32,
        /// Bytes of the response; `None` is a time-out.
        response: Option<Vec<u8>>,
    },
    /// An NVMe command that was fetched, or has ended.
    Nvme(&'static str, NvmeCommand),
    /// An event of a function, or of the slot.
    Event(&'static str, Event),
    /// What a rule's action has made of the thing recorded before.
    Fault(&'static str, &'static str),
    /// A rule hit, and what it did.
    Rule {
        /// The rule.
        name: String,
        /// Which hit of the rule it is, from 1.
        hit: u64,
        /// Its actions as JSON, in brief.
        actions: Vec<Value>,
    },
    /// Text from outside: a guest program or a person.
    Marker(String),
    /// What the machine was made as.
    Setup(Setup),
    /// What the host answered.
    Host(HostAnswer),
    /// A call, after all that came of it.
    Call(Box<Call>),
}

impl Recorded {
    /// `None` if it is not kept: of doorbells, the record has the registers' accesses, and the commands that are fetched.
    pub(crate) fn of(function: &'static str, what: &Happening<'_>) -> Option<Self> {
        Some(match what {
            Happening::Access(access) => Recorded::Access(function, *access),
            Happening::Interrupt(message) => Recorded::Interrupt(function, *message),
            Happening::Dma { direction, address, length, result } => Recorded::Dma {
                function,
                direction: *direction,
                address: *address,
                length: *length,
                error: result.err(),
            },
            Happening::Command { name, argument, response } => Recorded::Command {
                function,
                name: (*name).to_owned(),
                argument: *argument,
                response: response.map(<[u8]>::to_vec),
            },
            Happening::Nvme(command) => Recorded::Nvme(function, *command),
            Happening::Event(event) => Recorded::Event(function, *event),
            Happening::Doorbell(_) => return None,
        })
    }
}

impl Recorded {
    /// Events and rule hits; clients of the control socket are told of them.
    ///
    /// But for changes of the D-state: a guest that hears them on its own line to that socket would be woken up by being
    /// told that it has put its reader to sleep.
    #[must_use]
    pub fn is_notice(&self) -> bool {
        match self {
            Recorded::Event(_, event) => !matches!(event, Event::D3hotEntered | Event::D0Entered),
            Recorded::Rule { .. } => true,
            _ => false,
        }
    }

    /// Bytes of contents.
    fn bytes(&self) -> usize {
        match self {
            Recorded::Host(answer) => answer.what.bytes(),
            Recorded::Call(call) => call.bytes(),
            _ => 0,
        }
    }
}

/// `config`, `bar0` … `bar5`, `internal`.
#[must_use]
pub fn space_name(space: Space) -> String {
    match space {
        Space::Config => "config".to_owned(),
        Space::Bar(index) => format!("bar{index}"),
        Space::Internal => "internal".to_owned(),
    }
}

/// Puts the fields of `value`, an object, into `map`.
pub(crate) fn put(map: &mut Map<String, Value>, value: Value) {
    if let Value::Object(fields) = value {
        map.extend(fields);
    }
}

pub(crate) fn hex(value: u64) -> Value {
    Value::String(format!("{value:#x}"))
}

/// Bytes as hexadecimal digits, first byte first.
pub(crate) fn hex_bytes(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

impl Record {
    /// The record as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("seq".to_owned(), self.seq.into());
        map.insert("t_ns".to_owned(), (self.time.as_nanos() as u64).into());
        let mut put = |fields| put(&mut map, fields);
        match &self.what {
            Recorded::Access(function, access) => {
                put(json!({
                    "kind": "access",
                    "fn": function,
                    "space": space_name(access.space),
                    "dir": access.direction,
                    "reg": access.register,
                    "offset": hex(access.offset),
                    "size": access.size,
                    "value": hex(access.value),
                }));
                match access.answer {
                    Answer::Modelled => {}
                    Answer::Dead => put(json!({"dead": true})),
                    Answer::Absent => put(json!({"absent": true})),
                    Answer::Unmodelled => put(json!({"unmodelled": true})),
                }
            }
            Recorded::Interrupt(function, message) => put(json!({
                "kind": "interrupt",
                "fn": function,
                "vector": message.vector,
                "address": hex(message.address),
                "data": hex(u64::from(message.data)),
            })),
            Recorded::Dma { function, direction, address, length, error } => put(json!({
                "kind": "dma",
                "fn": function,
                "dir": direction,
                "address": hex(*address),
                "length": length,
                "error": error.map(|error| error.to_string()),
            })),
            Recorded::Command { function, name, argument, response } => put(json!({
                "kind": "command",
                "fn": function,
                "name": name,
                "argument": hex(u64::from(*argument)),
                "response": response.as_deref().map(hex_bytes),
            })),
            Recorded::Nvme(function, command) => {
                put(json!({
                    "kind": "nvme",
                    "fn": function,
                    "name": command.name,
                    "queue": command.queue,
                    "id": command.id,
                    "namespace": command.namespace,
                    "argument": hex(command.argument),
                }));
                if let Some(status) = command.status {
                    put(json!({"status": hex(u64::from(status))}));
                }
            }
            Recorded::Event(function, event) => {
                put(json!({"kind": "event", "fn": function}));
                // Brings the name and the event's own fields.
                put(serde_json::to_value(event).unwrap_or_default());
            }
            Recorded::Fault(function, what) => put(json!({"kind": "fault", "fn": function, "what": what})),
            Recorded::Rule { name, hit, actions } => {
                put(json!({"kind": "rule", "name": name, "hit": hit, "actions": actions}));
            }
            Recorded::Marker(text) => put(json!({"kind": "marker", "text": text})),
            Recorded::Setup(setup) => put(inputs::setup_json(*setup)),
            Recorded::Host(answer) => put(answer.to_json()),
            Recorded::Call(call) => put(call.to_json()),
        }
        Value::Object(map)
    }
}

/// A ring of records.
#[derive(Debug, Default)]
pub struct Recorder {
    ring: VecDeque<Record>,
    next: u64,
    notices: u64,
    /// Bytes of contents in the ring.
    bytes: usize,
}

impl Recorder {
    /// Adds what happened at `time`.
    pub fn push(&mut self, time: Duration, what: Recorded) {
        self.notices += u64::from(what.is_notice());
        self.bytes += what.bytes();
        while self.ring.len() >= CAPACITY || self.bytes > CONTENTS_BYTES {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.what.bytes());
        }
        self.ring.push_back(Record { seq: self.next, time, what });
        self.next += 1;
    }

    /// Adds a call that has ended at `time`, after what the host answered in it.
    pub(crate) fn push_call(&mut self, time: Duration, answers: Answers, call: Call) {
        if answers.lost {
            // A gap, as of any record that was lost; the ring has none inside.
            self.ring.clear();
            self.bytes = 0;
            self.next += 1;
        }
        for answer in answers.list {
            self.push(time, Recorded::Host(answer));
        }
        self.push(time, Recorded::Call(Box::new(call)));
    }

    /// The sequence number that the next record gets: how many there have been.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next
    }

    /// How many notices there have been: records that are rare and worth telling at once.
    #[must_use]
    pub fn notices(&self) -> u64 {
        self.notices
    }

    /// Up to `limit` records from number `from` on, or from the oldest that is still kept.
    #[must_use]
    pub fn since(&self, from: u64, limit: usize) -> Vec<Record> {
        let oldest = self.next - self.ring.len() as u64;
        let skip = usize::try_from(from.saturating_sub(oldest)).unwrap_or(usize::MAX);
        self.ring.iter().skip(skip).take(limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(recorder: &mut Recorder, text: &str) {
        recorder.push(Duration::from_nanos(5), Recorded::Marker(text.to_owned()));
    }

    #[test]
    fn reader_gets_each_record_once_and_in_order() {
        let mut recorder = Recorder::default();
        marker(&mut recorder, "a");
        marker(&mut recorder, "b");
        let first = recorder.since(0, 10);
        assert_eq!(first.iter().map(|record| record.seq).collect::<Vec<_>>(), [0, 1]);
        marker(&mut recorder, "c");
        let second = recorder.since(2, 10);
        assert_eq!(second[0].what, Recorded::Marker("c".to_owned()));
        assert!(recorder.since(3, 10).is_empty());
        assert_eq!(recorder.since(0, 1).len(), 1);
    }

    #[test]
    fn full_ring_drops_the_oldest_and_the_gap_shows() {
        let mut recorder = Recorder::default();
        for _ in 0..CAPACITY + 3 {
            marker(&mut recorder, "x");
        }
        assert_eq!(recorder.ring.len(), CAPACITY);
        assert_eq!(recorder.since(0, 1)[0].seq, 3);
        assert_eq!(recorder.next_seq(), CAPACITY as u64 + 3);
    }

    #[test]
    fn access_record_has_the_documented_fields() {
        let access = Access {
            space: Space::Bar(0),
            direction: Direction::Read,
            offset: 0x10,
            size: 4,
            register: Some("HAIMR"),
            value: 0xffff_ffff,
            answer: Answer::Dead,
        };
        let record =
            Record { seq: 7, time: Duration::from_micros(3), what: Recorded::Access("reader", access) };
        assert_eq!(
            record.to_json(),
            json!({
                "seq": 7, "t_ns": 3000, "kind": "access", "fn": "reader", "space": "bar0", "dir": "read",
                "reg": "HAIMR", "offset": "0x10", "size": 4, "value": "0xffffffff", "dead": true,
            })
        );
    }

    #[test]
    fn nvme_record_has_a_status_once_the_command_has_ended() {
        let command = NvmeCommand {
            name: "Write",
            queue: 2,
            id: 17,
            namespace: 1,
            argument: 0x1_0000_0008,
            status: None,
        };
        let json = |command| {
            Record { seq: 0, time: Duration::ZERO, what: Recorded::Nvme("nvme", command) }.to_json()
        };
        let fetched = json!({
            "seq": 0, "t_ns": 0, "kind": "nvme", "fn": "nvme", "name": "Write", "queue": 2, "id": 17,
            "namespace": 1, "argument": "0x100000008",
        });
        assert_eq!(json(command), fetched);
        let ended = json(NvmeCommand { status: Some(0x4281), ..command });
        assert_eq!(ended["status"], "0x4281");
    }

    #[test]
    fn event_record_carries_the_event_s_own_fields() {
        let event = Event::PresenceChanged { present: false };
        let record = Record { seq: 0, time: Duration::ZERO, what: Recorded::Event("port", event) };
        assert_eq!(
            record.to_json(),
            json!({"seq": 0, "t_ns": 0, "kind": "event", "fn": "port", "name": "presence-changed", "present": false})
        );
    }
}
