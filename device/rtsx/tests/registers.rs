//! Tables, and what writes of any value do to the registers in them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use sdmorph_pci::register::check_table;
use sdmorph_pci::{Event, PciFunction, Register, ResetKind, seam};
use sdmorph_rtsx::model::{LowVoltage, Model, RTS5261, Rail};
use sdmorph_rtsx::registers::COMMON;
use sdmorph_rtsx::{BAR_REGISTERS, Rtsx, vendor_config};
use sdmorph_sdcard::{Capacity, MemoryCard, Profile};
use sdmorph_testkit::{Bench, RtsxDriver, TestMedia};
use serde_json::Value;

fn memory_card(profile: Profile) -> MemoryCard {
    let medium = TestMedia::new(profile.capacity.blocks());
    MemoryCard::new(profile, Box::new(medium)).unwrap()
}

const HAIMR: u64 = 0x10;

fn powered() -> (Bench, Rtsx) {
    let mut bench = Bench::default();
    let mut reader = Rtsx::new();
    bench.config_write(&mut reader, 0x04, 2, 0x0006);
    (bench, reader)
}

fn haimr_write(bench: &mut Bench, reader: &mut Rtsx, address: u32, mask: u8, data: u8) -> u32 {
    let command = 0xc000_0000 | (address & 0x3fff) << 16 | u32::from(mask) << 8 | u32::from(data);
    bench.write(reader, HAIMR, command);
    bench.read(reader, HAIMR)
}

fn haimr_read(bench: &mut Bench, reader: &mut Rtsx, address: u32) -> u8 {
    bench.write(reader, HAIMR, 0x8000_0000 | (address & 0x3fff) << 16);
    let value = bench.read(reader, HAIMR);
    assert_eq!(value >> 31, 0, "busy");
    value.to_le_bytes()[0]
}

#[test]
fn every_table_is_sound() {
    for table in [BAR_REGISTERS, COMMON, vendor_config::VENDOR_REGISTERS] {
        assert_eq!(check_table(table), Vec::<String>::new());
    }
    for model in Model::ALL {
        for table in [model.registers, model.own_registers, model.phy, model.own_config] {
            assert_eq!(check_table(table), Vec::<String>::new(), "{}", model.name);
        }
        let in_range = |row: &Register| row.size == 1 && (0xc000..=0xffff).contains(&row.address);
        assert!(model.registers.iter().all(in_range), "{}", model.name);
        assert_eq!(model.registers.len(), COMMON.len() + model.own_registers.len());
    }
}

#[test]
fn rows_of_different_tables_have_different_names() {
    for model in Model::ALL {
        let tables =
            [BAR_REGISTERS, model.registers, model.phy, vendor_config::VENDOR_REGISTERS, model.own_config];
        let mut names: Vec<_> = tables.concat().iter().map(|row| row.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{}", model.name);
    }
}

/// A rule names a register of any chip, and holds its bits by address.
#[test]
fn name_stands_for_the_same_register_on_every_chip_that_has_it() {
    let mut known = std::collections::HashMap::new();
    for row in Model::ALL.iter().flat_map(|model| model.registers) {
        let same = *known.entry(row.name).or_insert(row.address);
        assert_eq!(row.address, same, "{}", row.name);
    }
}

/// Whatever a chip's model says of a register is said of one that it has.
#[test]
fn every_register_that_a_model_names_is_in_its_table() {
    for model in Model::ALL {
        let mut named = vec![model.supply.card.address, model.supply.signals.address];
        if let LowVoltage::Internal(condition) = model.low_voltage {
            named.push(condition.address);
        }
        for detector in model.over_current {
            named.extend([detector.control, detector.status]);
            named.extend(detector.needs.map(|condition| condition.address));
        }
        if let Some(express) = model.express {
            named
                .extend([express.enter, express.run, express.link_failed].map(|condition| condition.address));
        }
        for address in named {
            assert!(model.registers.iter().any(|row| row.address == address), "{}: {address:#x}", model.name);
        }
        assert_eq!(model.over_current[0].rail, Rail::Sd);
        assert_eq!(Model::by_name(model.name).map(|found| found.device), Some(model.device));
    }
    assert!(Model::by_name("rts5209").is_none());
}

#[test]
fn haimr_write_is_confirmed_with_its_own_data_byte_whatever_the_mask() {
    let (mut bench, mut reader) = powered();
    // CLK_DIV.
    assert_eq!(haimr_write(&mut bench, &mut reader, 0xfc03, 0xff, 0xa5), 0x7c03_ffa5);
    assert_eq!(haimr_write(&mut bench, &mut reader, 0xfc03, 0x0f, 0xff), 0x7c03_0fff);
    assert_eq!(haimr_read(&mut bench, &mut reader, 0xfc03), 0xaf);
    // CARD_STOP clears itself, and the write is confirmed all the same.
    assert_eq!(haimr_write(&mut bench, &mut reader, 0xfd54, 0x44, 0x44) & 0xff, 0x44);
    assert_eq!(haimr_read(&mut bench, &mut reader, 0xfd54), 0);
}

#[test]
fn haimr_without_start_bit_does_nothing() {
    let (mut bench, mut reader) = powered();
    bench.write(&mut reader, HAIMR, 0x7c03_ffa5);
    assert_eq!(haimr_read(&mut bench, &mut reader, 0xfc03), 0);
}

#[test]
fn haimr_written_byte_by_byte_starts_with_the_last_byte() {
    let (mut bench, mut reader) = powered();
    for (offset, byte) in [(0x10, 0xa5), (0x11, 0xff), (0x12, 0x03), (0x13, 0xfc)] {
        assert_eq!(shown(&reader.snapshot(), "CLK_DIV"), 0);
        seam::bar_write(&mut reader, &mut bench.above(), 0, offset, 1, byte);
    }
    assert_eq!(haimr_read(&mut bench, &mut reader, 0xfc03), 0xa5);
}

/// The internal register called `name` in a snapshot; of the ping-pong buffer its first byte.
fn shown(snapshot: &Value, name: &str) -> u64 {
    let text = snapshot["internal"]["registers"][name].as_str().unwrap();
    u64::from_str_radix(&text.trim_start_matches("0x")[..2], 16).unwrap()
}

#[test]
fn unmodelled_internal_register_reads_zero_and_is_reported() {
    let (mut bench, mut reader) = powered();
    assert_eq!(haimr_write(&mut bench, &mut reader, 0xe600, 0xff, 0x77) & 0xff, 0x77);
    assert_eq!(haimr_read(&mut bench, &mut reader, 0xe600), 0);
    let unmodelled = bench.log.unmodelled();
    assert_eq!(unmodelled.len(), 2);
    assert!(unmodelled.iter().all(|access| access.offset == 0xe600 && access.register.is_none()));
}

#[test]
fn unmodelled_bar_offset_reads_zero_and_is_reported() {
    let (mut bench, mut reader) = powered();
    bench.write(&mut reader, 0x20, 0xffff_ffff);
    assert_eq!(bench.read(&mut reader, 0x20), 0);
    assert_eq!(bench.read(&mut reader, 0xffc), 0);
    assert_eq!(bench.log.unmodelled().len(), 3);
}

#[test]
fn stuck_bit_of_an_internal_register_shows_in_haimr() {
    let (mut bench, mut reader) = powered();
    bench.log.stick("PHYRWCTL", 0x80);
    assert_eq!(haimr_read(&mut bench, &mut reader, 0xfe3c), 0x80);
}

#[test]
fn masked_write_of_one_clears_only_the_masked_status_bits() {
    let (mut bench, mut reader) = powered();
    let row = RTS5261.registers.iter().find(|row| row.name == "IRQSTAT0").unwrap();
    // Nothing sets these bits yet, so the rule is shown on the row.
    assert_eq!(row.after_write(0xff, 0x20, 0x20), 0xdf);
    haimr_write(&mut bench, &mut reader, row.address, 0x20, 0x20);
    assert_eq!(haimr_read(&mut bench, &mut reader, row.address), 0);
}

#[test]
fn phy_register_keeps_what_is_written_and_a_missing_one_reads_zero() {
    let (mut bench, mut reader) = powered();
    for (index, expected) in [(0x08u8, 0xbeef_u16), (0x1f, 0xbeef), (0x20, 0), (0xff, 0)] {
        for (address, data) in [(0xfe3d, 0xef), (0xfe3e, 0xbe), (0xfe3f, index), (0xfe3c, 0x81)] {
            haimr_write(&mut bench, &mut reader, address, 0xff, data);
        }
        haimr_write(&mut bench, &mut reader, 0xfe3c, 0xff, 0x80);
        assert_eq!(haimr_read(&mut bench, &mut reader, 0xfe3c) & 0x80, 0);
        let low = haimr_read(&mut bench, &mut reader, 0xfe3d);
        let high = haimr_read(&mut bench, &mut reader, 0xfe3e);
        assert_eq!(u16::from_le_bytes([low, high]), expected, "PHY {index:#x}");
    }
}

#[test]
fn switch_request_comes_with_whichever_bit_is_last_and_again_only_after_a_clear() {
    let (mut bench, mut reader) = powered();
    let count = |bench: &Bench| {
        bench.log.events().filter(|event| matches!(event, Event::ExpressSwitchRequested { .. })).count()
    };
    haimr_write(&mut bench, &mut reader, 0xff55, 0x01, 0x01);
    assert_eq!(count(&bench), 0);
    haimr_write(&mut bench, &mut reader, 0xff54, 0x01, 0x01);
    assert_eq!(count(&bench), 1);
    haimr_write(&mut bench, &mut reader, 0xff54, 0x01, 0x01);
    haimr_write(&mut bench, &mut reader, 0xff55, 0x03, 0x03);
    assert_eq!(count(&bench), 1);
    haimr_write(&mut bench, &mut reader, 0xff55, 0x01, 0x00);
    haimr_write(&mut bench, &mut reader, 0xff55, 0x01, 0x01);
    assert_eq!(count(&bench), 2);
}

#[test]
fn relink_time_is_of_17_bits() {
    let (mut bench, mut reader) = powered();
    for (address, data) in [(0xff01, 0xff), (0xff02, 0x8f), (0xff03, 0xff), (0xff54, 1), (0xff55, 1)] {
        haimr_write(&mut bench, &mut reader, address, 0xff, data);
    }
    let events: Vec<_> = bench.log.events().collect();
    assert_eq!(events, [Event::ExpressSwitchRequested { relink_time: 0x1_8fff }]);
}

fn check_reset_values(bench: &mut Bench, reader: &mut Rtsx) {
    let snapshot = reader.snapshot();
    for row in RTS5261.registers {
        assert_eq!(shown(&snapshot, row.name), row.reset, "{}", row.name);
    }
    for row in BAR_REGISTERS {
        let value = bench.read(reader, u64::from(row.address));
        // A card that is there shows in BIPR after any reset.
        let value = if row.name == "BIPR" { value & !0x0009_0000 } else { value };
        assert_eq!(u64::from(value), row.reset, "{}", row.name);
    }
}

#[test]
fn reset_after_a_driver_run_returns_every_row_to_its_reset_value() {
    for kind in [ResetKind::Cold, ResetKind::Hot, ResetKind::Function] {
        let (mut bench, mut reader) = powered();
        let mut driver = RtsxDriver::new();
        driver.probe(&mut bench, &mut reader).unwrap();
        let card = Box::new(memory_card(Profile::legacy(1, Capacity::DEFAULT)));
        bench.with(&mut reader, |reader, ctx| reader.insert(ctx, card));
        driver.interrupt(&mut bench, &mut reader).unwrap();
        driver.rescan(&mut bench, &mut reader).unwrap();
        driver.identify(&mut bench, &mut reader).unwrap();
        bench.with(&mut reader, |reader, ctx| reader.reset(ctx, kind));
        check_reset_values(&mut bench, &mut reader);
        assert!(reader.has_card());
        let snapshot = reader.snapshot();
        assert_eq!(snapshot["driver_bound"], Value::Bool(false));
        assert_eq!(snapshot["internal"]["card"]["state"], Value::from("idle"));
        assert_eq!(bench.config_read(&mut reader, 0x04, 2), 0);
        for row in RTS5261.phy {
            assert_eq!(snapshot["internal"]["phy"][row.name], Value::from("0x0000"));
        }
    }
}

/// Bits of a row that change in a way a write of the driver alone does not explain: the hardware acts on them.
fn hardware_bits(row: &Register) -> u64 {
    match row.name {
        // END, IDLE, ERR.
        "SD_TRANSFER" => 0x70,
        _ => 0,
    }
}

fn any_access() -> impl Strategy<Value = (u64, u8, u64)> {
    let offset = prop_oneof![
        6 => prop::sample::select(vec![0u64, 4, 8, 0xc, 0x10, 0x14, 0x18, 0x1c]),
        1 => 0u64..0x1000,
    ];
    let value = prop_oneof![
        2 => any::<u64>(),
        // HAIMR writes and reads of registers that exist.
        4 => (0..RTS5261.registers.len(), any::<u16>(), any::<bool>()).prop_map(|(index, low, write)| {
            let address = u64::from(RTS5261.registers[index].address & 0x3fff);
            0x8000_0000 | u64::from(write) << 30 | address << 16 | u64::from(low)
        }),
        // Short command lists.
        1 => (0u64..64).prop_map(|length| 0xc000_0000 | (length * 4)),
        1 => (0u64..0x1000).prop_map(|at| 0x10_0000 + at * 4),
    ];
    (offset, prop::sample::select(vec![1u8, 2, 4, 4, 4, 8]), value)
        .prop_map(|(offset, size, value)| (offset & !(u64::from(size) - 1), size, value))
}

proptest! {
    #[test]
    fn write_of_any_value_to_an_internal_register_changes_only_its_writable_bits(
        index in 0..RTS5261.registers.len(),
        writes in prop::collection::vec((any::<u8>(), any::<u8>()), 1..8),
    ) {
        let (mut bench, mut reader) = powered();
        let row = &RTS5261.registers[index];
        for (mask, data) in writes {
            let before = u64::from(haimr_read(&mut bench, &mut reader, row.address));
            let confirmed = haimr_write(&mut bench, &mut reader, row.address, mask, data);
            prop_assert_eq!(confirmed & 0x8000_00ff, u32::from(data));
            let after = u64::from(haimr_read(&mut bench, &mut reader, row.address));
            let free = row.writable & u64::from(mask);
            let fixed = !free & !row.w1c & !hardware_bits(row);
            prop_assert_eq!(after & free, u64::from(data) & free);
            prop_assert_eq!(after & fixed & 0xff, before & fixed & 0xff);
        }
        prop_assert_eq!(bench.log.unmodelled().len(), 0);
    }

    #[test]
    fn write_of_any_value_to_a_bar_register_changes_only_its_writable_bits(
        index in 0..BAR_REGISTERS.len(),
        value in any::<u32>(),
    ) {
        let (mut bench, mut reader) = powered();
        let row = &BAR_REGISTERS[index];
        let at = u64::from(row.address);
        let before = u64::from(bench.read(&mut reader, at));
        bench.write(&mut reader, at, value);
        let after = u64::from(bench.read(&mut reader, at));
        // A read through HAIMR puts its answer into the data byte.
        let answer = if row.name == "HAIMR" { 0xff } else { 0 };
        prop_assert_eq!(after & row.writable & !answer, u64::from(value) & row.writable & !answer);
        prop_assert_eq!(after & !row.writable, before & !row.writable);
    }

    #[test]
    fn any_sequence_of_bar_accesses_ends_and_leaves_a_reader_that_binds_after_reset(
        list in prop::collection::vec(any::<u32>(), 0..64),
        accesses in prop::collection::vec(any_access(), 1..100),
    ) {
        let (mut bench, mut reader) = powered();
        let bytes: Vec<u8> = list.iter().flat_map(|word| word.to_le_bytes()).collect();
        bench.memory.poke(1 << 20, &bytes);
        let card = Box::new(memory_card(Profile::express(1, Capacity::DEFAULT)));
        bench.with(&mut reader, |reader, ctx| reader.insert(ctx, card));
        for (offset, size, value) in accesses {
            seam::bar_write(&mut reader, &mut bench.above(), 0, offset, size, value);
            seam::bar_read(&mut reader, &mut bench.above(), 0, offset, size);
        }
        bench.with(&mut reader, |reader, ctx| reader.reset(ctx, ResetKind::Hot));
        check_reset_values(&mut bench, &mut reader);
        prop_assert_eq!(RtsxDriver::new().probe(&mut bench, &mut reader), Ok(()));
    }

    #[test]
    fn any_sequence_of_config_writes_leaves_identity_and_read_only_rows(
        writes in prop::collection::vec((0u16..0x1000, prop::sample::select(vec![1u8, 2, 4]), any::<u32>()), 1..100),
    ) {
        let mut bench = Bench::default();
        let mut reader = Rtsx::new();
        for (offset, size, value) in writes {
            bench.config_write(&mut reader, offset & !(u16::from(size) - 1), size, value);
        }
        prop_assert_eq!(bench.config_read(&mut reader, 0, 4), 0x5261_10ec);
        prop_assert_eq!(bench.config_read(&mut reader, 8, 4), 0xff00_0001);
    }
}
