//! The device reads and writes guest memory: mapped, and by messages.

use std::time::Duration;

use vfio_user_server::spec::{Command, DMA_MAP_WRITE};
use vfio_user_server::{DmaError, Errno};

use crate::pci::{Function, MASTER, MEMORY, WINDOW};
use crate::qemu::{MEMORY_MIB, Machine, Memory, Options};
use crate::relay::{From, Relay};
use crate::toy::{DMA_ADDRESS, DMA_NOW, Served};

const DEVICE: Function = Function::DEVICE;
/// A place in guest memory with memory on both sides of it.
const PLACE: u64 = 0x20_0000;

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| u8::try_from((at * 7 + at / 251) % 251).unwrap()).collect()
}

/// What the guest writes the device reads, and the other way round, in pieces of every alignment.
fn both_ways(served: &Served, machine: &mut Machine) {
    DEVICE.command(&mut machine.qtest, MASTER);
    for (offset, bytes) in [(0, 1), (1, 2), (3, 4), (5, 8), (7, 27), (0x123, 4096), (0x1001, 70_000)] {
        let data = pattern(bytes);
        machine.qtest.set_memory(PLACE + offset, &data);
        let mut read = vec![0; bytes];
        served.memory.read(PLACE + offset, &mut read).unwrap();
        assert_eq!(read, data, "{bytes} bytes read at +{offset:#x}");
        let data: Vec<u8> = data.iter().map(|byte| !byte).collect();
        let (before, behind) = (PLACE + offset - 1, PLACE + offset + bytes as u64);
        machine.qtest.write(before, 1, 0x5a);
        machine.qtest.write(behind, 1, 0xa5);
        served.memory.write(PLACE + offset, &data).unwrap();
        assert_eq!(
            machine.qtest.memory(PLACE + offset, bytes),
            data,
            "{bytes} bytes written at +{offset:#x}"
        );
        assert_eq!((machine.qtest.read(before, 1), machine.qtest.read(behind, 1)), (0x5a, 0xa5));
    }
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn shared_memory_is_read_and_written_without_a_message() {
    let served = Served::new();
    let relay = Relay::new(served.dir(), &served.socket());
    let mut machine = Machine::start(&Options::new(Memory::Shared, relay.socket()));
    both_ways(&served, &mut machine);
    assert!(relay.seen(From::Server, Command::DmaRead).is_empty());
    assert!(relay.seen(From::Server, Command::DmaWrite).is_empty());
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn private_memory_is_read_and_written_by_messages() {
    let served = Served::new();
    let relay = Relay::new(served.dir(), &served.socket());
    let mut machine = Machine::start(&Options::new(Memory::Private, relay.socket()));
    let maps = relay.seen(From::Qemu, Command::DmaMap);
    assert!(!maps.is_empty() && maps.iter().all(|map| map.fds == 0));
    both_ways(&served, &mut machine);
    assert!(!relay.seen(From::Server, Command::DmaRead).is_empty());
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn range_without_descriptor_beside_shared_memory_goes_by_messages() {
    // q35's firmware is mapped read-only, and is no memfd.
    let served = Served::new();
    let relay = Relay::new(served.dir(), &served.socket());
    let mut machine = Machine::start(&Options::new(Memory::Shared, relay.socket()));
    DEVICE.command(&mut machine.qtest, MASTER);
    let field = |body: &[u8], at: usize| u64::from_ne_bytes(body[at..at + 8].try_into().unwrap());
    let rom = relay.seen(From::Qemu, Command::DmaMap).into_iter().find(|map| map.fds == 0).unwrap();
    let (flags, address) = (u32::from_ne_bytes(rom.body[4..8].try_into().unwrap()), field(&rom.body, 16));
    assert_eq!(flags & DMA_MAP_WRITE, 0);
    let mut data = [0; 64];
    served.memory.read(address, &mut data).unwrap();
    assert_eq!(machine.qtest.memory(address, 64), data);
    assert_eq!(served.memory.write(address, &data), Err(DmaError::ReadOnly { address }));
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn device_that_is_no_bus_master_is_refused_with_errno_19() {
    let served = Served::new();
    let mut machine = Machine::start(&Options::new(Memory::Private, &served.socket()));
    let mut byte = [0];
    let refused = Err(DmaError::Refused(Errno::NODEV));
    assert_eq!(Errno::NODEV.raw_os_error(), 19);
    assert_eq!(served.memory.read(PLACE, &mut byte), refused);
    assert_eq!(served.memory.write(PLACE, &byte), refused);
    DEVICE.command(&mut machine.qtest, MASTER);
    assert_eq!(served.memory.read(PLACE, &mut byte), Ok(()));
    DEVICE.command(&mut machine.qtest, 0);
    assert_eq!(served.memory.write(PLACE, &byte), refused);
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn addresses_without_memory_are_an_error_to_the_device() {
    for memory in [Memory::Shared, Memory::Private] {
        let served = Served::new();
        let mut machine = Machine::start(&Options::new(memory, &served.socket()));
        DEVICE.command(&mut machine.qtest, MASTER);
        let end = u64::from(MEMORY_MIB) << 20;
        let mut data = [0; 16];
        assert_eq!(served.memory.read(end - 16, &mut data), Ok(()));
        let unmapped = Err(DmaError::Unmapped { address: end - 8, length: 16 });
        assert_eq!(served.memory.read(end - 8, &mut data), unmapped);
        assert_eq!(served.memory.write(end - 8, &data), unmapped);
    }
}

/// The layout of the messages is settled here: address and count have 64 bits each, as the specification says.
#[test]
#[ignore = "needs QEMU; make test runs them"]
fn data_of_qemus_dma_read_reply_begin_at_byte_32_and_its_dma_write_reply_has_address_and_count() {
    let served = Served::new();
    let relay = Relay::new(served.dir(), &served.socket());
    let mut machine = Machine::start(&Options::new(Memory::Private, relay.socket()));
    DEVICE.command(&mut machine.qtest, MASTER);
    let data = *b"begins at 32";
    machine.qtest.set_memory(PLACE, &data);
    let mut read = [0; 12];
    served.memory.read(PLACE, &mut read).unwrap();
    served.memory.write(PLACE, &read).unwrap();
    let [read] = relay.seen(From::Qemu, Command::DmaRead).try_into().unwrap();
    let [write] = relay.seen(From::Qemu, Command::DmaWrite).try_into().unwrap();
    let fixed = [PLACE.to_ne_bytes(), 12u64.to_ne_bytes()].concat();
    assert_eq!((write.header.message_bytes, &write.body), (32, &fixed));
    assert_eq!((read.header.message_bytes, read.body), (32 + 12, [&fixed[..], &data].concat()));
    assert!(read.header.is_reply() && write.header.is_reply());
}

/// QEMU waits for the read with its big lock held, and answers DMA messages with it: neither side can go on.
#[test]
#[ignore = "needs QEMU; make test runs them"]
fn dma_by_message_inside_a_read_times_out_and_the_read_is_answered() {
    let served = Served::with_dma_timeout(Duration::from_millis(500));
    let mut machine = Machine::start(&Options::new(Memory::Private, &served.socket()));
    let qtest = &mut machine.qtest;
    DEVICE.place(qtest, 0, WINDOW);
    DEVICE.command(qtest, MEMORY | MASTER);
    qtest.write(PLACE, 4, 0x1122_3344);
    qtest.write(WINDOW + DMA_ADDRESS, 8, PLACE);
    assert_eq!(qtest.read(WINDOW + DMA_NOW, 4), 0);
    assert_eq!(served.state.lock().unwrap().dma, [Err(DmaError::TimedOut)]);
    // The answer comes after all, to nobody; the stream is in step, and DMA works.
    let mut value = [0; 4];
    served.memory.read(PLACE, &mut value).unwrap();
    assert_eq!(u32::from_le_bytes(value), 0x1122_3344);
    assert_eq!(qtest.read(WINDOW + DMA_ADDRESS, 8), PLACE);
    drop(machine);
    let visit = served.next_visit();
    assert_eq!(visit.counters.stray_replies, 1);
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn dma_to_shared_memory_inside_a_read_is_done_at_once() {
    let served = Served::new();
    let mut machine = Machine::start(&Options::new(Memory::Shared, &served.socket()));
    let qtest = &mut machine.qtest;
    DEVICE.place(qtest, 0, WINDOW);
    DEVICE.command(qtest, MEMORY | MASTER);
    qtest.write(PLACE, 4, 0x1122_3344);
    qtest.write(WINDOW + DMA_ADDRESS, 8, PLACE);
    assert_eq!(qtest.read(WINDOW + DMA_NOW, 4), 0x1122_3344);
    assert_eq!(served.state.lock().unwrap().dma, [Ok(0x1122_3344)]);
}
