//! When a rule matches and when it hits.
//!
//! 1. A rule is *armed* when it is added, or if it has `after`, by the first event of that name from then on. The event
//!    that arms a rule does not also match it.
//! 2. An armed rule *matches* what its trigger describes, at the moment it is observed. Accesses match by the name of
//!    the register that holds their first byte; one that nobody answers ([`Answer::Absent`]) never does, one that a
//!    dead function answers does. With `nth`, only that match counts, from the moment the rule was armed.
//! 3. A match is a *hit* at once, or `delay` later. Only now the hit is counted, the actions happen, and rules with
//!    `on = { rule = … }` match: in the same step, after all rules that the same thing set off.
//! 4. `times` bounds matches that are or will be hits; when it is used up, the rule is not armed any more.
//!
//! Rules hit in the order in which they were added. Delayed hits come in the order of their time, then of their match.
//!
//! The access that sets a rule off is answered as if there were no rule: what an action changes, the next access sees.
//! For actions of the machine that is the machine's part (carry them out when the access is over); `read-latency` and
//! `stuck-busy` are in force as soon as the access was observed. A message of the client ([`Engine::message`]) is shown
//! before it is acted on: what an action changes, the accesses in that message see. A machine asks for [`Engine::read_latency`] before it
//! hands a read to the function, not after.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use sdmorph_pci::{Access, Answer, Direction, Effect, Event, Happening, NvmeCommand};
use serde::Serialize;
use serde::ser::SerializeMap;

use crate::error::RuleError;
use crate::latency::{Generator, ReadLatency};
use crate::loops;
use crate::nearest::Nearest;
use crate::registry::Registry;
use crate::resolve;
use crate::rule::{Action, Cause, Rule, RuleName, StuckBusy};
use crate::watch::{Data, Key, RuleId, Watches};

/// Most rules of an engine.
pub const MAX_RULES: usize = 4096;

/// Most delayed hits that wait at any time, of all rules together: a guest that sets off a delayed rule with every
/// access must not fill the host's memory. Matches beyond it are dropped and counted.
pub const MAX_PENDING: usize = 4096;

/// All rules of a machine, and the faults that the engine itself keeps.
#[derive(Debug, Clone)]
pub struct Engine {
    names: Registry,
    ids: HashMap<RuleName, RuleId>,
    next_id: RuleId,
    watches: Watches,
    book: Book,
    latency: Generator,
}

/// What an observed thing led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For the read that was observed.
    pub effect: Effect,
    /// Rules that hit, in order.
    pub fired: Vec<Fired>,
}

/// One hit of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// The rule.
    pub rule: RuleName,
    /// Which hit of the rule it is, from 1.
    pub hit: u64,
    /// All its actions, in order. The engine has already done its own (`read-latency`, `stuck-busy`).
    pub actions: Vec<Action>,
}

/// A rule and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RuleStatus {
    /// The rule.
    pub rule: Rule,
    /// How often it hit.
    pub hits: u64,
    /// Whether it can match now: it does not wait for its `after` event, and `times` and `nth` are not used up.
    pub armed: bool,
    /// When it last hit, as time since the machine was made.
    #[serde(rename = "last-hit-ns", serialize_with = "nanoseconds", skip_serializing_if = "Option::is_none")]
    pub last_hit: Option<Duration>,
    /// Matches whose delay is not over.
    pub pending: usize,
    /// Matches that were lost because [`MAX_PENDING`] others waited.
    pub dropped: u64,
}

/// The faults that the engine keeps, as they are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Effects {
    /// How slow reads are.
    pub read_latency: ReadLatency,
    /// Registers with stuck bits, by function and name.
    pub stuck_busy: Vec<StuckBits>,
}

/// Stuck bits of one register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StuckBits {
    /// The function.
    pub function: &'static str,
    /// The register.
    pub register: &'static str,
    /// The bits that read as set.
    pub mask: u64,
}

impl Engine {
    /// An engine without rules.
    #[must_use]
    pub fn new(names: Registry) -> Self {
        Self {
            names,
            ids: HashMap::new(),
            next_id: 0,
            watches: Watches::default(),
            book: Book::default(),
            latency: Generator::new(ReadLatency::Off),
        }
    }

    /// The names that rules may use.
    #[must_use]
    pub fn names(&self) -> &Registry {
        &self.names
    }

    /// Adds one rule. See [`Engine::load`].
    ///
    /// # Errors
    /// Those of [`Engine::load`].
    pub fn add(&mut self, rule: Rule, now: Duration) -> Result<(), RuleError> {
        self.load(vec![rule], now)
    }

    /// Adds rules to those that are there: all of them, or if one is refused, none. They may refer to each other in
    /// any order. A rule with `start` is due `delay` after `now`: look at [`Engine::next_deadline`] afterwards.
    ///
    /// # Errors
    /// A name that is unknown, ambiguous or taken, numbers that do not fit, rules that wait for each other or set each
    /// other off without end, more than [`MAX_RULES`] rules.
    pub fn load(&mut self, rules: Vec<Rule>, now: Duration) -> Result<(), RuleError> {
        if rules.len() > MAX_RULES.saturating_sub(self.ids.len()) {
            return Err(RuleError::TooMany { limit: MAX_RULES });
        }
        let mut taken: HashSet<&str> = self.ids.keys().map(RuleName::as_str).collect();
        for rule in &rules {
            if !taken.insert(rule.name.as_str()) {
                return Err(RuleError::Duplicate { rule: rule.name.to_string() });
            }
        }
        let resolved: Vec<_> =
            rules.iter().map(|rule| resolve::rule(rule, &self.names, &taken)).collect::<Result<_, _>>()?;
        loops::check(self.book.entries.values().map(|entry| &entry.rule).chain(&rules))?;
        for (rule, resolved) in rules.into_iter().zip(resolved) {
            self.install(rule, resolved, now);
        }
        Ok(())
    }

    fn install(&mut self, rule: Rule, resolved: resolve::Resolved, now: Duration) {
        let id = self.next_id;
        self.next_id += 1;
        let resolve::Resolved { key, after, register } = resolved;
        self.watches.add(id, &key, after, register);
        self.ids.insert(rule.name.clone(), id);
        let starts = key == Key::Start;
        self.book.entries.insert(id, Entry::new(rule, key, after));
        if starts {
            self.book.delay(id, now);
        }
    }

    /// Takes a rule out, with its delayed hits, and returns it. Faults that it caused stay.
    ///
    /// # Errors
    /// [`RuleError::NoSuchRule`]; [`RuleError::InUse`] while other rules wait for its hits.
    pub fn remove(&mut self, name: &str) -> Result<Rule, RuleError> {
        let unknown = |ids: &HashMap<RuleName, RuleId>| {
            let nearest = Nearest::new(name, ids.keys().map(RuleName::as_str));
            RuleError::NoSuchRule { rule: name.chars().take(RuleName::MAX_LENGTH).collect(), nearest }
        };
        let (known, id) = self.ids.get_key_value(name).ok_or_else(|| unknown(&self.ids))?;
        let id = *id;
        let waiting = self.watches.chained_to(known).first();
        if let Some(by) = waiting.and_then(|id| self.book.entries.get(id)) {
            return Err(RuleError::InUse { rule: name.to_owned(), by: by.rule.name.to_string() });
        }
        let entry = self.book.entries.remove(&id).ok_or_else(|| unknown(&self.ids))?;
        self.book.pending.retain(|_, pending| *pending != id);
        self.watches.remove(id, &entry.key, entry.after);
        self.ids.remove(name);
        Ok(entry.rule)
    }

    /// All rules with their counters, in the order they were added.
    #[must_use]
    pub fn list(&self) -> Vec<RuleStatus> {
        self.book.entries.values().map(Entry::status).collect()
    }

    /// The faults that the engine keeps.
    #[must_use]
    pub fn effects(&self) -> Effects {
        let stuck = self.watches.stuck().into_iter();
        let stuck_busy =
            stuck.map(|((function, register), mask)| StuckBits { function, register, mask }).collect();
        Effects { read_latency: self.latency.latency(), stuck_busy }
    }

    /// Shows the engine what `function` did or suffered at `now`. An access that no rule waits for costs one look-up.
    pub fn observe(&mut self, now: Duration, function: &'static str, what: &Happening<'_>) -> Outcome {
        match what {
            Happening::Access(access) => self.access(now, function, access),
            Happening::Event(event) => self.event(now, function, event),
            Happening::Command { name, argument, .. } => self.command(now, name, *argument),
            Happening::Nvme(NvmeCommand { name, argument, status: None, .. }) => {
                self.command(now, name, (*argument & 0xffff_ffff) as u32)
            }
            Happening::Interrupt(_) | Happening::Dma { .. } | Happening::Nvme(_) => Outcome::default(),
        }
    }

    fn access(&mut self, now: Duration, function: &'static str, access: &Access) -> Outcome {
        let Some(register) = access.register else { return Outcome::default() };
        let Some(watch) = self.watches.register((function, register)) else { return Outcome::default() };
        if access.answer == Answer::Absent {
            return Outcome::default();
        }
        let stuck = if access.direction == Direction::Read { watch.stuck_in(access) } else { 0 };
        let mut hits = VecDeque::new();
        let rules = watch.rules(access.direction);
        if !rules.is_empty() {
            let data = watch.data_of(access, access.value | stuck);
            for id in rules {
                self.book.matches(*id, now, &mut hits, |cause| match cause {
                    Cause::Access { value, .. } => data.matches(*value),
                    _ => false,
                });
            }
        }
        Outcome { effect: Effect { stuck }, fired: self.hit(hits, now) }
    }

    fn event(&mut self, now: Duration, function: &'static str, event: &Event) -> Outcome {
        let mut hits = VecDeque::new();
        for id in self.watches.event(event.name()) {
            self.book.matches(*id, now, &mut hits, |cause| match cause {
                Cause::Event { function: Some(wanted), .. } => wanted == function,
                _ => true,
            });
        }
        let fired = self.hit(hits, now);
        for id in self.watches.armed_by(event.name()) {
            if let Some(entry) = self.book.entries.get_mut(&id) {
                entry.waits = false;
            }
        }
        Outcome { effect: Effect::default(), fired }
    }

    fn command(&mut self, now: Duration, name: &str, argument: u32) -> Outcome {
        let mut hits = VecDeque::new();
        let data = Data::of_argument(argument);
        for id in self.watches.command(name) {
            self.book.matches(*id, now, &mut hits, |cause| match cause {
                Cause::Command { argument, .. } => data.matches(*argument),
                _ => false,
            });
        }
        Outcome { effect: Effect::default(), fired: self.hit(hits, now) }
    }

    /// Shows the engine a message of the vfio-user client before it is acted on; `number` is that of its command on the
    /// wire. The hits come in order: the message meets the first [`Action::Wire`] in them. It is one look-up if no rule
    /// waits for it.
    pub fn message(&mut self, now: Duration, number: u16) -> Vec<Fired> {
        let mut hits = VecDeque::new();
        for id in self.watches.message(number) {
            self.book.matches(*id, now, &mut hits, |_| true);
        }
        self.hit(hits, now)
    }

    /// The messages that rules wait for: bit n stands for the command of number n.
    #[must_use]
    pub fn watched_messages(&self) -> u32 {
        self.watches.messages().fold(0, |bits, number| bits | 1u32.checked_shl(number.into()).unwrap_or(0))
    }

    /// The time of the next delayed hit.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.book.pending.first_key_value().map(|((at, _), _)| *at)
    }

    /// The delayed hits whose time has come, and what is chained to them.
    #[must_use = "the actions of the rules that hit are for the caller to carry out"]
    pub fn due(&mut self, now: Duration) -> Vec<Fired> {
        let mut fired = Vec::new();
        while self.next_deadline().is_some_and(|at| at <= now) {
            let Some((_, id)) = self.book.pending.pop_first() else { break };
            if let Some(entry) = self.book.entries.get_mut(&id) {
                entry.pending -= 1;
            }
            fired.append(&mut self.hit(VecDeque::from([id]), now));
        }
        fired
    }

    /// How long the next read of the BAR of the function in the slot takes; `None` is no time. Each call is one read.
    pub fn read_latency(&mut self) -> Option<Duration> {
        self.latency.draw()
    }

    /// Counts hits, does the engine's own actions, and follows the chains.
    fn hit(&mut self, mut hits: VecDeque<RuleId>, now: Duration) -> Vec<Fired> {
        let mut fired = Vec::new();
        while let Some(id) = hits.pop_front() {
            let Some(entry) = self.book.entries.get_mut(&id) else { continue };
            entry.hits += 1;
            entry.last_hit = Some(now);
            let (rule, actions) = (entry.rule.name.clone(), entry.rule.actions.clone());
            let hit = entry.hits;
            for child in self.watches.chained_to(&rule) {
                self.book.matches(*child, now, &mut hits, |_| true);
            }
            for action in &actions {
                match action {
                    Action::ReadLatency(latency) => self.set_latency(*latency),
                    Action::StuckBusy(stuck) => self.set_stuck(stuck),
                    Action::Bar(_)
                    | Action::Link(_)
                    | Action::Presence(_)
                    | Action::Slot(_)
                    | Action::Relink(_)
                    | Action::RelinkFails
                    | Action::PresenceLead(_)
                    | Action::PresenceLag(_)
                    | Action::Card(_)
                    | Action::Wire(_) => {}
                }
            }
            fired.push(Fired { rule, hit, actions });
        }
        fired
    }

    fn set_latency(&mut self, latency: ReadLatency) {
        // A rule that hits again goes on with its sequence; from its start each time, nothing would look random.
        if self.latency.latency() != latency {
            self.latency = Generator::new(latency);
        }
    }

    fn set_stuck(&mut self, stuck: &StuckBusy) {
        // The rule was refused if there is no such register or no such mask.
        let Some((register, mask)) = resolve::stuck_bits(stuck, &self.names) else { return };
        if stuck.clear {
            self.watches.release(register, mask);
        } else {
            self.watches.stick(register, mask);
        }
    }
}

/// The rules with their counters, and the hits to come.
#[derive(Debug, Clone, Default)]
struct Book {
    entries: BTreeMap<RuleId, Entry>,
    /// Delayed hits by time and order of their match.
    pending: BTreeMap<(Duration, u64), RuleId>,
    next_match: u64,
}

impl Book {
    /// Something happened that a rule waits for; if it counts as a match, the rule hits now or later.
    fn matches(
        &mut self,
        id: RuleId,
        now: Duration,
        hits: &mut VecDeque<RuleId>,
        wanted: impl FnOnce(&Cause) -> bool,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if !entry.is_armed() || !wanted(&entry.rule.on.cause) {
            return;
        }
        entry.seen += 1;
        if entry.rule.on.nth.is_some_and(|nth| nth.get() != entry.seen) {
            return;
        }
        if entry.rule.on.delay.is_zero() {
            entry.matched += 1;
            hits.push_back(id);
        } else {
            self.delay(id, now);
        }
    }

    /// A match whose hit comes when the rule's delay is over; for a rule with `start`, at the next [`Engine::due`].
    fn delay(&mut self, id: RuleId, now: Duration) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if self.pending.len() >= MAX_PENDING {
            entry.dropped += 1;
            return;
        }
        entry.matched += 1;
        entry.pending += 1;
        self.pending.insert((now.saturating_add(entry.rule.on.delay), self.next_match), id);
        self.next_match += 1;
    }
}

/// One rule with its counters.
#[derive(Debug, Clone)]
struct Entry {
    rule: Rule,
    key: Key,
    after: Option<&'static str>,
    /// For its `after` event.
    waits: bool,
    /// Matches since it was armed, for `nth`.
    seen: u64,
    /// Matches that are or will be hits.
    matched: u64,
    pending: usize,
    hits: u64,
    dropped: u64,
    last_hit: Option<Duration>,
}

impl Entry {
    fn new(rule: Rule, key: Key, after: Option<&'static str>) -> Self {
        let waits = after.is_some();
        Self { rule, key, after, waits, seen: 0, matched: 0, pending: 0, hits: 0, dropped: 0, last_hit: None }
    }

    fn is_armed(&self) -> bool {
        let spent = self.rule.times.is_some_and(|times| self.matched >= times.get())
            || self.rule.on.nth.is_some_and(|nth| self.seen >= nth.get())
            || self.key == Key::Start;
        !self.waits && !spent
    }

    fn status(&self) -> RuleStatus {
        RuleStatus {
            rule: self.rule.clone(),
            hits: self.hits,
            armed: self.is_armed(),
            last_hit: self.last_hit,
            pending: self.pending,
            dropped: self.dropped,
        }
    }
}

impl Serialize for StuckBits {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("function", self.function)?;
        map.serialize_entry("register", self.register)?;
        map.serialize_entry("mask", &crate::rule::hexadecimal(self.mask))?;
        map.end()
    }
}

/// A time as a number of nanoseconds; 584 years fit.
fn nanoseconds<S: serde::Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).serialize(serializer)
}
