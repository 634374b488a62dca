//! The one hook that everything passes: recorder, counters and fault rules.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sdmorph_faults::{Action, Engine, Fired, WireAction};
use sdmorph_pci::{
    Access, Answer, Direction, DmaFault, Effect, Event, Happening, Message, Observer, Space, mask_of_size,
};
use serde::Serialize;

use crate::record::{Recorded, Recorder, space_name};

/// Unmodelled registers told apart; more are counted together.
const MAX_UNMODELLED_NAMES: usize = 256;

/// Interrupt messages that may be late at the same time.
const MAX_LATE: usize = 4096;

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
    /// Messages that a rule wanted late and that are lost, because too many others were on their way.
    pub late_interrupts_lost: u64,
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
    /// Interrupt messages that arrive later than they were sent, by their time and order.
    pub(crate) late: BTreeMap<(Duration, u64), (&'static str, Message)>,
    late_sent: u64,
    /// What became of the DMA that is being done.
    dma_met: Option<&'static str>,
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
            late: BTreeMap::new(),
            late_sent: 0,
            dma_met: None,
        }
    }

    /// Records what rules do, and keeps it for the machine.
    pub(crate) fn fire(&mut self, now: Duration, fired: impl IntoIterator<Item = Fired>) {
        for fired in fired {
            let name = fired.rule.as_str().to_owned();
            let actions = fired.actions.iter().map(Action::to_brief_json).collect();
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

    /// Takes the interrupt messages that arrive at `now`.
    pub(crate) fn take_late(&mut self, now: Duration) -> Vec<Message> {
        let mut due = Vec::new();
        while let Some(entry) = self.late.first_entry().filter(|entry| entry.key().0 <= now) {
            let (function, message) = entry.remove();
            self.recorder.push(now, Recorded::Interrupt(function, message));
            due.push(message);
        }
        due
    }

    /// Keeps an interrupt message for later; if there are too many, it is lost. Says what has become of it.
    fn keep_late(&mut self, at: Duration, function: &'static str, message: Message) -> &'static str {
        if self.late.len() >= MAX_LATE {
            self.counters.late_interrupts_lost = self.counters.late_interrupts_lost.saturating_add(1);
            return "interrupt-lost";
        }
        self.late.insert((at, self.late_sent), (function, message));
        self.late_sent += 1;
        "interrupt-delayed"
    }

    /// Records what a fault has made of the thing recorded before.
    fn record_fault(&mut self, now: Duration, function: &'static str, what: &'static str) {
        self.recorder.push(now, Recorded::Fault(function, what));
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
        let outcome = self.faults.observe(now, function, what);
        let recorded = match (what, outcome.effect) {
            // What the guest gets.
            (Happening::Access(access), Effect::Data(change)) => {
                let value = change.apply(access.value) & mask_of_size(access.size);
                Some(Recorded::Access(function, Access { value, ..*access }))
            }
            _ => Recorded::of(function, what),
        };
        if let Some(recorded) = recorded {
            self.recorder.push(now, recorded);
        }
        match (what, outcome.effect) {
            (Happening::Event(event), _) => self.events.push_back(*event),
            (Happening::Interrupt(message), Effect::Late(after)) => {
                let met = self.keep_late(now.saturating_add(after), function, *message);
                self.record_fault(now, function, met);
            }
            (Happening::Interrupt(_), Effect::Lost) => self.record_fault(now, function, "interrupt-lost"),
            (Happening::Interrupt(_), Effect::Twice) => {
                self.record_fault(now, function, "interrupt-duplicated");
            }
            (Happening::Nvme(_), Effect::Lost) => self.record_fault(now, function, "completion-lost"),
            (Happening::Nvme(_), Effect::Status(_)) => self.record_fault(now, function, "command-failed"),
            (Happening::Dma { .. }, _) => {
                if let Some(met) = self.dma_met.take() {
                    self.record_fault(now, function, met);
                }
            }
            _ => {}
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
        self.fire(now, outcome.fired);
        outcome.effect
    }

    fn dma_fault(
        &mut self,
        function: &'static str,
        direction: Direction,
        address: u64,
        length: u64,
    ) -> Option<DmaFault> {
        let fault = self.faults.dma_fault(function, direction, address, length)?;
        self.dma_met = Some(match fault {
            DmaFault::Lost => "dma-lost",
            DmaFault::Flipped(_) => "dma-corrupted",
            DmaFault::Failed(_) => "dma-failed",
        });
        Some(fault)
    }

    fn dma_held_until(&self, now: Duration, function: &'static str) -> Option<Duration> {
        self.faults.dma_held_until(now, function)
    }
}

#[cfg(test)]
mod tests {
    use sdmorph_faults::Rule;
    use serde_json::json;

    use super::*;

    #[test]
    fn hit_that_plays_a_trace_is_recorded_without_its_latencies() {
        let mut bench = Bench::new(Engine::new(crate::names::registry()));
        let slow = json!({ "read-latency": { "trace-ns": vec![850; 4096] } });
        let rule = json!({ "name": "slow", "on": { "start": true }, "do": [slow, { "link": "down" }] });
        bench.faults.add(Rule::from_json(&rule).unwrap(), Duration::ZERO).unwrap();
        let due = bench.faults.due(Duration::ZERO);
        bench.fire(Duration::ZERO, due);
        let actions = vec![json!({ "read-latency": { "trace-latencies": 4096 } }), json!({ "link": "down" })];
        let hit = Recorded::Rule { name: "slow".to_owned(), hit: 1, actions };
        assert_eq!(bench.recorder.since(0, 1).remove(0).what, hit);
    }

    #[test]
    fn message_that_cannot_be_kept_for_later_is_recorded_and_counted_as_lost() {
        let mut bench = Bench::new(Engine::new(crate::names::registry()));
        let delay = json!({ "interrupt": { "what": "delay", "time": "1s" } });
        let rule = json!({ "name": "late", "on": { "start": true }, "do": delay });
        bench.faults.add(Rule::from_json(&rule).unwrap(), Duration::ZERO).unwrap();
        assert_eq!(bench.faults.due(Duration::ZERO).len(), 1);
        let message = Message { vector: 0, address: 0xfee0_0000, data: 0 };
        let send = |bench: &mut Bench| {
            let effect = bench.happened(Duration::ZERO, "reader", &Happening::Interrupt(message));
            assert_eq!(effect, Effect::Late(Duration::from_secs(1)));
            bench.recorder.since(bench.recorder.next_seq() - 1, 1).remove(0).what
        };
        for _ in 0..MAX_LATE {
            assert_eq!(send(&mut bench), Recorded::Fault("reader", "interrupt-delayed"));
        }
        assert_eq!(bench.counters.late_interrupts_lost, 0);
        assert_eq!(send(&mut bench), Recorded::Fault("reader", "interrupt-lost"));
        assert_eq!(
            (bench.counters.late_interrupts_lost, bench.counters.interrupts),
            (1, MAX_LATE as u64 + 1)
        );
        assert_eq!(bench.take_late(Duration::from_secs(1)).len(), MAX_LATE);
        assert_eq!(send(&mut bench), Recorded::Fault("reader", "interrupt-delayed"));
        assert_eq!(bench.counters.late_interrupts_lost, 1);
    }
}
