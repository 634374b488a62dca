//! MSI-X, MSI, masks and coalescing.

use std::time::Duration;

use sdmorph_testkit::nvme::{Entry, capability, set_feature};

use crate::rig::{Rig, SCRATCH};

const NONE: [u16; 0] = [];

fn vectors(rig: &mut Rig) -> Vec<u16> {
    rig.bench.interrupts.take_new().iter().map(|message| message.vector).collect()
}

fn flushes(rig: &mut Rig, queue: usize, count: u16) {
    for id in 0..count {
        rig.driver.queues[queue].put(&rig.bench, &Entry::new(0, 1).id(id));
    }
    let Rig { bench, nvme, driver, .. } = rig;
    driver.queues[queue].ring(bench, nvme);
}

#[test]
fn completions_of_one_call_are_told_by_one_message_of_their_queue_s_vector() {
    let mut rig = Rig::probed();
    flushes(&mut rig, 2, 10);
    assert_eq!(vectors(&mut rig), [2]);
    let message = rig.bench.interrupts.all().last().copied().unwrap();
    assert_eq!(message.address, 0xfee0_2000);
    rig.admin(Entry::new(6, 0).prps(SCRATCH, 0).with(10, 1)).unwrap();
    assert_eq!(vectors(&mut rig), [0]);
}

#[test]
fn queue_without_interrupts_sends_none() {
    let mut rig = Rig::probed();
    let (submission, completion) = (rig.driver.pages(1), rig.driver.pages(1));
    for queue in [1u32, 2] {
        rig.admin(Entry::new(0, 0).with(10, queue)).unwrap();
        rig.admin(Entry::new(4, 0).with(10, queue)).unwrap();
    }
    rig.admin(Entry::new(5, 0).prps(completion, 0).with(10, 7 << 16 | 1).with(11, 2 << 16 | 1)).unwrap();
    rig.admin(Entry::new(1, 0).prps(submission, 0).with(10, 7 << 16 | 1).with(11, 1 << 16 | 1)).unwrap();
    let _ = vectors(&mut rig);
    assert!(rig.bench.memory.poke(submission, &Entry::new(0, 1).bytes()));
    rig.set(0x1008, 1);
    assert_eq!(rig.bench.memory.peek(completion + 14, 1).unwrap(), [1]);
    assert_eq!(vectors(&mut rig), NONE);
}

#[test]
fn masked_vector_is_pending_until_it_is_unmasked() {
    let mut rig = Rig::probed();
    rig.set(0x2000 + 16 + 12, 1);
    flushes(&mut rig, 1, 1);
    assert_eq!(vectors(&mut rig), NONE);
    assert_eq!(rig.get(0x3000), 2, "pending bit");
    rig.set(0x2000 + 16 + 12, 0);
    assert_eq!(vectors(&mut rig), [1]);
    assert_eq!(rig.get(0x3000), 0);
}

#[test]
fn coalescing_waits_for_enough_completions() {
    let mut rig = Rig::probed();
    // 4 completions, or 10 ms.
    rig.admin(set_feature(8, 100 << 8 | 3)).unwrap();
    let _ = vectors(&mut rig);
    flushes(&mut rig, 1, 3);
    assert_eq!(vectors(&mut rig), NONE);
    flushes(&mut rig, 1, 1);
    assert_eq!(vectors(&mut rig), [1]);
}

#[test]
fn coalescing_waits_no_longer_than_its_time() {
    let mut rig = Rig::probed();
    rig.admin(set_feature(8, 100 << 8 | 3)).unwrap();
    let _ = vectors(&mut rig);
    flushes(&mut rig, 1, 1);
    rig.bench.advance(&mut rig.nvme, Duration::from_micros(9_999));
    assert_eq!(vectors(&mut rig), NONE);
    rig.bench.advance(&mut rig.nvme, Duration::from_micros(1));
    assert_eq!(vectors(&mut rig), [1]);
    rig.bench.advance(&mut rig.nvme, Duration::from_millis(100));
    assert_eq!(vectors(&mut rig), NONE, "once");
}

#[test]
fn admin_queue_and_excepted_vectors_do_not_wait() {
    let mut rig = Rig::probed();
    rig.admin(set_feature(8, 100 << 8 | 3)).unwrap();
    rig.admin(set_feature(9, 1 << 16 | 2)).unwrap();
    assert_eq!(vectors(&mut rig), [0, 0]);
    flushes(&mut rig, 2, 1);
    assert_eq!(vectors(&mut rig), [2]);
    flushes(&mut rig, 1, 1);
    assert_eq!(vectors(&mut rig), NONE);
}

#[test]
fn coalescing_without_a_time_is_none() {
    let mut rig = Rig::probed();
    rig.admin(set_feature(8, 9)).unwrap();
    let _ = vectors(&mut rig);
    flushes(&mut rig, 1, 1);
    assert_eq!(vectors(&mut rig), [1]);
}

/// A rig whose driver uses MSI with this many messages, as a power of two.
fn with_msi(log2: u32) -> Rig {
    let mut rig = Rig::untouched();
    let Rig { bench, nvme, .. } = &mut rig;
    bench.config_write(nvme, 4, 2, 6);
    let msi = capability(bench, nvme, 5).unwrap();
    bench.config_write(nvme, msi + 4, 4, 0xfee0_0000);
    bench.config_write(nvme, msi + 0xc, 2, 0x40);
    bench.config_write(nvme, msi + 2, 2, 1 | log2 << 4);
    rig.driver.enable(&mut rig.bench, &mut rig.nvme).unwrap();
    rig
}

#[test]
fn msi_has_a_message_for_each_vector() {
    let mut rig = with_msi(4);
    rig.driver.set_up(&mut rig.bench, &mut rig.nvme).unwrap();
    let _ = rig.bench.interrupts.take_new();
    flushes(&mut rig, 2, 1);
    let message = rig.bench.interrupts.take_new();
    assert_eq!(message.len(), 1);
    assert_eq!((message[0].vector, message[0].data), (2, 0x42));
    flushes(&mut rig, 2, 1);
    assert_eq!(vectors(&mut rig), [2], "each completion has its edge");
}

#[test]
fn vectors_are_limited_by_the_messages_that_the_guest_allows() {
    let mut rig = with_msi(0);
    let mut create = |vector: u32| {
        let cq = rig.driver.pages(1);
        let entry = Entry::new(5, 0).prps(cq, 0).with(10, 7 << 16 | (vector + 1)).with(11, vector << 16 | 3);
        rig.admin(entry)
    };
    assert!(create(0).is_ok());
    assert_eq!(crate::rig::status(create(1)), 0x108);
}

#[test]
fn masked_msi_vector_waits_for_its_bit_to_be_cleared() {
    let mut rig = with_msi(4);
    rig.driver.set_up(&mut rig.bench, &mut rig.nvme).unwrap();
    rig.set(0x0c, 1 << 1);
    let _ = vectors(&mut rig);
    flushes(&mut rig, 1, 2);
    flushes(&mut rig, 2, 1);
    assert_eq!(vectors(&mut rig), [2]);
    rig.set(0x10, 1 << 2);
    assert_eq!(vectors(&mut rig), NONE);
    rig.set(0x10, 1 << 1);
    assert_eq!(vectors(&mut rig), [1]);
}

#[test]
fn completions_while_all_interrupts_are_off_are_told_once_they_are_on() {
    let mut rig = with_msi(4);
    rig.driver.set_up(&mut rig.bench, &mut rig.nvme).unwrap();
    let msi = capability(&mut rig.bench, &mut rig.nvme, 5).unwrap();
    rig.bench.config_write(&mut rig.nvme, msi + 2, 2, 4 << 4);
    let _ = vectors(&mut rig);
    flushes(&mut rig, 2, 1);
    assert_eq!(vectors(&mut rig), NONE);
    rig.bench.config_write(&mut rig.nvme, msi + 2, 2, 1 | 4 << 4);
    assert_eq!(vectors(&mut rig), [2], "and those that were told before are not told again");
}

/// A drive that is polled and has just posted a completion that it does not tell of: one in a trial.
fn held() -> Rig {
    let mut rig = Rig::shadowed();
    let one = |rig: &mut Rig| {
        rig.submit(1, Entry::new(0, 1));
        rig.poll();
        assert_eq!(rig.reap(1).len(), 1);
    };
    rig.submit(1, Entry::new(0, 1));
    rig.poll();
    rig.reap(1);
    let _ = vectors(&mut rig);
    for turn in 0..200 {
        one(&mut rig);
        if vectors(&mut rig) == NONE {
            return rig;
        }
        assert!(turn < 199, "there is no trial");
    }
    rig
}

#[test]
fn completion_that_waits_for_others_is_told_of_when_nobody_looks_any_more() {
    let mut rig = held();
    assert!(!rig.poll());
    assert_eq!(vectors(&mut rig), NONE);
    rig.rest();
    assert_eq!(vectors(&mut rig), [1]);
}

#[test]
fn completion_that_waits_for_others_is_told_of_when_there_is_nothing_to_look_at_any_more() {
    let mut rig = held();
    rig.fail_fatally();
    assert!(rig.is_fatal() && !rig.nvme.has_shadow_doorbells());
    assert_eq!(vectors(&mut rig), [1]);
}

#[test]
fn completion_that_waits_for_others_waits_no_longer_than_a_guest_is_quiet() {
    let mut rig = held();
    rig.bench.clock.advance(Duration::from_micros(100));
    rig.poll();
    assert_eq!(vectors(&mut rig), [1]);
}
