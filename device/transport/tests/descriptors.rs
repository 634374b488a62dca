//! Clients that come and go leave no descriptor, mapping or thread behind. Alone in its process, so that nobody else opens any.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use sdmorph_transport::{Options, Server, Shared};
use vfio_user::Client;

const CLIENTS: usize = 100;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn mappings_of_guest_memory() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains("memfd:guest")).count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn hundred_clients_leave_no_descriptor_no_mapping_and_no_thread_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vfu.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = Server::new(listener, Shared::new(), Options::default()).unwrap();
    let (before, threads_before) = (open_descriptors(), threads());
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve());
        for _ in 0..CLIENTS {
            let mut client = Client::new(&path).unwrap();
            let memory = memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
            let memory = memory.unwrap();
            ftruncate(&memory, 0x2000).unwrap();
            // One that could shrink would not be mapped.
            fcntl_add_seals(&memory, SealFlags::SHRINK).unwrap();
            client.dma_map(0, 0x1000, 0x2000, memory.as_raw_fd()).unwrap();
            let vectors: Vec<_> = (0..16).map(|_| eventfd(0, EventfdFlags::CLOEXEC).unwrap()).collect();
            let numbers: Vec<_> = vectors.iter().map(AsRawFd::as_raw_fd).collect();
            // Trigger, by eventfds; and once more, over the routes that are there.
            client.set_irqs(2, 0x24, 0, 16, &numbers).unwrap();
            client.set_irqs(2, 0x24, 0, 16, &numbers).unwrap();
            assert_eq!(mappings_of_guest_memory(), 1);
        }
        server.stopper().stop();
        serving.join().unwrap().unwrap();
    });
    assert_eq!(open_descriptors(), before);
    // A thread that was joined may be on its way out for a moment. One that stays hangs this test.
    while threads() != threads_before {
        std::thread::yield_now();
    }
    assert_eq!(mappings_of_guest_memory(), 0);
}
