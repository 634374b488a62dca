//! Guest memory: a memfd that the client maps, and the reader's command lists in it.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

use crate::device::Device;
use crate::driver::{Access, WINDOW, reader};
use crate::raw::{DMA_MAP, DMA_UNMAP, dma_map, dma_unmap};

/// Guest physical address of the memory, and its size.
pub(crate) const RAM_AT: u64 = 0x4000_0000;
pub(crate) const RAM_BYTES: u64 = 0x10000;
/// Where in the memory the command list is.
const LIST: u64 = 0x2000;

/// Flags of DMA_MAP and DMA_UNMAP.
const READABLE: u32 = 1;
const WRITABLE: u32 = 2;
const READ_WRITE: u32 = 3;
const UNMAP_ALL: u32 = 1 << 1;

/// GPIO_CTL, a plain internal register.
const GPIO_CTL: u32 = 0xfc1f;

/// Memory as QEMU shares it: it cannot shrink, and is mapped.
pub(crate) fn memory(bytes: u64) -> File {
    let file = memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let file = File::from(file);
    file.set_len(bytes).unwrap();
    fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    file
}

/// A list that writes 0xa5 to GPIO_CTL, checks it, and reads it back; the answers are those of the check and the read.
pub(crate) fn list() -> Vec<u8> {
    let command = |kind: u32, mask: u32, data: u32| kind << 30 | (GPIO_CTL & 0x3fff) << 16 | mask << 8 | data;
    let list = [command(1, 0xff, 0xa5), command(2, 0xff, 0xa5), command(0, 0, 0)];
    list.iter().flat_map(|command| command.to_le_bytes()).collect()
}

fn put_list(memory: &File, at: u64) {
    memory.write_all_at(&list(), at).unwrap();
}

/// What HCBCTLR is written to run the list: start, answer automatically, three commands.
pub(crate) const START: u32 = 1 << 31 | 1 << 30 | 12;

/// Everything but the start of the list at guest address `at`.
pub(crate) fn prepare_list(client: &mut impl Access, at: u64) {
    client.put32(WINDOW, reader::BIPR, 0xffff_ffff);
    client.put32(WINDOW, reader::HCBAR, u32::try_from(at).unwrap());
}

/// How the list ended.
pub(crate) fn list_status(client: &mut impl Access) -> u32 {
    client.get32(WINDOW, reader::BIPR) & (reader::TRANS_OK | reader::TRANS_FAIL)
}

/// Runs the list at guest address `at` and says how it ended.
pub(crate) fn run_list(client: &mut impl Access, at: u64) -> u32 {
    prepare_list(client, at);
    client.put32(WINDOW, reader::HCBCTLR, START);
    list_status(client)
}

fn answers(memory: &File, at: u64) -> [u8; 2] {
    let mut answers = [0; 2];
    memory.read_exact_at(&mut answers, at).unwrap();
    answers
}

#[test]
fn command_list_runs_in_mapped_memory_and_fails_as_device_status_when_it_is_unmapped() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    client.bring_up();
    let memory = memory(RAM_BYTES);
    put_list(&memory, LIST);

    client.dma_map(0, RAM_AT, RAM_BYTES, memory.as_raw_fd()).unwrap();
    assert_eq!(run_list(&mut client, RAM_AT + LIST), reader::TRANS_OK);
    assert_eq!(answers(&memory, LIST), [0xa5, 0xa5]);

    client.dma_unmap(RAM_AT, RAM_BYTES).unwrap();
    assert_eq!(run_list(&mut client, RAM_AT + LIST), reader::TRANS_FAIL);
    let counters = device.machine(|machine, _| machine.counters().clone());
    assert_eq!(counters.dma_errors, 1);
    // Mapped again, it works again: nothing is stuck.
    put_list(&memory, LIST);
    client.dma_map(0, RAM_AT, RAM_BYTES, memory.as_raw_fd()).unwrap();
    assert_eq!(run_list(&mut client, RAM_AT + LIST), reader::TRANS_OK);
    drop(client);
    serving.ended();
}

#[test]
fn mapping_with_an_offset_starts_there_in_the_file() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.client();
    client.bring_up();
    let memory = memory(RAM_BYTES);
    put_list(&memory, 0x8000 + LIST);
    client.dma_map(0x8000, RAM_AT, 0x8000, memory.as_raw_fd()).unwrap();
    assert_eq!(run_list(&mut client, RAM_AT + LIST), reader::TRANS_OK);
    assert_eq!(answers(&memory, 0x8000 + LIST), [0xa5, 0xa5]);
    drop(client);
    serving.ended();
}

#[test]
fn read_only_memory_can_be_fetched_from_and_not_answered_into() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.raw();
    client.negotiate();
    client.bring_up();
    let memory = memory(RAM_BYTES);
    put_list(&memory, LIST);
    let mapped = client.call(DMA_MAP, &dma_map(READABLE, 0, RAM_AT, RAM_BYTES), &[memory.as_fd()]);
    assert!(!mapped.is_error());
    let before = answers(&memory, LIST);
    assert_eq!(run_list(&mut client, RAM_AT + LIST), reader::TRANS_FAIL);
    assert_eq!(answers(&memory, LIST), before);
    drop(client);
    serving.ended();
}

#[test]
fn unmap_of_what_was_never_mapped_is_enoent_and_takes_nothing_away() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.raw();
    client.negotiate();
    client.bring_up();
    let memory = memory(RAM_BYTES);
    put_list(&memory, LIST);
    let body = dma_map(READ_WRITE, 0, RAM_AT, RAM_BYTES);
    assert!(!client.call(DMA_MAP, &body, &[memory.as_fd()]).is_error());
    let refused = client.call(DMA_UNMAP, &dma_unmap(0, RAM_AT + RAM_BYTES, RAM_BYTES), &[]);
    assert!(refused.is_error());
    assert_eq!(refused.error, Errno::NOENT.raw_os_error().unsigned_abs());
    assert_eq!(run_list(&mut client, RAM_AT + LIST), reader::TRANS_OK);
    drop(client);
    serving.ended();
}

#[test]
fn unmap_of_all_takes_every_range_away() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.raw();
    client.negotiate();
    client.bring_up();
    let memory = memory(RAM_BYTES);
    put_list(&memory, LIST);
    for address in [RAM_AT, RAM_AT + RAM_BYTES] {
        let body = dma_map(READ_WRITE, 0, address, RAM_BYTES);
        assert!(!client.call(DMA_MAP, &body, &[memory.as_fd()]).is_error());
    }
    assert_eq!(run_list(&mut client, RAM_AT + RAM_BYTES + LIST), reader::TRANS_OK);
    assert!(!client.call(DMA_UNMAP, &dma_unmap(UNMAP_ALL, 0, 0), &[]).is_error());
    for address in [RAM_AT, RAM_AT + RAM_BYTES] {
        put_list(&memory, LIST);
        assert_eq!(run_list(&mut client, address + LIST), reader::TRANS_FAIL);
    }
    drop(client);
    serving.ended();
}

#[test]
fn write_only_memory_can_not_be_fetched_from() {
    let device = Device::new();
    let serving = device.serve(1);
    let mut client = device.raw();
    client.negotiate();
    client.bring_up();
    let memory = memory(RAM_BYTES);
    put_list(&memory, LIST);
    let mapped = client.call(DMA_MAP, &dma_map(WRITABLE, 0, RAM_AT, RAM_BYTES), &[memory.as_fd()]);
    assert!(!mapped.is_error());
    assert_eq!(run_list(&mut client, RAM_AT + LIST), reader::TRANS_FAIL);
    drop(client);
    serving.ended();
}
