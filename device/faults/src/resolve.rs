//! Looks up the names in a rule.

use std::collections::HashMap;

use sdmorph_pci::{Direction, DoorbellKind, mask_of_size};

use crate::candidates::Wanted;
use crate::error::RuleError;
use crate::function::{NvmeAction, NvmeFault};
use crate::nearest::Nearest;
use crate::read_data::{ReadData, ReadTarget, SpaceKey};
use crate::registry::{RegisterInfo, Registry};
use crate::rule::{Action, Cause, Conditions, Moment, Pattern, Rule, RuleName, SpaceKind, Span, StuckBusy};
use crate::slot::{Aer, SlotAction};
use crate::state::{Fact, forbidden_unless, forbidden_unless_phase};
use crate::watch::{Key, Place, RuleId};
use crate::wire::{self, MESSAGES};

/// A rule's names, looked up.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) key: Key,
    pub(crate) wanted: Wanted,
    /// What arms the rule, and what ends that: events and hits of rules.
    pub(crate) after: Option<Place>,
    pub(crate) until: Option<Place>,
}

/// Looks up every name in `rule`; `rules` are those that the engine will have.
pub(crate) fn rule(
    rule: &Rule,
    names: &Registry,
    rules: &HashMap<&str, RuleId>,
) -> Result<Resolved, RuleError> {
    let on = format!("on.{}", rule.on.key());
    let lookup = Lookup { rule: rule.name.as_str(), names, place: &on };
    let (key, wanted) = trigger(&rule.on.cause, &lookup, rules)?;
    let forbidden = lookup.conditions(&rule.on.conditions)?;
    let moment = |place: &'static str, moment: &Option<Moment>| {
        let lookup = lookup.at(place);
        moment.as_ref().map(|moment| lookup.moment(moment, rules)).transpose()
    };
    let (after, until) = (moment("on.after", &rule.on.after)?, moment("on.until", &rule.on.until)?);
    for (index, action) in rule.actions.iter().enumerate() {
        let key = action.to_json().as_object().and_then(|table| table.keys().next().cloned());
        let number = if rule.actions.len() == 1 { String::new() } else { format!("[{index}]") };
        let place = format!("do{number}.{}", key.unwrap_or_default());
        let lookup = lookup.at(&place);
        match action {
            Action::StuckBusy(stuck) => lookup.stuck(stuck)?,
            Action::Slot(SlotAction::Aer(Aer { function: Some(function), .. })) => {
                // Who has AER has this register.
                lookup.register("ERR_UNCOR_STATUS", Some(function))?;
            }
            Action::ReadData(data) => lookup.read_data(data)?,
            Action::Interrupt(interrupt) => lookup.interrupter(interrupt.function.as_deref())?,
            Action::Nvme(nvme) => lookup.nvme(nvme)?,
            _ => {}
        }
    }
    Ok(Resolved { key, wanted: Wanted { forbidden, ..wanted }, after, until })
}

/// Where the engine looks for the rule, and what it compares there.
fn trigger(
    cause: &Cause,
    lookup: &Lookup<'_>,
    rules: &HashMap<&str, RuleId>,
) -> Result<(Key, Wanted), RuleError> {
    let names = lookup.names;
    let only = |place| Key::Places(vec![place]);
    Ok(match cause {
        Cause::Access { direction, register, function, value } => {
            lookup.functions(function.as_deref())?;
            let info = lookup.register(register, function.as_deref())?;
            lookup.pattern_fits(*value, info.name, info.size)?;
            (Key::Register(info, *direction), Wanted::ANY.data(*value, mask_of_size(info.size)))
        }
        Cause::AnyAccess { direction, function, space, offset, value } => {
            let mut places = Vec::new();
            for function in lookup.functions(function.as_deref())? {
                for (_, kind) in
                    SpaceKind::NAMES.iter().filter(|(_, kind)| space.is_none_or(|space| space == *kind))
                {
                    places.extend(directions(*direction).map(|way| Place::Space(function, *kind, way)));
                }
            }
            (Key::Places(places), Wanted::ANY.data(*value, u64::MAX).at(*offset))
        }
        Cause::Event { name, function } => {
            lookup.functions(function.as_deref())?;
            let number = function.as_deref().and_then(|name| names.function_number(name));
            (only(Place::Event(lookup.event(name)?)), Wanted::ANY.at(number.map(|number| one(number as u64))))
        }
        Cause::Phase(name) => (only(Place::Phase(lookup.phase(name)?.1)), Wanted::ANY),
        Cause::Command { name, argument } => {
            let number = names.command_number(name);
            let number = number.ok_or_else(|| lookup.unknown("command", name, names.command_names()))?;
            lookup.pattern_fits(*argument, "a command's argument", 4)?;
            (only(Place::Command(number)), Wanted::ANY.data(*argument, mask_of_size(4)))
        }
        Cause::Doorbell { kind, queue, value } => {
            lookup.pattern_fits(*value, "a doorbell's value", 2)?;
            let kinds = [DoorbellKind::SubmissionTail, DoorbellKind::CompletionHead].into_iter();
            let places = kinds.filter(|other| kind.is_none_or(|kind| kind == *other)).map(Place::Doorbell);
            let wanted = Wanted::ANY.data(*value, mask_of_size(2));
            (Key::Places(places.collect()), wanted.at(queue.map(|queue| one(queue.into()))))
        }
        Cause::Interrupt { vector, function, data } => {
            lookup.pattern_fits(*data, "a message's data", 4)?;
            let functions = lookup.functions(function.as_deref())?;
            let wanted = Wanted::ANY.data(*data, mask_of_size(4));
            let places = functions.iter().map(|function| Place::Interrupt(function)).collect();
            (Key::Places(places), wanted.at(vector.map(|vector| one(vector.into()))))
        }
        Cause::Dma { direction, function, address } => {
            let functions = lookup.functions(function.as_deref())?;
            let places = functions
                .iter()
                .flat_map(|function| directions(*direction).map(|way| Place::Memory(function, way)));
            (Key::Places(places.collect()), Wanted::ANY.at(*address))
        }
        Cause::Message(name) => {
            let number = wire::message_number(name);
            let known = || MESSAGES.iter().map(|(_, name)| *name);
            let number = number.ok_or_else(|| lookup.unknown("message", name, known()))?;
            (only(Place::Message(number)), Wanted::ANY)
        }
        Cause::Rule(name) => (only(lookup.hit_of(name, rules)?), Wanted::ANY),
        Cause::Start => (Key::Start, Wanted::ANY),
    })
}

/// One number.
fn one(number: u64) -> Span {
    Span { from: number, to: number }
}

fn directions(wanted: Option<Direction>) -> impl Iterator<Item = Direction> {
    let both = [Direction::Read, Direction::Write].into_iter();
    both.filter(move |way| wanted.is_none_or(|wanted| wanted == *way))
}

/// The register and the bits of a `stuck-busy` action; `None` if the names do not have them.
pub(crate) fn stuck_bits(stuck: &StuckBusy, names: &Registry) -> Option<(RegisterInfo, u64)> {
    let lookup = Lookup { rule: "", names, place: "" };
    let register = lookup.register(&stuck.register, stuck.function.as_deref()).ok()?;
    let mask = match (stuck.mask, stuck.clear) {
        (Some(mask), _) => mask,
        (None, true) => u64::MAX,
        (None, false) => register.busy,
    };
    (mask != 0).then_some((register, mask))
}

/// The register of a `read-data` action; `None` if it is of a space, or the names do not have it.
pub(crate) fn read_register(data: &ReadData, names: &Registry) -> Option<RegisterInfo> {
    let ReadTarget::Register(register) = &data.of else { return None };
    Lookup { rule: "", names, place: "" }.register(register, data.function.as_deref()).ok()
}

/// The space of a `read-data` action; `None` if it is of a register, or the names do not have the function.
pub(crate) fn read_space(data: &ReadData, names: &Registry) -> Option<SpaceKey> {
    let ReadTarget::Space(space) = data.of else { return None };
    match &data.function {
        None => Some((None, space)),
        Some(function) => Some((Some(names.function(function)?), space)),
    }
}

struct Lookup<'a> {
    rule: &'a str,
    names: &'a Registry,
    /// Where in the rule, for messages.
    place: &'a str,
}

impl<'a> Lookup<'a> {
    fn at<'b>(&self, place: &'b str) -> Lookup<'b>
    where
        'a: 'b,
    {
        Lookup { rule: self.rule, names: self.names, place }
    }

    fn unknown<'b>(
        &self,
        kind: &'static str,
        word: &str,
        known: impl IntoIterator<Item = &'b str>,
    ) -> RuleError {
        let nearest = Nearest::new(word, known);
        // No name is longer, but what somebody pastes into its place may be.
        let word = word.chars().take(64).collect();
        let (rule, place) = (self.rule.to_owned(), self.place.into());
        RuleError::UnknownName { rule, place, kind, word, nearest }
    }

    fn register(&self, name: &str, function: Option<&str>) -> Result<RegisterInfo, RuleError> {
        if let Some(function) = function {
            self.function(function)?;
        }
        let namesakes = self.names.registers_named(name);
        let wanted = |register: &&RegisterInfo| function.is_none_or(|name| name == register.function);
        let mut found = namesakes.iter().filter(wanted);
        if let (Some(register), None) = (found.next(), found.next()) {
            return Ok(*register);
        }
        let (rule, place, register) = (self.rule.to_owned(), self.place.into(), name.to_owned());
        let functions = namesakes.iter().map(|register| register.function.to_owned()).collect();
        match function {
            _ if namesakes.is_empty() => {
                let known = self.names.registers().filter(wanted).map(|register| register.name);
                Err(self.unknown("register", name, known))
            }
            None => Err(RuleError::AmbiguousRegister { rule, place, register, functions }),
            Some(function) => {
                let function = function.to_owned();
                Err(RuleError::NotInFunction { rule, place, register, function, functions })
            }
        }
    }

    fn function(&self, name: &str) -> Result<&'static str, RuleError> {
        let found = self.names.function(name);
        found.ok_or_else(|| self.unknown("function", name, self.names.functions().iter().copied()))
    }

    /// The function that `on.function` names, or all.
    fn functions(&self, name: Option<&str>) -> Result<Vec<&'static str>, RuleError> {
        match name {
            Some(name) => Ok(vec![self.at("on.function").function(name)?]),
            None => Ok(self.names.functions().to_vec()),
        }
    }

    fn event(&self, name: &str) -> Result<&'static str, RuleError> {
        self.names.event(name).ok_or_else(|| self.unknown("event", name, self.names.event_names()))
    }

    fn phase(&self, name: &str) -> Result<(usize, &'static str), RuleError> {
        let known = self.names.phases();
        let number = self.names.phase_number(name);
        let found = number.and_then(|number| Some((number, *known.get(number)?)));
        found.ok_or_else(|| self.unknown("phase", name, known.iter().copied()))
    }

    fn hit_of(&self, name: &RuleName, rules: &HashMap<&str, RuleId>) -> Result<Place, RuleError> {
        let others = || rules.keys().copied().filter(|name| *name != self.rule);
        let id = rules.get(name.as_str());
        id.map(|id| Place::Rule(*id)).ok_or_else(|| self.unknown("rule", name.as_str(), others()))
    }

    fn moment(&self, moment: &Moment, rules: &HashMap<&str, RuleId>) -> Result<Place, RuleError> {
        match moment {
            Moment::Event(name) => Ok(Place::Event(self.event(name)?)),
            Moment::Rule(name) => self.hit_of(name, rules),
        }
    }

    /// What the machine must not be like, as bits of its state.
    fn conditions(&self, conditions: &Conditions) -> Result<u64, RuleError> {
        let Conditions { phase, link_up, presence, bar_answers, card_in, d0, d3hot } = conditions;
        let mut forbidden = 0;
        if !phase.is_empty() {
            let lookup = self.at("on.while.phase");
            let numbers: Vec<_> = phase.iter().map(|name| lookup.phase(name)).collect::<Result<_, _>>()?;
            forbidden |= forbidden_unless_phase(numbers.into_iter().map(|(number, _)| number));
        }
        let facts = [
            (Fact::LinkUp, link_up),
            (Fact::Present, presence),
            (Fact::BarAnswers, bar_answers),
            (Fact::CardIn, card_in),
        ];
        for (fact, wanted) in facts {
            forbidden |= wanted.map_or(0, |wanted| forbidden_unless(fact, wanted));
        }
        for (place, name, awake) in [("on.while.d0", d0, true), ("on.while.d3hot", d3hot, false)] {
            let Some(name) = name else { continue };
            let function = self.at(place).function(name)?;
            let number = self.names.function_number(function);
            forbidden |= number.map_or(0, |number| forbidden_unless(Fact::Awake(number), awake));
        }
        Ok(forbidden)
    }

    fn stuck(&self, stuck: &StuckBusy) -> Result<(), RuleError> {
        let register = self.register(&stuck.register, stuck.function.as_deref())?;
        if let Some(mask) = stuck.mask {
            return self.fits("mask", mask, register.name, register.size);
        }
        if !stuck.clear && register.busy == 0 {
            let (rule, place) = (self.rule.to_owned(), self.place.into());
            return Err(RuleError::NoBusyBit { rule, place, register: register.name.to_owned() });
        }
        Ok(())
    }

    fn read_data(&self, data: &ReadData) -> Result<(), RuleError> {
        let (target, size_bytes) = match &data.of {
            ReadTarget::Register(name) => {
                let register = self.register(name, data.function.as_deref())?;
                (register.name, register.size)
            }
            ReadTarget::Space(_) => {
                data.function.as_deref().map_or(Ok(()), |function| self.function(function).map(drop))?;
                ("a dword of a space", 4)
            }
        };
        data.answer.number().map_or(Ok(()), |number| self.fits("value", number, target, size_bytes))
    }

    /// Whose interrupts can meet a fault. VMD's own are those of the others, remapped.
    fn interrupter(&self, function: Option<&str>) -> Result<(), RuleError> {
        let known = || self.names.functions().iter().copied().filter(|name| *name != "vmd");
        match function.filter(|function| known().all(|name| name != *function)) {
            Some(unknown) => Err(self.unknown("function", unknown, known())),
            None => Ok(()),
        }
    }

    fn nvme(&self, nvme: &NvmeAction) -> Result<(), RuleError> {
        if let Some(command) =
            nvme.command.as_deref().filter(|command| self.names.command_number(command).is_none())
        {
            return Err(self.unknown("command", command, self.names.command_names()));
        }
        match &nvme.what {
            NvmeFault::Fail(status) if self.names.status(status).is_none() => {
                Err(self.unknown("status", status, self.names.status_names()))
            }
            _ => Ok(()),
        }
    }

    fn pattern_fits(&self, pattern: Option<Pattern>, target: &str, size_bytes: u8) -> Result<(), RuleError> {
        let Some(Pattern { value, mask }) = pattern else { return Ok(()) };
        self.at("on.value").fits("value", value, target, size_bytes)?;
        mask.map_or(Ok(()), |mask| self.at("on.mask").fits("mask", mask, target, size_bytes))
    }

    fn fits(&self, what: &'static str, value: u64, target: &str, size_bytes: u8) -> Result<(), RuleError> {
        if value & !mask_of_size(size_bytes) == 0 {
            return Ok(());
        }
        let (rule, place, target) = (self.rule.to_owned(), self.place.into(), target.to_owned());
        Err(RuleError::TooWide { rule, place, what, value, target, size_bytes })
    }
}
