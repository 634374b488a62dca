//! MSI-X vectors as eventfds.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use sdmorph_machine::CardKind;

use crate::device::Device;
use crate::driver::{Access, MSIX, READER_VECTOR, WINDOW, reader};
use crate::raw::{SET_IRQS, set_irqs};

/// Flags of SET_IRQS (`linux/vfio.h`).
const DATA_NONE: u32 = 1;
pub(crate) const DATA_EVENTFD: u32 = 1 << 2;
const ACTION_MASK: u32 = 1 << 3;
pub(crate) const ACTION_TRIGGER: u32 = 1 << 5;

pub(crate) fn eventfds(count: u16) -> Vec<OwnedFd> {
    (0..count).map(|_| eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap()).collect()
}

pub(crate) fn numbers(eventfds: &[OwnedFd]) -> Vec<RawFd> {
    eventfds.iter().map(AsRawFd::as_raw_fd).collect()
}

/// How often the eventfd was signalled since the last look.
pub(crate) fn count(eventfd: &OwnedFd) -> u64 {
    let mut value = [0; 8];
    match rustix::io::read(eventfd, &mut value) {
        Ok(8) => u64::from_ne_bytes(value),
        Err(Errno::AGAIN) => 0,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn insert(device: &Device) {
    device.machine(|machine, now| machine.card_insert(now, CardKind::SdExpress)).unwrap();
}

fn eject(device: &Device) {
    device.machine(|machine, now| machine.card_eject(now)).unwrap();
}

#[test]
fn inserted_card_interrupts_by_the_reader_s_vector_and_no_other() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    let vectors = eventfds(16);
    client.set_irqs(MSIX, DATA_EVENTFD | ACTION_TRIGGER, 0, 16, &numbers(&vectors)).unwrap();
    client.bring_up();
    client.put32(WINDOW, reader::BIER, reader::SD_INT);
    insert(&device);
    for (vector, eventfd) in vectors.iter().enumerate() {
        assert_eq!(count(eventfd), u64::from(vector == usize::from(READER_VECTOR)), "vector {vector}");
    }
    let pending = client.get32(WINDOW, reader::BIPR);
    assert_eq!(pending, reader::SD_INT | reader::SD_EXIST);
    // Acknowledged, the same source can interrupt again.
    client.put32(WINDOW, reader::BIPR, reader::SD_INT);
    eject(&device);
    assert_eq!(count(&vectors[usize::from(READER_VECTOR)]), 1);
    drop(client);
    serving.ended();
}

#[test]
fn disabled_source_does_not_interrupt_until_it_is_enabled() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    let vector = eventfds(1);
    client.set_irqs(MSIX, DATA_EVENTFD | ACTION_TRIGGER, READER_VECTOR.into(), 1, &numbers(&vector)).unwrap();
    client.bring_up();
    insert(&device);
    assert_eq!(count(&vector[0]), 0);
    client.put32(WINDOW, reader::BIER, reader::SD_INT);
    assert_eq!(count(&vector[0]), 1);
    drop(client);
    serving.ended();
}

#[test]
fn interrupt_of_a_vector_without_eventfd_comes_when_it_gets_one() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    client.bring_up();
    client.put32(WINDOW, reader::BIER, reader::SD_INT);
    insert(&device);
    let vector = eventfds(1);
    client.set_irqs(MSIX, DATA_EVENTFD | ACTION_TRIGGER, READER_VECTOR.into(), 1, &numbers(&vector)).unwrap();
    assert_eq!(count(&vector[0]), 1);
    drop(client);
    serving.ended();
}

#[test]
fn set_irqs_without_data_switches_all_vectors_off_and_keeps_what_comes_pending() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    let vectors = eventfds(16);
    client.set_irqs(MSIX, DATA_EVENTFD | ACTION_TRIGGER, 0, 16, &numbers(&vectors)).unwrap();
    client.bring_up();
    client.put32(WINDOW, reader::BIER, reader::SD_INT);
    client.set_irqs(MSIX, DATA_NONE | ACTION_TRIGGER, 0, 0, &[]).unwrap();
    insert(&device);
    assert_eq!(vectors.iter().map(count).sum::<u64>(), 0);
    // What came meanwhile is pending, not lost.
    client.set_irqs(MSIX, DATA_EVENTFD | ACTION_TRIGGER, 0, 16, &numbers(&vectors)).unwrap();
    assert_eq!(count(&vectors[usize::from(READER_VECTOR)]), 1);
    drop(client);
    serving.ended();
}

#[test]
fn vectors_without_their_eventfds_are_switched_off_and_the_others_stay() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    let vectors = eventfds(16);
    let flags = DATA_EVENTFD | ACTION_TRIGGER;
    client.set_irqs(MSIX, flags, 0, 16, &numbers(&vectors)).unwrap();
    client.bring_up();
    client.put32(WINDOW, reader::BIER, reader::SD_INT);
    // As QEMU sends it for a vector that is no longer used.
    client.set_irqs(MSIX, flags, 0, 3, &[]).unwrap();
    insert(&device);
    assert_eq!(count(&vectors[usize::from(READER_VECTOR)]), 1);
    client.set_irqs(MSIX, flags, READER_VECTOR.into(), 1, &[]).unwrap();
    client.put32(WINDOW, reader::BIPR, reader::SD_INT);
    eject(&device);
    assert_eq!(count(&vectors[usize::from(READER_VECTOR)]), 0);
    drop(client);
    serving.ended();
}

#[test]
fn set_irqs_that_makes_no_sense_is_refused_and_changes_nothing() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.raw();
    client.negotiate();
    let vector = eventfds(1);
    let number = u32::from(READER_VECTOR);
    let fds = [vector[0].as_fd()];
    let flags = DATA_EVENTFD | ACTION_TRIGGER;
    assert!(!client.call(SET_IRQS, &set_irqs(flags, MSIX, number, 1), &fds).is_error());
    client.bring_up();
    client.put32(WINDOW, reader::BIER, reader::SD_INT);
    let refused = [
        ("a vector too many", set_irqs(flags, MSIX, 16, 1)),
        ("a range that wraps", set_irqs(flags, MSIX, u32::MAX, 2)),
        ("more vectors than there are", set_irqs(DATA_NONE | ACTION_TRIGGER, MSIX, 0, 17)),
        ("INTx", set_irqs(flags, 0, 0, 1)),
        ("no such interrupt", set_irqs(flags, 5, 0, 1)),
        ("mask", set_irqs(DATA_NONE | ACTION_MASK, MSIX, number, 1)),
    ];
    for (what, body) in refused {
        assert!(client.call(SET_IRQS, &body, &[]).is_error(), "{what}");
    }
    insert(&device);
    assert_eq!(count(&vector[0]), 1);
    drop(client);
    serving.ended();
}

#[test]
fn reset_leaves_the_routes_as_they_are() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    let vector = eventfds(1);
    client.set_irqs(MSIX, DATA_EVENTFD | ACTION_TRIGGER, READER_VECTOR.into(), 1, &numbers(&vector)).unwrap();
    client.reset().unwrap();
    client.bring_up();
    client.put32(WINDOW, reader::BIER, reader::SD_INT);
    insert(&device);
    assert_eq!(count(&vector[0]), 1);
    drop(client);
    serving.ended();
}

#[test]
fn interrupt_that_was_pending_is_forgotten_by_a_reset() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    client.bring_up();
    client.put32(WINDOW, reader::BIER, reader::SD_INT);
    insert(&device);
    client.reset().unwrap();
    client.bring_up();
    let vector = eventfds(1);
    client.set_irqs(MSIX, DATA_EVENTFD | ACTION_TRIGGER, READER_VECTOR.into(), 1, &numbers(&vector)).unwrap();
    assert_eq!(count(&vector[0]), 0);
    drop(client);
    serving.ended();
}
