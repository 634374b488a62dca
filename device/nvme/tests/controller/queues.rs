//! Creating, deleting and running queues, and what a hostile guest does to them.

use sdmorph_testkit::nvme::{Entry, set_feature};

use crate::rig::{CC, CSTS, Rig, SCRATCH, status};

const INVALID_FIELD: u16 = 0x002;
const COMPLETION_QUEUE_INVALID: u16 = 0x100;
const INVALID_QUEUE_ID: u16 = 0x101;
const INVALID_QUEUE_SIZE: u16 = 0x102;
const INVALID_VECTOR: u16 = 0x108;
const INVALID_QUEUE_DELETION: u16 = 0x10c;
const PRP_OFFSET_INVALID: u16 = 0x013;
const COMMAND_ID_CONFLICT: u16 = 0x003;

fn create_cq(id: u32, entries: u32, base: u64, flags: u32) -> Entry {
    Entry::new(5, 0).prps(base, 0).with(10, (entries - 1) << 16 | id).with(11, flags)
}

fn create_sq(id: u32, entries: u32, base: u64, completion: u32) -> Entry {
    Entry::new(1, 0).prps(base, 0).with(10, (entries - 1) << 16 | id).with(11, completion << 16 | 1)
}

#[test]
fn create_completion_queue_refuses_with_the_status_of_the_specification() {
    let mut rig = Rig::probed();
    let mut refusal = |entry| status(rig.admin(entry));
    assert_eq!(refusal(create_cq(0, 8, SCRATCH, 3)), INVALID_QUEUE_ID, "the admin queue's");
    assert_eq!(refusal(create_cq(1, 8, SCRATCH, 3)), INVALID_QUEUE_ID, "there already");
    assert_eq!(refusal(create_cq(3, 8, SCRATCH, 3)), INVALID_QUEUE_ID, "more than were allocated");
    assert_eq!(refusal(create_cq(0xffff, 8, SCRATCH, 3)), INVALID_QUEUE_ID);
    assert_eq!(refusal(Entry::new(4, 0).with(10, 7)), INVALID_QUEUE_ID);
    let mut rig = Rig::untouched();
    rig.driver.io_queues = 1;
    let mut rig = rig.probe();
    // Queues were allocated for one; a reset allows all again.
    rig.driver.enable(&mut rig.bench, &mut rig.nvme).unwrap();
    let mut refusal = |entry| status(rig.admin(entry));
    assert_eq!(refusal(create_cq(16, 1, SCRATCH, 3)), INVALID_QUEUE_SIZE);
    assert_eq!(refusal(create_cq(16, 1025, SCRATCH, 3)), INVALID_QUEUE_SIZE);
    assert_eq!(refusal(create_cq(16, 8, SCRATCH, 2)), INVALID_FIELD, "not contiguous");
    assert_eq!(refusal(create_cq(16, 8, SCRATCH + 64, 3)), PRP_OFFSET_INVALID);
    assert_eq!(refusal(create_cq(16, 8, SCRATCH, 17 << 16 | 3)), INVALID_VECTOR);
    assert_eq!(refusal(create_cq(16, 1024, SCRATCH, 16 << 16 | 3)), 0);
}

#[test]
fn create_submission_queue_refuses_with_the_status_of_the_specification() {
    let mut rig = Rig::probed();
    rig.driver.enable(&mut rig.bench, &mut rig.nvme).unwrap();
    rig.admin(create_cq(4, 8, SCRATCH, 3)).unwrap();
    let mut refusal = |entry| status(rig.admin(entry));
    assert_eq!(refusal(create_sq(1, 8, SCRATCH, 0)), INVALID_QUEUE_ID, "the admin completion queue");
    assert_eq!(refusal(create_sq(1, 8, SCRATCH, 17)), INVALID_QUEUE_ID);
    assert_eq!(refusal(create_sq(1, 8, SCRATCH, 5)), COMPLETION_QUEUE_INVALID);
    assert_eq!(refusal(create_sq(0, 8, SCRATCH, 4)), INVALID_QUEUE_ID);
    assert_eq!(refusal(create_sq(17, 8, SCRATCH, 4)), INVALID_QUEUE_ID);
    assert_eq!(refusal(create_sq(1, 1, SCRATCH, 4)), INVALID_QUEUE_SIZE);
    assert_eq!(refusal(create_sq(1, 2000, SCRATCH, 4)), INVALID_QUEUE_SIZE);
    assert_eq!(refusal(create_sq(1, 8, SCRATCH + 8, 4)), PRP_OFFSET_INVALID);
    assert_eq!(refusal(create_sq(1, 8, SCRATCH, 4).with(11, 4 << 16)), INVALID_FIELD);
    assert_eq!(refusal(create_sq(1, 8, SCRATCH, 4)), 0);
    assert_eq!(refusal(create_sq(1, 8, SCRATCH, 4)), INVALID_QUEUE_ID, "there already");
}

#[test]
fn entry_sizes_other_than_the_required_ones_make_no_queue() {
    let mut rig = Rig::probed();
    rig.driver.enable(&mut rig.bench, &mut rig.nvme).unwrap();
    rig.set(CC, 0x0055_0001);
    assert_eq!(status(rig.admin(create_cq(1, 8, SCRATCH, 3))), INVALID_QUEUE_SIZE);
    rig.set(CC, 0x0045_0001);
    assert_eq!(status(rig.admin(create_cq(1, 8, SCRATCH, 3))), 0);
    assert_eq!(status(rig.admin(create_sq(1, 8, SCRATCH, 1))), INVALID_QUEUE_SIZE);
}

#[test]
fn completion_queue_in_use_is_not_deleted() {
    let mut rig = Rig::probed();
    let delete = |opcode, id: u32| Entry::new(opcode, 0).with(10, id);
    assert_eq!(status(rig.admin(delete(4, 1))), INVALID_QUEUE_DELETION);
    assert_eq!(status(rig.admin(delete(0, 0))), INVALID_QUEUE_ID);
    assert_eq!(status(rig.admin(delete(4, 0))), INVALID_QUEUE_ID);
    assert_eq!(status(rig.admin(delete(0, 1))), 0);
    assert_eq!(status(rig.admin(delete(0, 1))), INVALID_QUEUE_ID);
    assert_eq!(status(rig.admin(delete(4, 1))), 0);
    assert_eq!(status(rig.admin(delete(4, 1))), INVALID_QUEUE_ID);
}

#[test]
fn submission_queue_is_deleted_when_its_commands_have_ended() {
    let mut rig = Rig::probed();
    rig.media.hold();
    let read = rig.submit(1, Entry::new(2, 1).prps(SCRATCH, 0).blocks(0, 1));
    let delete = rig.submit(0, Entry::new(0, 0).with(10, 1));
    assert_eq!(rig.reap(0), []);
    // Not fetched any more.
    rig.submit(1, Entry::new(0, 1));
    assert_eq!(rig.media.under_way(), 1);
    rig.media.release();
    rig.wake();
    let ended: Vec<_> = rig.reap(1).iter().map(|completion| completion.id).collect();
    assert_eq!(ended, [read]);
    let ended: Vec<_> = rig.reap(0).iter().map(|completion| (completion.id, completion.code())).collect();
    assert_eq!(ended, [(delete, 0)]);
    assert_eq!(status(rig.admin(Entry::new(0, 0).with(10, 1))), INVALID_QUEUE_ID);
}

#[test]
fn sixteen_pairs_of_queues_work() {
    let mut rig = Rig::untouched();
    rig.driver.io_queues = 16;
    rig.driver.io_entries = 16;
    let mut rig = rig.probe();
    for queue in 1..=16 {
        rig.submit(queue, Entry::new(0, 1));
    }
    for queue in 1..=16 {
        let completions = rig.reap(queue);
        assert_eq!(completions.len(), 1, "queue {queue}");
        assert_eq!((completions[0].queue, completions[0].head), (queue as u16, 1));
    }
    let vectors: Vec<_> = rig.bench.interrupts.take_new().iter().map(|message| message.vector).collect();
    assert_eq!(vectors, (1..=16).collect::<Vec<_>>());
}

#[test]
fn number_of_queues_is_allocated_once() {
    let mut rig = Rig::probed();
    assert_eq!(status(rig.admin(set_feature(7, 0))), 0x00c, "queues are there");
    rig.driver.enable(&mut rig.bench, &mut rig.nvme).unwrap();
    assert_eq!(rig.admin(set_feature(7, 3 << 16 | 5)), Ok(3 << 16 | 5));
    assert_eq!(rig.admin(set_feature(7, 0xfffe_fffe)), Ok(15 << 16 | 15));
    assert_eq!(status(rig.admin(set_feature(7, 0xffff))), INVALID_FIELD);
    assert_eq!(status(rig.admin(set_feature(7, 0xffff_0000))), INVALID_FIELD);
}

#[test]
fn queues_wrap_and_the_phase_changes() {
    let mut rig = Rig::untouched();
    rig.driver.io_entries = 4;
    let mut rig = rig.probe();
    for turn in 0..23u32 {
        let id = rig.submit(1, Entry::new(0, 1));
        let completions = rig.reap(1);
        assert_eq!(completions.len(), 1, "turn {turn}");
        assert_eq!(completions[0].id, id);
        assert_eq!(u32::from(completions[0].head), (turn + 1) % 4);
    }
}

#[test]
fn full_completion_queue_holds_completions_back_until_the_guest_takes_some() {
    let mut rig = Rig::untouched();
    rig.driver.io_entries = 4;
    let mut rig = rig.probe();
    for _ in 0..2 {
        rig.submit(1, Entry::new(0, 1));
    }
    let mut ids = vec![];
    let taken = rig.driver.queues[1].take(&rig.bench);
    ids.extend(taken.iter().map(|completion| completion.id));
    for _ in 0..3 {
        rig.submit(1, Entry::new(0, 1));
    }
    // Two are taken and not acknowledged: there is room for one more.
    ids.extend(rig.driver.queues[1].take(&rig.bench).iter().map(|completion| completion.id));
    assert_eq!(ids.len(), 3);
    let head = rig.driver.queues[1].head;
    rig.set(0x100c, head);
    ids.extend(rig.reap(1).iter().map(|completion| completion.id));
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), 5, "each once: {ids:?}");
    assert!(!rig.is_fatal());
}

#[test]
fn doorbells_that_cannot_be_are_reported_and_change_nothing() {
    let invalid_register = 0x0001_0000;
    let invalid_value = 0x0001_0100;
    let cases = [
        ("no such submission queue", 0x1000 + 8 * 5, 1, invalid_register),
        ("no such completion queue", 0x1004 + 8 * 5, 1, invalid_register),
        ("behind all queues", 0x1000 + 8 * 100, 1, invalid_register),
        ("tail behind the end", 0x1008, 64, invalid_value),
        ("head behind the end", 0x100c, 64, invalid_value),
        ("head before completions", 0x100c, 1, invalid_value),
        ("tail far behind the end", 0x1008, 0xffff_ffff, invalid_value),
    ];
    for (name, at, value, event) in cases {
        let mut rig = Rig::probed();
        rig.set(at, value);
        let completions = rig.reap(0);
        assert_eq!(completions.len(), 1, "{name}");
        assert_eq!(completions[0].result, event, "{name}");
        assert_eq!(rig.snapshot()["invalid_doorbells"], 1, "{name}");
        let log = rig.log_page(1, 64);
        assert_eq!(log[..12], [1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], "{name}");
        assert_eq!(rig.get(CSTS), 1, "{name}");
        assert_eq!(status(rig.io(Entry::new(0, 1))), 0, "{name}");
    }
}

#[test]
fn tail_that_takes_commands_back_is_refused() {
    let mut rig = Rig::probed();
    rig.bench.config_write(&mut rig.nvme, 4, 2, 2);
    // Bus mastering is off: commands stay where they are.
    rig.set(0x1008, 5);
    rig.set(0x1008, 3);
    assert_eq!(rig.snapshot()["invalid_doorbells"], 1);
    rig.set(0x1008, 6);
    assert_eq!(rig.snapshot()["invalid_doorbells"], 1);
}

#[test]
fn partial_doorbell_writes_are_ignored_and_counted() {
    let mut rig = Rig::probed();
    rig.write_sized(0x1008, 2, 1);
    rig.write_sized(0x1009, 1, 1);
    assert_eq!(rig.snapshot()["ignored_doorbells"], 2);
}

#[test]
fn same_identifier_twice_is_a_conflict() {
    let mut rig = Rig::probed();
    rig.media.hold();
    let flush = Entry::new(0, 1).id(77);
    for _ in 0..2 {
        rig.driver.queues[1].put(&rig.bench, &flush);
    }
    rig.driver.queues[1].ring(&mut rig.bench, &mut rig.nvme);
    let codes: Vec<_> = rig.reap(1).iter().map(|completion| completion.code()).collect();
    assert_eq!(codes, [COMMAND_ID_CONFLICT]);
    // The same in another queue is another command.
    rig.driver.queues[2].put(&rig.bench, &flush);
    rig.driver.queues[2].ring(&mut rig.bench, &mut rig.nvme);
    rig.media.release();
    rig.wake();
    assert_eq!(rig.reap(1).len() + rig.reap(2).len(), 2);
}

#[test]
fn queue_that_cannot_be_read_or_written_is_fatal() {
    for (name, failing) in [("commands", 0), ("completions", 1)] {
        let mut rig = Rig::probed();
        let queue = &rig.driver.queues[1];
        let at = if failing == 0 { queue.submission } else { queue.completion };
        rig.bench.memory.make_failing(at..at + 4096);
        rig.submit(1, Entry::new(0, 1));
        assert!(rig.is_fatal(), "{name}");
        assert_eq!(rig.snapshot()["fatal"], 1);
        rig.submit(0, Entry::new(6, 0));
        assert_eq!(rig.reap(0), [], "{name}: nothing is processed any more");
        rig.set(CC, 0);
        assert_eq!(rig.get(CSTS), 0, "{name}");
    }
}

#[test]
fn all_queues_get_their_turn_when_commands_have_to_wait() {
    let mut rig = Rig::untouched();
    rig.driver.io_entries = 256;
    let mut rig = rig.probe();
    rig.media.hold();
    for queue in [1, 2] {
        for id in 0..200 {
            let entry = Entry::new(2, 1).prps(SCRATCH, 0).blocks(0, 1).id(id);
            rig.driver.queues[queue].put(&rig.bench, &entry);
        }
        let Rig { bench, nvme, driver, .. } = &mut rig;
        driver.queues[queue].ring(bench, nvme);
    }
    let limit = rig.media.under_way();
    assert!(limit <= 128, "{limit} commands under way");
    // One place after another comes free: both queues use them.
    for _ in 0..32 {
        rig.media.release_one();
        rig.wake();
    }
    let requests = rig.snapshot()["queues"].clone();
    let head = |queue: usize| requests[queue]["submission"]["head"].as_u64().unwrap();
    assert!(head(1) >= limit as u64 && head(2) >= 8, "{requests}");
    rig.media.release();
    for _ in 0..20 {
        rig.wake();
        rig.media.release();
    }
    assert_eq!((rig.reap(1).len(), rig.reap(2).len()), (200, 200));
}
