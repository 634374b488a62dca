//! Configuration space: sizes of BARs, pieces of registers, lists of capabilities, D-states, reset.

use proptest::prelude::*;
use sdmorph_pci::config::{Bar, command, offset};
use sdmorph_pci::register::check_table;
use sdmorph_pci::{ConfigSpace, Register, ResetKind};

use crate::toy::{BAR0_BYTES, BAR2_BYTES, IDENTITY, full_config};

const PM_CTRL: u16 = 0x44;
const D3HOT: u32 = 3;

fn space() -> ConfigSpace {
    full_config().0
}

#[test]
fn bar_of_32_bits_written_with_all_ones_reads_its_size() {
    let mut config = space();
    config.write(offset::BASE_ADDRESS_0, 4, u32::MAX);
    let read = config.read(offset::BASE_ADDRESS_0, 4);
    assert_eq!(u64::from(!read) + 1, BAR0_BYTES);
}

#[test]
fn bar_of_64_bits_written_with_all_ones_reads_its_size_and_type() {
    let mut config = space();
    config.write(0x18, 4, u32::MAX);
    config.write(0x1c, 4, u32::MAX);
    let (low, high) = (config.read(0x18, 4), config.read(0x1c, 4));
    assert_eq!(low & 0xf, 0b0100, "64-bit, not prefetchable");
    let read = u64::from(high) << 32 | u64::from(low & !0xf);
    assert_eq!(!read + 1, BAR2_BYTES);
}

#[test]
fn bar_of_64_bits_above_4_gib_has_size_bits_in_its_upper_half() {
    let mut config = ConfigSpace::endpoint(IDENTITY, &[(0, Bar { size: 8 << 30, is_64bit: true })]);
    config.write(0x10, 4, u32::MAX);
    config.write(0x14, 4, u32::MAX);
    assert_eq!((config.read(0x10, 4), config.read(0x14, 4)), (0b0100, 0xffff_fffe));
}

#[test]
fn bar_that_does_not_exist_reads_zero_whatever_is_written() {
    let mut config = space();
    for at in [0x14, 0x20, 0x24, 0x30] {
        config.write(at, 4, u32::MAX);
        assert_eq!(config.read(at, 4), 0, "{at:#x}");
    }
    assert_eq!(config.memory_bar(1), None);
    assert_eq!(config.memory_bar(3), None, "the upper half of BAR2 is no BAR");
    assert_eq!(config.memory_bar(9), None);
}

#[test]
fn bar_written_byte_by_byte_decodes_exactly_its_bytes() {
    let mut config = space();
    for (lane, byte) in (0u16..).zip(0xe123_4567u32.to_le_bytes()) {
        config.write(offset::BASE_ADDRESS_0 + lane, 1, u32::from(byte));
    }
    assert_eq!(config.memory_bar(0), Some(0xe123_4000..0xe123_5000));
    assert_eq!(config.decode(0xe123_4000), Some((0, 0)));
    assert_eq!(config.decode(0xe123_4fff), Some((0, 0xfff)));
    assert_eq!(config.decode(0xe123_5000), None);
    assert_eq!(config.decode(0xe123_3fff), None);
}

#[test]
fn bar_at_the_top_of_the_address_space_decodes_nothing() {
    let mut config = space();
    config.write(0x18, 4, u32::MAX);
    config.write(0x1c, 4, u32::MAX);
    assert_eq!(config.memory_bar(2), None);
    assert_eq!(config.decode(u64::MAX), None);
}

#[test]
fn bar_of_64_bits_decodes_above_4_gib() {
    let mut config = space();
    config.write(0x18, 4, 0x0004_0000);
    config.write(0x1c, 4, 0x12);
    assert_eq!(config.decode(0x12_0004_0008), Some((2, 8)));
}

#[test]
fn list_of_capabilities_has_every_one_in_order_and_ends() {
    let config = space();
    let mut found = Vec::new();
    let mut at = config.read(offset::CAPABILITY_LIST, 1) as u16;
    while at != 0 && found.len() < 48 {
        found.push((at, config.read(at, 1)));
        at = config.read(at + 1, 1) as u16;
    }
    assert_eq!(found, [(0x40, 0x01), (0x50, 0x05), (0x70, 0x10)]);
    assert_eq!(config.read(offset::STATUS, 2) & 0x10, 0x10, "the list is announced");
}

#[test]
fn list_of_extended_capabilities_has_every_one_in_order_and_ends() {
    let config = space();
    let mut found = Vec::new();
    let mut at = offset::EXTENDED;
    while at != 0 && found.len() < 480 {
        let header = config.read(at, 4);
        found.push((at, header & 0xffff, header >> 16 & 0xf));
        at = (header >> 20) as u16;
    }
    assert_eq!(found, [(0x100, 1, 2), (0x150, 0x18, 1), (0x160, 0x1e, 1), (0x180, 3, 1)]);
    assert_eq!((config.read(0x184, 4), config.read(0x188, 4)), (0x89ab_cdef, 0x0123_4567));
}

#[test]
fn power_states_d1_and_d2_are_not_entered() {
    let mut config = space();
    for from in [0, D3HOT] {
        for state in [1, 2] {
            config.write(PM_CTRL, 2, from);
            config.write(PM_CTRL, 2, 0x0100 | state);
            assert_eq!(u32::from(config.power_state()), from);
            assert_eq!(config.read(PM_CTRL, 2) & 0x0100, 0x0100, "the rest of the write counts");
        }
    }
}

#[test]
fn function_in_d3hot_neither_decodes_memory_nor_masters_the_bus() {
    let mut config = space();
    config.write(offset::COMMAND, 2, u32::from(command::MEMORY | command::MASTER));
    assert!(config.memory_enabled() && config.bus_master());
    config.write(PM_CTRL, 2, D3HOT);
    assert!(!config.memory_enabled() && !config.bus_master());
    assert_eq!(config.read(offset::VENDOR_ID, 2), 0x1234, "configuration space is alive");
    config.write(PM_CTRL, 2, 0);
    assert!(config.memory_enabled() && config.bus_master(), "No_Soft_Reset: the way back keeps everything");
}

#[test]
fn access_past_the_end_reads_all_ones_and_writes_nothing() {
    let mut config = space();
    assert_eq!(config.read(0xffe, 4) >> 16, 0xffff);
    config.write(0xffe, 4, u32::MAX);
    assert_eq!(config.read(0xffe, 2), 0);
}

#[test]
fn row_added_later_wins_over_an_earlier_one_at_the_same_place() {
    let mut config = space();
    config.add_row(Register::new("EARLIER", 0x800, 4, 1, "test"));
    config.add_row(Register::new("LATER", 0x800, 4, 2, "test").rw(0xff));
    assert_eq!(config.register_at(0x800), Some("LATER"));
    config.write(0x800, 4, 0xffff_ffff);
    assert_eq!(config.read(0x800, 4), 0xff);
    config.reset(ResetKind::Cold);
    assert_eq!(config.read(0x800, 4), 2);
}

#[test]
fn tables_are_well_formed() {
    assert_eq!(check_table(space().rows()), Vec::<String>::new());
}

/// Offsets and values of writes; sizes follow from the alignment that a bus allows.
fn writes() -> impl Strategy<Value = Vec<(u16, u8, u32)>> {
    let size = prop::sample::select(vec![1u8, 2, 4]);
    // Where the registers are, and anywhere.
    let at = prop_oneof![3 => 0u16..0x90, 2 => 0x100u16..0x190, 1 => 0u16..0x1000];
    let value = prop_oneof![any::<u32>(), Just(u32::MAX), Just(0)];
    let write = (at, size, value).prop_map(|(at, size, value)| (at & !(u16::from(size) - 1), size, value));
    prop::collection::vec(write, 0..40)
}

fn bytes(config: &ConfigSpace) -> Vec<u32> {
    (0..4096).map(|at| config.read(at, 1)).collect()
}

proptest! {
    #[test]
    fn access_equals_the_same_access_in_bytes(writes in writes()) {
        let (mut whole, mut split) = (space(), space());
        for (at, size, value) in writes {
            whole.write(at, size, value);
            for lane in 0..u16::from(size) {
                split.write(at + lane, 1, value >> (8 * lane) & 0xff);
            }
        }
        let all = bytes(&whole);
        prop_assert_eq!(&all, &bytes(&split));
        for at in (0u16..0x1000).step_by(4) {
            let lanes = &all[usize::from(at)..usize::from(at) + 4];
            let dword = lanes.iter().rev().fold(0, |value, byte| value << 8 | byte);
            prop_assert_eq!(whole.read(at, 4), dword);
            prop_assert_eq!(whole.read(at + 2, 2), dword >> 16);
        }
    }

    #[test]
    fn writes_change_only_writable_bits_and_reset_restores_every_row(writes in writes()) {
        let mut config = space();
        let fresh = bytes(&config);
        for (at, size, value) in writes {
            config.write(at, size, value);
        }
        let mut may_change = vec![0u32; 4096];
        for row in config.rows() {
            for (at, byte) in (row.address as usize..).zip((row.writable | row.w1c).to_le_bytes()).take(row.size.into()) {
                may_change[at] = u32::from(byte);
            }
        }
        for (at, (now, before)) in bytes(&config).into_iter().zip(&fresh).enumerate() {
            prop_assert_eq!((now ^ before) & !may_change[at], 0, "byte {:#x}", at);
        }
        config.reset(ResetKind::Hot);
        prop_assert_eq!(bytes(&config), fresh);
    }
}
