//! Every kind of reset, with commands under way.

use sdmorph_pci::{Event, PciFunction, ResetKind};
use sdmorph_testkit::nvme::{Entry, capability};

use crate::rig::{CC, CSTS, Rig, SCRATCH, pattern, u64_at};

fn reset(rig: &mut Rig, kind: ResetKind) {
    rig.bench.with(&mut rig.nvme, |nvme, ctx| nvme.reset(ctx, kind));
}

fn function_level_reset(rig: &mut Rig) {
    let Rig { bench, nvme, .. } = rig;
    let express = capability(bench, nvme, 0x10).unwrap();
    let control = bench.config_read(nvme, express + 8, 2);
    bench.config_write(nvme, express + 8, 2, control | 0x8000);
}

#[test]
fn function_level_reset_resets_everything_and_reads_as_zero() {
    let mut rig = Rig::probed();
    rig.set(0x0c, 5);
    function_level_reset(&mut rig);
    assert!(rig.bench.log.events().any(|event| event == Event::Reset { kind: ResetKind::Function }));
    let Rig { bench, nvme, .. } = &mut rig;
    let express = capability(bench, nvme, 0x10).unwrap();
    assert_eq!(bench.config_read(nvme, express + 8, 2) & 0x8000, 0);
    assert_eq!(bench.config_read(nvme, 4, 2), 0, "no memory, no bus master");
    assert_eq!((rig.get(CC), rig.get(CSTS), rig.get(0x24), rig.get(0x0c)), (0, 0, 0, 0));
    assert_eq!(rig.get(0x200c), 1, "vectors are masked");
    let mut rig = rig.probe();
    assert!(rig.read_blocks(0, 1).is_ok());
}

#[test]
fn commands_under_way_are_dropped_by_every_reset_and_end_nowhere() {
    for kind in [ResetKind::Function, ResetKind::Hot, ResetKind::Cold] {
        let mut rig = Rig::probed();
        rig.media.hold();
        rig.submit(1, Entry::new(2, 1).prps(SCRATCH, 0).blocks(0, 1));
        rig.submit(1, Entry::new(1, 1).prps(SCRATCH, 0).blocks(8, 1));
        let stale = rig.media.clone();
        reset(&mut rig, kind);
        assert_eq!(rig.get(CSTS), 0, "{kind:?}");
        // The driver is back before the medium has ended what was asked for: it waits.
        let Rig { bench, nvme, driver, .. } = &mut rig;
        bench.config_write(nvme, 4, 2, 6);
        driver.enable_msi_x(bench, nvme).unwrap();
        assert!(driver.enable(bench, nvme).is_err(), "{kind:?}: RDY before the medium is idle");
        stale.release();
        rig.wake();
        assert_eq!(rig.get(CSTS), 1, "{kind:?}");
        rig.driver.set_up(&mut rig.bench, &mut rig.nvme).unwrap();
        // The first new request has ended with its own contents.
        rig.media.poke(100, &pattern(1, 5));
        assert_eq!(rig.read_blocks(100, 1).unwrap(), pattern(1, 5));
        assert_eq!(rig.reap(1), []);
    }
}

#[test]
fn result_of_before_a_reset_is_not_taken_for_a_new_command_s() {
    let mut rig = Rig::probed();
    rig.media.poke(0, &pattern(1, 1));
    rig.media.poke(1, &pattern(1, 2));
    rig.media.hold();
    rig.submit(1, Entry::new(2, 1).prps(SCRATCH, 0).blocks(0, 1));
    rig.media.release();
    // The result is there and has not been looked at.
    reset(&mut rig, ResetKind::Hot);
    let mut rig = rig.probe();
    rig.media.hold();
    rig.submit(1, Entry::new(2, 1).prps(SCRATCH + 4096, 0).blocks(1, 1));
    rig.wake();
    assert_eq!(rig.reap(1), []);
    rig.media.release();
    rig.wake();
    assert_eq!(rig.reap(1).len(), 1);
    assert_eq!(rig.bench.memory.peek(SCRATCH + 4096, 512).unwrap(), pattern(1, 2));
    assert_eq!(rig.bench.memory.peek(SCRATCH, 512).unwrap(), [0; 512]);
}

#[test]
fn controller_reset_keeps_the_registers_of_the_admin_queue() {
    let mut rig = Rig::probed();
    let before = (rig.get(0x24), rig.read_sized(0x28, 8), rig.read_sized(0x30, 8));
    rig.set(CC, 0);
    assert_eq!((rig.get(0x24), rig.read_sized(0x28, 8), rig.read_sized(0x30, 8)), before);
    assert_eq!(rig.snapshot()["queues"], serde_json::json!([]));
}

#[test]
fn counters_outlive_resets_and_power_cycles_are_counted() {
    let mut rig = Rig::probed();
    rig.write_blocks(0, &pattern(8, 0)).unwrap();
    rig.admin(Entry::new(0x18, 0)).unwrap_err();
    reset(&mut rig, ResetKind::Cold);
    let mut rig = rig.probe();
    rig.driver.shut_down(&mut rig.bench, &mut rig.nvme).unwrap();
    reset(&mut rig, ResetKind::Cold);
    let mut rig = rig.probe();
    let page = rig.log_page(2, 512);
    assert_eq!(u64_at(&page, 80), 1, "write commands");
    assert_eq!(u64_at(&page, 112), 3, "power cycles");
    assert_eq!(u64_at(&page, 144), 1, "unsafe shutdowns: the first");
    assert_eq!(u64_at(&page, 176), 1, "errors");
    assert_eq!(rig.log_page(1, 64), vec![0; 64], "whose entries went with the power");
}

#[test]
fn reset_during_a_format_lets_the_namespace_be_used() {
    let mut rig = Rig::probed();
    rig.media.hold();
    rig.submit(0, Entry::new(0x80, 1).with(10, 1));
    reset(&mut rig, ResetKind::Function);
    rig.media.release();
    rig.wake();
    let mut rig = rig.probe();
    assert_eq!(rig.driver.block_bytes, 512);
    assert!(rig.read_blocks(0, 1).is_ok());
}
