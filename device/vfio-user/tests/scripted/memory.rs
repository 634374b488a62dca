//! Guest memory: what is mapped, what may be done there, and when it is let go.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vfio_user_server::memory::Access;
use vfio_user_server::{DmaError, Limits, Options};

use crate::client::Client;
use crate::device::*;
use crate::wire::*;

/// Memory as QEMU has it: it cannot shrink.
fn sealed(bytes: u64) -> OwnedFd {
    let file = memfd_create("sealed", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, bytes).unwrap();
    fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    file
}

fn contents(file: &OwnedFd, offset: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    File::from(file.try_clone().unwrap()).read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

/// Lets the device write that to guest memory.
fn store(rig: &Rig, client: &mut Client, address: u64, data: &[u8]) -> Result<(), DmaError> {
    client.write(REGISTERS, ADDRESS, &u64s(&[address]));
    client.write(REGISTERS, DATA, data);
    client.write(REGISTERS, STORE, &u64s(&[data.len() as u64]));
    rig.last_dma()
}

/// Lets the device read so much of guest memory.
fn fetch(rig: &Rig, client: &mut Client, address: u64, count: u32) -> Result<Vec<u8>, DmaError> {
    client.write(REGISTERS, ADDRESS, &u64s(&[address]));
    client.write(REGISTERS, FETCH, &u64s(&[count.into()]));
    rig.last_dma().map(|()| client.read(REGISTERS, DATA, count))
}

#[test]
fn device_reads_and_writes_memory_that_came_with_a_descriptor() {
    let rig = Rig::start();
    let mut client = rig.client();
    // One that is mapped, and one that could shrink and is read and written by system calls.
    for (address, file) in [(0x10_0000, sealed(0x4000)), (0x20_0000, memfd("shrinkable", 0x4000))] {
        client.map(3, 0x1000, address, 0x2000, Some(&file)).ok();
        store(&rig, &mut client, address + 0x10, b"from the device").unwrap();
        assert_eq!(contents(&file, 0x1010, 15), b"from the device");
        File::from(file.try_clone().unwrap()).write_all_at(b"from the guest", 0x2ff2).unwrap();
        assert_eq!(fetch(&rig, &mut client, address + 0x1ff2, 14).unwrap(), b"from the guest");
        assert_eq!(contents(&file, 0, 0x1000), vec![0; 0x1000]);
        assert_eq!(contents(&file, 0x3000, 0x1000), vec![0; 0x1000]);
    }
}

#[test]
fn access_across_ranges_that_touch_reaches_both() {
    let rig = Rig::start();
    let mut client = rig.client();
    let (low, high) = (sealed(0x1000), memfd("high", 0x1000));
    client.map(3, 0, 0x2000, 0x1000, Some(&high)).ok();
    client.map(3, 0, 0x1000, 0x1000, Some(&low)).ok();
    store(&rig, &mut client, 0x1ffe, b"both").unwrap();
    assert_eq!((contents(&low, 0xffe, 2), contents(&high, 0, 2)), (b"bo".to_vec(), b"th".to_vec()));
    assert_eq!(fetch(&rig, &mut client, 0x1ffd, 6).unwrap(), b"\0both\0");
}

#[test]
fn access_to_what_is_not_mapped_is_an_error_and_does_nothing() {
    let rig = Rig::start();
    let mut client = rig.client();
    let file = sealed(0x3000);
    client.map(3, 0, 0x1000, 0x1000, Some(&file)).ok();
    client.map(3, 0x2000, 0x3000, 0x1000, Some(&file)).ok();
    for address in [0, 0xffd, 0x1ffd, 0x2000, 0x3ffd, 0x4000, u64::MAX - 1, u64::MAX] {
        let unmapped = DmaError::Unmapped { address, length: 4 };
        assert_eq!(store(&rig, &mut client, address, b"four"), Err(unmapped), "{address:#x}");
        assert_eq!(fetch(&rig, &mut client, address, 4), Err(unmapped), "{address:#x}");
    }
    assert_eq!(contents(&file, 0, 0x3000), vec![0; 0x3000]);
}

#[test]
fn read_only_memory_is_not_written_and_write_only_memory_not_read() {
    let rig = Rig::start();
    let mut client = rig.client();
    let file = sealed(0x2000);
    client.map(1, 0, 0x1000, 0x1000, Some(&file)).ok();
    client.map(2, 0x1000, 0x2000, 0x1000, Some(&file)).ok();
    assert_eq!(store(&rig, &mut client, 0x1000, b"x"), Err(DmaError::ReadOnly { address: 0x1000 }));
    assert_eq!(fetch(&rig, &mut client, 0x2000, 1), Err(DmaError::WriteOnly { address: 0x2000 }));
    // Across both, whichever way: the first byte that is not allowed is named.
    assert_eq!(fetch(&rig, &mut client, 0x1fff, 2), Err(DmaError::WriteOnly { address: 0x2000 }));
    assert_eq!(store(&rig, &mut client, 0x1fff, b"xx"), Err(DmaError::ReadOnly { address: 0x1fff }));
    assert_eq!(fetch(&rig, &mut client, 0x1000, 1).unwrap(), [0]);
    store(&rig, &mut client, 0x2000, b"x").unwrap();
    assert_eq!(contents(&file, 0xfff, 2), b"\0x");
}

#[test]
fn range_that_overlaps_another_is_refused() {
    let rig = Rig::start();
    let mut client = rig.client();
    let file = sealed(0x4000);
    client.map(3, 0, 0x2000, 0x2000, Some(&file)).ok();
    for (address, size) in [(0x2000, 0x2000), (0x3000, 0x1000), (0x1000, 0x1001), (0x3fff, 1), (0, 0x4000)] {
        for file in [Some(&file), None] {
            assert_eq!(client.map(3, 0, address, size, file).errno(), EEXIST, "{address:#x}+{size:#x}");
        }
    }
    client.map(3, 0, 0x1000, 0x1000, Some(&file)).ok();
    client.map(3, 0, 0x4000, 0x1000, None).ok();
    assert_eq!(rig.memory.ranges(), 3);
}

#[test]
fn one_range_too_many_is_refused() {
    let limits = Limits { max_dma_maps: 2, ..Limits::default() };
    let rig = Rig::with(Options { limits, ..Options::default() });
    let mut client = rig.client();
    for address in [0, 0x1000] {
        client.map(3, 0, address, 0x1000, None).ok();
    }
    assert_eq!(client.map(3, 0, 0x2000, 0x1000, None).errno(), ENOSPC);
    client.unmap(0, 0x1000).ok();
    client.map(3, 0, 0x2000, 0x1000, None).ok();
}

#[test]
fn range_that_is_none_or_is_not_in_its_file_is_refused() {
    let rig = Rig::start();
    let mut client = rig.client();
    let file = sealed(0x2000);
    for (offset, address, size) in [
        (0, 0x1000, 0),
        (0, u64::MAX, 1),
        (0, u64::MAX - 0xfff, 0x1000),
        (0, 0, u64::MAX),
        (0, 0, 0x2001),
        (0x1000, 0, 0x1001),
        (0x2000, 0, 1),
        (u64::MAX, 0, 1),
        (u64::MAX - 0xfff, 0, 0x1000),
        // Not at a page's beginning.
        (1, 0, 0x1000),
        (0x800, 0, 0x1000),
    ] {
        let reply = client.map(3, offset, address, size, Some(&file));
        assert_eq!(reply.errno(), EINVAL, "{offset:#x}, {address:#x}+{size:#x}");
    }
    assert_eq!(rig.memory.ranges(), 0);
}

#[test]
fn descriptor_that_cannot_be_written_backs_no_range_that_can_be() {
    let rig = Rig::start();
    let mut client = rig.client();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory");
    std::fs::write(&path, [0; 0x1000]).unwrap();
    let read_only: OwnedFd = File::open(&path).unwrap().into();
    assert_eq!(client.map(3, 0, 0, 0x1000, Some(&read_only)).errno(), EACCES);
    assert_eq!(client.map(2, 0, 0, 0x1000, Some(&read_only)).errno(), EACCES);
    client.map(1, 0, 0, 0x1000, Some(&read_only)).ok();
    // A directory is no memory at all.
    let directory: OwnedFd = File::open(dir.path()).unwrap().into();
    client.request_with(DMA_MAP, &dma_map(1, 0, 0x8000, 1), &[directory.as_fd()]);
    client.in_step();
}

#[test]
fn file_that_shrinks_is_an_error_of_the_device_and_does_not_kill_the_server() {
    let rig = Rig::start();
    let mut client = rig.client();
    let file = memfd("shrinks", 0x2000);
    client.map(3, 0, 0, 0x2000, Some(&file)).ok();
    ftruncate(&file, 0x1000).unwrap();
    let unmapped = DmaError::Unmapped { address: 0x1800, length: 4 };
    assert_eq!(fetch(&rig, &mut client, 0x1800, 4), Err(unmapped));
    assert_eq!(store(&rig, &mut client, 0x1800, b"four"), Err(unmapped));
    assert_eq!(File::from(file).metadata().unwrap().len(), 0x1000);
    fetch(&rig, &mut client, 0x800, 4).unwrap();
}

#[test]
fn unmap_takes_every_range_inside_and_cuts_none() {
    let rig = Rig::start();
    let mut client = rig.client();
    for address in [0x1000, 0x2000, 0x4000] {
        client.map(3, 0, address, 0x1000, None).ok();
    }
    for (address, size) in [(0x1000, 0x800), (0x1800, 0x1000), (0, 0x1001), (0x1000, 0x1fff)] {
        assert_eq!(client.unmap(address, size).errno(), EINVAL, "{address:#x}+{size:#x}");
    }
    for (address, size) in [(0, 0x1000), (0x3000, 0x1000), (0x5000, u64::MAX), (0x1000, 0)] {
        assert_eq!(client.unmap(address, size).errno(), ENOENT, "{address:#x}+{size:#x}");
    }
    assert_eq!(rig.memory.ranges(), 3);
    assert_eq!(client.unmap(0x1000, 0x3000).ok(), dma_unmap(0, 0x1000, 0x3000));
    assert_eq!(rig.memory.ranges(), 1);
    client.unmap(0, u64::MAX).ok();
    assert_eq!(rig.memory.ranges(), 0);
}

#[test]
fn unmap_of_all_takes_everything_even_if_that_is_nothing() {
    let rig = Rig::start();
    let mut client = rig.client();
    for address in [0x1000, 0x2000] {
        client.map(3, 0, address, 0x1000, None).ok();
    }
    for (address, size) in [(0x1000, 0), (0, 0x1000)] {
        assert_eq!(client.request(DMA_UNMAP, &dma_unmap(2, address, size)).errno(), EINVAL);
    }
    assert_eq!(rig.memory.ranges(), 2);
    for _ in 0..2 {
        assert_eq!(client.request(DMA_UNMAP, &dma_unmap(2, 0, 0)).ok(), dma_unmap(2, 0, 0));
        assert_eq!(rig.memory.ranges(), 0);
    }
}

#[test]
fn unmap_with_a_dirty_page_bitmap_is_not_offered_and_unmaps_nothing() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.map(3, 0, 0x1000, 0x1000, None).ok();
    // Page size and bytes of the bitmap.
    let body = [dma_unmap(1, 0x1000, 0x1000), u64s(&[4096, 8])].concat();
    assert_eq!(client.request(DMA_UNMAP, &body).errno(), EOPNOTSUPP);
    assert_eq!(client.request(DMA_UNMAP, &body[..24]).errno(), EINVAL);
    assert_eq!(rig.memory.ranges(), 1);
}

#[test]
fn unmap_is_answered_when_the_last_holder_lets_go() {
    let rig = Rig::start();
    let mut client = rig.client();
    let file = sealed(0x2000);
    client.map(3, 0, 0x1000, 0x2000, Some(&file)).ok();
    let one = rig.memory.hold(0x1100, 8, Access::Write).unwrap();
    let other = rig.memory.hold(0x2100, 8, Access::Read).unwrap();
    let id = client.begin(DMA_UNMAP, &dma_unmap(0, 0x1000, 0x2000));
    // The server is in it once the range cannot be had any more.
    while rig.memory.ranges() != 0 {
        std::thread::yield_now();
    }
    assert!(rig.memory.hold(0x1100, 8, Access::Read).is_err());
    // What is held works on.
    one.write(b"held yet").unwrap();
    drop(one);
    other.read(&mut [0; 8]).unwrap();
    assert!(!is_readable(&client.socket));
    drop(other);
    client.reply(id, DMA_UNMAP).ok();
    assert_eq!(contents(&file, 0x100, 8), b"held yet");
}

#[test]
fn buffer_is_used_only_as_it_is_held() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.map(3, 0, 0x1000, 0x1000, Some(&sealed(0x1000))).ok();
    let read = rig.memory.hold(0x1000, 4, Access::Read).unwrap();
    let write = rig.memory.hold(0x1000, 4, Access::Write).unwrap();
    assert_eq!(read.write(b"four"), Err(DmaError::ReadOnly { address: 0x1000 }));
    assert_eq!(write.read(&mut [0; 4]), Err(DmaError::WriteOnly { address: 0x1000 }));
    assert_eq!((read.len(), read.is_empty()), (4, false));
    assert!(rig.memory.hold(0x9999, 0, Access::Read).unwrap().is_empty());
}

#[test]
fn next_client_has_none_of_the_memory_of_the_one_before() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.map(3, 0, 0x1000, 0x1000, Some(&sealed(0x1000))).ok();
    drop(client);
    let mut client = rig.client();
    client.in_step();
    assert_eq!(rig.memory.ranges(), 0);
    client.map(3, 0, 0x1000, 0x1000, None).ok();
}
