//! Doorbell Buffer Config: shadow doorbells and event indices.

use sdmorph_pci::{Doorbell, DoorbellKind};
use sdmorph_testkit::Seen;
use sdmorph_testkit::nvme::Entry;

use crate::rig::{Rig, SCRATCH, status};

fn flush(rig: &mut Rig, queue: usize) -> usize {
    rig.submit(queue, Entry::new(0, 1));
    rig.reap(queue).len()
}

/// The doorbells of I/O queues that the controller has told of: kind, queue, value.
fn told(rig: &mut Rig) -> Vec<(DoorbellKind, u16, u16)> {
    let told = rig.bench.log.records().iter().filter_map(|record| match record.what {
        Seen::Doorbell(Doorbell { kind, queue, value }) if queue != 0 => Some((kind, queue, value)),
        _ => None,
    });
    let told = told.collect();
    rig.bench.log.clear();
    told
}

#[test]
fn doorbell_is_told_once_whether_it_came_by_register_or_memory() {
    use DoorbellKind::{CompletionHead, SubmissionTail};
    let mut rig = Rig::probed();
    told(&mut rig);
    assert_eq!(flush(&mut rig, 1), 1);
    assert_eq!(told(&mut rig), [(SubmissionTail, 1, 1), (CompletionHead, 1, 1)]);

    let mut rig = Rig::shadowed();
    flush(&mut rig, 1);
    rig.poll();
    told(&mut rig);
    let writes = rig.driver.queues[1].doorbell_writes;
    rig.submit(1, Entry::new(0, 1));
    rig.submit(1, Entry::new(0, 1));
    rig.poll();
    rig.poll();
    assert_eq!(rig.driver.queues[1].doorbell_writes, writes, "by memory alone");
    assert_eq!(told(&mut rig), [(SubmissionTail, 1, 3)]);
}

#[test]
fn buffers_must_be_whole_pages() {
    let mut rig = Rig::probed();
    let config = |first, second| Entry::new(0x7c, 0).prps(first, second);
    assert_eq!(status(rig.admin(config(SCRATCH + 8, SCRATCH + 4096))), 0x002);
    assert_eq!(status(rig.admin(config(SCRATCH, SCRATCH + 4096 + 64))), 0x002);
    assert_eq!(status(rig.admin(config(0, 4096))), 0x004, "no memory there");
    assert_eq!(rig.snapshot()["shadow_doorbells"], false);
    assert_eq!(status(rig.admin(config(SCRATCH, SCRATCH + 4096))), 0);
    assert_eq!(rig.snapshot()["shadow_doorbells"], true);
}

#[test]
fn driver_with_shadow_doorbells_works_without_being_polled() {
    let mut rig = Rig::shadowed();
    for turn in 0..500 {
        assert_eq!(flush(&mut rig, 1 + turn % 2), 1, "turn {turn}");
    }
    // Nobody polls, so each submission is announced.
    let writes = rig.driver.queues[1].doorbell_writes + rig.driver.queues[2].doorbell_writes;
    assert!(writes >= 500, "{writes}");
}

#[test]
fn polled_driver_writes_no_doorbell_register() {
    let mut rig = Rig::shadowed();
    flush(&mut rig, 1);
    assert!(!rig.poll());
    let before = rig.driver.queues[1].doorbell_writes;
    for turn in 0..1000 {
        rig.submit(1, Entry::new(0, 1));
        assert!(rig.poll(), "turn {turn}");
        assert_eq!(rig.reap(1).len(), 1, "turn {turn}");
    }
    assert_eq!(rig.driver.queues[1].doorbell_writes, before, "neither for commands nor for completions");
}

#[test]
fn guest_writes_the_register_again_when_nobody_polls_any_more() {
    let mut rig = Rig::shadowed();
    flush(&mut rig, 1);
    assert!(!rig.poll(), "nothing was left");
    assert_eq!(flush(&mut rig, 1), 0, "not announced");
    assert!(rig.poll());
    assert_eq!(rig.reap(1).len(), 1);
    assert!(!rig.rest());
    for _ in 0..100 {
        assert_eq!(flush(&mut rig, 1), 1, "announced by the register");
    }
}

#[test]
fn command_that_comes_while_polling_ends_is_not_lost() {
    let mut rig = Rig::shadowed();
    flush(&mut rig, 1);
    assert!(!rig.poll());
    // The shadow doorbell is written, and the register is not.
    let before = rig.driver.queues[1].doorbell_writes;
    rig.submit(1, Entry::new(0, 1));
    assert_eq!(rig.driver.queues[1].doorbell_writes, before);
    assert!(rig.rest());
    assert_eq!(rig.reap(1).len(), 1);
    assert!(!rig.rest());
}

#[test]
fn controller_without_buffers_is_not_polled() {
    let mut rig = Rig::probed();
    assert!(!rig.nvme.has_shadow_doorbells());
    flush(&mut rig, 1);
    assert!(!rig.poll() && !rig.rest());
    assert!(Rig::shadowed().nvme.has_shadow_doorbells());
}

#[test]
fn full_completion_queue_is_seen_to_have_room_again() {
    let mut rig = Rig::untouched();
    rig.driver.uses_shadow_doorbells = true;
    rig.driver.io_entries = 4;
    let mut rig = rig.probe();
    let mut taken = 0;
    for _ in 0..60 {
        // Three commands fill the completion queue.
        for _ in 0..3 {
            rig.submit(1, Entry::new(0, 1));
        }
        for _ in 0..4 {
            taken += rig.reap(1).len();
        }
    }
    assert_eq!(taken, 180);
}

#[test]
fn register_that_is_older_than_the_shadow_does_not_take_commands_back() {
    let mut rig = Rig::shadowed();
    let shadow = rig.driver.queues[1].shadow.unwrap();
    for _ in 0..3 {
        rig.driver.queues[1].put(&rig.bench, &Entry::new(0, 1));
    }
    assert!(rig.bench.memory.poke(shadow.doorbells + 8, &3u32.to_le_bytes()));
    rig.bench.config_write(&mut rig.nvme, 4, 2, 2);
    rig.bench.config_write(&mut rig.nvme, 4, 2, 6);
    rig.set(0x1008, 1);
    assert_eq!(rig.snapshot()["invalid_doorbells"], 0);
}

#[test]
fn shadow_value_that_cannot_be_is_refused_once() {
    let mut rig = Rig::shadowed();
    let shadow = rig.driver.queues[1].shadow.unwrap();
    assert!(rig.bench.memory.poke(shadow.doorbells + 8, &0xffff_ffffu32.to_le_bytes()));
    for _ in 0..5 {
        rig.wake();
    }
    assert_eq!(rig.snapshot()["invalid_doorbells"], 1);
    assert!(!rig.is_fatal());
    assert!(rig.bench.memory.poke(shadow.doorbells + 8, &0u32.to_le_bytes()));
    rig.wake();
    assert_eq!(flush(&mut rig, 1), 1);
}

#[test]
fn shadow_page_that_is_gone_is_fatal() {
    let mut rig = Rig::shadowed();
    let shadow = rig.driver.queues[1].shadow.unwrap();
    rig.bench.memory.make_failing(shadow.doorbells..shadow.doorbells + 4096);
    rig.wake();
    assert!(rig.is_fatal());
}

#[test]
fn reset_ends_shadow_doorbells() {
    let mut rig = Rig::shadowed();
    rig.driver.uses_shadow_doorbells = false;
    rig.driver.probe(&mut rig.bench, &mut rig.nvme).unwrap();
    assert_eq!(rig.snapshot()["shadow_doorbells"], false);
    assert_eq!(flush(&mut rig, 1), 1);
}

#[test]
fn polling_leaves_no_record_of_reads_that_found_nothing() {
    let mut rig = Rig::shadowed();
    flush(&mut rig, 1);
    rig.poll();
    rig.bench.log.clear();
    for _ in 0..10 {
        rig.poll();
    }
    assert_eq!(rig.bench.log.records(), []);
}
