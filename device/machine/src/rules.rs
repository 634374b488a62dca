//! Fault rules: what rules there are, and what they do to the machine.

use std::time::Duration;

use sdmorph_faults::rule::{Action, BarAction, CardAction, LinkAction};
use sdmorph_faults::{Engine, Rule, RuleError, RuleStatus};
use sdmorph_pci::Clock;
use serde_json::{Value, json};

use crate::inputs::Call;
use crate::machine::Machine;
use crate::morph::{Later, Phase, Skew};

impl Machine {
    /// Adds a rule.
    ///
    /// # Errors
    /// [`RuleError`], with the nearest names where one is unknown; nothing is added then.
    pub fn rule_add(&mut self, now: Duration, rule: Rule) -> Result<(), RuleError> {
        let noted = self.inputs.is_some().then(|| rule.clone());
        let added = self.call(now, |machine| {
            machine.bench.faults.add(rule, now)?;
            machine.watch_messages();
            Ok(())
        });
        self.note_rule(&added, noted, Call::RuleAdd);
        added
    }

    /// Does `actions`, in the form of a rule's `do`, at once. In the record they stand as a rule's hit, by `name`.
    ///
    /// # Errors
    /// As for [`Machine::rule_add`], of a rule with these actions; a fault at the wire has no message to happen to.
    pub fn inject(&mut self, now: Duration, name: &str, actions: &Value) -> Result<(), RuleError> {
        let rule = Rule::from_json(&json!({"name": name, "on": {"start": true}, "do": actions}))?;
        let noted = self.inputs.is_some().then(|| rule.clone());
        let injected = self.call(now, |machine| {
            let now = machine.clock.now();
            machine.bench.faults.add(rule, now)?;
            let fired = machine.bench.faults.due(now);
            machine.bench.fire(now, fired);
            machine.bench.faults.remove(name).map(drop)
        });
        self.note_rule(&injected, noted, Call::Inject);
        injected
    }

    /// A rule that was refused has done nothing, but that time went on.
    fn note_rule(&mut self, done: &Result<(), RuleError>, rule: Option<Rule>, call: fn(Rule) -> Call) {
        let rule = rule.filter(|_| done.is_ok());
        self.note(|| rule.map_or(Call::Advance, call));
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// [`RuleError`] if there is none of that name.
    pub fn rule_remove(&mut self, name: &str) -> Result<Rule, RuleError> {
        let rule = self.bench.faults.remove(name)?;
        self.watch_messages();
        self.note(|| Call::RuleRemove { name: name.to_owned() });
        Ok(rule)
    }

    /// The rules and their counters.
    #[must_use]
    pub fn rules(&self) -> Vec<RuleStatus> {
        self.bench.faults.list()
    }

    /// Loads a set of rules, all or none. With `replace` the rules of before go, and so do the latency, the
    /// stuck bits and the times of the slot that they left.
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
        let noted = self.inputs.is_some().then(|| rules.clone());
        // What is due by the old rules comes first, and the new ones do not see it.
        self.call(now, |_| ());
        let loaded = self.load(now, rules, replace);
        match (&loaded, noted) {
            (Ok(()), noted) => {
                self.watch_messages();
                self.call(now, |machine| machine.mark(&format!("scenario {name}")));
                let (name, rules) = (name.to_owned(), noted.unwrap_or_default());
                self.note(|| Call::ScenarioLoad { name, rules, replace });
            }
            (Err(_), _) => self.note(|| Call::Advance),
        }
        loaded
    }

    fn load(&mut self, now: Duration, rules: Vec<Rule>, replace: bool) -> Result<(), RuleError> {
        if !replace {
            return self.bench.faults.load(rules, now);
        }
        let mut fresh = Engine::new(self.bench.faults.names().clone());
        fresh.load(rules, now)?;
        self.bench.faults = fresh;
        self.relink = None;
        self.relink_fails = false;
        self.skew = Skew::None;
        Ok(())
    }

    fn watch_messages(&self) {
        self.message_watch.set(self.bench.faults.watched_messages());
    }

    pub(crate) fn act(&mut self, action: &Action) {
        match action {
            Action::Bar(what) => {
                let vanished = *what == BarAction::Vanish;
                self.with_port(|port, ctx| port.set_bar_vanished(ctx, vanished));
            }
            Action::Link(what) => self.force_link(*what == LinkAction::Up),
            Action::Presence(present) => {
                self.cancel(Later::PresenceGoes);
                self.set_presence(*present);
            }
            Action::PresenceLead(time) => self.skew = Skew::Lead(*time),
            Action::PresenceLag(time) => self.skew = Skew::Lag(*time),
            Action::Relink(after) => {
                self.relink = Some(*after);
                if self.phase == Phase::Switching {
                    self.do_later(*after, Later::RelinkOver);
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
}
