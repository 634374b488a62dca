//! VMD as its driver and the domain behind it see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod toy;

use proptest::prelude::*;
use sdmorph_pci::config::offset;
use sdmorph_pci::register::check_table;
use sdmorph_pci::{Answer, DmaError, PciFunction, ResetKind, Space};
use sdmorph_vmd::{BAR_SIZES, VECTORS};

use crate::toy::{Carrier, PORT, TOY, TOY_MSI, WINDOW_1, WINDOW_2};

const NONE: [(u16, u32); 0] = [];

#[test]
fn endpoint_is_the_one_that_the_driver_and_qemu_take() {
    let mut carrier = Carrier::new();
    assert_eq!(carrier.config_read(offset::VENDOR_ID, 4), 0xa77f_8086);
    assert_eq!(carrier.config_read(0x08, 4) >> 8, 0x01_0400);
    assert_eq!(carrier.config_read(0x40, 2), 0, "VMCAP: no bus restrictions, remapping always on");
    assert_eq!(carrier.config_read(offset::CAPABILITY_LIST, 1), 0x80, "capabilities stay above 0x80");
    assert_eq!(carrier.config_read(0x80, 4), u32::from(VECTORS - 1) << 16 | 0x11);
    assert_eq!((carrier.config_read(0x84, 4), carrier.config_read(0x88, 4)), (4, 0x1004));
    assert_eq!(check_table(carrier.vmd.config().rows()), Vec::<String>::new());
}

#[test]
fn bars_have_their_documented_sizes() {
    let mut carrier = Carrier::new();
    for (bar, size) in BAR_SIZES {
        let at = offset::BASE_ADDRESS_0 + 4 * u16::from(bar);
        carrier.config_write(at, 4, u32::MAX);
        assert_eq!(u64::from(!carrier.config_read(at, 4)) + 1, size, "BAR{bar}");
    }
    for at in [0x14, 0x1c, 0x24] {
        carrier.config_write(at, 4, u32::MAX);
        assert_eq!(carrier.config_read(at, 4), 0);
    }
}

#[test]
fn ecam_of_all_buses_has_the_port_and_after_numbering_the_function() {
    let scan = |carrier: &mut Carrier| -> Vec<u64> {
        let places = (0..BAR_SIZES[0].1).step_by(0x1000);
        places.filter(|place| carrier.read(0, *place, 4) != 0xffff_ffff).collect()
    };
    assert_eq!(scan(&mut Carrier::new()), [PORT]);
    let mut carrier = Carrier::programmed(0);
    assert_eq!(scan(&mut carrier), [PORT, TOY]);
    assert_eq!(carrier.read(0, PORT, 4), 0x000c_1b36);
    assert_eq!(carrier.read(0, TOY, 4), 0x5678_1234);
}

#[test]
fn ecam_access_of_8_bytes_is_two_of_4() {
    let mut carrier = Carrier::programmed(0);
    for at in (0..0x1000).step_by(8) {
        let halves = carrier.read(0, TOY | at, 4) | carrier.read(0, TOY | (at + 4), 4) << 32;
        assert_eq!(carrier.read(0, TOY | at, 8), halves, "{at:#x}");
    }
    carrier.write(0, TOY | u64::from(TOY_MSI), 8, 0xfee0_3004_0000_0000);
    assert_eq!(carrier.read(0, TOY | u64::from(TOY_MSI + 4), 4), 0xfee0_3004);
    assert_eq!(carrier.read(0, TOY | 1 << 15, 8), u64::MAX);
}

#[test]
fn ecam_access_of_1_and_2_bytes_reaches_its_own_bytes_only() {
    let mut carrier = Carrier::programmed(0);
    assert_eq!(carrier.read(0, TOY | 1, 1), 0x12);
    assert_eq!(carrier.read(0, TOY | 2, 2), 0x5678);
    carrier.write(0, TOY | u64::from(TOY_MSI + 5), 1, 0x70);
    assert_eq!(carrier.read(0, TOY | u64::from(TOY_MSI + 4), 4), 0xfee0_7000);
}

#[test]
fn ecam_accesses_are_reported_as_those_of_the_domain_and_not_of_vmd() {
    let mut carrier = Carrier::programmed(0);
    carrier.read(0, PORT | 0x18, 4);
    carrier.read(0, TOY, 2);
    let seen: Vec<_> = carrier.bench.log.records().iter().map(|record| record.function).collect();
    assert_eq!(seen, ["port", "toy"]);
}

#[test]
fn first_window_reaches_the_function_at_the_guest_s_address() {
    let mut carrier = Carrier::programmed(0);
    carrier.write(2, 0x10, 4, 0x55);
    assert_eq!(carrier.read(2, 0x10, 4), 0x55);
    assert_eq!(carrier.read(2, 0x1000, 4), 0xffff_ffff, "behind the function's BAR");
    carrier.write(0, TOY | 0x10, 4, WINDOW_1 + 0x8_0000);
    assert_eq!(carrier.read(2, 0x10, 4), 0xffff_ffff);
    assert_eq!(carrier.read(2, 0x8_0010, 4), 0x55);
}

#[test]
fn first_window_follows_when_the_guest_moves_it() {
    let mut carrier = Carrier::programmed(0);
    carrier.write(2, 0x10, 4, 0x55);
    carrier.config_write(0x18, 4, 0xbe00_0000);
    assert_eq!(carrier.read(2, 0x10, 4), 0xffff_ffff, "the function is not at 0xbe000010");
    carrier.write(0, TOY | 0x10, 4, 0xbe00_0000);
    carrier.write(0, PORT | 0x20, 4, 0xbe00_be00);
    assert_eq!(carrier.read(2, 0x10, 4), 0x55);
}

#[test]
fn second_window_begins_behind_the_msix_pages() {
    let mut carrier = Carrier::programmed(0);
    carrier.write(0, TOY | 0x10, 4, WINDOW_2 + 0x2000);
    carrier.write(4, 0x2010, 8, 0x1122_3344_5566_7788);
    assert_eq!(carrier.read(4, 0x2010, 8), 0x1122_3344_5566_7788);
    carrier.write(0, TOY | 0x10, 4, WINDOW_2);
    assert_eq!(carrier.read(4, 0x2010, 4), 0xffff_ffff);
    assert_eq!(carrier.read(4, 0x00, 4), 0xfee0_0000, "the table is VMD's, whoever claims its address");
}

#[test]
fn bar_that_vmd_does_not_have_reads_all_ones() {
    let mut carrier = Carrier::programmed(0);
    for bar in [1, 3, 5, 6] {
        carrier.write(bar, 0, 4, 7);
        assert_eq!(carrier.read(bar, 0, 4), 0xffff_ffff);
    }
}

#[test]
fn child_s_message_is_sent_as_the_vector_in_its_address() {
    for vector in [0, 1, 9, 15] {
        let mut carrier = Carrier::programmed(vector);
        assert_eq!(carrier.interrupt(), [(u16::from(vector), 0x40 + u32::from(vector))]);
        assert_eq!(carrier.stray_messages(), 0);
    }
}

#[test]
fn child_s_message_for_a_vector_that_is_not_there_is_counted_and_dropped() {
    for vector in [16, 0x80, 0xff] {
        let mut carrier = Carrier::programmed(vector);
        assert_eq!(carrier.interrupt(), NONE);
        assert_eq!(carrier.interrupt(), NONE);
        assert_eq!(carrier.stray_messages(), 2);
    }
}

#[test]
fn only_bits_19_to_12_of_a_child_s_address_count() {
    let mut carrier = Carrier::programmed(0);
    carrier.write(0, TOY | u64::from(TOY_MSI + 4), 4, 0xfff0_5ffc);
    assert_eq!(carrier.interrupt(), [(5, 0x45)]);
}

#[test]
fn child_s_message_to_a_masked_vector_waits_for_its_unmasking() {
    let mut carrier = Carrier::programmed(3);
    carrier.write(4, 16 * 3 + 12, 4, 1);
    assert_eq!(carrier.interrupt(), NONE);
    assert_eq!(carrier.read(4, 0x1000, 8), 1 << 3);
    carrier.write(4, 16 * 3 + 12, 4, 0);
    assert_eq!(carrier.sent(), [(3, 0x43)]);
}

#[test]
fn message_while_msix_is_off_is_dropped() {
    let mut carrier = Carrier::programmed(3);
    carrier.config_write(0x82, 2, 0);
    assert_eq!(carrier.interrupt(), NONE);
    carrier.config_write(0x82, 2, 0x8000);
    assert_eq!(carrier.sent(), NONE);
    assert_eq!(carrier.stray_messages(), 0, "there is such a vector");
}

#[test]
fn bus_mastering_of_vmd_is_needed_by_everything_below() {
    let mut carrier = Carrier::programmed(3);
    assert_eq!(carrier.dma(), Ok(()));
    carrier.config_write(offset::COMMAND, 2, 2);
    assert_eq!(carrier.dma(), Err(DmaError::NotBusMaster));
    assert_eq!(carrier.interrupt(), NONE);
}

#[test]
fn access_to_the_msix_pages_is_vmd_s_and_a_hole_in_them_is_unmodelled() {
    let mut carrier = Carrier::programmed(0);
    carrier.read(4, 0x0c, 4);
    carrier.write(4, 0x1000, 8, 1);
    carrier.read(4, 0x800, 4);
    let seen: Vec<_> = carrier.bench.log.accesses().map(|access| (access.register, access.answer)).collect();
    assert_eq!(
        seen,
        [
            (Some("MSIX_TABLE_ENTRY"), Answer::Modelled),
            (Some("MSIX_PENDING_BITS"), Answer::Modelled),
            (None, Answer::Unmodelled)
        ]
    );
    assert!(carrier.bench.log.accesses().all(|access| access.space == Space::Bar(4)));
}

#[test]
fn reset_reaches_the_function_and_leaves_vmd_as_after_power_on() {
    let mut carrier = Carrier::programmed(3);
    carrier.write(4, 16 * 3 + 12, 4, 1);
    carrier.interrupt();
    carrier.bench.with(&mut carrier.vmd, |vmd, ctx| vmd.reset(ctx, ResetKind::Function));
    assert_eq!(carrier.resets(), [ResetKind::Function]);
    assert_eq!(carrier.vmd.snapshot(), Carrier::new().vmd.snapshot());
    assert_eq!(carrier.read(4, 0x1000, 8), 0);
}

proptest! {
    /// Any access of a size that a bus has, anywhere in a BAR that VMD has, programmed or not.
    #[test]
    fn access_of_any_kind_is_answered_within_its_size(
        programmed in any::<bool>(),
        accesses in prop::collection::vec(
            (prop::sample::select(vec![0u8, 2, 4]), any::<u64>(), prop::sample::select(vec![1u8, 2, 4, 8]),
             any::<u64>(), any::<bool>()), 0..60)
    ) {
        let mut carrier = if programmed { Carrier::programmed(1) } else { Carrier::new() };
        for (bar, offset, size, value, write) in accesses {
            let bytes = BAR_SIZES.iter().find(|(index, _)| *index == bar).unwrap().1;
            let offset = (offset % bytes) & !(u64::from(size) - 1);
            let mask = sdmorph_pci::mask_of_size(size);
            if write {
                carrier.write(bar, offset, size, value & mask);
            } else {
                prop_assert_eq!(carrier.read(bar, offset, size) & !mask, 0);
            }
        }
    }
}
