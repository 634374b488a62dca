//! Clients that come and go leave no descriptor behind. Alone in its process, so that nobody else opens any.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use sdmorph_machine::{HOST_VECTORS, Host, Machine, Timebase};
use sdmorph_transport::{Eventfds, GuestRam, Server, Shared};
use vfio_user::Client;

const CLIENTS: usize = 100;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn mappings_of_guest_memory() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains("memfd:guest")).count()
}

#[test]
fn hundred_clients_leave_no_descriptor_and_no_mapping_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vfu.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let ram = Arc::new(GuestRam::default());
    let eventfds = Eventfds::new(HOST_VECTORS);
    let machine = Machine::new(Host { memory: ram.clone(), interrupts: Box::new(eventfds.clone()) });
    let shared = Shared {
        machine: Arc::new(Mutex::new(machine)),
        ram,
        eventfds,
        time: Timebase::start(),
        changed: Arc::default(),
    };
    let server = Server::new(listener, shared);
    let before = open_descriptors();
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| (0..CLIENTS).try_for_each(|_| server.serve_one()));
        for _ in 0..CLIENTS {
            let mut client = Client::new(&path).unwrap();
            let memory = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
            ftruncate(&memory, 0x2000).unwrap();
            client.dma_map(0, 0x1000, 0x2000, memory.as_raw_fd()).unwrap();
            let vectors: Vec<_> = (0..16).map(|_| eventfd(0, EventfdFlags::CLOEXEC).unwrap()).collect();
            let numbers: Vec<_> = vectors.iter().map(AsRawFd::as_raw_fd).collect();
            // Trigger, by eventfds; and once more, over the routes that are there.
            client.set_irqs(2, 0x24, 0, 16, &numbers).unwrap();
            client.set_irqs(2, 0x24, 0, 16, &numbers).unwrap();
        }
        serving.join().unwrap().unwrap();
    });
    assert_eq!(open_descriptors(), before);
    assert_eq!(mappings_of_guest_memory(), 0);
}
