//! A function whose link is down, or whose BAR has vanished.

use sdmorph_pci::config::offset;
use sdmorph_pci::{Answer, Direction, DmaError, Event, ResetKind, Space};

use crate::toy::{BAR0, BAR0_BYTES, CHILD, DATA, Domain};

const PM_CTRL: u16 = 0x44;

/// Register, answer and direction of the accesses since the last call.
fn accesses(domain: &mut Domain) -> Vec<(Option<&'static str>, Answer, Direction)> {
    let seen = domain.bench.log.accesses().map(|access| (access.register, access.answer, access.direction));
    let seen = seen.collect();
    domain.bench.log.clear();
    seen
}

#[test]
fn link_that_falls_resets_the_function_once() {
    let mut domain = Domain::programmed();
    domain.memory_write(BAR0 + DATA, 4, 0x55);
    domain.set_link(false);
    domain.set_link(false);
    assert_eq!(domain.toy().resets, [ResetKind::Hot]);
    assert_eq!(domain.toy().data, 0);
    let events: Vec<_> = domain.bench.log.events().collect();
    assert_eq!(events, [Event::LinkDown, Event::Reset { kind: ResetKind::Hot }]);
}

#[test]
fn function_behind_a_dead_link_reads_all_ones_and_loses_writes() {
    let mut domain = Domain::programmed();
    domain.set_link(false);
    domain.bench.log.clear();
    for size in [1, 2, 4] {
        let ones = u32::MAX >> (32 - 8 * u32::from(size));
        assert_eq!(domain.read(CHILD, offset::VENDOR_ID, size), ones);
        assert_eq!(domain.memory_read(BAR0 + DATA, size), u64::from(ones));
    }
    assert_eq!(domain.memory_read(BAR0 + DATA, 8), u64::MAX);
    domain.write(CHILD, 0x3c, 1, 0x42);
    domain.memory_write(BAR0 + DATA, 4, 7);
    domain.set_link(true);
    assert_eq!(domain.toy().data, 0);
    assert_eq!(domain.read(CHILD, 0x3c, 1), 0);
}

#[test]
fn access_through_a_mapping_older_than_the_fall_is_one_to_the_function_s_register() {
    let mut domain = Domain::programmed();
    domain.set_link(false);
    domain.bench.log.clear();
    domain.memory_read(BAR0 + DATA, 4);
    domain.memory_write(BAR0 + DATA, 4, 1);
    let name = Some("DATA");
    assert_eq!(
        accesses(&mut domain),
        [(name, Answer::Dead, Direction::Read), (name, Answer::Dead, Direction::Write)]
    );
    domain.memory_read(BAR0 + BAR0_BYTES, 4);
    assert_eq!(accesses(&mut domain), [(None, Answer::Absent, Direction::Read)], "behind the BAR is nobody");
}

#[test]
fn mapping_of_before_the_fall_is_dead_until_a_guest_places_the_function_anew() {
    let mut domain = Domain::programmed();
    domain.set_link(false);
    domain.set_link(true);
    domain.bench.log.clear();
    assert_eq!(domain.memory_read(BAR0 + DATA, 4), 0xffff_ffff);
    assert_eq!(accesses(&mut domain), [(Some("DATA"), Answer::Dead, Direction::Read)]);
    // Nothing is placed at the next fall: it is still the mapping of before.
    domain.set_link(false);
    domain.set_link(true);
    domain.write(CHILD, offset::COMMAND, 2, 6);
    domain.bench.log.clear();
    domain.memory_write(BAR0 + DATA, 4, 7);
    assert_eq!(accesses(&mut domain), [(Some("DATA"), Answer::Dead, Direction::Write)]);
    // Somewhere else: where it was, nobody is.
    domain.write(CHILD, offset::BASE_ADDRESS_0, 4, 0);
    domain.bench.log.clear();
    assert_eq!(domain.memory_read(BAR0 + DATA, 4), 0xffff_ffff);
    assert_eq!(accesses(&mut domain), [(None, Answer::Absent, Direction::Read)]);
    domain.program_child();
    assert_eq!(domain.memory_read(BAR0 + DATA, 4), 0);
}

#[test]
fn function_that_decoded_nothing_when_the_link_fell_is_not_asked_for() {
    let mut domain = Domain::programmed();
    domain.write(CHILD, offset::COMMAND, 2, 0);
    domain.set_link(false);
    domain.bench.log.clear();
    assert_eq!(domain.memory_read(BAR0 + DATA, 4), 0xffff_ffff);
    assert_eq!(accesses(&mut domain), [(None, Answer::Absent, Direction::Read)]);
}

#[test]
fn vanished_bar_reads_all_ones_while_configuration_space_is_alive() {
    let mut domain = Domain::programmed();
    domain.memory_write(BAR0 + DATA, 4, 0x55);
    domain.with_port(|port, ctx| port.set_bar_vanished(ctx, true));
    domain.bench.log.clear();
    assert_eq!(domain.memory_read(BAR0 + DATA, 4), 0xffff_ffff);
    domain.memory_write(BAR0 + DATA, 4, 7);
    assert_eq!(
        accesses(&mut domain),
        [(Some("DATA"), Answer::Dead, Direction::Read), (Some("DATA"), Answer::Dead, Direction::Write)]
    );
    assert_eq!(domain.read(CHILD, offset::VENDOR_ID, 4), 0x5678_1234);
    assert!(domain.link_is_active());
    assert!(domain.toy().resets.is_empty());
    domain.with_port(|port, ctx| port.set_bar_vanished(ctx, false));
    assert_eq!(domain.memory_read(BAR0 + DATA, 4), 0x55, "the write was lost");
}

#[test]
fn bar_that_vanishes_twice_is_one_event() {
    let mut domain = Domain::programmed();
    for vanished in [true, true, false, false] {
        domain.with_port(|port, ctx| port.set_bar_vanished(ctx, vanished));
    }
    let events: Vec<_> = domain.bench.log.events().collect();
    assert_eq!(events, [Event::BarVanished, Event::BarReturned]);
}

#[test]
fn bar_of_a_function_in_d3hot_is_dead_and_comes_back_in_d0() {
    let mut domain = Domain::programmed();
    domain.memory_write(BAR0 + DATA, 4, 0x55);
    domain.write(CHILD, PM_CTRL, 2, 3);
    domain.bench.log.clear();
    assert_eq!(domain.memory_read(BAR0 + DATA, 4), 0xffff_ffff);
    assert_eq!(accesses(&mut domain), [(Some("DATA"), Answer::Dead, Direction::Read)]);
    assert_eq!(domain.dma(), Err(DmaError::NotBusMaster));
    domain.write(CHILD, PM_CTRL, 2, 0);
    assert_eq!(domain.memory_read(BAR0 + DATA, 4), 0x55);
}

#[test]
fn accesses_are_reported_with_space_and_offset_in_the_bar() {
    let mut domain = Domain::programmed();
    domain.memory_read(BAR0 + 0x123, 1);
    let access = domain.bench.log.accesses().next().unwrap();
    assert_eq!((access.space, access.offset, access.size), (Space::Bar(0), 0x123, 1));
    assert_eq!(access.answer, Answer::Unmodelled);
}
