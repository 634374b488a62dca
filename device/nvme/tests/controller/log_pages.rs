//! Get Log Page.

use std::time::Duration;

use sdmorph_testkit::nvme::Entry;

use crate::rig::{Rig, SCRATCH, pattern, status, u16_at, u32_at, u64_at};

const INVALID_FIELD: u16 = 0x002;

fn counter(page: &[u8], at: usize) -> u64 {
    u64_at(page, at)
}

#[test]
fn smart_counters_count() {
    let mut rig = Rig::probed();
    for _ in 0..3 {
        rig.write_blocks(0, &pattern(1000, 1)).unwrap();
    }
    rig.read_blocks(0, 1).unwrap();
    rig.media.fail(50..51, sdmorph_pci::MediaError::Io);
    rig.read_blocks(50, 1).unwrap_err();
    rig.bench.advance(&mut rig.nvme, Duration::from_secs(7300));
    let page = rig.log_page(2, 512);
    assert_eq!(page[0], 0, "no warning");
    assert_eq!(u16_at(&page, 1), 313, "40 degrees");
    assert_eq!(page[3..6], [100, 10, 0]);
    assert_eq!(counter(&page, 32), 1, "data units read, rounded up");
    assert_eq!(counter(&page, 48), 3, "data units written");
    assert_eq!(counter(&page, 64), 2, "read commands");
    assert_eq!(counter(&page, 80), 3, "write commands");
    assert_eq!(counter(&page, 112), 1, "power cycles");
    assert_eq!(counter(&page, 128), 2, "power-on hours");
    assert_eq!(counter(&page, 144), 0, "unsafe shutdowns");
    assert_eq!(counter(&page, 160), 1, "media errors");
    assert_eq!(counter(&page, 176), 1, "error log entries");
}

#[test]
fn busy_time_is_the_time_that_commands_are_under_way() {
    let mut rig = Rig::probed();
    rig.media.hold();
    rig.submit(1, Entry::new(0, 1));
    rig.bench.advance(&mut rig.nvme, Duration::from_secs(180));
    rig.media.release();
    rig.wake();
    rig.bench.advance(&mut rig.nvme, Duration::from_secs(600));
    assert_eq!(counter(&rig.log_page(2, 512), 96), 3, "minutes");
}

#[test]
fn error_log_has_the_newest_first() {
    let mut rig = Rig::probed();
    rig.admin(Entry::new(0x18, 5)).unwrap_err();
    let read = rig.submit(1, Entry::new(2, 1).prps(SCRATCH, 0).blocks(0x1_0000_0000, 1));
    assert_eq!(rig.reap(1)[0].code(), 0x080);
    let page = rig.log_page(1, 192);
    assert_eq!(u64_at(&page, 0), 2, "error count");
    assert_eq!(u16_at(&page, 8), 1, "queue");
    assert_eq!(u16_at(&page, 10), read);
    assert_eq!(u16_at(&page, 12) >> 1 & 0x7ff, 0x080);
    assert_eq!(u64_at(&page, 16), 0x1_0000_0000, "block");
    assert_eq!(u32_at(&page, 24), 1, "namespace");
    assert_eq!(u64_at(&page, 64), 1);
    assert_eq!(u32_at(&page, 64 + 24), 5);
    assert_eq!(page[128..], [0; 64]);
}

#[test]
fn error_log_keeps_the_newest_64() {
    let mut rig = Rig::probed();
    for _ in 0..70 {
        rig.admin(Entry::new(0x18, 0)).unwrap_err();
    }
    let page = rig.log_page(1, 4096);
    assert_eq!((u64_at(&page, 0), u64_at(&page, 63 * 64)), (70, 7));
}

#[test]
fn firmware_slot_has_the_revision() {
    let mut rig = Rig::probed();
    let page = rig.log_page(3, 512);
    assert_eq!((page[0], &page[8..16]), (1, &b"1.2     "[..]));
}

#[test]
fn effects_are_of_the_commands_that_are_supported() {
    let mut rig = Rig::probed();
    let page = rig.log_page(5, 4096);
    let admin = |opcode: usize| u32_at(&page, 4 * opcode);
    let io = |opcode: usize| u32_at(&page, 1024 + 4 * opcode);
    assert_eq!((admin(6), admin(0x18), admin(0x80)), (1, 0, 0x1_0007));
    assert_eq!((io(0), io(1), io(2), io(4), io(8), io(9)), (1, 3, 1, 0, 3, 3));
    // Whatever the log says is so: what it lacks is an invalid opcode, and nothing that it has is.
    for opcode in 0..=255u8 {
        let code = status(rig.io(Entry::new(opcode, 7)));
        assert_eq!(code == 0x001, io(usize::from(opcode)) == 0, "I/O {opcode:#x}: {code:#x}");
    }
}

#[test]
fn part_of_a_page_is_that_part() {
    let mut rig = Rig::probed();
    rig.admin(Entry::new(0x18, 0x0403_0201)).unwrap_err();
    let whole = rig.log_page(1, 128);
    let part = rig.driver.log_page(&mut rig.bench, &mut rig.nvme, 1, 24, 8).unwrap();
    assert_eq!(part, whole[24..32]);
    assert_eq!(part[..4], [1, 2, 3, 4]);
}

#[test]
fn log_pages_and_parts_that_are_not_there_are_refused() {
    let mut rig = Rig::probed();
    let page = |id: u32, dwords: u32, offset: u32| {
        Entry::new(2, 0xffff_ffff).prps(SCRATCH, 0).with(10, (dwords - 1) << 16 | id).with(12, offset)
    };
    for id in [0x00, 0x06, 0x07, 0x08, 0x0c, 0x0d, 0x70, 0x80, 0xc0] {
        assert_eq!(status(rig.admin(page(id, 16, 0))), 0x109, "{id:#x}");
    }
    assert_eq!(status(rig.admin(page(2, 16, 2))), INVALID_FIELD, "not a dword's offset");
    assert_eq!(status(rig.admin(page(2, 16, 516))), INVALID_FIELD, "behind the page");
    assert_eq!(status(rig.admin(page(2, 16, 0).with(13, 1))), INVALID_FIELD, "far behind it");
    assert_eq!(status(rig.admin(page(2, 1, 0).with(11, 0xffff))), INVALID_FIELD, "more than MDTS");
    assert_eq!(status(rig.admin(page(2, 128, 0).with(1, 2))), 0x00b);
    assert_eq!(status(rig.admin(page(2, 128, 0).with(1, 1))), 0);
    // At the end, and beyond: zeros.
    assert!(rig.bench.memory.poke(SCRATCH, &[0xff; 64]));
    assert_eq!(status(rig.admin(page(2, 16, 512))), 0);
    assert_eq!(rig.bench.memory.peek(SCRATCH, 64).unwrap(), [0; 64]);
}
