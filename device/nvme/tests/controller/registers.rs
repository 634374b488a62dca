//! The register table, accesses of every width, and configuration space.

use sdmorph_nvme::BAR_REGISTERS;
use sdmorph_pci::PciFunction;
use sdmorph_pci::register::check_table;
use sdmorph_testkit::nvme::capability;

use crate::rig::{CC, CSTS, Rig};

#[test]
fn table_of_registers_is_sound() {
    assert_eq!(check_table(BAR_REGISTERS), Vec::<String>::new());
}

#[test]
fn capabilities_are_those_that_linux_wants() {
    let mut rig = Rig::untouched();
    let cap = rig.read_sized(0, 8);
    assert_eq!(cap & 0xffff, 1023, "MQES");
    assert_eq!(cap >> 32 & 0xf, 0, "DSTRD");
    assert_eq!(cap >> 37 & 1, 1, "CSS");
    assert_eq!(cap >> 48 & 0xf, 0, "MPSMIN");
    assert!(cap >> 24 & 0xff > 0, "TO");
    assert_eq!(rig.get(8), 0x0001_0400);
}

#[test]
fn registers_can_be_read_at_any_width() {
    let mut rig = Rig::untouched();
    let cap = rig.read_sized(0, 8);
    assert_eq!(u64::from(rig.get(4)) << 32 | u64::from(rig.get(0)), cap);
    for at in 0..8 {
        assert_eq!(rig.read_sized(at, 1), cap >> (8 * at) & 0xff);
    }
    assert_eq!(rig.read_sized(2, 2), cap >> 16 & 0xffff);
}

#[test]
fn queue_addresses_can_be_written_as_one_or_in_halves() {
    let mut rig = Rig::untouched();
    rig.write_sized(0x28, 8, 0x1234_5678_9abc_dfff);
    assert_eq!(rig.read_sized(0x28, 8), 0x1234_5678_9abc_d000);
    rig.set(0x2c, 0x0000_0042);
    assert_eq!(rig.read_sized(0x28, 8), 0x0000_0042_9abc_d000);
    rig.write_sized(0x31, 1, 0xff);
    assert_eq!(rig.read_sized(0x30, 8), 0xf000);
}

#[test]
fn only_writable_bits_change() {
    for row in BAR_REGISTERS.iter().filter(|row| row.address < 0x1000) {
        // Both show the mask; and setting Enable with queues of size zero shows in CSTS.
        if matches!(row.name, "INTMS" | "INTMC" | "CC") {
            continue;
        }
        let mut rig = Rig::untouched();
        rig.write_sized(u64::from(row.address), row.size, u64::MAX);
        let value = rig.read_sized(u64::from(row.address), row.size);
        assert_eq!(value, row.reset | row.writable, "{}", row.name);
    }
    let mut rig = Rig::untouched();
    rig.set(CC, 0xffff_fffe);
    assert_eq!(rig.get(CC), 0x00ff_fff0);
}

#[test]
fn interrupt_masks_are_set_and_cleared_through_two_registers() {
    let mut rig = Rig::untouched();
    rig.set(0x0c, 0x0f0f);
    rig.set(0x10, 0x0003);
    assert_eq!((rig.get(0x0c), rig.get(0x10)), (0x0f0c, 0x0f0c));
    rig.write_sized(0x0d, 1, 0xf0);
    assert_eq!(rig.get(0x0c), 0xff0c);
}

#[test]
fn every_register_of_the_bar_has_a_name_and_nothing_else_has() {
    let rig = Rig::untouched();
    let name = |at| rig.nvme.bar_register(0, at);
    assert_eq!(name(0x14), Some("CC"));
    assert_eq!(name(0x1000), Some("SQ0TDBL"));
    assert_eq!(name(0x1087), Some("CQ16HDBL"));
    assert_eq!(name(0x2000), Some("MSIX_TABLE_ENTRY"));
    assert_eq!(name(0x3000), Some("MSIX_PENDING_BITS"));
    for at in [0x18, 0x6c, 0x1088, 0x2110, 0x3008] {
        assert_eq!(name(at), None, "{at:#x}");
    }
    assert_eq!(rig.nvme.bar_register(2, 0), None);
}

#[test]
fn probe_touches_no_register_that_is_not_modelled() {
    let rig = Rig::probed();
    assert_eq!(rig.bench.log.unmodelled(), []);
}

#[test]
fn configuration_space_has_what_an_nvme_function_needs() {
    let mut rig = Rig::untouched();
    let Rig { bench, nvme, .. } = &mut rig;
    assert_eq!(bench.config_read(nvme, 0x08, 4) >> 8, 0x01_0802);
    bench.config_write(nvme, 0x10, 4, 0xffff_ffff);
    bench.config_write(nvme, 0x14, 4, 0xffff_ffff);
    assert_eq!(bench.config_read(nvme, 0x10, 4), 0xffff_c004, "64 bits, 16 KiB");
    assert_eq!(bench.config_read(nvme, 0x14, 4), 0xffff_ffff);
    for id in [0x01, 0x05, 0x10, 0x11] {
        assert!(capability(bench, nvme, id).is_some(), "capability {id:#x}");
    }
    let msi_x = capability(bench, nvme, 0x11).unwrap();
    assert_eq!(bench.config_read(nvme, msi_x + 2, 2) & 0x7ff, 16, "17 vectors");
    let express = capability(bench, nvme, 0x10).unwrap();
    assert_ne!(bench.config_read(nvme, express + 4, 4) & 1 << 28, 0, "function level reset");
    assert_eq!(bench.config_read(nvme, 0x100, 2), 0x0001, "advanced error reporting");
}

#[test]
fn status_is_zero_before_anything_happens() {
    assert_eq!(Rig::untouched().get(CSTS), 0);
}
