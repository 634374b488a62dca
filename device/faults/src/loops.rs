//! Rules that could never hit, or never stop hitting, because of each other.

use std::collections::HashMap;
use std::time::Duration;

use sdmorph_pci::Event;

use crate::error::RuleError;
use crate::rule::{Action, BarAction, CardAction, Cause, LinkAction, Rule, RuleName};
use crate::slot::SlotAction;

/// Refuses rules that wait for each other, and rules whose actions bring about their own triggers at once.
pub(crate) fn check<'a>(rules: impl Iterator<Item = &'a Rule>) -> Result<(), RuleError> {
    let rules: Vec<&Rule> = rules.collect();
    let waits = Graph::new(&rules, |_| true, |rule| rule.on.needs().collect(), |_| &[]);
    if let Some(cycle) = waits.cycle() {
        return Err(RuleError::Cycle { rules: cycle });
    }
    let sets_off = Graph::new(&rules, is_boundless, |_| Vec::new(), events_of);
    match sets_off.cycle() {
        Some(cycle) => Err(RuleError::Endless { rules: cycle }),
        None => Ok(()),
    }
}

/// Whether a rule hits at once and as often as it matches.
fn is_boundless(rule: &Rule) -> bool {
    rule.on.delay == Duration::ZERO && rule.on.nth.is_none() && rule.times.is_none()
}

/// The events that a machine may report when it carries out an action, but for those that it cannot bring about again and
/// again: a card is taken out once, with what that does to the slot, and a switch is over once.
fn events_of(action: &Action) -> &'static [Event] {
    match action {
        Action::Bar(BarAction::Vanish) => &[Event::BarVanished],
        Action::Bar(BarAction::Return) => &[Event::BarReturned],
        Action::Link(LinkAction::Down | LinkAction::Flap(_)) => {
            &[Event::LinkDown, Event::Reset { kind: sdmorph_pci::ResetKind::Hot }]
        }
        Action::Slot(action) => slot_events_of(action),
        Action::Link(LinkAction::Up) => &[Event::LinkUp],
        Action::Presence(_) => &[Event::PresenceChanged { present: true }],
        Action::Card(CardAction::Eject) => &[Event::CardEjected],
        Action::Card(CardAction::Insert) => &[Event::CardInserted],
        Action::Card(CardAction::OverCurrent) => &[Event::OverCurrent],
        // Times of the slot have their effect later, through its timers.
        Action::ReadLatency(_)
        | Action::Link(LinkAction::TrainFails)
        | Action::Relink(_)
        | Action::RelinkFails
        | Action::PresenceLead(_)
        | Action::PresenceLag(_)
        | Action::StuckBusy(_)
        | Action::ReadData(_)
        | Action::Interrupt(_)
        | Action::Dma(_)
        | Action::Nvme(_)
        | Action::CardCorrupt(_)
        | Action::Config(_)
        | Action::PowerState { .. }
        | Action::Wire(_) => &[],
    }
}

fn slot_events_of(action: &SlotAction) -> &'static [Event] {
    const RESET: Event = Event::Reset { kind: sdmorph_pci::ResetKind::Hot };
    match action {
        SlotAction::PresenceBounces(_) => &[Event::PresenceChanged { present: true }],
        SlotAction::AttentionButton => &[Event::AttentionButtonPressed],
        SlotAction::MrlSensor { .. } => &[Event::MrlSensorChanged { open: true }],
        SlotAction::PowerFault(true) => {
            &[Event::PowerFault, Event::SlotPower { on: false }, Event::LinkDown, RESET]
        }
        SlotAction::PowerFault(false) => &[Event::SlotPower { on: true }],
        SlotAction::Aer(_) => {
            &[Event::ErrorDetected { error: "", message: None }, Event::Contained, Event::LinkDown, RESET]
        }
        SlotAction::Dpc => &[Event::Contained, Event::LinkDown, RESET],
        SlotAction::AbsenceLead(_) | SlotAction::AbsenceLag(_) | SlotAction::CommandCompleted(_) => &[],
    }
}

/// Rules, and behind them one node for each event: which sets off which.
struct Graph<'a> {
    rules: &'a [&'a Rule],
    next: Vec<Vec<usize>>,
}

impl<'a> Graph<'a> {
    fn new(
        rules: &'a [&'a Rule],
        counts: impl Fn(&Rule) -> bool,
        needs: impl Fn(&'a Rule) -> Vec<&'a RuleName>,
        events: impl Fn(&Action) -> &'static [Event],
    ) -> Self {
        let mut next = vec![Vec::new(); rules.len() + Event::NAMES.len()];
        let by_name: HashMap<&str, usize> =
            rules.iter().enumerate().map(|(index, rule)| (rule.name.as_str(), index)).collect();
        let event_node = |name: &str| {
            Event::NAMES.iter().position(|event| *event == name).map(|index| rules.len() + index)
        };
        let mut edge = |from: Option<usize>, to: Option<usize>| {
            if let (Some(list), Some(to)) = (from.and_then(|from| next.get_mut(from)), to) {
                list.push(to);
            }
        };
        for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| counts(rule)) {
            for name in needs(rule) {
                edge(by_name.get(name.as_str()).copied(), Some(index));
            }
            match &rule.on.cause {
                Cause::Rule(name) => edge(by_name.get(name.as_str()).copied(), Some(index)),
                Cause::Event { name, .. } => edge(event_node(name), Some(index)),
                Cause::Phase(_) => edge(event_node("morph"), Some(index)),
                Cause::Access { .. }
                | Cause::AnyAccess { .. }
                | Cause::Command { .. }
                | Cause::Doorbell { .. }
                | Cause::Interrupt { .. }
                | Cause::Dma { .. }
                | Cause::Message(_)
                | Cause::Start => {}
            }
            for event in rule.actions.iter().flat_map(&events) {
                edge(Some(index), event_node(event.name()));
            }
        }
        Self { rules, next }
    }

    /// The names of the rules of one cycle, if there is any. Depth-first without recursion: chains may be long.
    fn cycle(&self) -> Option<Vec<String>> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            OnPath,
            Done,
        }
        let mut marks = vec![Mark::New; self.next.len()];
        for start in 0..self.next.len() {
            // The path from `start`, each node with how many of its edges were followed.
            let mut path = vec![(start, 0)];
            while let Some((node, followed)) = path.last_mut() {
                let node = *node;
                let fresh = *followed == 0;
                match (fresh, marks.get(node)) {
                    (true, Some(Mark::Done)) => {
                        path.pop();
                        continue;
                    }
                    (true, _) => set(&mut marks, node, Mark::OnPath),
                    (false, _) => {}
                }
                let edge = self.next.get(node).and_then(|list| list.get(*followed)).copied();
                *followed += 1;
                match edge {
                    None => {
                        set(&mut marks, node, Mark::Done);
                        path.pop();
                    }
                    Some(to) if marks.get(to) == Some(&Mark::OnPath) => {
                        let cycle = path.iter().map(|(node, _)| *node).skip_while(|node| *node != to);
                        return Some(self.names(cycle));
                    }
                    Some(to) => path.push((to, 0)),
                }
            }
        }
        return None;

        fn set(marks: &mut [Mark], node: usize, mark: Mark) {
            if let Some(slot) = marks.get_mut(node) {
                *slot = mark;
            }
        }
    }

    fn names(&self, nodes: impl Iterator<Item = usize>) -> Vec<String> {
        nodes.filter_map(|node| self.rules.get(node)).map(|rule| rule.name.to_string()).collect()
    }
}
