//! The machine itself behind `sdmorph serve`: VMD, the port, the reader, as a guest's drivers would find them.

use std::time::Instant;

use crate::pci::{Function, MASTER, MEMORY, WINDOW};
use crate::qemu::{HANG, Machine, Memory, Options};
use crate::qtest::Qtest;
use crate::sdmorph::Sdmorph;

const DEVICE: Function = Function::DEVICE;
/// VMD's BARs: configuration space of its domain, a window, and the MSI-X table.
const ECAM: u64 = WINDOW;
const CHILDREN: u64 = WINDOW + 0x200_0000;
const TABLE: u64 = WINDOW + 0x400_0000;
/// VMD's MSI-X message control.
const MSIX_CONTROL: u8 = 0x82;
/// Functions of the domain.
const PORT: u64 = ECAM + (0x1c << 15);
const READER: u64 = ECAM + (1 << 20);
/// The vector that the reader's message is remapped to.
const VECTOR: u64 = 3;

/// Guest memory: where the vector's message goes, and a command list.
const MESSAGE: u64 = 0x20_0000;
const LIST: u64 = 0x21_0000;

/// The reader's registers, and bits of BIPR and BIER.
const HCBAR: u64 = CHILDREN;
const HCBCTLR: u64 = CHILDREN + 0x04;
const BIPR: u64 = CHILDREN + 0x14;
const BIER: u64 = CHILDREN + 0x18;
const TRANS_OK: u32 = 1 << 29;
const TRANS_FAIL: u32 = 1 << 28;
/// HCBCTLR: start a list of three commands.
const START: u64 = 1 << 31 | 1 << 30 | 12;

fn capability(qtest: &mut Qtest, function: u64, id: u64) -> u64 {
    let mut at = qtest.read(function + 0x34, 1);
    while qtest.read(function + at, 1) != id {
        at = qtest.read(function + at + 1, 1);
        assert_ne!(at, 0, "no capability {id:#x}");
    }
    function + at
}

/// Gives every function its addresses, and the reader's message a vector.
pub(crate) fn bring_up(qtest: &mut Qtest) {
    for (bar, address) in [(0, ECAM), (2, CHILDREN), (4, TABLE)] {
        DEVICE.place(qtest, bar, address);
    }
    DEVICE.command(qtest, MEMORY | MASTER);
    let entry = TABLE + 16 * VECTOR;
    for (at, value) in [(0, MESSAGE), (4, 0), (8, 0xc0de), (12, 0)] {
        qtest.write(entry + at, 4, value);
    }
    DEVICE.write(qtest, MSIX_CONTROL, 2, 1 << 15);
    // Bus 1 and a megabyte of the window behind the port.
    qtest.write(PORT + 0x18, 4, 0x0001_0100);
    qtest.write(PORT + 0x20, 4, CHILDREN & 0xfff0_0000 | CHILDREN >> 16);
    qtest.write(PORT + 0x04, 2, u64::from(MEMORY | MASTER));
    qtest.write(READER + 0x10, 4, CHILDREN);
    qtest.write(READER + 0x04, 2, u64::from(MEMORY | MASTER));
    let msi = capability(qtest, READER, 0x05);
    for (at, bytes, value) in [(4, 4, 0xfee0_0000 | VECTOR << 12), (8, 4, 0), (12, 2, 0), (2, 2, 1)] {
        qtest.write(msi + at, bytes, value);
    }
    assert_eq!(qtest.read(READER, 4), 0x5261_10ec);
    qtest.write(BIER, 4, u64::from(TRANS_OK | TRANS_FAIL));
}

/// Has the reader write 0xa5 to GPIO_CTL (0xfc1f), check it and read it back.
pub(crate) fn start_list(qtest: &mut Qtest) {
    let command = |kind: u32, mask: u32, data: u32| kind << 30 | (0xfc1f & 0x3fff) << 16 | mask << 8 | data;
    let list = [command(1, 0xff, 0xa5), command(2, 0xff, 0xa5), command(0, 0, 0)];
    qtest.set_memory(LIST, &list.map(u32::to_le_bytes).concat());
    qtest.write(MESSAGE, 4, 0);
    qtest.write(HCBAR, 4, LIST);
    qtest.write(HCBCTLR, 4, START);
}

/// Starts the list and waits for its interrupt. Returns how it ended and the two answers.
fn run_list(qtest: &mut Qtest) -> (u32, Vec<u8>) {
    start_list(qtest);
    // Not by asking the reader: while QEMU waits for its answer, it serves no DMA messages.
    let began = Instant::now();
    while qtest.read(MESSAGE, 4) != 0xc0de {
        assert!(began.elapsed() < HANG, "no interrupt");
    }
    let ended = u32::try_from(qtest.read(BIPR, 4)).unwrap() & (TRANS_OK | TRANS_FAIL);
    qtest.write(BIPR, 4, u32::MAX.into());
    (ended, qtest.memory(LIST, 2))
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn reader_runs_a_command_list_in_shared_memory_and_in_private() {
    for memory in [Memory::Shared, Memory::Private] {
        let server = Sdmorph::new();
        let mut machine = Machine::start(&Options::new(memory, &server.socket()));
        bring_up(&mut machine.qtest);
        for _ in 0..3 {
            assert_eq!(run_list(&mut machine.qtest), (TRANS_OK, vec![0xa5, 0xa5]), "{memory:?}");
        }
        drop(machine);
        server.wait_for_log("connection closed", 1);
        let by_messages = !server.log().contains("dma_messages=0");
        assert_eq!(by_messages, memory == Memory::Private);
        assert!(!server.log().contains("did not answer a DMA message in time"));
    }
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn list_fails_as_device_status_while_vmd_is_no_bus_master() {
    for memory in [Memory::Shared, Memory::Private] {
        let server = Sdmorph::new();
        let mut machine = Machine::start(&Options::new(memory, &server.socket()));
        let qtest = &mut machine.qtest;
        bring_up(qtest);
        DEVICE.command(qtest, MEMORY);
        qtest.write(HCBAR, 4, LIST);
        qtest.write(HCBCTLR, 4, START);
        assert_eq!(qtest.read(BIPR, 4) & u64::from(TRANS_OK | TRANS_FAIL), u64::from(TRANS_FAIL));
        DEVICE.command(qtest, MEMORY | MASTER);
        qtest.write(BIPR, 4, u32::MAX.into());
        assert_eq!(run_list(qtest), (TRANS_OK, vec![0xa5, 0xa5]), "{memory:?}");
    }
}
