//! Rules that could never hit, or never stop hitting, because of each other.

use std::collections::HashMap;
use std::time::Duration;

use sdmorph_pci::Event;

use crate::error::RuleError;
use crate::function::InterruptFault;
use crate::read_data::is_in_slot;
use crate::rule::{Action, BarAction, CardAction, Cause, LinkAction, Rule, RuleName};
use crate::slot::SlotAction;

/// Refuses rules that wait for each other, and rules whose actions bring about their own triggers at once.
pub(crate) fn check<'a>(rules: impl Iterator<Item = &'a Rule>) -> Result<(), RuleError> {
    let rules: Vec<&Rule> = rules.collect();
    let waits = Graph::new(&rules, |_| true, |rule| rule.on.needs().collect(), |_| Vec::new());
    if let Some(cycle) = waits.cycle() {
        return Err(RuleError::Cycle { rules: cycle });
    }
    let sets_off = Graph::new(&rules, is_boundless, |_| Vec::new(), brought_about_by);
    match sets_off.cycle() {
        Some(cycle) => Err(RuleError::Endless { rules: cycle }),
        None => Ok(()),
    }
}

/// Whether a rule hits at once and as often as it matches.
fn is_boundless(rule: &Rule) -> bool {
    rule.on.delay == Duration::ZERO && rule.on.nth.is_none() && rule.times.is_none()
}

/// What a rule can bring about and another one waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Thing<'a> {
    Event(&'static str),
    /// A message, and its number; `None` is any.
    Interrupt(Sender<'a>, Option<u16>),
}

/// Whose interrupt message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Sender<'a> {
    Anybody,
    /// Whichever function is in the slot.
    InSlot,
    Function(&'a str),
}

fn brought_about_by(action: &Action) -> Vec<Thing<'_>> {
    match action {
        Action::Interrupt(interrupt) if interrupt.what == InterruptFault::Spurious => {
            let sender = interrupt.function.as_deref().map_or(Sender::InSlot, Sender::Function);
            let vector = interrupt.vector.unwrap_or(0);
            // A function with fewer MSI messages, a power of two up to 32, sends the one of the number's low bits.
            let numbers = (0..6).map(|bits| Some(vector & ((1 << bits) - 1))).chain([Some(vector), None]);
            let of = |sender| numbers.clone().map(move |number| Thing::Interrupt(sender, number));
            of(sender).chain(of(Sender::Anybody)).collect()
        }
        action => events_of(action).iter().map(|event| Thing::Event(event.name())).collect(),
    }
}

fn waited_for_by(cause: &Cause) -> Vec<Thing<'_>> {
    match cause {
        Cause::Event { name, .. } => {
            Event::NAMES.iter().filter(|event| *event == name).map(|event| Thing::Event(event)).collect()
        }
        Cause::Phase(_) => vec![Thing::Event("morph")],
        Cause::Interrupt { vector, function: None, .. } => vec![Thing::Interrupt(Sender::Anybody, *vector)],
        Cause::Interrupt { vector, function: Some(function), .. } => {
            let in_slot = is_in_slot(function).then_some(Sender::InSlot);
            let senders = [Sender::Function(function)].into_iter().chain(in_slot);
            senders.map(|sender| Thing::Interrupt(sender, *vector)).collect()
        }
        Cause::Access { .. }
        | Cause::AnyAccess { .. }
        | Cause::Command { .. }
        | Cause::Doorbell { .. }
        | Cause::Dma { .. }
        | Cause::Message(_)
        | Cause::Rule(_)
        | Cause::Start => Vec::new(),
    }
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

/// Rules, and behind them one node for each thing that one brings about or waits for: which sets off which.
struct Graph<'a> {
    rules: &'a [&'a Rule],
    next: Vec<Vec<usize>>,
}

impl<'a> Graph<'a> {
    fn new(
        rules: &'a [&'a Rule],
        counts: impl Fn(&Rule) -> bool,
        needs: impl Fn(&'a Rule) -> Vec<&'a RuleName>,
        brings_about: impl Fn(&'a Action) -> Vec<Thing<'a>>,
    ) -> Self {
        let by_name: HashMap<&str, usize> =
            rules.iter().enumerate().map(|(index, rule)| (rule.name.as_str(), index)).collect();
        let mut nodes = HashMap::new();
        let mut node = |thing| {
            let fresh = rules.len() + nodes.len();
            *nodes.entry(thing).or_insert(fresh)
        };
        let mut edges = Vec::new();
        for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| counts(rule)) {
            let chained = if let Cause::Rule(name) = &rule.on.cause { Some(name) } else { None };
            let before = needs(rule).into_iter().chain(chained);
            edges.extend(before.filter_map(|name| Some((*by_name.get(name.as_str())?, index))));
            edges.extend(waited_for_by(&rule.on.cause).into_iter().map(|thing| (node(thing), index)));
            edges.extend(rule.actions.iter().flat_map(&brings_about).map(|thing| (index, node(thing))));
        }
        let mut next = vec![Vec::new(); rules.len() + nodes.len()];
        for (from, to) in edges {
            if let Some(list) = next.get_mut(from) {
                list.push(to);
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
