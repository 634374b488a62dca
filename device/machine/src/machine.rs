//! The composition, and the order in which things are done.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sdmorph_faults::rule::{Action, BarAction, CardAction, LinkAction};
use sdmorph_faults::{Engine, MAX_LATENCY, Rule, RuleError, RuleStatus, WireAction};
use sdmorph_pci::port::{PortProfile, RootPort};
use sdmorph_pci::seam;
use sdmorph_pci::topology::RootBus;
use sdmorph_pci::{
    Ctx, Disturbance, Event, GuestMemory, InterruptSink, PciFunction, ResetKind, World, mask_of_size,
};
use sdmorph_rtsx::Rtsx;
use sdmorph_rtsx::vendor_config::Settings;
use sdmorph_vmd::Vmd;
use serde_json::{Value, json};

use crate::bench::{Bench, Counters};
use crate::card::{InsertError, Inserted, NewCard, Ready};
use crate::messages::MessageWatch;
use crate::morph::{self, Later, Phase};
use crate::names;
use crate::record::{Record, Recorded};
use crate::setup::Setup;
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

/// The whole device.
#[derive(Debug)]
pub struct Machine {
    setup: Setup,
    vmd: Vmd<Rtsx>,
    bench: Bench,
    clock: CallClock,
    host: Host,
    phase: Phase,
    card: Option<Inserted>,
    /// The card that a rule's `card = "insert"` puts in.
    at_hand: Option<Ready>,
    /// How long a switch takes if a rule says so, instead of what the driver programmed.
    relink: Option<Duration>,
    /// The next switch fails, because a rule says so.
    relink_fails: bool,
    /// The messages that rules wait for, for whoever serves the client.
    message_watch: MessageWatch,
    /// What the slot does later. No entry stands twice: asking again replaces.
    later: BTreeSet<(Duration, Later)>,
}

/// A VMD with a root port, slot 8 and `reader` in it.
pub(crate) fn topology(reader: Rtsx) -> Vmd<Rtsx> {
    Vmd::new(RootBus::new(0, RootPort::new(PortProfile::default(), reader)))
}

impl Machine {
    /// A machine after power-on: an RTS5261 in the slot, no card, no rules.
    #[must_use]
    pub fn new(host: Host) -> Self {
        Self::with_setup(host, Setup::default())
    }

    /// The same with another reader.
    #[must_use]
    pub fn with_setup(host: Host, setup: Setup) -> Self {
        Self {
            setup,
            vmd: topology(setup.reader()),
            bench: Bench::new(Engine::new(names::registry())),
            clock: CallClock::default(),
            host,
            phase: Phase::Reader,
            card: None,
            at_hand: None,
            relink: None,
            relink_fails: false,
            message_watch: MessageWatch::default(),
            later: BTreeSet::new(),
        }
    }

    /// Reads `data.len()` bytes of a region, in pieces as a bus would carry them; what is not in the region reads
    /// all-ones. Returns the latency to sleep off before the answer is given, at most [`MAX_LATENCY`] for all pieces.
    pub fn read(&mut self, now: Duration, region: Region, offset: u64, data: &mut [u8]) -> Duration {
        self.call(now, |machine| {
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
        })
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
        self.call(now, |machine| {
            let now = sdmorph_pci::Clock::now(&machine.clock);
            machine.bench.message(now, number)
        })
    }

    /// The host resets the device (VFIO_USER_DEVICE_RESET): registers, not the card, not the rules, not the record.
    pub fn reset(&mut self, now: Duration) {
        self.call(now, |machine| machine.reset_all(ResetKind::Function));
    }

    /// Power was off: the reader is back in the slot. The card, rules and record stay.
    pub fn power_cycle(&mut self, now: Duration) {
        self.call(now, |machine| {
            machine.later.clear();
            machine.phase = Phase::Reader;
            machine.reset_all(ResetKind::Cold);
        });
    }

    fn reset_all(&mut self, kind: ResetKind) {
        self.with_vmd(|vmd, above| {
            let mut ctx = seam::inside(vmd, above);
            ctx.event(Event::Reset { kind });
            vmd.reset(&mut ctx, kind);
        });
    }

    /// Puts a card into the reader.
    ///
    /// # Errors
    /// [`InsertError::Occupied`] if there is one, [`InsertError::Capacity`] if no card has a medium like this.
    pub fn card_insert(&mut self, now: Duration, card: impl Into<NewCard>) -> Result<(), InsertError> {
        if self.card.is_some() {
            return Err(InsertError::Occupied);
        }
        let card = card.into().make()?;
        self.call(now, |machine| machine.insert(card));
        Ok(())
    }

    fn insert(&mut self, Ready { card, inserted }: Ready) {
        let write_protect = inserted.write_protect;
        self.card = Some(inserted);
        self.with_reader(|reader, ctx| {
            reader.set_write_protect(write_protect);
            reader.insert(ctx, card);
        });
    }

    /// Keeps a card at hand, in place of the one that is: a rule's `card = "insert"` puts it in.
    ///
    /// # Errors
    /// Those of the card itself; see [`Machine::card_insert`].
    pub fn card_prepare(&mut self, card: impl Into<NewCard>) -> Result<(), InsertError> {
        self.at_hand = Some(card.into().make()?);
        Ok(())
    }

    /// Whether there is a card, or something that looks like one, in the reader.
    #[must_use]
    pub fn has_card(&self) -> bool {
        self.card.is_some()
    }

    /// Disturbs the card in the reader.
    ///
    /// # Errors
    /// [`InsertError::Empty`] if there is none, [`InsertError::Disturb`] if it cannot be disturbed like that.
    pub fn card_disturb(&mut self, now: Duration, disturbance: Disturbance) -> Result<(), InsertError> {
        let disturbed = self.call(now, |machine| {
            let mut disturbed = None;
            machine.with_reader(|reader, ctx| disturbed = reader.disturb(ctx, disturbance));
            disturbed
        });
        Ok(disturbed.ok_or(InsertError::Empty)??)
    }

    /// The card in the reader draws too much current. False if the reader's driver has not set it to look for that.
    pub fn over_current(&mut self, now: Duration) -> bool {
        self.call(now, Self::too_much_current)
    }

    fn too_much_current(&mut self) -> bool {
        let mut detected = false;
        self.with_reader(|reader, ctx| detected = reader.over_current(ctx));
        detected
    }

    /// A medium has ended something that did not end at once: whoever waits for it goes on.
    pub fn storage_ended(&mut self, now: Duration) {
        self.call(now, Self::wake);
    }

    fn wake(&mut self) {
        self.with_vmd(|vmd, above| {
            let mut ctx = seam::inside(vmd, above);
            vmd.wake(&mut ctx);
        });
    }

    /// Takes the card out. If the reader has let go of the slot, it comes back: presence, and after
    /// [`morph::TRAINING`] the link.
    ///
    /// # Errors
    /// [`InsertError::Empty`] if there is none.
    pub fn card_eject(&mut self, now: Duration) -> Result<(), InsertError> {
        if self.card.is_none() {
            return Err(InsertError::Empty);
        }
        self.call(now, Self::eject);
        Ok(())
    }

    fn eject(&mut self) {
        self.card = None;
        self.with_reader(|reader, ctx| {
            drop(reader.eject(ctx));
            reader.set_write_protect(false);
        });
        if self.phase == Phase::Away {
            self.reader_comes_back();
        }
        self.cancel(Later::LinkFalls);
        self.cancel(Later::SwitchFails);
        self.phase = Phase::Reader;
    }

    fn reader_comes_back(&mut self) {
        self.cancel(Later::PresenceGoes);
        self.with_port(|port, ctx| port.set_presence(ctx, true));
        self.do_later(morph::TRAINING, Later::LinkTrains);
    }

    /// Takes the slot's link down or up; presence follows.
    pub fn link_set(&mut self, now: Duration, up: bool) {
        self.call(now, |machine| machine.link(up));
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// [`RuleError`], with the nearest names where one is unknown; nothing is added then.
    pub fn rule_add(&mut self, now: Duration, rule: Rule) -> Result<(), RuleError> {
        self.call(now, |machine| {
            machine.bench.faults.add(rule, now)?;
            machine.watch_messages();
            Ok(())
        })
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// [`RuleError`] if there is none of that name.
    pub fn rule_remove(&mut self, name: &str) -> Result<Rule, RuleError> {
        let rule = self.bench.faults.remove(name)?;
        self.watch_messages();
        Ok(rule)
    }

    /// The rules and their counters.
    #[must_use]
    pub fn rules(&self) -> Vec<RuleStatus> {
        self.bench.faults.list()
    }

    /// Loads a set of rules, all or none. With `replace` the rules of before go, and so do the latency, the
    /// stuck bits and the relink time that they left.
    ///
    /// # Errors
    /// [`RuleError`] of the first rule that is wrong; the old rules stay then.
    pub fn scenario_load(
        &mut self,
        now: Duration,
        name: &str,
        rules: Vec<Rule>,
        replace: bool,
    ) -> Result<(), RuleError> {
        // What is due by the old rules comes first, and the new ones do not see it.
        self.advance(now);
        if replace {
            let mut fresh = Engine::new(self.bench.faults.names().clone());
            fresh.load(rules, now)?;
            self.bench.faults = fresh;
            self.relink = None;
            self.relink_fails = false;
        } else {
            self.bench.faults.load(rules, now)?;
        }
        self.watch_messages();
        self.call(now, |machine| machine.mark(&format!("scenario {name}")));
        Ok(())
    }

    fn watch_messages(&self) {
        self.message_watch.set(self.bench.faults.watched_messages());
    }

    /// Writes a line of text into the record.
    pub fn marker(&mut self, now: Duration, text: &str) {
        self.call(now, |machine| machine.mark(text));
    }

    fn mark(&mut self, text: &str) {
        let now = sdmorph_pci::Clock::now(&self.clock);
        self.bench.recorder.push(now, Recorded::Marker(text.to_owned()));
    }

    /// The whole device as one JSON tree, registers by name.
    #[must_use]
    pub fn status(&self) -> Value {
        let faults = self.bench.faults.effects();
        json!({
            "time-ns": sdmorph_pci::Clock::now(&self.clock).as_nanos() as u64,
            "chip": self.setup.model().name,
            "vendor-settings": self.setup.settings().map(Settings::snapshot),
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
        [slot, self.bench.faults.next_deadline(), self.clock.wake()].into_iter().flatten().min()
    }

    /// Does what is due at `now`. Every other call does so first, too.
    pub fn advance(&mut self, now: Duration) {
        self.call(now, |_| ());
    }

    /// One call from outside: what was due, then `act`, then what that set off.
    fn call<R>(&mut self, now: Duration, act: impl FnOnce(&mut Self) -> R) -> R {
        self.clock.set(now);
        self.run_due();
        let result = act(self);
        self.settle();
        result
    }

    fn run_due(&mut self) {
        let now = sdmorph_pci::Clock::now(&self.clock);
        while let Some((at, what)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, what));
            match what {
                Later::LinkFalls => self.link(false),
                Later::PresenceGoes => self.with_port(|port, ctx| port.set_presence(ctx, false)),
                Later::LinkTrains => self.link(true),
                Later::SwitchFails => {
                    self.phase = Phase::Reader;
                    self.with_reader(|reader, _| reader.set_express_link_failed(true));
                    self.reader_comes_back();
                }
            }
            self.settle();
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

    fn follow(&mut self, event: Event) {
        match event {
            Event::ExpressSwitchRequested { relink_time } => {
                self.phase = Phase::Switching;
                let after = self.relink.unwrap_or_else(|| morph::relink_time(relink_time));
                self.do_later(after, Later::LinkFalls);
            }
            Event::LinkDown if self.phase == Phase::Switching => {
                self.cancel(Later::LinkFalls);
                self.phase = Phase::Away;
                if std::mem::take(&mut self.relink_fails) {
                    self.do_later(morph::PRESENCE_LAG + morph::TRAINING, Later::SwitchFails);
                }
            }
            // The link came back without the card's removal, by a rule, `link-set` or the guest's Link Disable.
            Event::LinkUp if self.phase == Phase::Away => self.phase = Phase::Reader,
            // The registers that asked for the switch are clear again. (A falling link resets too, and is seen first.)
            Event::Reset { .. } if self.phase == Phase::Switching => {
                self.cancel(Later::LinkFalls);
                self.phase = Phase::Reader;
            }
            _ => {}
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Bar(what) => {
                let vanished = *what == BarAction::Vanish;
                self.with_port(|port, ctx| port.set_bar_vanished(ctx, vanished));
            }
            Action::Link(what) => self.link(*what == LinkAction::Up),
            Action::Presence(present) => {
                self.cancel(Later::PresenceGoes);
                self.with_port(|port, ctx| port.set_presence(ctx, *present));
            }
            Action::Relink(after) => {
                self.relink = Some(*after);
                if self.phase == Phase::Switching {
                    self.do_later(*after, Later::LinkFalls);
                }
            }
            Action::RelinkFails => self.relink_fails = true,
            Action::Card(what) => match what {
                CardAction::Eject if self.card.is_some() => self.eject(),
                CardAction::Insert if self.card.is_none() => {
                    if let Some(card) = self.at_hand.take() {
                        self.insert(card);
                    }
                }
                CardAction::OverCurrent => {
                    self.too_much_current();
                }
                // There is nothing to take out, or no room.
                CardAction::Eject | CardAction::Insert => {}
            },
            // The rules' engine keeps these two itself.
            Action::ReadLatency(_) | Action::StuckBusy(_) => {}
            // Whoever asked with the message does it.
            Action::Wire(_) => {}
        }
    }

    fn link(&mut self, up: bool) {
        self.cancel(Later::PresenceGoes);
        self.cancel(Later::LinkTrains);
        self.cancel(Later::SwitchFails);
        if up {
            self.with_port(|port, ctx| {
                port.set_bar_vanished(ctx, false);
                port.set_presence(ctx, true);
                port.set_link(ctx, true);
            });
        } else {
            self.with_port(|port, ctx| port.set_link(ctx, false));
            self.do_later(morph::PRESENCE_LAG, Later::PresenceGoes);
        }
    }

    fn do_later(&mut self, after: Duration, what: Later) {
        self.cancel(what);
        let now = sdmorph_pci::Clock::now(&self.clock);
        self.later.insert((now.saturating_add(after), what));
    }

    fn cancel(&mut self, what: Later) {
        self.later.retain(|(_, other)| *other != what);
    }

    /// Calls `act` on VMD with the context of the host above it.
    fn with_vmd<R>(&mut self, act: impl FnOnce(&mut Vmd<Rtsx>, &mut Ctx<'_>) -> R) -> R {
        let world = World {
            memory: &*self.host.memory,
            irq: &mut *self.host.interrupts,
            clock: &self.clock,
            observer: &mut self.bench,
        };
        act(&mut self.vmd, &mut Ctx::new(world, "host", true))
    }

    fn with_port(&mut self, act: impl FnOnce(&mut RootPort<Rtsx>, &mut Ctx<'_>)) {
        self.with_vmd(|vmd, above| {
            let mut ctx = seam::inside(vmd, above);
            vmd.with_bus(&mut ctx, |bus, above| {
                let port = bus.port_mut();
                let mut ctx = seam::inside(port, above);
                act(port, &mut ctx);
            });
        });
    }

    fn with_reader(&mut self, act: impl FnOnce(&mut Rtsx, &mut Ctx<'_>)) {
        self.with_port(|port, ctx| {
            port.with_function(ctx, act);
        });
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
