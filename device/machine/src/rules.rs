//! Fault rules: what rules there are, and what they do to the machine.

use std::time::Duration;

use sdmorph_faults::rule::{Action, BarAction, CardAction, LinkAction};
use sdmorph_faults::{Aer, Bounce, InterruptFault, NvmeFault, Rule, RuleError, RuleStatus, SlotAction};
use sdmorph_pci::port::CommandCompletion;
use sdmorph_pci::{Clock, PciFunction};
use serde_json::{Value, json};

use crate::inputs::Call;
use crate::machine::Machine;
use crate::morph::{Bouncing, Later, Phase, Skew};

impl Machine {
    /// Adds a rule.
    ///
    /// # Errors
    /// [`RuleError`], with the nearest names where one is unknown; nothing is added then.
    pub fn rule_add(&mut self, now: Duration, rule: Rule) -> Result<(), RuleError> {
        self.is_equipped_for(&rule)?;
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
        self.inject_rule(now, rule)
    }

    /// The same, of a rule that hits at once.
    pub(crate) fn inject_rule(&mut self, now: Duration, rule: Rule) -> Result<(), RuleError> {
        self.is_equipped_for(&rule)?;
        let noted = self.inputs.is_some().then(|| rule.clone());
        let injected = self.call(now, |machine| {
            let now = machine.clock.now();
            let name = rule.name.clone();
            machine.bench.faults.add(rule, now)?;
            let fired = machine.bench.faults.due(now);
            machine.bench.fire(now, fired);
            machine.bench.faults.remove(name.as_str()).map(drop)
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
        rules.iter().try_for_each(|rule| self.is_equipped_for(rule))?;
        let noted = self.inputs.is_some().then(|| rules.clone());
        // What is due by the old rules comes first, and the new ones do not see it.
        self.call(now, |_| ());
        let loaded = self.load(now, rules, replace);
        match (&loaded, noted) {
            (Ok(()), noted) => {
                self.watch_messages();
                self.call(now, |machine| {
                    machine.mark(&format!("scenario {name}"));
                    if replace {
                        // DMA that the old rules held up goes on.
                        machine.wake();
                    }
                });
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
        let mut fresh = self.bench.faults.without_rules();
        fresh.load(rules, now)?;
        self.bench.faults = fresh;
        self.relink = None;
        self.relink_fails = false;
        self.skew = Skew::None;
        self.absence = Skew::None;
        self.training_fails = false;
        self.with_port(|port, _| port.set_command_completion(CommandCompletion::AtOnce));
        Ok(())
    }

    /// A rule that wants of the slot what that does not have would hit, and nothing would come of it.
    fn is_equipped_for(&self, rule: &Rule) -> Result<(), RuleError> {
        let equipment = self.vmd.bus().port().equipment();
        let missing = rule.actions.iter().find_map(|action| match action {
            Action::Slot(action) => {
                action.needs().filter(|word| !equipment.has(word)).map(|word| (action.key(), word))
            }
            _ => None,
        });
        missing.map_or(Ok(()), |(action, word)| {
            Err(RuleError::NotEquipped { rule: rule.name.to_string(), action, word })
        })
    }

    fn watch_messages(&self) {
        self.message_watch.set(self.bench.faults.watched_messages());
    }

    /// A message of the function in the slot, or of the port, that nothing has asked for.
    fn send_spurious(&mut self, function: Option<&str>, vector: u16) {
        self.with_port(|port, ctx| {
            if function == Some(port.name()) {
                return port.send_spurious(ctx, vector);
            }
            port.with_function(ctx, |occupant, ctx| {
                if function.is_none_or(|function| function == occupant.name()) {
                    occupant.send_spurious(ctx, vector);
                }
            });
        });
    }

    pub(crate) fn act(&mut self, action: &Action) {
        match action {
            Action::Bar(what) => {
                let vanished = *what == BarAction::Vanish;
                self.with_port(|port, ctx| port.set_bar_vanished(ctx, vanished));
            }
            Action::Link(LinkAction::Down) => self.force_link(false),
            Action::Link(LinkAction::Up) => self.force_link(true),
            Action::Link(LinkAction::Flap(time)) => self.flap(*time),
            Action::Link(LinkAction::TrainFails) => self.training_fails = true,
            Action::Presence(present) => {
                self.hold_presence();
                self.set_presence(*present);
            }
            Action::Slot(action) => self.act_on_slot(action),
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
            Action::CardCorrupt(disturbance) => {
                // Without a card, or with one whose list of bad blocks is full, nothing happens: nobody is there to be told.
                self.with_reader(|reader, ctx| {
                    let _ = reader.disturb(ctx, *disturbance);
                });
            }
            Action::Config(what) => {
                let vanished = *what == BarAction::Vanish;
                self.with_port(|port, _| port.set_config_vanished(vanished));
            }
            Action::PowerState { stuck } => {
                self.with_occupant(|occupant, _| occupant.config_mut().set_power_stuck(*stuck));
            }
            Action::Interrupt(interrupt) if interrupt.what == InterruptFault::Spurious => {
                self.send_spurious(interrupt.function.as_deref(), interrupt.vector.unwrap_or(0));
            }
            Action::Nvme(nvme) => self.with_drive_at_link(|drive, ctx| match nvme.what {
                NvmeFault::Fatal => drive.fail_fatally(ctx),
                NvmeFault::ReadyStuck => drive.set_ready_stuck(ctx, true),
                NvmeFault::Normal if nvme.command.is_none() => drive.set_ready_stuck(ctx, false),
                // The rules' engine keeps these, and what follows, itself.
                NvmeFault::Normal | NvmeFault::Fail(_) | NvmeFault::DropCompletion => {}
            }),
            // The engine holds it up; who waits for that to end does not look before it was to end.
            Action::Dma(dma) if dma.is_about_hold() => self.wake(),
            Action::ReadLatency(_)
            | Action::StuckBusy(_)
            | Action::ReadData(_)
            | Action::Interrupt(_)
            | Action::Dma(_) => {}
            // Whoever asked with the message does it.
            Action::Wire(_) => {}
        }
    }

    fn act_on_slot(&mut self, action: &SlotAction) {
        match action {
            SlotAction::PresenceBounces(Bounce { changes, every }) => {
                self.hold_presence();
                self.bouncing = Some(Bouncing { left: *changes, every: *every });
                self.bounce();
            }
            SlotAction::AbsenceLead(time) => self.absence = Skew::Lead(*time),
            SlotAction::AbsenceLag(time) => self.absence = Skew::Lag(*time),
            SlotAction::AttentionButton => self.with_port(|port, ctx| port.press_attention_button(ctx)),
            SlotAction::MrlSensor { open } => self.with_port(|port, ctx| port.set_mrl_open(ctx, *open)),
            SlotAction::PowerFault(fault) => self.with_port(|port, ctx| port.set_power_fault(ctx, *fault)),
            SlotAction::CommandCompleted(when) => {
                self.with_port(|port, _| port.set_command_completion(*when));
            }
            SlotAction::Aer(Aer { error, function }) => self.with_port(|port, ctx| {
                let at_link = port.slot().function().map(PciFunction::name);
                match function.as_deref() {
                    Some(Aer::PORT) => port.detect_error(ctx, error),
                    // The one that is not at the link does nothing there.
                    Some(name) if at_link != Some(name) => {}
                    _ => port.detect_error_below(ctx, error),
                }
            }),
            SlotAction::Dpc => self.with_port(|port, ctx| port.trigger_containment(ctx)),
        }
    }
}
