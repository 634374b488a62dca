//! PME: a function that wants to be woken, its message, and what the root port makes of it (PCIe 5.3.3, 6.1.6).

use proptest::prelude::*;
use sdmorph_pci::capability::{EXP, PM};
use sdmorph_pci::config::{command, offset};
use sdmorph_pci::{Event, PciFunction, ResetKind};

use crate::toy::{CHILD, Domain, EXPRESS};

/// PMCSR of the function.
const CTRL: u16 = 0x40 + PM::CTRL;
const RTCTL: u16 = EXPRESS + EXP::RTCTL;
const RTSTA: u16 = EXPRESS + EXP::RTSTA;
/// The function's Requester ID: bus 1, device 0, function 0.
const REQUESTER: u32 = 0x0100;
const D3HOT: u32 = 3;

/// The port's PME interrupt is on, and the function is in this D-state with PME enabled.
fn armed(state: u32) -> Domain {
    let mut domain = Domain::programmed();
    domain.port_write(RTCTL, 2, EXP::RTCTL_PMEIE);
    domain.write(CHILD, CTRL, 2, PM::CTRL_PME_STATUS | PM::CTRL_PME_ENABLE | state);
    domain.bench.log.clear();
    domain
}

fn signal(domain: &mut Domain) {
    domain.with_toy(|toy, _| toy.config.signal_pme());
}

fn root_status(domain: &mut Domain) -> u32 {
    domain.port_read(RTSTA, 4)
}

/// What a guest does to the function: PME_Status is cleared, PME_En and the D-state stay.
fn serve(domain: &mut Domain, state: u32) {
    domain.write(CHILD, CTRL, 2, PM::CTRL_PME_STATUS | PM::CTRL_PME_ENABLE | state);
}

fn received(domain: &Domain) -> usize {
    domain.bench.log.events().filter(|event| *event == Event::PmeReceived { requester: 0x100 }).count()
}

#[test]
fn pme_in_d3hot_reaches_the_port_with_its_requester_and_interrupts() {
    for state in [0, D3HOT] {
        let mut domain = armed(state);
        signal(&mut domain);
        assert_eq!(root_status(&mut domain), EXP::RTSTA_PME | REQUESTER);
        assert_eq!(domain.messages().len(), 1);
        assert_eq!(received(&domain), 1);
        let pmcsr = domain.read(CHILD, CTRL, 2);
        assert_eq!(pmcsr & PM::CTRL_PME_STATUS, PM::CTRL_PME_STATUS);
        assert_eq!(pmcsr & PM::CTRL_STATE_MASK, state, "whom it wakes is software's business");
    }
}

#[test]
fn message_needs_neither_bus_mastering_of_the_function_nor_memory_space() {
    let mut domain = armed(D3HOT);
    domain.write(CHILD, offset::COMMAND, 2, 0);
    signal(&mut domain);
    assert_eq!(root_status(&mut domain), EXP::RTSTA_PME | REQUESTER);
    // The port's own message is a memory write.
    domain.port_write(offset::COMMAND, 2, u32::from(command::MEMORY));
    let before = domain.messages().len();
    domain.port_write(RTSTA, 4, EXP::RTSTA_PME);
    serve(&mut domain, D3HOT);
    signal(&mut domain);
    assert_eq!((before, domain.messages().len()), (1, 0));
}

#[test]
fn status_is_set_without_the_enable_and_the_message_follows_it() {
    let mut domain = armed(D3HOT);
    domain.write(CHILD, CTRL, 2, D3HOT);
    signal(&mut domain);
    assert_eq!(domain.read(CHILD, CTRL, 2) & PM::CTRL_PME_STATUS, PM::CTRL_PME_STATUS);
    assert_eq!(root_status(&mut domain), 0);
    domain.write(CHILD, CTRL, 2, PM::CTRL_PME_ENABLE | D3HOT);
    assert_eq!(root_status(&mut domain), EXP::RTSTA_PME | REQUESTER);
}

#[test]
fn one_request_is_one_message_however_often_it_is_signalled() {
    let mut domain = armed(D3HOT);
    signal(&mut domain);
    signal(&mut domain);
    domain.write(CHILD, CTRL, 2, PM::CTRL_PME_ENABLE);
    assert_eq!(received(&domain), 1);
    domain.port_write(RTSTA, 4, EXP::RTSTA_PME);
    assert_eq!(root_status(&mut domain) & (EXP::RTSTA_PME | EXP::RTSTA_PENDING), 0);
    serve(&mut domain, 0);
    signal(&mut domain);
    assert_eq!(received(&domain), 2);
    assert_eq!(domain.messages().len(), 2);
}

#[test]
fn second_request_waits_behind_the_first_and_interrupts_by_itself() {
    let mut domain = armed(D3HOT);
    signal(&mut domain);
    serve(&mut domain, D3HOT);
    signal(&mut domain);
    assert_eq!(root_status(&mut domain), EXP::RTSTA_PME | EXP::RTSTA_PENDING | REQUESTER);
    assert_eq!(domain.messages().len(), 1, "the level was up already");
    domain.port_write(RTSTA + 2, 1, EXP::RTSTA_PME >> 16);
    assert_eq!(root_status(&mut domain), EXP::RTSTA_PME | REQUESTER);
    assert_eq!(domain.messages().len(), 1, "the next one is an edge");
    domain.port_write(RTSTA, 4, EXP::RTSTA_PME);
    assert_eq!(root_status(&mut domain) & !EXP::RTSTA_REQUESTER, 0);
    assert!(domain.messages().is_empty());
}

#[test]
fn pme_that_came_while_its_interrupt_was_off_interrupts_when_it_is_turned_on() {
    let mut domain = armed(D3HOT);
    domain.port_write(RTCTL, 2, 0);
    signal(&mut domain);
    assert!(domain.messages().is_empty());
    domain.port_write(RTCTL, 2, EXP::RTCTL_PMEIE);
    assert_eq!(domain.messages().len(), 1);
    // As Linux does: off in the handler, cleared, on again.
    domain.port_write(RTCTL, 2, 0);
    domain.port_write(RTSTA, 4, EXP::RTSTA_PME);
    domain.port_write(RTCTL, 2, EXP::RTCTL_PMEIE);
    assert!(domain.messages().is_empty());
}

#[test]
fn pme_and_hot_plug_share_a_message_and_neither_hides_the_other() {
    let mut domain = armed(D3HOT);
    domain.enable(EXP::SLTCTL_PDCE, true);
    domain.set_presence(false);
    assert_eq!(domain.messages().len(), 1);
    signal(&mut domain);
    assert_eq!(domain.messages().len(), 1, "beside an event that nobody has served");
    domain.port_write(RTSTA, 4, EXP::RTSTA_PME);
    assert!(domain.messages().is_empty());
}

#[test]
fn link_that_is_down_carries_no_message_and_reset_forgets_everything() {
    let mut domain = armed(D3HOT);
    domain.set_link(false);
    signal(&mut domain);
    assert_eq!((root_status(&mut domain), received(&domain)), (0, 0));
    domain.set_link(true);

    let mut domain = armed(D3HOT);
    signal(&mut domain);
    serve(&mut domain, D3HOT);
    signal(&mut domain);
    domain.with_port(|port, ctx| port.reset(ctx, ResetKind::Cold));
    assert_eq!(root_status(&mut domain), 0);
    domain.port_write(RTSTA, 4, EXP::RTSTA_PME);
    assert_eq!(root_status(&mut domain), 0, "nothing is pending");
    assert_eq!(domain.toy().config.power_state(), 0);
}

#[test]
fn d_states_are_told_once_each() {
    let mut domain = Domain::programmed();
    for state in [3, 3, 1, 0, 0, 2] {
        domain.write(CHILD, CTRL, 2, state);
    }
    let events: Vec<_> = domain.bench.log.events().collect();
    assert_eq!(events, [Event::D3hotEntered, Event::D0Entered]);
    domain.write(CHILD, CTRL, 2, 3);
    assert_eq!(domain.bus.port().slot().snapshot()["function"]["power-state"], "D3hot");
}

/// What a guest or the function can do to PME.
#[derive(Debug, Clone)]
enum Step {
    Pmcsr(u8, u32),
    RootControl(u32),
    RootStatus(u32),
    Signal,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u8..3, any::<u32>()).prop_map(|(which, value)| Step::Pmcsr(which, value)),
        any::<u32>().prop_map(Step::RootControl),
        any::<u32>().prop_map(Step::RootStatus),
        Just(Step::Signal),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    /// PMCSR and RTSTA change only where the specification says that they are writable; no order of events loses a PME: while
    /// the function asks, the port tells of it, or the guest has cleared that since.
    #[test]
    fn any_writes_change_only_writable_bits_and_lose_no_pme(steps in steps()) {
        let mut domain = armed(D3HOT);
        let mut told = 0;
        for step in steps {
            let pmcsr = domain.read(CHILD, CTRL, 4);
            let before = root_status(&mut domain);
            let enabled = domain.port_read(RTCTL, 2) & EXP::RTCTL_PMEIE != 0;
            match step {
                Step::Pmcsr(which, value) => {
                    let (at, size, mask) = [(CTRL, 1, 0xff), (CTRL, 2, 0xffff), (CTRL, 4, u32::MAX)][usize::from(which)];
                    domain.write(CHILD, at, size, value);
                    let after = domain.read(CHILD, CTRL, 4);
                    prop_assert_eq!((pmcsr ^ after) & !(mask & 0x8103), 0);
                    prop_assert!([0, D3HOT].contains(&(after & PM::CTRL_STATE_MASK)));
                    if value & mask & PM::CTRL_PME_STATUS != 0 {
                        prop_assert_eq!(after & PM::CTRL_PME_STATUS, 0);
                    }
                }
                Step::RootControl(value) => domain.port_write(RTCTL, 2, value),
                Step::RootStatus(value) => {
                    domain.port_write(RTSTA, 4, value);
                    if value & EXP::RTSTA_PME == 0 {
                        prop_assert_eq!(root_status(&mut domain), before);
                    }
                }
                Step::Signal => signal(&mut domain),
            }
            let after = root_status(&mut domain);
            // A message has come: RTSTA has it, or has it behind another.
            let now = received(&domain);
            if now > told {
                prop_assert!(after & EXP::RTSTA_PME != 0);
                prop_assert_eq!(after & EXP::RTSTA_PENDING != 0, before & EXP::RTSTA_PME != 0);
            }
            told = now;
            // An interrupt for each edge of "status and enabled".
            let active = domain.port_read(RTCTL, 2) & EXP::RTCTL_PMEIE != 0 && after & EXP::RTSTA_PME != 0;
            let was = enabled && before & EXP::RTSTA_PME != 0;
            let sent = domain.messages().len();
            prop_assert!(sent == 0 || active);
            prop_assert!(sent == 1 || !active || was);
        }
    }
}
