//! A device that stays as its client left it: what the next client finds.

use std::os::fd::AsFd;

use crate::device::Device;
use crate::dma::{RAM_AT, RAM_BYTES, list, memory, run_list};
use crate::driver::{Access, COMMAND, CONFIG, ECAM, MSIX, PORT, READER, READER_VECTOR, WINDOW, reader};
use crate::interrupts::{ACTION_TRIGGER, DATA_EVENTFD, count, eventfds, insert, numbers};
use crate::raw::{DMA_MAP, dma_map};

#[test]
fn registers_are_as_they_were_and_memory_is_gone() {
    let device = Device::that_keeps_its_state();
    let serving = device.serve(2);
    let mut client = device.raw();
    client.negotiate();
    client.bring_up();
    client.put32(WINDOW, reader::DUM_REG, 7);
    let memory = memory(RAM_BYTES);
    std::os::unix::fs::FileExt::write_all_at(&memory, &list(), 0).unwrap();
    let map = dma_map(3, 0, RAM_AT, RAM_BYTES);
    assert!(!client.call(DMA_MAP, &map, &[memory.as_fd()]).is_error());
    drop(client);

    let mut next = device.raw();
    next.negotiate();
    // No bring-up: the windows are open, buses numbered, the reader's BAR placed.
    assert_eq!(next.get16(CONFIG, COMMAND), 0x6);
    assert_eq!(next.get32(WINDOW, reader::DUM_REG), 7);
    assert_eq!(run_list(&mut next, RAM_AT), reader::TRANS_FAIL);
    assert!(!next.call(DMA_MAP, &map, &[memory.as_fd()]).is_error());
    assert_eq!(run_list(&mut next, RAM_AT), reader::TRANS_OK);
    drop(next);
    serving.ended();
}

#[test]
fn interrupt_that_came_between_two_clients_is_sent_when_the_next_one_routes_its_vector() {
    let device = Device::that_keeps_its_state();
    let serving = device.serve(1);
    let mut client = device.client();
    let flags = DATA_EVENTFD | ACTION_TRIGGER;
    let vector = eventfds(1);
    client.set_irqs(MSIX, flags, READER_VECTOR.into(), 1, &numbers(&vector)).unwrap();
    client.bring_up();
    client.put32(WINDOW, reader::BIER, reader::SD_INT);
    drop(client);
    serving.ended();

    insert(&device);
    assert_eq!(count(&vector[0]), 0, "the route is gone");
    let serving = device.serve(1);
    let mut next = device.client();
    next.set_irqs(MSIX, flags, READER_VECTOR.into(), 1, &numbers(&vector)).unwrap();
    assert_eq!(count(&vector[0]), 1);
    assert_eq!(next.get32(WINDOW, reader::BIPR), reader::SD_INT | reader::SD_EXIST);
    drop(next);
    serving.ended();
}

#[test]
fn client_that_resets_the_device_finds_registers_reset_and_the_link_as_it_was() {
    let device = Device::that_keeps_its_state();
    let serving = device.serve(2);
    let mut client = device.client();
    client.bring_up();
    device.machine(|machine, now| machine.link_set(now, false));
    drop(client);

    let mut next = device.client();
    next.reset().unwrap();
    assert_eq!(next.get16(CONFIG, COMMAND), 0);
    next.put16(CONFIG, COMMAND, 0x2);
    next.put32(ECAM, PORT + 0x18, 0x0001_0100);
    assert_eq!(next.get32(ECAM, READER), 0xffff_ffff, "the link is down");
    device.machine(|machine, now| machine.link_set(now, true));
    assert_eq!(next.get32(ECAM, READER), 0x5261_10ec);
    drop(next);
    serving.ended();
}
