//! Errors at the function and at the port: AER, and DPC.

use sdmorph_pci::capability::{AerError, DPC, ERR, EXP, Severity};
use sdmorph_pci::config::{command, offset};
use sdmorph_pci::register::check_table;
use sdmorph_pci::{Event, PciFunction};

use crate::toy::{CHILD, Domain, EXPRESS};

/// AER of the function and of the port, and the port's DPC.
const AER: u16 = 0x100;
const CONTAINMENT: u16 = 0x150;
const BRIDGE_SERR: u32 = 1 << 1;
/// Error reporting of all three kinds.
const REPORTING: u32 = EXP::DEVCTL_CERE | EXP::DEVCTL_NFERE | EXP::DEVCTL_FERE;
const ALL_COMMANDS: u32 = ERR::ROOT_CMD_COR_EN | ERR::ROOT_CMD_NONFATAL_EN | ERR::ROOT_CMD_FATAL_EN;
const PORT_ID: u32 = 0x00e0;
const CHILD_ID: u32 = 0x0100;

fn error(name: &str) -> &'static AerError {
    AerError::by_name(name).unwrap()
}

/// As Linux sets it up: everything is reported, forwarded and interrupts.
fn reporting(words: &[&str]) -> Domain {
    let mut domain = Domain::programmed_with(words);
    domain.write(CHILD, EXPRESS + EXP::DEVCTL, 2, REPORTING);
    domain.port_write(EXPRESS + EXP::DEVCTL, 2, REPORTING);
    domain.port_write(offset::BRIDGE_CONTROL, 2, BRIDGE_SERR);
    domain.port_write(AER + ERR::ROOT_COMMAND, 4, ALL_COMMANDS);
    domain
}

fn below(domain: &mut Domain, name: &str) {
    domain.with_port(|port, ctx| port.detect_error_below(ctx, error(name)));
}

fn at_port(domain: &mut Domain, name: &str) {
    domain.with_port(|port, ctx| port.detect_error(ctx, error(name)));
}

fn root_status(domain: &mut Domain) -> u32 {
    domain.port_read(AER + ERR::ROOT_STATUS, 4)
}

fn sources(domain: &mut Domain) -> (u32, u32) {
    (domain.port_read(AER + ERR::ROOT_COR_SRC, 2), domain.port_read(AER + ERR::ROOT_UNCOR_SRC, 2))
}

/// The message of each error detected so far.
fn sent(domain: &Domain) -> Vec<Option<Severity>> {
    let message = |event| match event {
        Event::ErrorDetected { message, .. } => Some(message),
        _ => None,
    };
    domain.bench.log.events().filter_map(message).collect()
}

#[test]
fn every_error_has_a_bit_of_its_own_in_the_register_of_its_kind() {
    for error in AerError::ALL {
        let mut domain = reporting(&["aer"]);
        below(&mut domain, error.name);
        let (status, other) = if error.correctable {
            (ERR::COR_STATUS, ERR::UNCOR_STATUS)
        } else {
            (ERR::UNCOR_STATUS, ERR::COR_STATUS)
        };
        assert_eq!(domain.read(CHILD, AER + status, 4), 1 << error.bit, "{}", error.name);
        assert_eq!(domain.read(CHILD, AER + other, 4), 0, "{}", error.name);
        domain.write(CHILD, AER + status, 4, 1 << error.bit);
        assert_eq!(domain.read(CHILD, AER + status, 4), 0, "{} can be cleared", error.name);
    }
    let mut names: Vec<_> = AerError::ALL.iter().map(|error| error.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), AerError::ALL.len());
}

#[test]
fn uncorrectable_error_below_is_reported_with_its_source_and_interrupts() {
    let mut domain = reporting(&["aer"]);
    below(&mut domain, "UNSUP");
    let devsta = domain.read(CHILD, EXPRESS + EXP::DEVSTA, 2);
    assert_eq!(devsta, EXP::DEVSTA_NFED | EXP::DEVSTA_URD);
    assert_eq!(domain.read(CHILD, AER + ERR::CAP, 4) & ERR::CAP_FEP, 20, "first error pointer");
    assert_eq!(root_status(&mut domain), ERR::ROOT_UNCOR_RCV | ERR::ROOT_NONFATAL_RCV);
    assert_eq!(sources(&mut domain), (0, CHILD_ID));
    assert_eq!(domain.port_read(offset::SEC_STATUS, 2), 1 << 14, "received system error");
    assert_eq!(domain.messages().len(), 1);
    assert_eq!(sent(&domain), [Some(Severity::NonFatal)]);
}

#[test]
fn second_error_leaves_source_and_pointer_and_says_that_there_were_several() {
    let mut domain = reporting(&["aer"]);
    below(&mut domain, "COMP_TIME");
    at_port(&mut domain, "DLP");
    below(&mut domain, "RX_OVER");
    assert_eq!(
        root_status(&mut domain),
        ERR::ROOT_UNCOR_RCV | ERR::ROOT_MULTI_UNCOR_RCV | ERR::ROOT_NONFATAL_RCV | ERR::ROOT_FATAL_RCV
    );
    assert_eq!(sources(&mut domain), (0, CHILD_ID));
    assert_eq!(domain.read(CHILD, AER + ERR::CAP, 4) & ERR::CAP_FEP, 14);
    domain.port_write(AER + ERR::ROOT_STATUS, 4, 0x7f);
    assert_eq!(root_status(&mut domain), 0);
    at_port(&mut domain, "DLP");
    assert_eq!(root_status(&mut domain), ERR::ROOT_UNCOR_RCV | ERR::ROOT_FATAL_RCV | ERR::ROOT_FIRST_FATAL);
    assert_eq!(sources(&mut domain), (0, PORT_ID));
}

#[test]
fn correctable_errors_have_a_source_of_their_own() {
    let mut domain = reporting(&["aer"]);
    below(&mut domain, "BAD_TLP");
    at_port(&mut domain, "RCVR");
    assert_eq!(root_status(&mut domain), ERR::ROOT_COR_RCV | ERR::ROOT_MULTI_COR_RCV);
    assert_eq!(sources(&mut domain), (CHILD_ID, 0));
    assert_eq!(domain.port_read(offset::SEC_STATUS, 2), 0);
    assert_eq!(domain.messages().len(), 1);
}

#[test]
fn severity_is_the_guest_s_to_choose() {
    let mut domain = reporting(&["aer"]);
    domain.write(CHILD, AER + ERR::UNCOR_SEVER, 4, 1 << 20);
    below(&mut domain, "UNSUP");
    below(&mut domain, "DLP");
    assert_eq!(sent(&domain), [Some(Severity::Fatal), Some(Severity::NonFatal)]);
}

#[test]
fn error_that_is_masked_or_not_reported_shows_in_the_status_and_is_not_sent() {
    let mut domain = reporting(&["aer"]);
    domain.write(CHILD, AER + ERR::UNCOR_MASK, 4, 1 << 20);
    below(&mut domain, "UNSUP");
    domain.write(CHILD, EXPRESS + EXP::DEVCTL, 2, 0);
    below(&mut domain, "COMP_TIME");
    assert_eq!(domain.read(CHILD, AER + ERR::UNCOR_STATUS, 4), 1 << 20 | 1 << 14);
    assert_eq!(domain.read(CHILD, AER + ERR::CAP, 4) & ERR::CAP_FEP, 14, "a masked one is not the first");
    assert_eq!(root_status(&mut domain), 0);
    assert!(domain.messages().is_empty());
    let serr = u32::from(command::MEMORY | command::MASTER | command::SERR);
    domain.write(CHILD, offset::COMMAND, 2, serr);
    below(&mut domain, "COMP_TIME");
    below(&mut domain, "RCVR");
    assert_eq!(
        sent(&domain),
        [None, None, Some(Severity::NonFatal), None],
        "SERR# is for uncorrectable ones"
    );
}

#[test]
fn message_needs_the_link_and_the_bridge_that_forwards_it() {
    let mut domain = reporting(&["aer"]);
    domain.port_write(offset::BRIDGE_CONTROL, 2, 0);
    below(&mut domain, "UNSUP");
    assert_eq!(root_status(&mut domain), 0);
    domain.port_write(offset::BRIDGE_CONTROL, 2, BRIDGE_SERR);
    domain.set_link(false);
    below(&mut domain, "UNSUP");
    assert_eq!(root_status(&mut domain), 0);
    assert!(domain.messages().is_empty());
}

#[test]
fn each_root_command_bit_lets_its_kind_interrupt() {
    for (enable, name) in [
        (ERR::ROOT_CMD_COR_EN, "BAD_DLLP"),
        (ERR::ROOT_CMD_NONFATAL_EN, "COMP_ABORT"),
        (ERR::ROOT_CMD_FATAL_EN, "MALF_TLP"),
    ] {
        let mut domain = reporting(&["aer"]);
        domain.port_write(AER + ERR::ROOT_COMMAND, 4, ALL_COMMANDS & !enable);
        below(&mut domain, name);
        assert!(domain.messages().is_empty(), "{name}");
        domain.port_write(AER + ERR::ROOT_COMMAND, 4, enable);
        assert_eq!(domain.messages().len(), 1, "{name}: when it is enabled");
    }
}

#[test]
fn port_without_aer_has_none_and_hears_nothing() {
    let mut domain = reporting(&[]);
    assert_eq!(domain.port_read(AER, 4), 0);
    at_port(&mut domain, "DLP");
    below(&mut domain, "UNSUP");
    assert_eq!(domain.read(CHILD, AER + ERR::UNCOR_STATUS, 4), 1 << 20, "the function has it");
    assert!(domain.messages().is_empty());
    assert_eq!(domain.events(), ["error-detected"]);
}

#[test]
fn capabilities_are_linked_as_a_guest_looks_for_them() {
    let mut domain = Domain::programmed_with(&["aer"]);
    assert_eq!(domain.port_read(AER, 4), 0x0002_0001);
    let mut domain = Domain::programmed_with(&["dpc"]);
    assert_eq!(domain.port_read(AER, 4), 0x1502_0001);
    assert_eq!(domain.port_read(CONTAINMENT, 4), 0x0001_001d);
    assert_eq!(check_table(domain.bus.port().config().rows()), Vec::<String>::new());
}

fn containing(enable: u32) -> Domain {
    let mut domain = reporting(&["dpc"]);
    domain.port_write(CONTAINMENT + DPC::CTL, 2, enable | DPC::CTL_INT_EN);
    domain
}

fn containment(domain: &mut Domain) -> u32 {
    domain.port_read(CONTAINMENT + DPC::STATUS, 2)
}

#[test]
fn message_that_is_contained_takes_the_link_down_until_the_guest_lets_it_go() {
    let mut domain = containing(DPC::CTL_EN_NONFATAL);
    below(&mut domain, "COMP_TIME");
    assert_eq!(containment(&mut domain), DPC::STATUS_TRIGGER | DPC::STATUS_INTERRUPT | 1 << 1);
    assert_eq!(domain.port_read(CONTAINMENT + DPC::SOURCE_ID, 2), CHILD_ID);
    assert_eq!(root_status(&mut domain), 0, "it goes no further");
    assert!(!domain.link_is_active());
    assert_eq!(domain.slot_status() & EXP::SLTSTA_DLLSC, EXP::SLTSTA_DLLSC);
    assert_eq!(domain.messages().len(), 1);
    domain.set_link(true);
    assert!(!domain.link_is_active(), "the port holds it");
    domain.clear(0xffff);
    domain.port_write(CONTAINMENT + DPC::STATUS, 2, DPC::STATUS_INTERRUPT);
    assert!(!domain.link_is_active());
    domain.port_write(CONTAINMENT + DPC::STATUS, 2, DPC::STATUS_TRIGGER);
    assert!(domain.link_is_active());
    assert_eq!(domain.slot_status() & EXP::SLTSTA_DLLSC, EXP::SLTSTA_DLLSC);
    assert_eq!(domain.events(), ["error-detected", "contained", "link-down", "reset", "link-up"]);
}

#[test]
fn fatal_enable_contains_fatal_errors_only_and_correctable_ones_are_never_contained() {
    let mut domain = containing(DPC::CTL_EN_FATAL);
    below(&mut domain, "COMP_TIME");
    below(&mut domain, "BAD_TLP");
    assert!(domain.link_is_active());
    below(&mut domain, "MALF_TLP");
    assert_eq!(containment(&mut domain), DPC::STATUS_TRIGGER | DPC::STATUS_INTERRUPT | 2 << 1);
    let mut domain = containing(DPC::CTL_EN_NONFATAL);
    below(&mut domain, "BAD_TLP");
    assert!(domain.link_is_active());
}

#[test]
fn error_of_the_port_itself_is_contained_and_reported() {
    let mut domain = containing(DPC::CTL_EN_NONFATAL);
    at_port(&mut domain, "SDN");
    assert_eq!(containment(&mut domain), DPC::STATUS_TRIGGER | DPC::STATUS_INTERRUPT);
    assert_ne!(root_status(&mut domain) & ERR::ROOT_FATAL_RCV, 0);
    assert!(!domain.link_is_active());
}

#[test]
fn software_trigger_contains_if_containment_is_on_and_reads_as_zero() {
    for by_guest in [false, true] {
        let trigger = |domain: &mut Domain, enable: u32| {
            if by_guest {
                domain.port_write(CONTAINMENT + DPC::CTL, 2, enable | DPC::CTL_SW_TRIGGER);
            } else {
                domain.with_port(|port, ctx| port.trigger_containment(ctx));
            }
        };
        let mut domain = reporting(&["dpc"]);
        trigger(&mut domain, 0);
        assert_eq!(containment(&mut domain), 0, "it is off");
        let mut domain = containing(DPC::CTL_EN_FATAL);
        trigger(&mut domain, DPC::CTL_EN_FATAL);
        assert_eq!(containment(&mut domain), DPC::STATUS_TRIGGER | DPC::STATUS_INTERRUPT | 3 << 1 | 1 << 5);
        assert_eq!(domain.port_read(CONTAINMENT + DPC::CTL, 2) & DPC::CTL_SW_TRIGGER, 0);
        assert!(!domain.link_is_active());
    }
}
