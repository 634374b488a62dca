//! What the machine is like, as far as rules can ask for it (`while`): kept up to date by the events that are observed.

use sdmorph_pci::Event;

use crate::registry::Registry;

/// Something that is so or not. Its two bits in a [`State`] stand for no and yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fact {
    /// The slot's link is up.
    LinkUp,
    /// The slot detects presence.
    Present,
    /// The BAR of the function in the slot answers, as far as that is not the link's or the D-state's doing.
    BarAnswers,
    /// A card is in the reader.
    CardIn,
    /// The function of that number in the registry is in D0.
    Awake(usize),
}

/// Bits of the facts; those of phases come after them.
const FACT_BITS: usize = 32;

/// Most functions and most phases that there is a bit for.
pub(crate) const MAX_FUNCTIONS: usize = FACT_BITS / 2 - 4;
pub(crate) const MAX_PHASES: usize = 64 - FACT_BITS;

/// One bit for each thing that can be so. Of each fact, and of all phases together, one is set at any time.
///
/// That makes a rule's conditions one number, the bits that must not be set, and looking at them one operation: a
/// thousand rules for the same register may all wait for another phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(u64);

impl State {
    /// A machine after power-on: a function in the slot whose link is up, in the first phase, and no card.
    pub(crate) fn after_power_on() -> Self {
        let mut state = Self(phase(0));
        for fact in [Fact::LinkUp, Fact::Present, Fact::BarAnswers] {
            state.set(fact, true);
        }
        state.set(Fact::CardIn, false);
        (0..MAX_FUNCTIONS).for_each(|function| state.set(Fact::Awake(function), true));
        state
    }

    /// Whether none of these bits is set.
    pub(crate) fn allows(self, forbidden: u64) -> bool {
        self.0 & forbidden == 0
    }

    /// Takes in what an event of `function` says.
    pub(crate) fn follow(&mut self, names: &Registry, function: &str, event: &Event) {
        let mut awake = |is| {
            if let Some(number) = names.function_number(function) {
                self.set(Fact::Awake(number), is);
            }
        };
        match *event {
            Event::LinkUp => self.set(Fact::LinkUp, true),
            Event::LinkDown => self.set(Fact::LinkUp, false),
            Event::PresenceChanged { present } => self.set(Fact::Present, present),
            Event::BarVanished => self.set(Fact::BarAnswers, false),
            Event::BarReturned => self.set(Fact::BarAnswers, true),
            Event::CardInserted => self.set(Fact::CardIn, true),
            Event::CardEjected => self.set(Fact::CardIn, false),
            Event::D3hotEntered => awake(false),
            Event::D0Entered | Event::Reset { .. } => awake(true),
            Event::Morph { phase: name } => {
                if let Some(number) = names.phase_number(name) {
                    self.0 = self.0 & ((1 << FACT_BITS) - 1) | phase(number);
                }
            }
            Event::OverCurrent
            | Event::DriverBound
            | Event::ExpressSwitchRequested { .. }
            | Event::AttentionButtonPressed
            | Event::MrlSensorChanged { .. }
            | Event::PowerFault
            | Event::SlotPower { .. }
            | Event::CommandCompleted
            | Event::ErrorDetected { .. }
            | Event::Contained
            | Event::PmeReceived { .. } => {}
        }
    }

    fn set(&mut self, fact: Fact, is: bool) {
        self.0 = self.0 & !forbidden_unless(fact, is) | forbidden_unless(fact, !is);
    }
}

/// The bit that must not be set for `fact` to be as `wanted`.
pub(crate) fn forbidden_unless(fact: Fact, wanted: bool) -> u64 {
    let number = match fact {
        Fact::LinkUp => 0,
        Fact::Present => 1,
        Fact::BarAnswers => 2,
        Fact::CardIn => 3,
        Fact::Awake(function) => 4 + function.min(MAX_FUNCTIONS - 1),
    };
    1 << (2 * number + usize::from(!wanted))
}

/// The bits that must not be set for the phase to be one of those of these numbers.
pub(crate) fn forbidden_unless_phase(numbers: impl Iterator<Item = usize>) -> u64 {
    !numbers.fold((1 << FACT_BITS) - 1, |allowed, number| allowed | phase(number))
}

/// The bit of the phase of that number.
fn phase(number: usize) -> u64 {
    1 << (FACT_BITS + number.min(MAX_PHASES - 1))
}

#[cfg(test)]
mod tests {
    use sdmorph_pci::{Register, ResetKind, Space};

    use super::*;

    const ROWS: &[Register] = &[Register::new("COMMAND", 4, 2, 0, "PCI 3.0 6.2.2")];

    fn names() -> Registry {
        let mut names = Registry::new();
        names.add_table("reader", Space::Config, ROWS, &[]);
        names.add_table("port", Space::Config, ROWS, &[]);
        names.add_phases(["reader", "switching", "drive"]);
        names
    }

    #[test]
    fn each_fact_is_as_the_last_event_left_it() {
        let facts = [
            (Fact::LinkUp, Event::LinkUp, Event::LinkDown),
            (
                Fact::Present,
                Event::PresenceChanged { present: true },
                Event::PresenceChanged { present: false },
            ),
            (Fact::BarAnswers, Event::BarReturned, Event::BarVanished),
            (Fact::CardIn, Event::CardInserted, Event::CardEjected),
            (Fact::Awake(1), Event::D0Entered, Event::D3hotEntered),
        ];
        let (names, mut state) = (names(), State::after_power_on());
        for (fact, yes, no) in facts {
            for (event, is) in [(no, false), (no, false), (yes, true), (yes, true), (no, false)] {
                state.follow(&names, "port", &event);
                assert!(state.allows(forbidden_unless(fact, is)), "{fact:?} {event:?}");
                assert!(!state.allows(forbidden_unless(fact, !is)), "{fact:?} {event:?}");
            }
        }
        assert!(state.allows(forbidden_unless(Fact::Awake(0), true)), "the reader is another function");
        state.follow(&names, "port", &Event::Reset { kind: ResetKind::Hot });
        assert!(state.allows(forbidden_unless(Fact::Awake(1), true)), "a reset function is in D0");
        assert!(state.allows(forbidden_unless(Fact::LinkUp, false)), "and nothing else has changed");
    }

    #[test]
    fn phase_is_one_of_those_that_are_asked_for() {
        let (names, mut state) = (names(), State::after_power_on());
        assert!(state.allows(forbidden_unless_phase([0].into_iter())));
        state.follow(&names, "port", &Event::Morph { phase: "drive" });
        for (numbers, holds) in [(&[2][..], true), (&[0, 2], true), (&[0, 1], false), (&[], false)] {
            assert_eq!(state.allows(forbidden_unless_phase(numbers.iter().copied())), holds, "{numbers:?}");
        }
        assert!(state.allows(forbidden_unless(Fact::LinkUp, true)), "facts are not phases");
        state.follow(&names, "port", &Event::Morph { phase: "unheard-of" });
        assert!(state.allows(forbidden_unless_phase([2].into_iter())));
    }
}
