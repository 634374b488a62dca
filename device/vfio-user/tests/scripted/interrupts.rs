//! Interrupts: where they go, what holds them back, and that none is lost.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

use crate::client::Client;
use crate::device::*;
use crate::wire::*;

/// SET_IRQS without descriptors, which must be taken.
fn set(client: &mut Client, flags: u32, index: u32, start: u32, count: u32, data: &[u8]) {
    assert_eq!(client.request(SET_IRQS, &set_irqs(flags, index, start, count, data)).ok(), b"");
}

/// Gives so many vectors an eventfd each, that is signalled when `action` happens.
fn eventfds(client: &mut Client, action: u32, index: u32, start: u32, count: u32) -> Vec<OwnedFd> {
    let eventfds: Vec<_> = (0..count).map(|_| new_eventfd()).collect();
    let fds: Vec<_> = eventfds.iter().map(AsFd::as_fd).collect();
    client.request_with(SET_IRQS, &set_irqs(EVENTFD | action, index, start, count, &[]), &fds).ok();
    eventfds
}

/// Lets the device raise an interrupt.
fn raise(client: &mut Client, index: u32, vector: u32) {
    client.write(REGISTERS, RAISE, &u32s(&[index, vector]));
}

fn counts(eventfds: &[OwnedFd]) -> Vec<u64> {
    eventfds.iter().map(signals).collect()
}

#[test]
fn interrupt_of_the_device_signals_the_eventfd_of_its_vector() {
    let rig = Rig::start();
    let mut client = rig.client();
    let routed = eventfds(&mut client, TRIGGER, MSIX, 2, 3);
    for vector in 2..5 {
        raise(&mut client, MSIX, vector);
    }
    raise(&mut client, MSIX, 4);
    assert_eq!(counts(&routed), [1, 1, 2]);
    assert_eq!(rig.log().changes, [(MSIX, 2, true), (MSIX, 3, true), (MSIX, 4, true)]);
}

#[test]
fn interrupt_without_a_route_is_pending_and_sent_once_when_it_gets_one() {
    let rig = Rig::start();
    let mut client = rig.client();
    raise(&mut client, MSIX, 7);
    raise(&mut client, MSIX, 7);
    assert_eq!(rig.interrupts.is_pending(MSIX, 7), Some(true));
    let routed = eventfds(&mut client, TRIGGER, MSIX, 0, 16);
    let mut expected = vec![0; 16];
    expected[7] = 1;
    assert_eq!(counts(&routed), expected);
    assert_eq!(rig.interrupts.is_pending(MSIX, 7), Some(false));
}

#[test]
fn masked_interrupt_is_pending_and_sent_once_when_it_is_unmasked() {
    let rig = Rig::start();
    let mut client = rig.client();
    let routed = eventfds(&mut client, TRIGGER, MASKABLE, 0, 4);
    set(&mut client, NONE | MASK, MASKABLE, 1, 2, &[]);
    for vector in [0, 1, 2, 3, 1] {
        raise(&mut client, MASKABLE, vector);
    }
    assert_eq!(counts(&routed), [1, 0, 0, 1]);
    set(&mut client, NONE | UNMASK, MASKABLE, 0, 4, &[]);
    assert_eq!(counts(&routed), [0, 1, 1, 0]);
    raise(&mut client, MASKABLE, 1);
    assert_eq!(counts(&routed), [0, 1, 0, 0]);
}

#[test]
fn interrupt_that_masks_itself_is_sent_again_only_after_an_unmask() {
    let rig = Rig::start();
    let mut client = rig.client();
    let routed = eventfds(&mut client, TRIGGER, INTX, 0, 1);
    raise(&mut client, INTX, 0);
    raise(&mut client, INTX, 0);
    raise(&mut client, INTX, 0);
    assert_eq!(counts(&routed), [1]);
    // What is pending is sent, and masks again.
    set(&mut client, NONE | UNMASK, INTX, 0, 1, &[]);
    raise(&mut client, INTX, 0);
    assert_eq!(counts(&routed), [1]);
    set(&mut client, NONE | UNMASK, INTX, 0, 1, &[]);
    set(&mut client, NONE | UNMASK, INTX, 0, 1, &[]);
    assert_eq!(counts(&routed), [1]);
    raise(&mut client, INTX, 0);
    assert_eq!(counts(&routed), [1]);
}

#[test]
fn bool_data_choose_the_vectors_for_every_action() {
    let rig = Rig::start();
    let mut client = rig.client();
    let routed = eventfds(&mut client, TRIGGER, MASKABLE, 0, 4);
    set(&mut client, BOOL | TRIGGER, MASKABLE, 1, 3, &[1, 0, 0xff]);
    assert_eq!(counts(&routed), [0, 1, 0, 1]);
    set(&mut client, BOOL | MASK, MASKABLE, 0, 4, &[1, 0, 1, 0]);
    set(&mut client, NONE | TRIGGER, MASKABLE, 0, 4, &[]);
    assert_eq!(counts(&routed), [0, 1, 0, 1]);
    set(&mut client, BOOL | UNMASK, MASKABLE, 0, 4, &[0, 1, 1, 1]);
    assert_eq!(counts(&routed), [0, 0, 1, 0]);
    set(&mut client, BOOL | UNMASK, MASKABLE, 0, 1, &[1]);
    assert_eq!(counts(&routed), [1, 0, 0, 0]);
}

#[test]
fn client_triggers_interrupts_itself_in_a_loop_back() {
    let rig = Rig::start();
    let mut client = rig.client();
    let routed = eventfds(&mut client, TRIGGER, MSIX, 0, 16);
    set(&mut client, NONE | TRIGGER, MSIX, 4, 2, &[]);
    let mut expected = vec![0; 16];
    (expected[4], expected[5]) = (1, 1);
    assert_eq!(counts(&routed), expected);
    // A type without eventfds can be triggered, and stays pending.
    set(&mut client, NONE | TRIGGER, NO_EVENTFDS, 0, 1, &[]);
    assert_eq!(rig.interrupts.is_pending(NO_EVENTFDS, 0), Some(true));
}

#[test]
fn eventfds_of_mask_and_unmask_are_signalled_when_that_happens() {
    let rig = Rig::start();
    let mut client = rig.client();
    let masked = eventfds(&mut client, MASK, MASKABLE, 2, 1);
    let unmasked = eventfds(&mut client, UNMASK, MASKABLE, 2, 1);
    set(&mut client, NONE | MASK, MASKABLE, 0, 4, &[]);
    assert_eq!((counts(&masked), counts(&unmasked)), (vec![1], vec![0]));
    // It is masked already.
    set(&mut client, NONE | MASK, MASKABLE, 0, 4, &[]);
    assert_eq!((counts(&masked), counts(&unmasked)), (vec![0], vec![0]));
    set(&mut client, NONE | UNMASK, MASKABLE, 0, 4, &[]);
    assert_eq!((counts(&masked), counts(&unmasked)), (vec![0], vec![1]));
    // The device masks it.
    assert!(rig.interrupts.set_masked(MASKABLE, 2, true));
    assert_eq!((counts(&masked), counts(&unmasked)), (vec![1], vec![0]));
    assert!(!rig.interrupts.set_masked(MASKABLE, 4, true));
    // None any more.
    for action in [MASK, UNMASK] {
        set(&mut client, EVENTFD | action, MASKABLE, 2, 1, &[]);
    }
    set(&mut client, NONE | UNMASK, MASKABLE, 2, 1, &[]);
    assert_eq!((counts(&masked), counts(&unmasked)), (vec![0], vec![0]));
}

#[test]
fn eventfd_data_without_descriptors_take_the_routes_of_those_vectors_away() {
    let rig = Rig::start();
    let mut client = rig.client();
    let routed = eventfds(&mut client, TRIGGER, MSIX, 0, 4);
    set(&mut client, EVENTFD | TRIGGER, MSIX, 1, 2, &[]);
    for vector in 0..4 {
        raise(&mut client, MSIX, vector);
    }
    assert_eq!(counts(&routed), [1, 0, 0, 1]);
    assert_eq!(rig.log().changes[4..], [(MSIX, 1, false), (MSIX, 2, false)]);
    let again = eventfds(&mut client, TRIGGER, MSIX, 1, 1);
    assert_eq!(counts(&again), [1]);
}

#[test]
fn no_data_for_no_vectors_disables_all_of_a_type_and_no_other() {
    let rig = Rig::start();
    let mut client = rig.client();
    let routed = eventfds(&mut client, TRIGGER, MSIX, 0, 16);
    let other = eventfds(&mut client, TRIGGER, MASKABLE, 0, 4);
    set(&mut client, NONE | TRIGGER, MSIX, 0, 0, &[]);
    for vector in 0..16 {
        assert_eq!(rig.interrupts.is_pending(MSIX, vector), Some(false));
        raise(&mut client, MSIX, vector);
    }
    raise(&mut client, MASKABLE, 0);
    assert_eq!((counts(&routed), counts(&other)), (vec![0; 16], vec![1, 0, 0, 0]));
}

/// QEMU disables INTx when the guest goes over to MSI-X, possibly while an interrupt waits for its unmask.
#[test]
fn interrupt_that_was_masked_when_its_type_was_disabled_is_delivered_when_it_is_enabled_again() {
    let rig = Rig::start();
    let mut client = rig.client();
    let first = eventfds(&mut client, TRIGGER, INTX, 0, 1);
    let masked = eventfds(&mut client, MASK, INTX, 0, 1);
    raise(&mut client, INTX, 0);
    assert_eq!(counts(&first), [1]);
    set(&mut client, NONE | TRIGGER, INTX, 0, 0, &[]);
    let second = eventfds(&mut client, TRIGGER, INTX, 0, 1);
    raise(&mut client, INTX, 0);
    assert_eq!((counts(&first), counts(&second)), (vec![0], vec![1]));
    set(&mut client, NONE | UNMASK, INTX, 0, 1, &[]);
    set(&mut client, NONE | MASK, INTX, 0, 1, &[]);
    assert_eq!(counts(&masked), [0]);
}

#[test]
fn replaced_eventfd_is_closed_and_not_signalled() {
    let rig = Rig::start();
    let mut client = rig.client();
    let (theirs, ours) = tracer();
    let body = set_irqs(EVENTFD | TRIGGER, MSIX, 0, 1, &[]);
    client.request_with(SET_IRQS, &body, &[ours.as_fd()]).ok();
    drop(ours);
    assert!(!is_readable(&theirs));
    let routed = eventfds(&mut client, TRIGGER, MSIX, 0, 1);
    assert!(is_readable(&theirs));
    raise(&mut client, MSIX, 0);
    assert_eq!(counts(&routed), [1]);
}

#[test]
fn every_combination_of_data_and_action_is_taken_where_it_makes_sense_and_else_changes_nothing() {
    let rig = Rig::start();
    let mut client = rig.client();
    let routed = eventfds(&mut client, TRIGGER, MSIX, 0, 1);
    let eventfd = new_eventfd();
    for (data, bytes) in [(NONE, &[][..]), (BOOL, &[0]), (EVENTFD, &[])] {
        for action in [MASK, UNMASK, TRIGGER] {
            let fds: Vec<_> = (data == EVENTFD).then(|| eventfd.as_fd()).into_iter().collect();
            for (index, taken) in [
                (INTX, true),
                (MASKABLE, true),
                (MSIX, action == TRIGGER && data != EVENTFD),
                (NO_EVENTFDS, action == TRIGGER && data != EVENTFD),
            ] {
                // MSI-X takes eventfds, too: not here, so that its route can be seen to stay.
                if (index, data, action) == (MSIX, EVENTFD, TRIGGER) {
                    continue;
                }
                let body = set_irqs(data | action, index, 0, 1, bytes);
                let reply = client.request_with(SET_IRQS, &body, &fds);
                if taken {
                    reply.ok();
                } else {
                    assert_eq!(reply.errno(), EINVAL, "type {index}, flags {:#x}", data | action);
                }
            }
        }
    }
    // Without data it was triggered once, and nothing has masked it.
    assert_eq!(counts(&routed), [1]);
}

#[test]
fn vectors_that_are_not_there_are_invalid_and_nothing_is_changed() {
    let rig = Rig::start();
    let mut client = rig.client();
    let routed = eventfds(&mut client, TRIGGER, MSIX, 0, 16);
    for (flags, start, count, data) in [
        (NONE | TRIGGER, 16, 1, 0),
        (NONE | TRIGGER, 15, 2, 0),
        (NONE | TRIGGER, u32::MAX, 1, 0),
        (NONE | TRIGGER, 1, u32::MAX, 0),
        (NONE | TRIGGER, 1, 0, 0),
        (BOOL | TRIGGER, 0, 17, 17),
        (BOOL | TRIGGER, 0, 0, 0),
        (EVENTFD | TRIGGER, 0, 17, 0),
        (EVENTFD | TRIGGER, 0, 0, 0),
    ] {
        let reply = client.request(SET_IRQS, &set_irqs(flags, MSIX, start, count, &vec![1; data]));
        assert_eq!(reply.errno(), EINVAL, "{flags:#x} {start}+{count}");
    }
    assert_eq!(client.request(SET_IRQS, &set_irqs(NONE | MASK, MASKABLE, 0, 0, &[])).errno(), EINVAL);
    set(&mut client, NONE | TRIGGER, MSIX, 0, 16, &[]);
    assert_eq!(counts(&routed), [1; 16]);
}

#[test]
fn reset_forgets_what_is_pending_and_keeps_routes() {
    let rig = Rig::start();
    let mut client = rig.client();
    raise(&mut client, MSIX, 0);
    let routed = eventfds(&mut client, TRIGGER, MSIX, 1, 1);
    client.request(RESET, &[]).ok();
    assert_eq!(rig.interrupts.is_pending(MSIX, 0), Some(false));
    raise(&mut client, MSIX, 1);
    assert_eq!(counts(&routed), [1]);
    assert_eq!(counts(&eventfds(&mut client, TRIGGER, MSIX, 0, 1)), [0]);
}

/// It blocks whoever adds to it, and cannot take one more.
#[test]
fn full_eventfd_does_not_block_the_server() {
    let rig = Rig::start();
    let mut client = rig.client();
    let full = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    rustix::io::write(&full, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    client.request_with(SET_IRQS, &set_irqs(EVENTFD | TRIGGER, MSIX, 0, 1, &[]), &[full.as_fd()]).ok();
    raise(&mut client, MSIX, 0);
    set(&mut client, NONE | TRIGGER, MSIX, 0, 1, &[]);
    assert_eq!(signals(&full), u64::MAX - 1);
    raise(&mut client, MSIX, 0);
    assert_eq!(signals(&full), 1);
}

#[test]
fn next_client_gets_what_became_pending_meanwhile_and_none_of_the_masks() {
    let rig = Rig::start();
    let mut client = rig.client();
    let routed = eventfds(&mut client, TRIGGER, MASKABLE, 0, 2);
    set(&mut client, NONE | MASK, MASKABLE, 0, 1, &[]);
    drop(client);
    rig.visit();
    // Vector 0 was not deliverable before.
    let changes = [(MASKABLE, 0, true), (MASKABLE, 1, true), (MASKABLE, 0, false), (MASKABLE, 1, false)];
    assert_eq!(rig.log().changes, changes);
    rig.interrupts.trigger(MASKABLE, 0);
    assert_eq!(counts(&routed), [0, 0]);
    let mut client = rig.client();
    assert_eq!(counts(&eventfds(&mut client, TRIGGER, MASKABLE, 0, 2)), [1, 0]);
}

#[test]
fn interrupt_from_another_thread_is_sent_while_the_serving_thread_is_busy() {
    let rig = Rig::start();
    let mut client = rig.client();
    let routed = eventfds(&mut client, TRIGGER, MSIX, 0, 1);
    let busy = client.begin(REGION_WRITE, &write(BUSY, REGISTERS, &[0]));
    rig.entered.recv().unwrap();
    let interrupts = rig.interrupts.clone();
    std::thread::spawn(move || interrupts.trigger(MSIX, 0)).join().unwrap();
    assert_eq!(counts(&routed), [1]);
    rig.go.send(()).unwrap();
    client.reply(busy, REGION_WRITE).ok();
}
