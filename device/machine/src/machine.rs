//! The composition, and the order in which things are done.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sdmorph_faults::{Engine, MAX_LATENCY, WireAction};
use sdmorph_pci::port::{Equipment, PortProfile, RootPort};
use sdmorph_pci::seam;
use sdmorph_pci::topology::RootBus;
use sdmorph_pci::{
    Clock, Ctx, Event, GuestMemory, InterruptSink, PciFunction, ResetKind, Space, World, mask_of_size,
};
use sdmorph_rtsx::Rtsx;
use sdmorph_rtsx::vendor_config::Settings;
use sdmorph_vmd::Vmd;
use serde_json::{Value, json};

use crate::bench::{Bench, Counters};
use crate::card::{Inserted, Ready};
use crate::inputs::{Call, Inputs};
use crate::messages::MessageWatch;
use crate::morph::{Bouncing, Input, Later, Phase, Skew};
use crate::names;
use crate::occupant::Occupant;
use crate::record::{Record, Recorded};
use crate::setup::Setup;
use crate::tap::{Tap, TappedMemory};
use crate::time::CallClock;

/// How many things one call may set off. Rules that set each other off without end stop here.
const MAX_STEPS: usize = 10_000;

/// The outside world, as the transport provides it.
pub struct Host {
    /// Guest memory.
    pub memory: Arc<dyn GuestMemory + Send + Sync>,
    /// Where VMD's MSI-X messages go.
    pub interrupts: Box<dyn InterruptSink + Send>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// Which registers of the device the host accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Region {
    /// VMD's configuration space.
    Config,
    /// A BAR of VMD.
    Bar(u8),
}

impl From<Region> for Space {
    fn from(region: Region) -> Self {
        match region {
            Region::Config => Space::Config,
            Region::Bar(bar) => Space::Bar(bar),
        }
    }
}

/// The whole device.
#[derive(Debug)]
pub struct Machine {
    setup: Setup,
    pub(crate) vmd: Vmd<Occupant>,
    pub(crate) bench: Bench,
    pub(crate) clock: CallClock,
    host: Host,
    /// What records calls, if they are to be.
    pub(crate) inputs: Option<Inputs>,
    pub(crate) phase: Phase,
    pub(crate) card: Option<Inserted>,
    /// The card that a rule's `card = "insert"` puts in.
    pub(crate) at_hand: Option<Ready>,
    /// The relink time that the driver programmed, when it asked for the switch.
    pub(crate) programmed: Duration,
    /// How long a switch takes if a rule says so, instead of what the driver programmed.
    pub(crate) relink: Option<Duration>,
    /// The next switch fails, because a rule says so.
    pub(crate) relink_fails: bool,
    /// How presence comes with the link.
    pub(crate) skew: Skew,
    /// How it goes with the link.
    pub(crate) absence: Skew,
    /// The next time that the link would come up, its training does not end, because a rule says so.
    pub(crate) training_fails: bool,
    /// Presence that goes on changing.
    pub(crate) bouncing: Option<Bouncing>,
    /// The messages that rules wait for, for whoever serves the client.
    pub(crate) message_watch: MessageWatch,
    /// What the slot does later. No entry stands twice: asking again replaces.
    pub(crate) later: BTreeSet<(Duration, Later)>,
}

/// A VMD with a root port, slot 8 and `reader` in it.
pub(crate) fn topology(reader: Rtsx, equipment: Equipment) -> Vmd<Occupant> {
    let profile = PortProfile { equipment, ..PortProfile::default() };
    Vmd::new(RootBus::new(0, RootPort::new(profile, Occupant::new(reader))))
}

impl Machine {
    /// A machine after power-on: an RTS5261 in the slot, no card, no rules.
    #[must_use]
    pub fn new(host: Host) -> Self {
        Self::with_setup(host, Setup::default())
    }

    /// The same with another reader.
    #[must_use]
    pub fn with_setup(mut host: Host, setup: Setup) -> Self {
        let mut bench = Bench::new(Engine::new(names::registry()));
        let inputs = setup.records_inputs().then(|| {
            let tap = Tap::default();
            host.memory = Arc::new(TappedMemory { memory: host.memory.clone(), tap: tap.clone() });
            bench.recorder.push(Duration::ZERO, Recorded::Setup(setup));
            Inputs::new(tap)
        });
        Self {
            setup,
            vmd: topology(setup.reader(), setup.equipment()),
            bench,
            clock: CallClock::default(),
            host,
            inputs,
            phase: Phase::Reader,
            card: None,
            at_hand: None,
            programmed: Duration::ZERO,
            relink: None,
            relink_fails: false,
            skew: Skew::None,
            absence: Skew::None,
            training_fails: false,
            bouncing: None,
            message_watch: MessageWatch::default(),
            later: BTreeSet::new(),
        }
    }

    /// Reads `data.len()` bytes of a region, in pieces as a bus would carry them; what is not in the region reads
    /// all-ones. Returns the latency to sleep off before the answer is given, at most [`MAX_LATENCY`] for all pieces.
    pub fn read(&mut self, now: Duration, region: Region, offset: u64, data: &mut [u8]) -> Duration {
        let delay = self.call(now, |machine| {
            data.fill(0xff);
            let end = inside(region, offset, data.len());
            let mut at = 0;
            while let Some(size) = piece(region, offset + at as u64, end - at) {
                let value = machine.read_piece(region, offset + at as u64, size);
                let bytes = value.to_le_bytes();
                if let (Some(to), Some(from)) =
                    (data.get_mut(at..at + usize::from(size)), bytes.get(..usize::from(size)))
                {
                    to.copy_from_slice(from);
                }
                at += usize::from(size);
            }
            std::mem::take(&mut machine.bench.delay).min(MAX_LATENCY)
        });
        self.note(|| Call::Read { region, offset, answer: data.to_vec(), delay });
        delay
    }

    /// Writes `data` to a region, in pieces as a bus would carry them; what is not in the region is lost.
    pub fn write(&mut self, now: Duration, region: Region, offset: u64, data: &[u8]) {
        self.call(now, |machine| {
            let end = inside(region, offset, data.len());
            let mut at = 0;
            while let Some(size) = piece(region, offset + at as u64, end - at) {
                let part = data.iter().skip(at).take(usize::from(size)).rev();
                let value = part.fold(0u64, |value, byte| value << 8 | u64::from(*byte));
                machine.write_piece(region, offset + at as u64, size, value);
                at += usize::from(size);
            }
        });
        self.note(|| Call::Write { region, offset, data: data.to_vec() });
    }

    fn read_piece(&mut self, region: Region, offset: u64, size: u8) -> u64 {
        self.with_vmd(|vmd, above| match region {
            Region::Config => u64::from(seam::config_read(vmd, above, offset as u16, size)),
            Region::Bar(bar) if vmd.config().memory_enabled() => {
                let mut ctx = seam::inside(vmd, above);
                vmd.bar_read(&mut ctx, bar, offset, size)
            }
            Region::Bar(_) => mask_of_size(size),
        })
    }

    fn write_piece(&mut self, region: Region, offset: u64, size: u8, value: u64) {
        self.with_vmd(|vmd, above| match region {
            Region::Config => seam::config_write(vmd, above, offset as u16, size, value as u32),
            Region::Bar(bar) if vmd.config().memory_enabled() => {
                let mut ctx = seam::inside(vmd, above);
                vmd.bar_write(&mut ctx, bar, offset, size, value);
            }
            Region::Bar(_) => {}
        });
    }

    /// The host routed a vector of VMD's MSI-X, or took the route away.
    pub fn set_vector_masked(&mut self, now: Duration, vector: u16, masked: bool) {
        self.call(now, |machine| {
            machine.with_vmd(|vmd, above| {
                let mut ctx = seam::inside(vmd, above);
                vmd.set_vector_masked(&mut ctx, vector, masked);
            });
        });
        self.note(|| Call::VectorMasked { vector, masked });
    }

    /// Tells, without the machine's lock, which messages [`Machine::message`] is to be called for.
    #[must_use]
    pub fn message_watch(&self) -> MessageWatch {
        self.message_watch.clone()
    }

    /// A message of the vfio-user client has come and is about to be acted on; `number` is that of its command. Returns
    /// what is to become of it, if a rule says so. What else the rules do is done when this returns: the message finds it
    /// done.
    pub fn message(&mut self, now: Duration, number: u16) -> Option<WireAction> {
        let wire = self.call(now, |machine| {
            let now = machine.clock.now();
            machine.bench.message(now, number)
        });
        self.note(|| Call::Message { number, wire });
        wire
    }

    /// The host resets the device (VFIO_USER_DEVICE_RESET): registers, not the card, not the rules, not the record.
    pub fn reset(&mut self, now: Duration) {
        self.call(now, |machine| machine.reset_all(ResetKind::Function));
        self.note(|| Call::Reset);
    }

    /// Power was off: the reader is back in the slot. The card, rules and record stay.
    pub fn power_cycle(&mut self, now: Duration) {
        self.call(now, |machine| {
            machine.input(Input::PowerCycled);
            machine.later.clear();
            machine.bench.late.clear();
            machine.bouncing = None;
            machine.reset_all(ResetKind::Cold);
        });
        self.note(|| Call::PowerCycle);
    }

    fn reset_all(&mut self, kind: ResetKind) {
        self.with_vmd(|vmd, above| {
            let mut ctx = seam::inside(vmd, above);
            ctx.event(Event::Reset { kind });
            vmd.reset(&mut ctx, kind);
        });
    }

    /// A medium has ended something that did not end at once: whoever waits for it goes on.
    pub fn storage_ended(&mut self, now: Duration) {
        self.call(now, Self::wake);
        self.note(|| Call::StorageEnded);
    }

    /// Has every function look at what it waits for.
    pub(crate) fn wake(&mut self) {
        self.with_vmd(|vmd, above| {
            let mut ctx = seam::inside(vmd, above);
            vmd.wake(&mut ctx);
        });
    }

    /// Writes a line of text into the record.
    pub fn marker(&mut self, now: Duration, text: &str) {
        self.call(now, |machine| machine.mark(text));
        self.note(|| Call::Marker { text: text.to_owned() });
    }

    pub(crate) fn mark(&mut self, text: &str) {
        let now = self.clock.now();
        self.bench.recorder.push(now, Recorded::Marker(text.to_owned()));
    }

    /// The whole device as one JSON tree, registers by name.
    #[must_use]
    pub fn status(&self) -> Value {
        let faults = self.bench.faults.effects();
        json!({
            "time-ns": self.clock.now().as_nanos() as u64,
            "chip": self.setup.model().name,
            "vendor-settings": self.setup.settings().map(Settings::snapshot),
            "slot-equipment": self.setup.equipment().words(),
            "phase": self.phase,
            "card": self.card.as_ref().map(|card| card.kind.name()),
            "card-at-hand": self.at_hand.as_ref().map(|ready| ready.inserted.kind.name()),
            "write-protect": self.card.as_ref().is_some_and(|card| card.write_protect),
            "medium": self.card.as_ref().map(Inserted::status),
            "counters": self.bench.counters,
            "records": self.bench.recorder.next_seq(),
            "faults": faults,
            "vmd": self.vmd.snapshot(),
        })
    }

    /// What has been counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.bench.counters
    }

    /// Up to `limit` records from number `from` on.
    #[must_use]
    pub fn records_since(&self, from: u64, limit: usize) -> Vec<Record> {
        self.bench.recorder.since(from, limit)
    }

    /// The number that the next record gets.
    #[must_use]
    pub fn next_record(&self) -> u64 {
        self.bench.recorder.next_seq()
    }

    /// How many events and rule hits there have been.
    #[must_use]
    pub fn notices(&self) -> u64 {
        self.bench.recorder.notices()
    }

    /// When [`Machine::advance`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let slot = self.later.first().map(|(at, _)| *at);
        let late = self.bench.late.first_key_value().map(|((at, _), _)| *at);
        [slot, late, self.bench.faults.next_deadline(), self.clock.wake()].into_iter().flatten().min()
    }

    /// Does what is due at `now`. Every other call does so first, too.
    pub fn advance(&mut self, now: Duration) {
        self.call(now, |_| ());
        self.note(|| Call::Advance);
    }

    /// One call from outside: what was due, then `act`, then what that set off. Whoever makes it public also
    /// [notes](Self::note) it, or records with such a call cannot be replayed.
    pub(crate) fn call<R>(&mut self, now: Duration, act: impl FnOnce(&mut Self) -> R) -> R {
        self.clock.set(now);
        if self.inputs.is_some() {
            let due = self.next_deadline().is_some_and(|at| at <= self.clock.now());
            let first = self.bench.recorder.next_seq();
            self.inputs.iter_mut().for_each(|inputs| inputs.begin(first, due));
        }
        self.run_due();
        let result = act(self);
        self.settle();
        result
    }

    fn run_due(&mut self) {
        let now = self.clock.now();
        while let Some((at, what)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, what));
            self.come_due(what);
            self.settle();
        }
        let late = self.bench.take_late(now);
        if !late.is_empty() {
            self.with_vmd(|vmd, above| {
                let mut ctx = seam::inside(vmd, above);
                vmd.with_bus(&mut ctx, |_, ctx| late.iter().for_each(|message| ctx.pass_on(*message)));
            });
        }
        let due = self.bench.faults.due(now);
        self.bench.fire(now, due);
        self.settle();
        if self.clock.take_due() {
            self.wake();
            self.settle();
        }
    }

    /// Does what events and rules ask for, until there is no more.
    fn settle(&mut self) {
        for _ in 0..MAX_STEPS {
            if let Some(event) = self.bench.events.pop_front() {
                self.follow(event);
            } else if let Some(fired) = self.bench.fired.pop_front() {
                for action in &fired.actions {
                    self.act(action);
                }
            } else {
                return;
            }
        }
        let dropped = self.bench.events.len() + self.bench.fired.len();
        // A guest can repeat this: said once, counted always.
        if self.bench.counters.rule_storms == 0 {
            tracing::warn!(dropped, "rules set each other off without end; what is left is dropped");
        }
        self.bench.counters.rule_storms = self.bench.counters.rule_storms.saturating_add(1);
        self.bench.events = VecDeque::new();
        self.bench.fired = VecDeque::new();
    }

    /// Calls `act` on VMD with the context of the host above it.
    pub(crate) fn with_vmd<R>(&mut self, act: impl FnOnce(&mut Vmd<Occupant>, &mut Ctx<'_>) -> R) -> R {
        let world = World {
            memory: &*self.host.memory,
            irq: &mut *self.host.interrupts,
            clock: &self.clock,
            observer: &mut self.bench,
        };
        act(&mut self.vmd, &mut Ctx::new(world, "host", true))
    }
}

/// How many of `length` bytes at `offset` are in the region.
fn inside(region: Region, offset: u64, length: usize) -> usize {
    let size = match region {
        Region::Config => sdmorph_pci::config::SIZE as u64,
        Region::Bar(bar) => {
            sdmorph_vmd::BAR_SIZES.iter().find(|(index, _)| *index == bar).map_or(0, |(_, size)| *size)
        }
    };
    usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(length)
}

/// The next piece of an access: naturally aligned, at most 4 bytes in configuration space and 8 in memory.
fn piece(region: Region, offset: u64, left: usize) -> Option<u8> {
    let most: u8 = if region == Region::Config { 4 } else { 8 };
    [8u8, 4, 2, 1]
        .into_iter()
        .find(|size| *size <= most && usize::from(*size) <= left && offset % u64::from(*size) == 0)
}
