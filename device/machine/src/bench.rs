//! The one hook that everything passes: recorder, counters and fault rules.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sdmorph_faults::{Action, Engine, Fired, WireAction};
use sdmorph_pci::{Answer, Direction, Effect, Event, Happening, Observer, Space};
use serde::Serialize;

use crate::record::{Recorded, Recorder, space_name};

/// Unmodelled registers told apart; more are counted together.
const MAX_UNMODELLED_NAMES: usize = 256;

/// How often things happened since the machine was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counters {
    /// Register accesses that reached a function.
    pub accesses: u64,
    /// Accesses that nobody decoded.
    pub absent: u64,
    /// Reads of a function that could not answer.
    pub dead_reads: u64,
    /// Writes to a function that could not take them.
    pub dead_writes: u64,
    /// Interrupt messages sent.
    pub interrupts: u64,
    /// DMA transfers, and how many of them failed.
    pub dma: u64,
    /// DMA transfers that failed.
    pub dma_errors: u64,
    /// Calls in which rules set each other off without end, and were stopped.
    pub rule_storms: u64,
    /// Accesses to registers that no table has.
    pub unmodelled: u64,
    /// The same by place, such as `reader internal 0xfe12 read`.
    pub unmodelled_registers: BTreeMap<String, u64>,
}

/// Recorder, counters and rules.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) recorder: Recorder,
    pub(crate) faults: Engine,
    pub(crate) counters: Counters,
    /// What rules want done as soon as the access that made them hit is over.
    pub(crate) fired: VecDeque<Fired>,
    /// Events that the machine has not acted on yet.
    pub(crate) events: VecDeque<Event>,
    /// Latency that the current access has been given.
    pub(crate) delay: Duration,
}

impl Bench {
    pub(crate) fn new(faults: Engine) -> Self {
        Self {
            recorder: Recorder::default(),
            faults,
            counters: Counters::default(),
            fired: VecDeque::new(),
            events: VecDeque::new(),
            delay: Duration::ZERO,
        }
    }

    /// Records what rules do, and keeps it for the machine.
    pub(crate) fn fire(&mut self, now: Duration, fired: impl IntoIterator<Item = Fired>) {
        for fired in fired {
            let name = fired.rule.as_str().to_owned();
            let actions = fired.actions.iter().map(Action::to_json).collect();
            self.recorder.push(now, Recorded::Rule { name, hit: fired.hit, actions });
            self.fired.push_back(fired);
        }
    }

    /// Shows the rules a message of the client; what becomes of it is what the first of them says.
    pub(crate) fn message(&mut self, now: Duration, number: u16) -> Option<WireAction> {
        let fired = self.faults.message(now, number);
        let wire = fired.iter().flat_map(|fired| &fired.actions).find_map(|action| match action {
            Action::Wire(wire) => Some(*wire),
            _ => None,
        });
        self.fire(now, fired);
        wire
    }

    fn count(&mut self, function: &'static str, what: &Happening<'_>) {
        let counters = &mut self.counters;
        let add = |counter: &mut u64| *counter = counter.saturating_add(1);
        match what {
            Happening::Access(access) => match (access.answer, access.direction) {
                (Answer::Modelled, _) => add(&mut counters.accesses),
                (Answer::Absent, _) => add(&mut counters.absent),
                (Answer::Dead, Direction::Read) => add(&mut counters.dead_reads),
                (Answer::Dead, Direction::Write) => add(&mut counters.dead_writes),
                (Answer::Unmodelled, direction) => {
                    add(&mut counters.unmodelled);
                    let direction = if direction == Direction::Read { "read" } else { "write" };
                    let mut place =
                        format!("{function} {} {:#x} {direction}", space_name(access.space), access.offset);
                    let names = &mut counters.unmodelled_registers;
                    if !names.contains_key(&place) && names.len() >= MAX_UNMODELLED_NAMES {
                        place = "others".to_owned();
                    }
                    add(names.entry(place).or_default());
                }
            },
            Happening::Interrupt(_) => add(&mut counters.interrupts),
            Happening::Dma { result, .. } => {
                add(&mut counters.dma);
                if result.is_err() {
                    add(&mut counters.dma_errors);
                }
            }
            Happening::Command { .. } | Happening::Nvme(_) | Happening::Doorbell(_) | Happening::Event(_) => {
            }
        }
    }
}

impl Observer for Bench {
    fn happened(&mut self, now: Duration, function: &'static str, what: &Happening<'_>) -> Effect {
        self.count(function, what);
        if let Some(recorded) = Recorded::of(function, what) {
            self.recorder.push(now, recorded);
        }
        if let Happening::Event(event) = what {
            self.events.push_back(*event);
        }
        // Latency is that of the function in the slot, the only one below the port with a BAR.
        if let Happening::Access(access) = what {
            if matches!(access.space, Space::Bar(_))
                && access.direction == Direction::Read
                && matches!(access.answer, Answer::Modelled | Answer::Unmodelled | Answer::Dead)
                && function != "vmd"
            {
                self.delay += self.faults.read_latency().unwrap_or_default();
            }
        }
        let outcome = self.faults.observe(now, function, what);
        self.fire(now, outcome.fired);
        outcome.effect
    }
}
