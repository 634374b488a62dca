//! CC and CSTS.

use std::time::Duration;

use sdmorph_pci::Event;
use sdmorph_testkit::nvme::{Entry, NvmeError};

use crate::rig::{CC, CSTS, Rig, SCRATCH};

const SHUTDOWN_NORMAL: u32 = 1 << 14;
const SHUTDOWN_ABRUPT: u32 = 2 << 14;

#[test]
fn controller_follows_enable_and_disable() {
    let mut rig = Rig::probed();
    assert_eq!(rig.get(CSTS), 1);
    rig.driver.disable(&mut rig.bench, &mut rig.nvme).unwrap();
    assert_eq!(rig.get(CSTS), 0);
    rig.driver.enable(&mut rig.bench, &mut rig.nvme).unwrap();
    assert_eq!(rig.get(CSTS), 1);
    let bound = rig.bench.log.events().filter(|event| *event == Event::DriverBound).count();
    assert_eq!(bound, 1, "once since the function's reset");
}

#[test]
fn configuration_that_is_not_supported_is_a_fatal_error_until_disabled() {
    let pages = |mps: u32| 0x0046_0001 | mps << 7;
    let cases = [
        ("page size", pages(5), 31 << 16 | 31, 0x10_0000, 0x10_1000),
        ("command set", 0x0046_0011, 31 << 16 | 31, 0x10_0000, 0x10_1000),
        ("arbitration", 0x0046_0801, 31 << 16 | 31, 0x10_0000, 0x10_1000),
        ("no entries", 0x0046_0001, 31, 0x10_0000, 0x10_1000),
        ("no completion entries", 0x0046_0001, 31 << 16, 0x10_0000, 0x10_1000),
        ("not on a page of this size", pages(1), 31 << 16 | 31, 0x10_0000, 0x10_1000),
    ];
    for (name, cc, aqa, asq, acq) in cases {
        let mut rig = Rig::untouched();
        rig.set(0x24, aqa);
        rig.set(0x28, asq);
        rig.set(0x30, acq);
        rig.set(CC, cc);
        assert_eq!(rig.get(CSTS), 2, "{name}: CFS and no RDY");
        rig.set(CC, 0);
        assert_eq!(rig.get(CSTS), 0, "{name}");
    }
}

#[test]
fn larger_memory_pages_are_used_for_prps() {
    let mut rig = Rig::untouched();
    rig.driver.probe(&mut rig.bench, &mut rig.nvme).unwrap();
    rig.set(CC, 0);
    rig.set(0x28, 0x40_0000);
    rig.set(0x30, 0x41_0000);
    rig.set(CC, 0x0046_0001 | 4 << 7);
    assert_eq!(rig.get(CSTS), 1);
    // Identify into one PRP that would cross a page of 4 KiB.
    let entry = Entry::new(6, 0).prps(SCRATCH + 0x800, 0).with(10, 1).id(9);
    assert!(rig.bench.memory.poke(0x40_0000, &entry.bytes()));
    rig.set(0x1000, 1);
    let vid = rig.bench.memory.peek(SCRATCH + 0x800, 2).unwrap();
    assert_eq!(vid, [0xec, 0x10]);
    let completion = rig.bench.memory.peek(0x41_0000, 16).unwrap();
    assert_eq!(completion[14..], [1, 0], "success, phase 1");
}

#[test]
fn shutdown_flushes_the_medium_and_then_completes() {
    for notification in [SHUTDOWN_NORMAL, SHUTDOWN_ABRUPT] {
        let mut rig = Rig::probed();
        rig.media.hold();
        let cc = rig.get(CC);
        rig.set(CC, cc | notification);
        assert_eq!(rig.get(CSTS) & 0xc, 0x4, "shutdown processing");
        assert_eq!(rig.media.take_requests(), ["Flush"]);
        rig.media.release();
        rig.wake();
        assert_eq!(rig.get(CSTS), 0x9, "shutdown complete, still ready");
        rig.set(CC, 0);
        assert_eq!(rig.get(CSTS), 0);
    }
}

#[test]
fn shutdown_waits_for_commands_under_way_and_completes_them() {
    let mut rig = Rig::probed();
    rig.media.hold();
    rig.submit(1, Entry::new(1, 1).prps(SCRATCH, 0).blocks(0, 1));
    let cc = rig.get(CC);
    rig.set(CC, cc | SHUTDOWN_NORMAL);
    assert_eq!(rig.media.take_requests(), ["Write { 1 from 0 }"], "no flush before the write has ended");
    assert!(rig.media.release_one());
    rig.wake();
    assert_eq!(rig.reap(1).len(), 1);
    assert_eq!(rig.media.take_requests(), ["Flush"]);
    rig.media.release();
    rig.wake();
    assert_eq!(rig.get(CSTS) & 0xc, 0x8);
}

#[test]
fn no_command_is_fetched_after_shutdown_was_asked_for() {
    let mut rig = Rig::probed();
    rig.driver.shut_down(&mut rig.bench, &mut rig.nvme).unwrap();
    rig.submit(1, Entry::new(0, 1));
    assert_eq!(rig.reap(1), []);
}

#[test]
fn shutdown_whose_flush_fails_never_completes() {
    let mut rig = Rig::probed();
    rig.media.fail_flushes(sdmorph_pci::MediaError::Io);
    assert_eq!(rig.driver.shut_down(&mut rig.bench, &mut rig.nvme), Err(NvmeError::NotReady));
    assert!(rig.is_fatal());
}

#[test]
fn shutdown_of_a_controller_that_is_not_enabled_completes() {
    let mut rig = Rig::untouched();
    rig.set(CC, SHUTDOWN_NORMAL);
    assert_eq!(rig.get(CSTS), 0x8);
}

#[test]
fn ready_waits_for_what_the_medium_was_asked_before() {
    let mut rig = Rig::probed();
    rig.media.hold();
    rig.submit(1, Entry::new(1, 1).prps(SCRATCH, 0).blocks(7, 1));
    let cc = rig.get(CC);
    rig.set(CC, cc & !1);
    assert_eq!(rig.get(CSTS), 1, "RDY stays while the write may still land");
    rig.set(CC, cc);
    assert_eq!(rig.get(CSTS), 0, "starting");
    rig.media.release();
    rig.wake();
    assert_eq!(rig.get(CSTS), 1);
    assert_eq!(rig.snapshot()["media_requests_under_way"], 0);
}

#[test]
fn disable_ends_once_the_medium_is_idle() {
    let mut rig = Rig::probed();
    rig.media.hold();
    rig.submit(1, Entry::new(0, 1));
    let cc = rig.get(CC);
    rig.set(CC, cc & !1);
    assert_eq!(rig.get(CSTS), 1);
    rig.media.release();
    rig.wake();
    assert_eq!(rig.get(CSTS), 0);
    rig.bench.advance(&mut rig.nvme, Duration::from_secs(1));
    assert_eq!(rig.reap(1), [], "the flush of before completes nowhere");
}

#[test]
fn doorbells_before_ready_are_ignored_and_counted() {
    let mut rig = Rig::untouched();
    rig.set(0x1000, 1);
    rig.set(0x1004, 1);
    assert_eq!(rig.snapshot()["ignored_doorbells"], 2);
    assert_eq!(rig.get(CSTS), 0);
}
