//! The root port: hot-plug status, its interrupt, and the guest's hold on the link.

use proptest::prelude::*;
use sdmorph_pci::capability::EXP;
use sdmorph_pci::config::offset;
use sdmorph_pci::register::check_table;
use sdmorph_pci::{Event, PciFunction, ResetKind};

use crate::toy::{Domain, EXPRESS};

const DLLSC: u32 = EXP::SLTSTA_DLLSC;
const PDC: u32 = EXP::SLTSTA_PDC;
const PDS: u32 = EXP::SLTSTA_PDS;
const EVENTS: u32 = EXP::SLTCTL_DLLSCE | EXP::SLTCTL_PDCE;
const BUS_RESET: u32 = 1 << 6;

#[test]
fn slot_is_what_the_report_has() {
    let mut domain = Domain::new();
    let sltcap = domain.port_read(EXPRESS + 0x14, 4);
    assert_eq!(sltcap >> 19, 8, "Slot(8)");
    assert_eq!(sltcap & 0x0007_ffff, 1 << 5 | 1 << 6 | 1 << 18, "surprise, capable, no command completed");
    assert_eq!(domain.port_read(EXPRESS + 2, 2) & 0x1f0, 0x140, "root port with a slot");
    assert_eq!(domain.port_read(EXPRESS + 0xc, 4) >> 20 & 1, 1, "DLLLA reporting");
    assert_eq!(check_table(domain.bus.port().config().rows()), Vec::<String>::new());
}

#[test]
fn presence_and_link_show_what_the_slot_holds() {
    let mut domain = Domain::programmed();
    assert_eq!(domain.slot_status(), PDS);
    assert!(domain.link_is_active());
    domain.set_link(false);
    assert_eq!(domain.slot_status(), PDS | DLLSC);
    assert!(!domain.link_is_active());
    domain.set_presence(false);
    assert_eq!(domain.slot_status(), DLLSC | PDC);
}

#[test]
fn derived_status_ignores_what_a_guest_writes() {
    let mut domain = Domain::programmed();
    domain.clear(0xffff);
    domain.port_write(EXPRESS + EXP::LNKSTA, 2, 0xffff);
    assert_eq!(domain.slot_status(), PDS);
    assert!(domain.link_is_active());
    assert_eq!(domain.port_read(EXPRESS + EXP::LNKSTA, 2) & 0x3ff, 0x13, "8 GT/s, one lane");
}

#[test]
fn snapshot_shows_the_status_that_a_guest_would_read() {
    let mut domain = Domain::programmed();
    domain.set_link(false);
    domain.set_presence(false);
    let before = domain.bus.port().snapshot();
    let status = format!("{:#06x}", domain.slot_status());
    assert_eq!(before["config"]["SLTSTA"], status.as_str());
    assert_eq!(before, domain.bus.port().snapshot(), "reading changes nothing");
}

#[test]
fn same_state_again_is_no_event() {
    let mut domain = Domain::programmed();
    domain.enable(EVENTS, true);
    domain.set_link(true);
    domain.set_presence(true);
    assert_eq!(domain.slot_status(), PDS);
    assert!(domain.messages().is_empty());
    assert_eq!(domain.bench.log.events().count(), 0);
}

#[test]
fn event_bit_is_cleared_by_writing_one_and_only_then() {
    let mut domain = Domain::programmed();
    domain.set_link(false);
    domain.set_presence(false);
    domain.clear(0);
    assert_eq!(domain.slot_status(), DLLSC | PDC);
    domain.clear(PDC);
    assert_eq!(domain.slot_status(), DLLSC);
    domain.port_write(EXPRESS + EXP::SLTSTA + 1, 1, DLLSC >> 8);
    assert_eq!(domain.slot_status(), 0);
}

#[test]
fn dword_write_to_slot_control_leaves_events_alone_and_clears_those_it_names() {
    let mut domain = Domain::programmed();
    domain.set_link(false);
    domain.set_presence(false);
    domain.port_write(EXPRESS + EXP::SLTCTL, 4, EVENTS);
    assert_eq!(domain.slot_status(), DLLSC | PDC);
    domain.port_write(EXPRESS + EXP::SLTCTL, 4, DLLSC << 16 | EVENTS);
    assert_eq!(domain.slot_status(), PDC);
    assert_eq!(domain.port_read(EXPRESS + EXP::SLTCTL, 2), EVENTS);
}

#[test]
fn event_between_read_and_clear_is_not_lost() {
    let mut domain = Domain::programmed();
    domain.enable(EVENTS, true);
    domain.set_link(false);
    assert_eq!(domain.messages().len(), 1);
    let read = domain.slot_status();
    domain.set_presence(false);
    assert!(domain.messages().is_empty(), "the level was up already");
    domain.clear(read);
    assert_eq!(domain.slot_status(), PDC, "what came in between is still there");
    domain.clear(PDC);
    domain.set_presence(true);
    assert_eq!(domain.messages().len(), 1, "and after a clear there is an edge again");
}

#[test]
fn each_event_interrupts_by_its_own_enable_only() {
    for (enable, status) in [(EXP::SLTCTL_DLLSCE, DLLSC), (EXP::SLTCTL_PDCE, PDC)] {
        let mut domain = Domain::programmed();
        domain.enable(enable, true);
        domain.set_link(false);
        assert_eq!(domain.messages().len(), usize::from(status == DLLSC));
        domain.set_presence(false);
        assert_eq!(domain.messages().len(), usize::from(status == PDC));
    }
}

#[test]
fn events_that_no_enable_selects_do_not_interrupt() {
    // Attention button, power fault, MRL sensor, command completed.
    let mut domain = Domain::programmed();
    domain.enable(0x17, true);
    domain.set_link(false);
    domain.set_presence(false);
    assert!(domain.messages().is_empty());
    assert_eq!(domain.slot_status(), DLLSC | PDC, "they are latched all the same");
}

#[test]
fn event_that_came_while_interrupts_were_off_is_sent_when_they_are_turned_on() {
    let mut domain = Domain::programmed();
    domain.enable(EVENTS, false);
    domain.set_link(false);
    assert!(domain.messages().is_empty());
    domain.enable(EVENTS, true);
    let messages = domain.messages();
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].address, messages[0].data), (0xfee0_1000, 0x55));
}

#[test]
fn event_that_was_cleared_while_interrupts_were_off_is_not_sent() {
    let mut domain = Domain::programmed();
    domain.enable(EVENTS, false);
    domain.set_link(false);
    domain.clear(DLLSC);
    domain.enable(EVENTS, true);
    assert!(domain.messages().is_empty());
}

#[test]
fn secondary_bus_reset_resets_the_function_once_for_each_rising_edge_and_is_no_event() {
    let mut domain = Domain::programmed();
    domain.enable(EVENTS, true);
    domain.port_write(offset::BRIDGE_CONTROL, 2, BUS_RESET);
    domain.port_write(offset::BRIDGE_CONTROL, 2, BUS_RESET | 1);
    domain.port_write(offset::BRIDGE_CONTROL, 1, BUS_RESET);
    assert_eq!(domain.toy().resets, [ResetKind::Hot]);
    domain.port_write(offset::BRIDGE_CONTROL, 2, 0);
    // A dword write that begins at another register.
    domain.port_write(0x3c, 4, BUS_RESET << 16);
    assert_eq!(domain.toy().resets, [ResetKind::Hot; 2]);
    assert_eq!(domain.slot_status(), PDS);
    assert!(domain.link_is_active());
    assert!(domain.messages().is_empty());
}

#[test]
fn link_disable_drops_the_link_and_enable_brings_it_back_each_with_an_event() {
    let mut domain = Domain::programmed();
    domain.enable(EVENTS, true);
    domain.port_write(EXPRESS + EXP::LNKCTL, 2, EXP::LNKCTL_LD);
    assert!(!domain.link_is_active());
    assert_eq!(domain.slot_status(), PDS | DLLSC);
    assert_eq!(domain.toy().resets, [ResetKind::Hot]);
    assert_eq!(domain.messages().len(), 1);
    domain.clear(DLLSC);
    domain.port_write(EXPRESS + EXP::LNKCTL, 2, 0);
    assert!(domain.link_is_active());
    assert_eq!(domain.slot_status(), PDS | DLLSC);
    assert_eq!(domain.messages().len(), 1);
    assert_eq!(domain.toy().resets.len(), 1, "a link that comes up resets nothing");
    let events: Vec<_> = domain.bench.log.events().map(|event| event.name()).collect();
    assert_eq!(events, ["link-down", "reset", "link-up"]);
}

#[test]
fn link_that_fell_on_its_own_stays_down_when_the_guest_enables_it() {
    let mut domain = Domain::programmed();
    domain.port_write(EXPRESS + EXP::LNKCTL, 2, EXP::LNKCTL_LD);
    domain.clear(DLLSC);
    domain.set_link(false);
    assert_eq!(domain.slot_status(), PDS, "the link was down already");
    domain.port_write(EXPRESS + EXP::LNKCTL, 2, 0);
    assert!(!domain.link_is_active());
    domain.set_link(true);
    assert_eq!(domain.slot_status(), PDS | DLLSC);
}

#[test]
fn reset_clears_what_is_latched_and_lets_the_link_go() {
    let mut domain = Domain::programmed();
    domain.enable(EVENTS, true);
    domain.port_write(EXPRESS + EXP::LNKCTL, 2, EXP::LNKCTL_LD);
    domain.with_port(|port, ctx| port.reset(ctx, ResetKind::Hot));
    assert_eq!(domain.slot_status(), PDS);
    assert!(domain.link_is_active());
    assert_eq!(domain.port_read(EXPRESS + EXP::SLTCTL, 2), 0);
    assert_eq!(domain.port_read(offset::PRIMARY_BUS, 4), 0);
    let fresh = Domain::new();
    assert_eq!(domain.bus.port().snapshot()["config"], fresh.bus.port().snapshot()["config"]);
}

#[test]
fn wake_reaches_the_function() {
    let mut domain = Domain::programmed();
    domain.with_port(|port, ctx| port.wake(ctx));
    assert_eq!(domain.toy().wakes, 1);
}

#[test]
fn event_names_are_those_that_events_have() {
    for event in [Event::LinkDown, Event::PresenceChanged { present: true }, Event::DriverBound] {
        assert!(Event::NAMES.contains(&event.name()));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Link(bool),
    Presence(bool),
    Enable(u32, bool),
    Clear(u32),
    Disable(bool),
}

proptest! {
    /// The interrupt is edge-triggered; what a guest needs is that no event is ever pending, enabled and unannounced.
    #[test]
    fn guest_that_clears_what_it_reads_hears_of_every_event(steps in prop::collection::vec(prop_oneof![
        any::<bool>().prop_map(Step::Link),
        any::<bool>().prop_map(Step::Presence),
        (prop::sample::select(vec![0, PDC, EXP::SLTCTL_DLLSCE, EVENTS]), any::<bool>())
            .prop_map(|(events, interrupt)| Step::Enable(events, interrupt)),
        any::<u32>().prop_map(Step::Clear),
        any::<bool>().prop_map(Step::Disable),
    ], 0..60)) {
        let mut domain = Domain::programmed();
        let level = |domain: &mut Domain| {
            let control = domain.port_read(EXPRESS + EXP::SLTCTL, 2);
            let status = domain.slot_status();
            let link = control & EXP::SLTCTL_DLLSCE != 0 && status & DLLSC != 0;
            control & EXP::SLTCTL_HPIE != 0 && (link || control & status & PDC != 0)
        };
        for step in steps {
            let before = level(&mut domain);
            match step {
                Step::Link(up) => domain.set_link(up),
                Step::Presence(present) => domain.set_presence(present),
                Step::Enable(events, interrupt) => domain.enable(events, interrupt),
                Step::Clear(events) => domain.clear(events & 0xffff),
                Step::Disable(on) => {
                    domain.port_write(EXPRESS + EXP::LNKCTL, 2, if on { EXP::LNKCTL_LD } else { 0 });
                }
            }
            let rose = !before && level(&mut domain);
            prop_assert_eq!(domain.messages().len(), usize::from(rose));
            let slot = domain.bus.port().slot();
            let (present, active) = (slot.is_present(), slot.link_active());
            prop_assert_eq!(domain.slot_status() & PDS != 0, present);
            prop_assert_eq!(domain.link_is_active(), active);
        }
    }
}
