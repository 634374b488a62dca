//! Clients that leave, however they do, and the next one.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use sdmorph_machine::Region;
use vfio_user_server::{Ended, Visit};

use crate::device::Device;
use crate::dma;
use crate::driver::{Access, COMMAND, CONFIG, MSIX, READER_VECTOR, WINDOW, reader};
use crate::interrupts;
use crate::raw::{DMA_MAP, REGION_READ, REGION_WRITE, SET_IRQS, VERSION, dma_map, header, set_irqs};

const RAM_AT: u64 = 0x4000_0000;
const RAM_BYTES: u64 = 0x1000;
/// Trigger by eventfd.
const ROUTE: u32 = interrupts::DATA_EVENTFD | interrupts::ACTION_TRIGGER;

/// A client sets the device up, sends `last_words` and goes; then everything it gave is let go, and the device is as
/// after power-on for the next client.
fn leaves_with(last_words: &[u8]) {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.raw();
    client.negotiate();
    client.bring_up();
    client.put32(WINDOW, reader::DUM_REG, 7);
    let memory = dma::memory(RAM_BYTES);
    assert!(!client.call(DMA_MAP, &dma_map(3, 0, RAM_AT, RAM_BYTES), &[memory.as_fd()]).is_error());
    device.shared.memory.read(RAM_AT, &mut [0]).unwrap();
    // A socket stands in for the eventfd: its other end tells when the last copy is closed.
    let (mut other_end, route) = UnixStream::pair().unwrap();
    other_end.set_nonblocking(true).unwrap();
    assert!(!client.call(SET_IRQS, &set_irqs(ROUTE, MSIX, 0, 1), &[route.as_fd()]).is_error());
    drop(route);
    let nothing_yet = other_end.read(&mut [0; 8]).unwrap_err();
    assert_eq!(nothing_yet.kind(), io::ErrorKind::WouldBlock, "the server has it");

    client.send_bytes(last_words);
    drop(client);
    serving.ended();

    assert!(device.shared.memory.read(RAM_AT, &mut [0]).is_err(), "the memory is let go");
    assert_eq!(other_end.read(&mut [0; 8]).unwrap(), 0, "the eventfd is closed");
    let serving = device.serve(1);
    let mut next = device.client();
    assert_eq!(next.get16(CONFIG, COMMAND), 0);
    assert_eq!(next.get32(CONFIG, 0x18), 0);
    next.bring_up();
    drop(next);
    serving.ended();
}

#[test]
fn client_that_leaves_between_messages_leaves_nothing_behind() {
    leaves_with(&[]);
}

#[test]
fn client_that_leaves_in_a_header_leaves_nothing_behind() {
    leaves_with(&header(1, REGION_READ, 32, 0)[..8]);
    leaves_with(&header(1, REGION_READ, 32, 0)[..1]);
}

#[test]
fn client_that_leaves_after_a_header_leaves_nothing_behind() {
    for command in 0..16 {
        leaves_with(&header(1, command, 64, 0));
    }
}

#[test]
fn client_that_leaves_in_the_data_of_a_write_leaves_nothing_behind() {
    let mut message = header(1, REGION_WRITE, 32 + 64, 0);
    message.extend(crate::raw::region_access(CONFIG, 0x10, 64));
    message.extend([0xff; 20]);
    leaves_with(&message);
}

#[test]
fn client_that_sends_noise_leaves_nothing_behind() {
    // Multiplicative noise: the same in every run.
    let noise: Vec<u8> = (1u32..4096).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    leaves_with(&noise);
    leaves_with(&[0xff; 4096]);
    leaves_with(&[0; 4096]);
}

#[test]
fn client_that_says_nothing_at_all_does_not_stop_the_next_one() {
    let device = Device::new();
    let serving = device.serve(2);
    drop(device.raw());
    let mut next = device.client();
    next.bring_up();
    drop(next);
    serving.ended();
}

#[test]
fn rules_and_card_stay_when_a_client_leaves() {
    let device = Device::new();
    device.machine(|machine, now| machine.card_insert(now, sdmorph_machine::CardKind::SdExpress)).unwrap();
    let rule = serde_json::json!({"name": "die", "on": {"event": "link-down"}, "do": {"bar": "vanish"}});
    let rule = sdmorph_machine::faults::Rule::from_json(&rule).unwrap();
    device.machine(|machine, now| machine.rule_add(now, rule)).unwrap();
    let serving = device.serve(2);
    drop(device.client());
    let mut next = device.client();
    next.bring_up();
    assert_eq!(next.get32(WINDOW, reader::BIPR) & reader::SD_EXIST, reader::SD_EXIST);
    assert_eq!(device.machine(|machine, _| machine.rules().len()), 1);
    drop(next);
    serving.ended();
}

#[test]
fn reader_that_was_away_is_back_in_the_slot_for_the_next_client() {
    let device = Device::new();
    let serving = device.serve(2);
    let mut client = device.client();
    client.bring_up();
    device.machine(|machine, now| machine.link_set(now, false));
    assert_eq!(client.get32(WINDOW, reader::DUM_REG), 0xffff_ffff);
    drop(client);
    let mut next = device.client();
    next.bring_up();
    drop(next);
    serving.ended();
}

#[test]
fn interrupt_that_nobody_took_is_forgotten_when_the_client_leaves() {
    let device = Device::new();
    let serving = device.serve(2);
    let mut client = device.client();
    client.bring_up();
    client.put32(WINDOW, reader::BIER, reader::SD_INT);
    interrupts::insert(&device);
    // One that left the machine when its route had just gone.
    device.shared.interrupts.trigger(MSIX, READER_VECTOR.into());
    drop(client);
    let mut next = device.client();
    next.bring_up();
    let vector = interrupts::eventfds(1);
    next.set_irqs(MSIX, ROUTE, READER_VECTOR.into(), 1, &interrupts::numbers(&vector)).unwrap();
    assert_eq!(interrupts::count(&vector[0]), 0);
    drop(next);
    serving.ended();
}

#[test]
fn second_client_is_turned_away_at_once_and_one_that_comes_later_is_served() {
    let device = Device::new();
    let serving = device.serve(2);
    let mut first = device.client();
    let mut second = device.raw();
    // A VERSION that was on the way already is answered that the device is busy; one that comes later cannot be sent.
    let _ = second.stream.write(&header(1, VERSION, 20, 0));
    let mut answer = Vec::new();
    let _ = second.stream.read_to_end(&mut answer);
    let busy = Errno::BUSY.raw_os_error().to_ne_bytes();
    assert!(answer.is_empty() || answer.len() == 16 && answer[12..] == busy, "{answer:?}");
    assert_eq!(first.get32(CONFIG, 0), 0xa77f_8086);
    drop(first);
    let mut third = device.client();
    third.bring_up();
    drop(third);
    let visits = serving.ended();
    assert_eq!(visits.iter().map(|visit| visit.turned_away).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn stopped_server_closes_the_connection_and_takes_the_device_s_power() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.raw();
    client.negotiate();
    client.bring_up();
    device.stop();
    assert_eq!(client.stream.read(&mut [0; 16]).unwrap(), 0);
    assert!(matches!(serving.ended()[..], [Visit { ended: Ended::Stopped, .. }]));
    let mut command = [0xff; 2];
    device.machine(|machine, now| machine.read(now, Region::Config, COMMAND, &mut command));
    assert_eq!(command, [0, 0]);
}
