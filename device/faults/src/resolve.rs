//! Looks up the names in a rule.

use std::collections::HashSet;

use sdmorph_pci::mask_of_size;

use crate::error::RuleError;
use crate::nearest::Nearest;
use crate::registry::{RegisterInfo, Registry};
use crate::rule::{Action, Cause, Pattern, Rule, StuckBusy};
use crate::slot::{Aer, SlotAction};
use crate::watch::Key;
use crate::wire::{self, MESSAGES};

/// A rule's names, looked up.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) key: Key,
    pub(crate) after: Option<&'static str>,
    /// The register, if the trigger is an access.
    pub(crate) register: Option<RegisterInfo>,
}

/// Looks up every name in `rule`; `rules` are the names that the engine will have.
pub(crate) fn rule(rule: &Rule, names: &Registry, rules: &HashSet<&str>) -> Result<Resolved, RuleError> {
    let lookup = Lookup { rule: rule.name.as_str(), names };
    let mut info = None;
    let key = match &rule.on.cause {
        Cause::Access { direction, register, function, value } => {
            let register = lookup.register(register, function.as_deref())?;
            info = Some(register);
            lookup.pattern_fits(*value, register.name, register.size)?;
            Key::Register((register.function, register.name), *direction)
        }
        Cause::Event { name, function } => {
            if let Some(function) = function {
                lookup.function(function)?;
            }
            Key::Event(lookup.event(name)?)
        }
        Cause::Command { name, argument } => {
            if !names.has_command(name) {
                return Err(lookup.unknown("command", name, names.command_names()));
            }
            lookup.pattern_fits(*argument, "a command's argument", 4)?;
            Key::Command(name.clone())
        }
        Cause::Message(name) => {
            let number = wire::message_number(name);
            let known = || MESSAGES.iter().map(|(_, name)| *name);
            Key::Message(number.ok_or_else(|| lookup.unknown("message", name, known()))?)
        }
        Cause::Rule(other) => {
            if !rules.contains(other.as_str()) {
                let others = rules.iter().copied().filter(|name| *name != lookup.rule);
                return Err(lookup.unknown("rule", other.as_str(), others));
            }
            Key::Rule(other.clone())
        }
        Cause::Start => Key::Start,
    };
    let after = rule.on.after.as_ref().map(|event| lookup.event(event)).transpose()?;
    for action in &rule.actions {
        match action {
            Action::StuckBusy(stuck) => lookup.stuck(stuck)?,
            Action::Slot(SlotAction::Aer(Aer { function: Some(function), .. })) => {
                // Who has AER has this register.
                lookup.register("ERR_UNCOR_STATUS", Some(function))?;
            }
            _ => {}
        }
    }
    Ok(Resolved { key, after, register: info })
}

/// The register and the bits of a `stuck-busy` action; `None` if the names do not have them.
pub(crate) fn stuck_bits(stuck: &StuckBusy, names: &Registry) -> Option<(RegisterInfo, u64)> {
    let register = Lookup { rule: "", names }.register(&stuck.register, stuck.function.as_deref()).ok()?;
    let mask = match (stuck.mask, stuck.clear) {
        (Some(mask), _) => mask,
        (None, true) => u64::MAX,
        (None, false) => register.busy,
    };
    (mask != 0).then_some((register, mask))
}

struct Lookup<'a> {
    rule: &'a str,
    names: &'a Registry,
}

impl<'a> Lookup<'a> {
    fn unknown<'b>(
        &self,
        kind: &'static str,
        word: &str,
        known: impl IntoIterator<Item = &'b str>,
    ) -> RuleError {
        let nearest = Nearest::new(word, known);
        // No name is longer, but what somebody pastes into its place may be.
        let word = word.chars().take(64).collect();
        RuleError::UnknownName { rule: self.rule.to_owned(), kind, word, nearest }
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
        let (rule, register) = (self.rule.to_owned(), name.to_owned());
        let functions = namesakes.iter().map(|register| register.function.to_owned()).collect();
        match function {
            _ if namesakes.is_empty() => {
                let known = self.names.registers().filter(wanted).map(|register| register.name);
                Err(self.unknown("register", name, known))
            }
            None => Err(RuleError::AmbiguousRegister { rule, register, functions }),
            Some(function) => {
                Err(RuleError::NotInFunction { rule, register, function: function.to_owned(), functions })
            }
        }
    }

    fn function(&self, name: &str) -> Result<(), RuleError> {
        let mut known = self.names.registers().map(|register| register.function);
        if known.any(|function| function == name) {
            return Ok(());
        }
        Err(self.unknown("function", name, self.names.registers().map(|register| register.function)))
    }

    fn event(&self, name: &str) -> Result<&'static str, RuleError> {
        self.names.event(name).ok_or_else(|| self.unknown("event", name, self.names.event_names()))
    }

    fn stuck(&self, stuck: &StuckBusy) -> Result<(), RuleError> {
        let register = self.register(&stuck.register, stuck.function.as_deref())?;
        if let Some(mask) = stuck.mask {
            return self.fits("mask", mask, register.name, register.size);
        }
        if !stuck.clear && register.busy == 0 {
            let (rule, register) = (self.rule.to_owned(), register.name.to_owned());
            return Err(RuleError::NoBusyBit { rule, register });
        }
        Ok(())
    }

    fn pattern_fits(&self, pattern: Option<Pattern>, target: &str, size_bytes: u8) -> Result<(), RuleError> {
        let Some(Pattern { value, mask }) = pattern else { return Ok(()) };
        self.fits("value", value, target, size_bytes)?;
        mask.map_or(Ok(()), |mask| self.fits("mask", mask, target, size_bytes))
    }

    fn fits(&self, what: &'static str, value: u64, target: &str, size_bytes: u8) -> Result<(), RuleError> {
        if value & !mask_of_size(size_bytes) == 0 {
            return Ok(());
        }
        let (rule, target) = (self.rule.to_owned(), target.to_owned());
        Err(RuleError::TooWide { rule, what, value, target, size_bytes })
    }
}
