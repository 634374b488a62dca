//! MSI: a message on each rising edge of "wanted, enabled, and allowed to master the bus".

use sdmorph_pci::config::{command, offset};
use sdmorph_pci::{Message, PciFunction, ResetKind};

use crate::toy::{CHILD, Domain};

const MSI: u16 = 0x50;

fn domain() -> Domain {
    let mut domain = Domain::programmed();
    domain.write(CHILD, MSI + 4, 4, 0xfee0_0000);
    domain.write(CHILD, MSI + 8, 4, 1);
    domain.write(CHILD, MSI + 0xc, 2, 0x77);
    domain
}

fn enable(domain: &mut Domain, on: bool) {
    domain.write(CHILD, MSI + 2, 2, u32::from(on));
}

fn set_level(domain: &mut Domain, level: bool) {
    domain.with_toy(|toy, ctx| toy.set_interrupt(ctx, level));
}

fn master(domain: &mut Domain, on: bool) {
    let bits = if on { command::MEMORY | command::MASTER } else { command::MEMORY };
    domain.write(CHILD, offset::COMMAND, 2, u32::from(bits));
}

#[test]
fn message_carries_the_programmed_address_and_data() {
    let mut domain = domain();
    enable(&mut domain, true);
    set_level(&mut domain, true);
    assert_eq!(domain.messages(), [Message { vector: 0, address: 0x1_fee0_0000, data: 0x77 }]);
}

#[test]
fn message_is_sent_once_for_each_rising_edge() {
    let mut domain = domain();
    enable(&mut domain, true);
    set_level(&mut domain, true);
    set_level(&mut domain, true);
    assert_eq!(domain.messages().len(), 1);
    set_level(&mut domain, false);
    assert!(domain.messages().is_empty());
    set_level(&mut domain, true);
    assert_eq!(domain.messages().len(), 1);
}

#[test]
fn condition_that_came_up_while_disabled_is_sent_when_enabled() {
    let mut domain = domain();
    set_level(&mut domain, true);
    assert!(domain.messages().is_empty());
    enable(&mut domain, true);
    assert_eq!(domain.messages().len(), 1);
}

#[test]
fn condition_that_went_away_while_disabled_is_not_sent() {
    let mut domain = domain();
    set_level(&mut domain, true);
    set_level(&mut domain, false);
    enable(&mut domain, true);
    assert!(domain.messages().is_empty());
}

#[test]
fn condition_that_came_up_without_bus_mastering_is_sent_once_it_is_on() {
    let mut domain = domain();
    enable(&mut domain, true);
    master(&mut domain, false);
    set_level(&mut domain, true);
    assert!(domain.messages().is_empty());
    master(&mut domain, true);
    assert_eq!(domain.messages().len(), 1);
    master(&mut domain, false);
    master(&mut domain, true);
    assert!(domain.messages().is_empty(), "the same edge is not sent twice");
}

#[test]
fn port_without_bus_mastering_lets_no_message_of_the_function_up() {
    let mut domain = domain();
    enable(&mut domain, true);
    domain.port_write(offset::COMMAND, 2, u32::from(command::MEMORY));
    set_level(&mut domain, true);
    assert!(domain.messages().is_empty());
}

#[test]
fn reset_turns_the_message_off_and_forgets_the_condition() {
    let mut domain = domain();
    set_level(&mut domain, true);
    domain.with_port(|port, ctx| port.reset(ctx, ResetKind::Cold));
    assert_eq!(domain.toy().config.read(MSI + 2, 2), 0x80, "64-bit capable, off");
    domain.port_write(offset::PRIMARY_BUS, 4, 0x0001_0100);
    domain.port_write(offset::COMMAND, 2, u32::from(command::MASTER));
    master(&mut domain, true);
    enable(&mut domain, true);
    assert!(domain.messages().is_empty());
}
