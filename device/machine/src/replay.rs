//! The same calls once more, without a host: a record against the machine as it is now.
//!
//! A record with [`inputs`] has all that the machine was given, so that the machine has to make the same record again,
//! line by line, times and all. [`Replay`] takes the lines one after the other and compares. The first line may be from
//! another version of the program; it says what the machine is made as.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sdmorph_media::RamMedia;
use sdmorph_pci::{InterruptSink, Message};
use serde_json::Value;
use thiserror::Error;

use crate::inputs::{self, Call, CardPlan, ParseError};
use crate::{Host, Machine, Medium, NewCard};

mod cue;

use cue::{Cue, CuedMedia, CuedMemory};

/// Lines that are shown before a difference.
const CONTEXT: usize = 8;
/// Most lines that are kept until a call ends. More is no record.
const MAX_LINES: usize = 1 << 20;

/// Why a record cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// There is nothing in it.
    #[error("the record is empty")]
    Empty,
    /// A line is no JSON object with `seq`, `t_ns` and `kind`.
    #[error("line {line}: {why}")]
    Line {
        /// Counts from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// It does not begin where the machine began, or has no inputs.
    #[error(
        "the record cannot be replayed: it does not begin with a line of kind `setup`, as `serve --record-inputs` writes it"
    )]
    NoSetup,
    /// Records were lost between memory and file.
    #[error("line {line}: the record cannot be replayed from here on: after seq {before} comes {after}")]
    Gap {
        /// Counts from 1.
        line: u64,
        /// The number before the gap.
        before: u64,
        /// The one after it.
        after: u64,
    },
    /// A line of a call, of the setup or of the host's answers makes no sense.
    #[error("line {line}: {error}")]
    Parse {
        /// Counts from 1.
        line: u64,
        /// What is wrong.
        error: ParseError,
    },
    /// The call was carried out when it was recorded, and cannot be now.
    #[error("line {line}: {call} is refused: {why}")]
    Refused {
        /// Counts from 1.
        line: u64,
        /// The call's name.
        call: &'static str,
        /// Why.
        why: String,
    },
}

/// The first line that is not as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The record's line, from 1, that is different or missing.
    pub line: u64,
    /// The call in which it is, by its name.
    pub call: &'static str,
    /// The record's line; `None` if the machine says more than it did.
    pub expected: Option<Value>,
    /// What the machine made; `None` if it says less.
    pub got: Option<Value>,
    /// The fields that differ, if there are both.
    pub fields: Vec<String>,
    /// The record's lines before it, the nearest last.
    pub before: Vec<Value>,
    /// What the device asked the host that it had not asked before, if that is how it began.
    pub astray: Option<String>,
}

/// How far a replay has come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Lines that were compared.
    pub lines: u64,
    /// Calls that were made.
    pub calls: u64,
    /// The machine's time at the end.
    pub time: Duration,
    /// Lines at the end whose call the record does not have: it ends in the middle.
    pub unfinished: u64,
    /// The first difference.
    pub difference: Option<Difference>,
}

/// A replay.
#[derive(Debug, Default)]
pub struct Replay {
    running: Option<Running>,
    outcome: Outcome,
    /// Lines seen.
    line: u64,
    /// The lines since the last call.
    group: Vec<Value>,
    before: VecDeque<Value>,
    /// What the machine made of the last call.
    got: Vec<Value>,
}

#[derive(Debug)]
struct Running {
    machine: Machine,
    cue: Cue,
    /// The number of the last line of the record.
    seq: u64,
    /// The number of the machine's first record that has not been looked at.
    next: u64,
}

/// Interrupts are in the record already.
struct Nowhere;

impl InterruptSink for Nowhere {
    fn send(&mut self, _message: Message) {}
}

impl Replay {
    /// Takes the record's next line. True if the replay has made a call, and what it made is in [`Replay::got`].
    ///
    /// # Errors
    /// [`ReplayError`]; the replay is at its end then.
    pub fn line(&mut self, text: &str) -> Result<bool, ReplayError> {
        self.line += 1;
        let line = self.line;
        let bad = |why: &str| ReplayError::Line { line, why: why.to_owned() };
        let value: Value = serde_json::from_str(text).map_err(|error| bad(&format!("no JSON: {error}")))?;
        let seq = value.get("seq").and_then(Value::as_u64).ok_or_else(|| bad("`seq` is missing"))?;
        let kind = value.get("kind").and_then(Value::as_str).ok_or_else(|| bad("`kind` is missing"))?;
        let (is_setup, is_call) = (kind == "setup", kind == "call");
        let is_answer = matches!(kind, "memory" | "medium");
        let parse = |error| ReplayError::Parse { line, error };
        let Some(running) = &mut self.running else {
            if !is_setup || seq != 0 {
                return Err(ReplayError::NoSetup);
            }
            self.running = Some(Running::new(inputs::setup(&value).map_err(parse)?));
            self.outcome.lines += 1;
            self.before.push_back(value);
            return Ok(false);
        };
        if seq != running.seq + 1 {
            return Err(ReplayError::Gap { line, before: running.seq, after: seq });
        }
        running.seq = seq;
        if is_answer {
            running.cue.push(inputs::host_answer(&value).map_err(parse)?);
        }
        if self.group.len() >= MAX_LINES {
            return Err(bad("no call has ended for too long"));
        }
        let call = is_call.then(|| inputs::call(&value)).transpose().map_err(parse)?;
        let time = value.get("t_ns").and_then(Value::as_u64).ok_or_else(|| bad("`t_ns` is missing"))?;
        self.group.push(value);
        let Some(call) = call else { return Ok(false) };
        let name = call.name();
        let time = Duration::from_nanos(time);
        running.make(time, call).map_err(|why| ReplayError::Refused { line, call: name, why })?;
        let records = running.machine.records_since(running.next, usize::MAX);
        running.next = running.machine.next_record();
        self.got = records.iter().map(crate::Record::to_json).collect();
        let astray = running.cue.end();
        self.outcome.time = time;
        self.compare(name, astray);
        Ok(true)
    }

    /// What the machine made of the last call, as lines of a record.
    #[must_use]
    pub fn got(&self) -> &[Value] {
        &self.got
    }

    /// How far it has come.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The record is at its end.
    ///
    /// # Errors
    /// [`ReplayError::Empty`].
    pub fn finish(mut self) -> Result<Outcome, ReplayError> {
        if self.running.is_none() {
            return Err(ReplayError::Empty);
        }
        self.outcome.unfinished = self.group.len() as u64;
        Ok(self.outcome)
    }

    fn compare(&mut self, call: &'static str, astray: Option<String>) {
        let expected = std::mem::take(&mut self.group);
        self.outcome.calls += 1;
        self.outcome.lines += expected.len() as u64;
        let first = self.line + 1 - expected.len() as u64;
        let length = expected.len().max(self.got.len());
        for index in 0..length {
            let (one, other) = (expected.get(index), self.got.get(index));
            if one != other && self.outcome.difference.is_none() {
                self.outcome.difference = Some(Difference {
                    line: first + index as u64,
                    call,
                    expected: one.cloned(),
                    got: other.cloned(),
                    fields: one.zip(other).map(|(one, other)| fields(one, other)).unwrap_or_default(),
                    before: self.before.iter().cloned().collect(),
                    astray: astray.clone(),
                });
            }
            if let Some(line) = one {
                if self.before.len() >= CONTEXT {
                    self.before.pop_front();
                }
                self.before.push_back(line.clone());
            }
        }
    }
}

/// The fields that differ between two lines.
fn fields(one: &Value, other: &Value) -> Vec<String> {
    let (Value::Object(one), Value::Object(other)) = (one, other) else { return Vec::new() };
    let added = other.keys().filter(|key| !one.contains_key(*key));
    one.keys().filter(|key| one.get(*key) != other.get(*key)).chain(added).cloned().collect()
}

impl Running {
    fn new(setup: crate::Setup) -> Self {
        let cue = Cue::default();
        let host = Host { memory: Arc::new(CuedMemory(cue.clone())), interrupts: Box::new(Nowhere) };
        let machine = Machine::with_setup(host, setup.with_inputs_recorded());
        let next = machine.next_record();
        Self { machine, cue, seq: 0, next }
    }

    fn card(&self, plan: CardPlan) -> NewCard {
        let CardPlan { kind, write_protect, serial, medium } = plan;
        let medium = medium.map(|medium| {
            if medium.host {
                Medium::replayed(Box::new(CuedMedia::new(medium, self.cue.clone())))
            } else {
                RamMedia::new(medium.blocks, crate::MEMORY_LIMIT_BYTES).into()
            }
        });
        NewCard { kind, medium, write_protect, serial }
    }

    /// Makes the call. What it answers is in the record that it makes.
    fn make(&mut self, now: Duration, call: Call) -> Result<(), String> {
        fn text<E: std::fmt::Display>(error: E) -> String {
            error.to_string()
        }
        let machine = &mut self.machine;
        match call {
            Call::Read { region, offset, answer, .. } => {
                let mut data = vec![0; answer.len()];
                machine.read(now, region, offset, &mut data);
            }
            Call::Write { region, offset, data } => machine.write(now, region, offset, &data),
            Call::VectorMasked { vector, masked } => machine.set_vector_masked(now, vector, masked),
            Call::Message { number, .. } => {
                machine.message(now, number);
            }
            Call::Reset => machine.reset(now),
            Call::PowerCycle => machine.power_cycle(now),
            Call::StorageEnded => machine.storage_ended(now),
            Call::Advance => machine.advance(now),
            Call::Look { .. } => {
                machine.look(now);
            }
            Call::Rest { .. } => {
                machine.rest(now);
            }
            Call::Marker { text } => machine.marker(now, &text),
            Call::CardInsert(plan) => {
                let card = self.card(plan);
                self.machine.card_insert(now, card).map_err(text)?;
            }
            Call::CardPrepare(plan) => {
                let card = self.card(plan);
                self.machine.card_prepare(card).map_err(text)?;
            }
            Call::CardEject => machine.card_eject(now).map_err(text)?,
            Call::CardDisturb(disturbance) => {
                // It may have been refused then, too.
                let _ = machine.card_disturb(now, disturbance);
            }
            Call::OverCurrent { .. } => {
                machine.over_current(now);
            }
            Call::LinkSet { up } => machine.link_set(now, up),
            Call::RuleAdd(rule) => machine.rule_add(now, rule).map_err(text)?,
            Call::RuleRemove { name } => machine.rule_remove(&name).map(drop).map_err(text)?,
            Call::ScenarioLoad { name, rules, replace } => {
                machine.scenario_load(now, &name, rules, replace).map_err(text)?;
            }
            Call::Inject(rule) => machine.inject_rule(now, rule).map_err(text)?,
        }
        Ok(())
    }
}
