//! When a rule matches and when it hits.
//!
//! 1. A rule is *armed* when it is added, or if it has `after`, by the first event of that name or hit of that rule from
//!    then on. `until` ends that, and the next `after` arms it anew. What arms a rule does not also match it; what ends
//!    that still does.
//! 2. An armed rule *matches* what its trigger describes, at the moment it is observed, if `while` holds then. Accesses
//!    match by the name of the register that holds their first byte; one that nobody answers ([`Answer::Absent`]) never
//!    does, one that a dead function answers does. An event has already changed what `while` looks at. Of the matches,
//!    `probability` leaves some, and of these `nth` and `every` count from the moment the rule was armed.
//! 3. A match is a *hit* at once, or `delay` later. Only now the hit is counted, the actions happen, and rules with
//!    `on = { rule = … }` match: in the same step, after all rules that the same thing set off.
//! 4. `times` bounds matches that are or will be hits; when it is used up, the rule is not armed any more.
//!
//! Rules hit in the order in which they were added. Delayed hits come in the order of their time, then of their match.
//!
//! The access that sets a rule off is answered as if there were no rule: what an action changes, the next access sees.
//! For actions of the machine that is the machine's part (carry them out when the access is over); those of the engine
//! are in force as soon as the access was observed. A message of the client ([`Engine::message`]) is shown
//! before it is acted on: what an action changes, the accesses in that message see. A machine asks for [`Engine::read_latency`] before it
//! hands a read to the function, not after.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use sdmorph_pci::{
    Access, Answer, DataChange, Direction, DmaFault, Doorbell, Effect, Event, Happening, NvmeCommand,
    mask_of_size,
};
use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::{Map, Value};

use crate::candidates::{Observed, Wanted};
use crate::error::RuleError;
use crate::latency::{Generator, ReadLatency};
use crate::loops;
use crate::nearest::Nearest;
use crate::random::Random;
use crate::read_data::{ReadAnswer, ReadData, Spaces};
use crate::registry::Registry;
use crate::resolve;
use crate::rule::{Action, Chance, Rule, RuleName, SpaceKind, StuckBusy};
use crate::standing::Standing;
use crate::state::State;
use crate::watch::{Key, Place, RegisterWatch, RuleId, Watches};

/// Most rules of an engine.
pub const MAX_RULES: usize = 4096;

/// Most latencies in the recorded traces of all rules of an engine together: rules that name a file are short, and what
/// they bring is not.
pub const MAX_LATENCIES: usize = 1 << 18;

/// Most delayed hits that wait at any time, of all rules together: a guest that sets off a delayed rule with every
/// access must not fill the host's memory. Matches beyond it are dropped and counted.
///
/// But the hit of a rule with `start` waits in any case: there is one of each such rule, and [`MAX_RULES`] bounds these.
pub const MAX_PENDING: usize = 4096;

/// All rules of a machine, and the faults that the engine itself keeps.
#[derive(Debug, Clone)]
pub struct Engine {
    names: Registry,
    ids: HashMap<RuleName, RuleId>,
    next_id: RuleId,
    state: State,
    watches: Watches,
    /// Rules that are armed by an event or a rule's hit, and those that are no longer armed from then on.
    arming: HashMap<Place, Vec<RuleId>>,
    disarming: HashMap<Place, Vec<RuleId>>,
    spaces: Spaces,
    standing: Standing,
    book: Book,
    latency: Generator,
}

/// What an observed thing led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For what was observed.
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
    /// All its actions, in order. The engine has already done its own: see the crate's text.
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
    /// Whether it can match now: it does not wait for its `after`, and `times` and `nth` are not used up.
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
    /// Registers whose reads answer something else, by function and name.
    pub read_data: Vec<ChangedRegister>,
    /// Spaces whose reads do, as the actions that made them.
    pub read_spaces: Vec<Value>,
    /// Faults of functions, as the actions that set them: `interrupt`, `dma`, `nvme`.
    #[serde(flatten)]
    pub standing: Map<String, Value>,
}

/// A register whose reads answer something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangedRegister {
    /// The function.
    pub function: &'static str,
    /// The register.
    pub register: &'static str,
    /// What becomes of its data.
    pub change: DataChange,
}

impl Engine {
    /// An engine without rules, for a machine after power-on.
    #[must_use]
    pub fn new(names: Registry) -> Self {
        Self {
            names,
            ids: HashMap::new(),
            next_id: 0,
            state: State::after_power_on(),
            watches: Watches::default(),
            arming: HashMap::new(),
            disarming: HashMap::new(),
            spaces: Spaces::default(),
            standing: Standing::default(),
            book: Book::default(),
            latency: Generator::new(ReadLatency::Off),
        }
    }

    /// An engine without rules and faults, for the same machine as it is now.
    #[must_use]
    pub fn without_rules(&self) -> Self {
        Self { state: self.state, ..Self::new(self.names.clone()) }
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
    /// other off without end, more than [`MAX_RULES`] rules, more than [`MAX_LATENCIES`] in their traces.
    pub fn load(&mut self, rules: Vec<Rule>, now: Duration) -> Result<(), RuleError> {
        if rules.len() > MAX_RULES.saturating_sub(self.ids.len()) {
            return Err(RuleError::TooMany { limit: MAX_RULES });
        }
        let there = self.book.entries.values().map(|entry| &entry.rule);
        if there.chain(&rules).map(Rule::latencies).sum::<usize>() > MAX_LATENCIES {
            return Err(RuleError::TooManyLatencies { limit: MAX_LATENCIES });
        }
        let mut ids: HashMap<&str, RuleId> = self.ids.iter().map(|(name, id)| (name.as_str(), *id)).collect();
        for (rule, id) in rules.iter().zip(self.next_id..) {
            if ids.insert(rule.name.as_str(), id).is_some() {
                return Err(RuleError::Duplicate { rule: rule.name.to_string() });
            }
        }
        let resolved: Vec<_> =
            rules.iter().map(|rule| resolve::rule(rule, &self.names, &ids)).collect::<Result<_, _>>()?;
        loops::check(self.book.entries.values().map(|entry| &entry.rule).chain(&rules))?;
        for (rule, resolved) in rules.into_iter().zip(resolved) {
            self.install(rule, resolved, now);
        }
        Ok(())
    }

    fn install(&mut self, rule: Rule, resolved: resolve::Resolved, now: Duration) {
        let id = self.next_id;
        self.next_id += 1;
        if let Some(place) = resolved.after {
            self.arming.entry(place).or_default().push(id);
        }
        if let Some(place) = resolved.until {
            self.disarming.entry(place).or_default().push(id);
        }
        self.keep_for(&rule, true);
        self.ids.insert(rule.name.clone(), id);
        let starts = resolved.key == Key::Start;
        self.book.entries.insert(id, Entry::new(rule, resolved));
        self.relist(id);
        if starts {
            self.book.delay(id, now);
        }
    }

    /// Puts a rule into the index if it is armed, and takes it out if it is not.
    fn relist(&mut self, id: RuleId) {
        let Some(entry) = self.book.entries.get_mut(&id) else { return };
        let armed = entry.is_armed();
        if std::mem::replace(&mut entry.listed, armed) == armed {
            return;
        }
        if armed {
            self.watches.add(id, &entry.key, entry.wanted);
        } else {
            self.watches.remove(id, &entry.key);
        }
    }

    /// Arms and disarms the rules that wait for what has happened there.
    fn turn(&mut self, place: Place) {
        let of = |list: &HashMap<Place, Vec<RuleId>>| list.get(&place).cloned().unwrap_or_default();
        let (armed, disarmed) = (of(&self.arming), of(&self.disarming));
        let all = armed.into_iter().map(|id| (id, false)).chain(disarmed.into_iter().map(|id| (id, true)));
        for (id, waits) in all {
            if let Some(entry) = self.book.entries.get_mut(&id).filter(|entry| entry.waits != waits) {
                (entry.waits, entry.seen) = (waits, 0);
            }
            self.relist(id);
        }
    }

    /// A rule that may ask for stale data has come, or is gone.
    fn keep_for(&mut self, rule: &Rule, more: bool) {
        for action in &rule.actions {
            let Action::ReadData(data @ ReadData { answer: ReadAnswer::Stale, .. }) = action else {
                continue;
            };
            match resolve::read_register(data, &self.names) {
                Some(register) => self.watches.keep(register, more),
                None => self.spaces.keep(more),
            }
        }
    }

    /// Takes a rule out, with its delayed hits, and returns it. Faults that it caused stay; it ends (`until`) nothing any
    /// more.
    ///
    /// # Errors
    /// [`RuleError::NoSuchRule`]; [`RuleError::InUse`] while other rules wait for its hits.
    pub fn remove(&mut self, name: &str) -> Result<Rule, RuleError> {
        let unknown = |ids: &HashMap<RuleName, RuleId>| {
            let nearest = Nearest::new(name, ids.keys().map(RuleName::as_str));
            RuleError::NoSuchRule { rule: name.chars().take(RuleName::MAX_LENGTH).collect(), nearest }
        };
        let id = *self.ids.get(name).ok_or_else(|| unknown(&self.ids))?;
        let waits = |entry: &&Entry| entry.rule.on.needs().any(|other| other.as_str() == name);
        if let Some(by) = self.book.entries.values().find(waits) {
            return Err(RuleError::InUse { rule: name.to_owned(), by: by.rule.name.to_string() });
        }
        let entry = self.book.entries.remove(&id).ok_or_else(|| unknown(&self.ids))?;
        self.book.pending.retain(|_, pending| *pending != id);
        self.watches.remove(id, &entry.key);
        for list in [&mut self.arming, &mut self.disarming] {
            list.remove(&Place::Rule(id));
            list.values_mut().for_each(|ids| ids.retain(|other| *other != id));
            list.retain(|_, ids| !ids.is_empty());
        }
        self.ids.remove(name);
        self.keep_for(&entry.rule, false);
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
        let changes = self.watches.changes().into_iter();
        let changed =
            changes.map(|((function, register), change)| ChangedRegister { function, register, change });
        Effects {
            read_latency: self.latency.latency().clone(),
            read_data: changed.collect(),
            read_spaces: self.spaces.to_json(),
            standing: self.standing.to_json(),
        }
    }

    /// Shows the engine what `function` did or suffered at `now`. What no armed rule waits for costs a look-up or two.
    pub fn observe(&mut self, now: Duration, function: &'static str, what: &Happening<'_>) -> Outcome {
        let mut effect = Effect::default();
        let fired = match what {
            Happening::Access(access) => return self.access(now, function, access),
            Happening::Event(event) => self.event(now, function, event),
            Happening::Command { name, argument, .. } => self.command(now, name, *argument),
            Happening::Nvme(NvmeCommand { name, argument, status: None, .. }) => {
                effect = self.standing.nvme(name, false);
                self.command(now, name, (*argument & 0xffff_ffff) as u32)
            }
            Happening::Nvme(NvmeCommand { name, .. }) => {
                effect = self.standing.nvme(name, true);
                Vec::new()
            }
            Happening::Doorbell(Doorbell { kind, queue, value }) => {
                let seen = Observed::data((*value).into()).at((*queue).into());
                self.seen(now, Place::Doorbell(*kind), &seen)
            }
            Happening::Interrupt(message) => {
                effect = self.standing.interrupt(function, *message);
                let seen = Observed::data(message.data.into()).at(message.vector.into());
                self.seen(now, Place::Interrupt(function), &seen)
            }
            Happening::Dma { direction, address, length, .. } => {
                let seen = Observed::PLAIN.over(*address, *length);
                self.seen(now, Place::Memory(function, *direction), &seen)
            }
        };
        Outcome { effect, fired }
    }

    fn access(&mut self, now: Duration, function: &'static str, access: &Access) -> Outcome {
        if access.answer == Answer::Absent {
            return Outcome::default();
        }
        let is_read = access.direction == Direction::Read;
        let watch = access.register.and_then(|register| self.watches.register((function, register)));
        let mut change = DataChange::NONE;
        if is_read {
            change = self.spaces.change(function, access);
            if let Some(watch) = watch {
                change = change.then(watch.change_in(access));
            }
        }
        let value = change.apply(access.value);
        let mut found = Vec::new();
        if let Some(watch) = watch {
            watch.find(access, value, self.state, &mut found);
        }
        let seen = Observed::data(value).over(access.offset, access.size.into());
        let place = Place::Space(function, SpaceKind::from(access.space), access.direction);
        self.watches.find(place, &seen, self.state, &mut found);
        if is_read {
            let keeps = watch.is_some_and(RegisterWatch::keeps);
            if let Some(register) = access.register.filter(|_| keeps) {
                self.watches.saw((function, register), access, value);
            }
            self.spaces.saw(function, access, value);
        }
        let effect = if change == DataChange::NONE { Effect::None } else { Effect::Data(change) };
        Outcome { effect, fired: self.matched(found, now) }
    }

    /// What becomes of a DMA of `length` bytes that `function` is about to do.
    pub fn dma_fault(
        &mut self,
        function: &str,
        direction: Direction,
        address: u64,
        length: u64,
    ) -> Option<DmaFault> {
        self.standing.dma(function, direction, address, length)
    }

    /// When `function` gets to guest memory again, if it does not at `now`.
    #[must_use]
    pub fn dma_held_until(&self, now: Duration, function: &str) -> Option<Duration> {
        self.standing.dma_held_until(now, function)
    }

    fn event(&mut self, now: Duration, function: &'static str, event: &Event) -> Vec<Fired> {
        self.state.follow(&self.names, function, event);
        let mut found = Vec::new();
        let number = self.names.function_number(function).map_or(u64::MAX, |number| number as u64);
        let place = Place::Event(event.name());
        self.watches.find(place, &Observed::PLAIN.at(number), self.state, &mut found);
        if let Event::Morph { phase } = event {
            self.watches.find(Place::Phase(phase), &Observed::PLAIN, self.state, &mut found);
        }
        let fired = self.matched(found, now);
        self.turn(place);
        fired
    }

    fn command(&mut self, now: Duration, name: &str, argument: u32) -> Vec<Fired> {
        let Some(number) = self.names.command_number(name) else { return Vec::new() };
        self.seen(now, Place::Command(number), &Observed::data(argument.into()))
    }

    /// Shows the engine a message of the vfio-user client before it is acted on; `number` is that of its command on the
    /// wire. The hits come in order: the message meets the first [`Action::Wire`] in them. It is one look-up if no rule
    /// waits for it.
    pub fn message(&mut self, now: Duration, number: u16) -> Vec<Fired> {
        self.seen(now, Place::Message(number), &Observed::PLAIN)
    }

    fn seen(&mut self, now: Duration, place: Place, seen: &Observed) -> Vec<Fired> {
        let mut found = Vec::new();
        self.watches.find(place, seen, self.state, &mut found);
        self.matched(found, now)
    }

    /// What comes of it that these rules match.
    fn matched(&mut self, mut found: Vec<RuleId>, now: Duration) -> Vec<Fired> {
        found.sort_unstable();
        let mut hits = VecDeque::new();
        self.count(&found, now, &mut hits);
        self.hit(hits, now)
    }

    fn count(&mut self, found: &[RuleId], now: Duration, hits: &mut VecDeque<RuleId>) {
        for id in found {
            self.book.matches(*id, now, hits);
            // The last that it could have had, maybe.
            self.relist(*id);
        }
    }

    /// The messages that rules wait for: bit n stands for the command of number n.
    #[must_use]
    pub fn watched_messages(&self) -> u32 {
        let places = self.book.entries.values().filter_map(|entry| match &entry.key {
            Key::Places(places) => Some(places),
            Key::Register(..) | Key::Start => None,
        });
        places.flatten().fold(0, |bits, place| match place {
            Place::Message(number) => bits | 1u32.checked_shl((*number).into()).unwrap_or(0),
            _ => bits,
        })
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
            let mut children = Vec::new();
            self.watches.find(Place::Rule(id), &Observed::PLAIN, self.state, &mut children);
            self.count(&children, now, &mut hits);
            self.turn(Place::Rule(id));
            for action in &actions {
                match action {
                    Action::ReadLatency(latency) => self.set_latency(latency),
                    Action::StuckBusy(stuck) => self.set_stuck(stuck),
                    Action::ReadData(data) => self.set_read_data(data),
                    Action::Interrupt(interrupt) => self.standing.set_interrupt(interrupt),
                    Action::Dma(dma) => self.standing.set_dma(now, dma),
                    Action::Nvme(nvme) => self.standing.set_nvme(nvme, &self.names),
                    Action::Bar(_)
                    | Action::Link(_)
                    | Action::Presence(_)
                    | Action::Slot(_)
                    | Action::Relink(_)
                    | Action::RelinkFails
                    | Action::PresenceLead(_)
                    | Action::PresenceLag(_)
                    | Action::Card(_)
                    | Action::CardCorrupt(_)
                    | Action::Config(_)
                    | Action::PowerState { .. }
                    | Action::Wire(_) => {}
                }
            }
            fired.push(Fired { rule, hit, actions });
        }
        fired
    }

    fn set_latency(&mut self, latency: &ReadLatency) {
        // A rule that hits again goes on with its sequence; from its start each time, nothing would look random.
        if self.latency.latency() != latency {
            self.latency = Generator::new(latency.clone());
        }
    }

    fn set_stuck(&mut self, stuck: &StuckBusy) {
        // The rule was refused if there is no such register or no such mask.
        let Some((register, mask)) = resolve::stuck_bits(stuck, &self.names) else { return };
        self.watches.change(register, |before, _| {
            if stuck.clear { before.without(mask) } else { before.then(DataChange::give(mask, u64::MAX)) }
        });
    }

    fn set_read_data(&mut self, data: &ReadData) {
        // The rule was refused if the names do not have one of them.
        if let Some(register) = resolve::read_register(data, &self.names) {
            let width = mask_of_size(register.size);
            self.watches.change(register, |before, seen| match data.answer {
                ReadAnswer::Clear => DataChange::NONE,
                answer => before.then(answer.change(width, seen)),
            });
        } else if let Some(space) = resolve::read_space(data, &self.names) {
            self.spaces.set(space, data.answer);
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
    fn matches(&mut self, id: RuleId, now: Duration, hits: &mut VecDeque<RuleId>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if !entry.is_armed() || !entry.is_lucky() {
            return;
        }
        entry.seen += 1;
        let on = &entry.rule.on;
        let passed_over = on.nth.is_some_and(|nth| nth.get() != entry.seen)
            || on.every.is_some_and(|every| entry.seen % every.get() != 0);
        if passed_over {
            return;
        }
        if on.delay.is_zero() {
            entry.matched += 1;
            hits.push_back(id);
        } else {
            self.delay(id, now);
        }
    }

    /// A match whose hit comes when the rule's delay is over; for a rule with `start`, at the next [`Engine::due`].
    fn delay(&mut self, id: RuleId, now: Duration) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if self.pending.len() >= MAX_PENDING && entry.key != Key::Start {
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
    wanted: Wanted,
    /// For its `after`.
    waits: bool,
    /// Whether it is in the index.
    listed: bool,
    /// What its chance is drawn from.
    random: Random,
    /// Matches since it was armed, for `nth` and `every`.
    seen: u64,
    /// Matches that are or will be hits.
    matched: u64,
    pending: usize,
    hits: u64,
    dropped: u64,
    last_hit: Option<Duration>,
}

impl Entry {
    fn new(rule: Rule, resolved: resolve::Resolved) -> Self {
        let resolve::Resolved { key, wanted, after, until: _ } = resolved;
        Self {
            random: Random::new(rule.on.chance.map_or(0, |chance| chance.seed)),
            rule,
            key,
            wanted,
            waits: after.is_some(),
            listed: false,
            seen: 0,
            matched: 0,
            pending: 0,
            hits: 0,
            dropped: 0,
            last_hit: None,
        }
    }

    /// Draws whether a match counts, if that is left to chance.
    fn is_lucky(&mut self) -> bool {
        let Some(Chance { parts, .. }) = self.rule.on.chance else { return true };
        self.random.below(Chance::WHOLE.into()) < parts.into()
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

impl Serialize for ChangedRegister {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("function", self.function)?;
        map.serialize_entry("register", self.register)?;
        map.serialize_entry("and", &crate::rule::hexadecimal(self.change.keep))?;
        map.serialize_entry("xor", &crate::rule::hexadecimal(self.change.flip))?;
        map.end()
    }
}

/// A time as a number of nanoseconds; 584 years fit.
fn nanoseconds<S: serde::Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).serialize(serializer)
}
