//! The server against the client of the crate `vfio_user` 0.1.7, as others use it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The scripted client's device; not all of it is needed here.
#![allow(dead_code)]

#[path = "scripted/client.rs"]
mod client;
#[path = "scripted/device.rs"]
mod device;
#[path = "scripted/wire.rs"]
mod wire;

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use device::*;
use vfio_user::Client;
use vfio_user_server::Ended;

fn client(rig: &Rig) -> Client {
    Client::new(&rig.path).unwrap()
}

#[test]
fn client_learns_every_region_with_its_size_and_flags() {
    let rig = Rig::start();
    let client = client(&rig);
    for (index, size, flags) in [
        (REGISTERS, 4096, 3),
        (READ_ONLY, 256, 1),
        (WRITE_ONLY, 256, 2),
        (SPARSE, 0x4000, 15),
        (IO_EVENTFDS, 4096, 3),
        (ABSENT, 0, 0),
        (MAPPED, 0x1000, 7),
        (CONFIG, 256, 3),
        (LONG, LONG_BYTES, 3),
    ] {
        let region = client.region(index).unwrap();
        assert_eq!((region.size, region.flags), (size, flags), "region {index}");
        assert_eq!(region.file_offset.is_some(), matches!(index, SPARSE | MAPPED));
    }
    assert!(client.region(9).is_none());
}

#[test]
fn client_gets_the_areas_and_the_descriptor_of_a_sparse_region() {
    let rig = Rig::start();
    let client = client(&rig);
    let region = client.region(SPARSE).unwrap();
    let areas: Vec<_> = region.sparse_areas.iter().map(|area| (area.offset, area.size)).collect();
    assert_eq!(areas, [(0x1000, 0x1000), (0x3000, 0x1000)]);
    let sparse = region.file_offset.as_ref().unwrap();
    let whole = client.region(MAPPED).unwrap().file_offset.as_ref().unwrap();
    assert_eq!((sparse.start(), whole.start()), (0x4000, 0x1000));
    // Both are one file here: what is written through one is there in the other.
    sparse.file().write_all_at(b"shared", 0x4000).unwrap();
    let mut read = [0; 6];
    whole.file().read_exact_at(&mut read, 0x4000).unwrap();
    assert_eq!(&read, b"shared");
}

#[test]
fn client_learns_every_interrupt_type() {
    let rig = Rig::start();
    let mut client = client(&rig);
    let types = [(INTX, 7, 1), (NO_VECTORS, 0, 0), (MSIX, 1, 16), (NO_EVENTFDS, 0, 1), (MASKABLE, 3, 4)];
    for (index, flags, count) in types {
        let info = client.get_irq_info(index).unwrap();
        assert_eq!((info.index, info.flags, info.count), (index, flags, count));
    }
}

#[test]
fn client_reads_and_writes_a_region() {
    let rig = Rig::start();
    let mut client = client(&rig);
    for count in [1usize, 2, 4, 8, 64] {
        let data: Vec<_> = (1..=count as u8).collect();
        client.region_write(REGISTERS, 0x10, &data).unwrap();
        let mut read = vec![0; count];
        client.region_read(REGISTERS, 0x10, &mut read).unwrap();
        assert_eq!(read, data);
    }
    let mut long = vec![0; 1 << 20];
    client.region_read(LONG, 0, &mut long).unwrap();
    assert!((0..).zip(&long).all(|(at, byte)| *byte == at as u8));
}

#[test]
fn device_reaches_memory_that_the_client_has_mapped_until_it_is_unmapped() {
    let rig = Rig::start();
    let mut client = client(&rig);
    let memory: OwnedFd = memfd("crate", 0x3000);
    client.dma_map(0x1000, 0x8000, 0x2000, memory.as_raw_fd()).unwrap();
    let write = |client: &mut Client, at: u64, data: &[u8]| client.region_write(REGISTERS, at, data).unwrap();
    write(&mut client, ADDRESS, &0x8010u64.to_ne_bytes());
    write(&mut client, DATA, b"stored");
    write(&mut client, STORE, &6u64.to_ne_bytes());
    let mut stored = [0; 6];
    rustix::io::pread(&memory, &mut stored, 0x1010).unwrap();
    assert_eq!((&stored, rig.last_dma()), (b"stored", Ok(())));
    client.dma_unmap(0x8000, 0x2000).unwrap();
    write(&mut client, STORE, &6u64.to_ne_bytes());
    assert!(rig.last_dma().is_err());
    assert_eq!(rig.memory.ranges(), 0);
}

#[test]
fn client_routes_sixteen_vectors_masks_unmasks_and_triggers() {
    let rig = Rig::start();
    let mut client = client(&rig);
    let vectors: Vec<_> = (0..16).map(|_| new_eventfd()).collect();
    let numbers: Vec<_> = vectors.iter().map(AsRawFd::as_raw_fd).collect();
    // Trigger by eventfds, all in one message; then by the device, and by the client itself.
    client.set_irqs(MSIX, 0x24, 0, 16, &numbers).unwrap();
    rig.interrupts.trigger(MSIX, 11);
    client.set_irqs(MSIX, 0x21, 3, 2, &[]).unwrap();
    let counts: Vec<_> = vectors.iter().map(signals).collect();
    assert_eq!(counts, [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    let line = new_eventfd();
    client.set_irqs(MASKABLE, 0x24, 0, 1, &[line.as_raw_fd()]).unwrap();
    client.set_irqs(MASKABLE, 0x09, 0, 1, &[]).unwrap();
    rig.interrupts.trigger(MASKABLE, 0);
    assert_eq!(signals(&line), 0);
    client.set_irqs(MASKABLE, 0x11, 0, 1, &[]).unwrap();
    assert_eq!(signals(&line), 1);
    // All off.
    client.set_irqs(MSIX, 0x21, 0, 0, &[]).unwrap();
    rig.interrupts.trigger(MSIX, 0);
    assert_eq!((signals(&vectors[0]), rig.interrupts.is_pending(MSIX, 0)), (0, Some(true)));
}

#[test]
fn client_resets_the_device() {
    let rig = Rig::start();
    let mut client = client(&rig);
    client.region_write(REGISTERS, 0, b"old").unwrap();
    client.reset().unwrap();
    let mut read = *b"???";
    client.region_read(REGISTERS, 0, &mut read).unwrap();
    assert_eq!((read, rig.log().resets), ([0; 3], 1));
}

#[test]
fn client_that_shuts_down_has_left_and_the_next_one_is_served() {
    let rig = Rig::start();
    for _ in 0..3 {
        let client = client(&rig);
        client.shutdown().unwrap();
        let visit = rig.visit();
        assert_eq!((visit.ended, visit.counters.refused), (Ended::ClientLeft, 0));
    }
}

/// The scripted client's reading of the protocol is the crate's, too: what one wrote the other reads.
#[test]
fn both_clients_see_the_same_device() {
    let rig = Rig::start();
    let mut scripted = rig.client();
    scripted.write(REGISTERS, 0x20, b"scripted");
    drop(scripted);
    let mut client = client(&rig);
    let mut read = [0; 8];
    client.region_read(REGISTERS, 0x20, &mut read).unwrap();
    assert_eq!(&read, b"scripted");
}
