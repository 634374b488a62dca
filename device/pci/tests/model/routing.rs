//! Who an access is for: bus numbers, windows, and the enable bits on the way.

use sdmorph_pci::config::{command, offset};
use sdmorph_pci::topology::RoutedId;
use sdmorph_pci::{Answer, DmaError};

use crate::toy::{BAR0, CHILD, DATA, Domain};

const VENDOR: u32 = 0x1234;
const NOBODY: u32 = 0xffff;
const MEMORY: u32 = command::MEMORY as u32;
const MASTER: u32 = command::MASTER as u32;

fn vendor(domain: &mut Domain, bus: u8, devfn: u8) -> u32 {
    domain.read(RoutedId { bus, devfn }, offset::VENDOR_ID, 2)
}

#[test]
fn bus_scan_after_power_on_finds_the_port_and_nothing_else() {
    let mut domain = Domain::new();
    for devfn in 0..=255u8 {
        let found = vendor(&mut domain, 0, devfn);
        assert_eq!(found, if devfn == 0x1c << 3 { 0x1b36 } else { NOBODY }, "{devfn:#x}");
        assert_eq!(vendor(&mut domain, 1, devfn), NOBODY);
    }
    let unmodelled = domain.bench.log.unmodelled();
    assert!(unmodelled.is_empty(), "{unmodelled:?}");
}

#[test]
fn function_answers_at_device_0_of_the_secondary_bus_only() {
    let mut domain = Domain::programmed();
    assert_eq!(vendor(&mut domain, 1, 0), VENDOR);
    for (bus, devfn) in [(1, 1), (1, 8), (2, 0), (0, 0)] {
        assert_eq!(vendor(&mut domain, bus, devfn), NOBODY, "{bus:02x}:{devfn:02x}");
    }
}

#[test]
fn function_follows_when_the_guest_renumbers_buses() {
    let mut domain = Domain::programmed();
    domain.port_write(offset::SECONDARY_BUS, 1, 5);
    domain.port_write(offset::SUBORDINATE_BUS, 1, 6);
    assert_eq!(vendor(&mut domain, 1, 0), NOBODY);
    assert_eq!(vendor(&mut domain, 5, 0), VENDOR);
    assert_eq!(vendor(&mut domain, 6, 0), NOBODY, "below the port, but not right below it");
    domain.port_write(offset::SUBORDINATE_BUS, 1, 4);
    assert_eq!(vendor(&mut domain, 5, 0), NOBODY, "an empty range of buses");
}

#[test]
fn write_to_nobody_is_lost_and_reported_as_absent() {
    let mut domain = Domain::programmed();
    domain.write(RoutedId { bus: 1, devfn: 8 }, offset::COMMAND, 2, 7);
    domain.memory_write(BAR0 - 4, 4, 7);
    let answers: Vec<_> = domain.bench.log.accesses().map(|access| access.answer).collect();
    assert_eq!(answers, [Answer::Absent; 2]);
}

#[test]
fn memory_access_goes_through_the_window_to_the_bar() {
    let mut domain = Domain::programmed();
    domain.memory_write(BAR0 + DATA, 4, 0x1234_5678);
    assert_eq!(domain.memory_read(BAR0 + DATA, 4), 0x1234_5678);
    assert_eq!(domain.memory_read(BAR0 + 0x20, 8), 0x20);
}

#[test]
fn window_whose_base_is_above_its_limit_decodes_nothing() {
    let mut domain = Domain::programmed();
    domain.port_write(offset::MEMORY_BASE, 4, 0xdff0_e000);
    assert_eq!(domain.memory_read(BAR0 + DATA, 4), 0xffff_ffff);
    domain.port_write(offset::MEMORY_BASE, 4, 0xe000_e000);
    assert_eq!(domain.memory_read(BAR0 + DATA, 4), 0);
}

#[test]
fn window_ends_at_the_last_byte_of_its_last_mebibyte() {
    let mut domain = Domain::programmed();
    domain.write(CHILD, offset::BASE_ADDRESS_0, 4, 0xe00f_f000);
    assert_eq!(domain.memory_read(0xe00f_fff8, 8), 0xff8);
    domain.write(CHILD, offset::BASE_ADDRESS_0, 4, 0xe010_0000);
    assert_eq!(domain.memory_read(0xe010_0000 + DATA, 4), 0xffff_ffff);
}

#[test]
fn prefetchable_window_reaches_a_bar_above_4_gib() {
    let mut domain = Domain::programmed();
    domain.write(CHILD, 0x18, 4, 0x0010_0000);
    domain.write(CHILD, 0x1c, 4, 0x20);
    assert_eq!(domain.memory_read(0x20_0010_0040, 4), 0xffff_ffff);
    domain.port_write(offset::PREF_MEMORY_BASE, 4, 0x0010_0010);
    domain.port_write(offset::PREF_BASE_UPPER32, 4, 0x20);
    domain.port_write(offset::PREF_LIMIT_UPPER32, 4, 0x20);
    assert_eq!(domain.memory_read(0x20_0010_0040, 8), 2 << 32 | 0x40);
}

#[test]
fn window_registers_read_back_what_is_writable_of_all_ones() {
    let mut domain = Domain::new();
    domain.port_write(offset::MEMORY_BASE, 4, u32::MAX);
    domain.port_write(offset::PREF_MEMORY_BASE, 4, u32::MAX);
    assert_eq!(domain.port_read(offset::MEMORY_BASE, 4), 0xfff0_fff0);
    assert_eq!(domain.port_read(offset::PREF_MEMORY_BASE, 4), 0xfff1_fff1, "64-bit");
    domain.port_write(0x1c, 2, 0xffff);
    assert_eq!(domain.port_read(0x1c, 2), 0, "no I/O window");
}

#[test]
fn memory_enable_is_needed_in_port_and_function() {
    for (port, child, value) in [
        (MEMORY, MEMORY, 0),
        (0, MEMORY, 0xffff_ffff),
        (MEMORY, 0, 0xffff_ffff),
        (MASTER, MASTER, 0xffff_ffff),
    ] {
        let mut domain = Domain::programmed();
        domain.port_write(offset::COMMAND, 2, port);
        domain.write(CHILD, offset::COMMAND, 2, child);
        assert_eq!(domain.memory_read(BAR0 + DATA, 4), value, "port {port:#x}, function {child:#x}");
    }
}

#[test]
fn bus_master_enable_is_needed_in_port_and_function() {
    for (port, child) in [(true, true), (false, true), (true, false), (false, false)] {
        let mut domain = Domain::programmed();
        let bits = |on| if on { MEMORY | MASTER } else { MEMORY };
        domain.port_write(offset::COMMAND, 2, bits(port));
        domain.write(CHILD, offset::COMMAND, 2, bits(child));
        let expected = if port && child { Ok(()) } else { Err(DmaError::NotBusMaster) };
        assert_eq!(domain.dma(), expected, "port {port}, function {child}");
    }
}

#[test]
fn function_behind_a_dead_link_cannot_master_the_bus() {
    let mut domain = Domain::programmed();
    domain.set_link(false);
    assert_eq!(domain.dma(), Err(DmaError::NotBusMaster));
}

#[test]
fn port_in_d3hot_forwards_neither_memory_nor_requests_upstream() {
    let mut domain = Domain::programmed();
    domain.port_write(0x44, 2, 3);
    assert_eq!(domain.memory_read(BAR0 + DATA, 4), 0xffff_ffff);
    assert_eq!(domain.dma(), Err(DmaError::NotBusMaster));
}
