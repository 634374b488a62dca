//! Commands whose medium ends later, in any order, or fails.

use sdmorph_pci::MediaError;
use sdmorph_testkit::nvme::Entry;

use crate::rig::{Rig, SCRATCH, pattern, status};

fn read(first: u64, at: u64) -> Entry {
    Entry::new(2, 1).prps(at, 0).blocks(first, 1)
}

#[test]
fn commands_run_at_the_same_time_and_end_in_the_order_of_the_medium() {
    let mut rig = Rig::probed();
    let contents = pattern(4, 0);
    rig.media.poke(0, &contents);
    rig.media.hold();
    let ids: Vec<_> = (0..4u64).map(|block| rig.submit(1, read(block, SCRATCH + block * 4096))).collect();
    assert_eq!(rig.media.under_way(), 4);
    // The third, then the fourth, the first, the second.
    for place in [2, 2, 0, 0] {
        assert!(rig.media.release_at(place));
        rig.wake();
    }
    let ended: Vec<_> = rig.reap(1).iter().map(|completion| completion.id).collect();
    assert_eq!(ended, [ids[2], ids[3], ids[0], ids[1]]);
    for block in 0..4 {
        let got = rig.bench.memory.peek(SCRATCH + block * 4096, 512).unwrap();
        assert_eq!(got, contents[512 * block as usize..512 * (block as usize + 1)]);
    }
}

#[test]
fn errors_of_the_medium_have_their_statuses() {
    let cases = [
        (MediaError::Io, 0x281, 0x280),
        (MediaError::Full, 0x081, 0x081),
        (MediaError::ReadOnly, 0x020, 0x020),
        (MediaError::OutOfRange, 0x080, 0x080),
    ];
    for (error, on_read, on_write) in cases {
        let mut rig = Rig::probed();
        rig.media.fail(0..8, error);
        assert_eq!(status(rig.io(read(0, SCRATCH))), on_read, "{error}");
        assert_eq!(status(rig.io(Entry::new(5, 1).prps(SCRATCH, 0).blocks(0, 1))), on_read, "{error}");
        assert_eq!(status(rig.io(Entry::new(1, 1).prps(SCRATCH, 0).blocks(0, 1))), on_write, "{error}");
        assert_eq!(status(rig.io(Entry::new(8, 1).blocks(0, 1))), on_write, "{error}");
        rig.media.heal();
        assert_eq!(status(rig.io(read(0, SCRATCH))), 0);
    }
}

#[test]
fn flush_that_fails_fails_the_command_that_needs_it() {
    let mut rig = Rig::probed();
    rig.media.fail_flushes(MediaError::Io);
    assert_eq!(status(rig.io(Entry::new(0, 1))), 0x280);
    let forced = Entry::new(1, 1).prps(SCRATCH, 0).blocks(0, 1).with(12, 1 << 30);
    assert_eq!(status(rig.io(forced)), 0x280);
    assert_eq!(status(rig.io(Entry::new(1, 1).prps(SCRATCH, 0).blocks(0, 1))), 0);
}

#[test]
fn work_of_one_call_is_limited_and_goes_on_by_itself() {
    let mut rig = Rig::untouched();
    rig.driver.io_entries = 128;
    let mut rig = rig.probe();
    // 64 MiB in one doorbell.
    let list: Vec<u8> = (0..128u64).flat_map(|page| (SCRATCH + 4096 * (page + 1)).to_le_bytes()).collect();
    assert!(rig.bench.memory.poke(SCRATCH, &list));
    for id in 0..120 {
        let entry = Entry::new(2, 1).prps(SCRATCH + 4096, SCRATCH + 8).blocks(0, 1024).id(id);
        rig.driver.queues[1].put(&rig.bench, &entry);
    }
    rig.driver.queues[1].ring(&mut rig.bench, &mut rig.nvme);
    let mut calls = 0;
    let mut ended = 0;
    loop {
        // Without a doorbell, which would be another call.
        let now = rig.driver.queues[1].take(&rig.bench).len();
        assert!(now <= 16, "{now} commands of 512 KiB in one call");
        ended += now;
        if ended == 120 {
            break;
        }
        assert!(rig.bench.clock.take_due(), "{ended} ended, and it does not want to be woken");
        rig.wake();
        calls += 1;
    }
    assert!(calls >= 10, "{calls}");
}

#[test]
fn ranges_of_many_commands_are_limited_too() {
    let mut rig = Rig::probed();
    let range: Vec<u8> =
        (0..256u64).flat_map(|index| [1u64 << 32, index].into_iter().flat_map(u64::to_le_bytes)).collect();
    assert!(rig.bench.memory.poke(SCRATCH, &range));
    let entry = Entry::new(9, 1).prps(SCRATCH, 0).with(10, 255).with(11, 4);
    for id in 0..60 {
        rig.driver.queues[1].put(&rig.bench, &entry.id(id));
    }
    rig.driver.queues[1].ring(&mut rig.bench, &mut rig.nvme);
    let requests = rig.media.take_requests().len();
    assert!(requests < 2048, "{requests} requests in one call");
    let mut ended = rig.reap(1).len();
    while rig.bench.clock.take_due() {
        rig.wake();
        ended += rig.reap(1).len();
    }
    assert_eq!(ended, 60);
}

#[test]
fn without_bus_mastering_nothing_moves_and_nothing_is_lost() {
    let mut rig = Rig::probed();
    rig.media.hold();
    rig.submit(1, read(0, SCRATCH));
    rig.bench.config_write(&mut rig.nvme, 4, 2, 2);
    rig.submit(1, read(1, SCRATCH));
    rig.media.release();
    rig.wake();
    assert_eq!(rig.reap(1), []);
    rig.bench.config_write(&mut rig.nvme, 4, 2, 6);
    assert_eq!(rig.reap(1).len(), 2);
    assert!(!rig.is_fatal());
}

#[test]
fn what_waits_in_d3_goes_on_in_d0() {
    let mut rig = Rig::probed();
    let pm = sdmorph_testkit::nvme::capability(&mut rig.bench, &mut rig.nvme, 1).unwrap();
    rig.media.hold();
    rig.submit(1, read(0, SCRATCH));
    rig.bench.config_write(&mut rig.nvme, pm + 4, 2, 3);
    rig.media.release();
    rig.wake();
    assert_eq!(rig.driver.queues[1].take(&rig.bench), []);
    rig.bench.config_write(&mut rig.nvme, pm + 4, 2, 0);
    assert_eq!(rig.reap(1).len(), 1, "no soft reset");
}
