//! Clients that come and go leave no descriptor, no mapping and no thread behind. Alone in its process, so that nobody
//! else opens or maps anything.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// How long a thread may take to leave is real time.
#![allow(clippy::disallowed_methods)]
// The scripted client's device; not all of it is needed here.
#![allow(dead_code)]

#[path = "scripted/client.rs"]
mod client;
#[path = "scripted/device.rs"]
mod device;
#[path = "scripted/wire.rs"]
mod wire;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use client::Client;
use device::*;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use wire::*;

const CLIENTS: usize = 1000;
/// Longer than anything here takes: a thread that is still there then has been left behind.
const HANG: Duration = Duration::from_secs(120);

fn entries(directory: &str) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// Mappings of guest memory, by the name of its file.
fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .filter(|line| line.contains("memfd:guest"))
        .count()
}

/// What a client does that takes all the server has: memory of every kind, all vectors, and some of it refused.
fn visit(rig: &Rig, number: usize) {
    let mut client = Client::connect(&rig.path);
    // Some leave before they have said anything, or in the middle of it.
    if number % 10 == 3 {
        return;
    }
    let hello = message(1, VERSION, COMMAND, &version(0, 1, QEMU_JSON));
    if number % 10 == 7 {
        client.send(&hello[..number % hello.len()]);
        return;
    }
    client.send(&hello);
    client.reply(1, VERSION).ok();
    let sealed = memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&sealed, 0x2000).unwrap();
    fcntl_add_seals(&sealed, SealFlags::SHRINK).unwrap();
    let shrinkable = memfd("guest", 0x2000);
    client.map(3, 0, 0x1000, 0x2000, Some(&sealed)).ok();
    client.map(3, 0, 0x3000, 0x2000, Some(&shrinkable)).ok();
    client.map(3, 0, 0x5000, 0x2000, None).ok();
    assert_eq!(client.map(3, 0, 0x1000, 0x1000, Some(&sealed)).errno(), EEXIST);
    assert_eq!(mappings(), 1);
    let vectors: Vec<_> = (0..16).map(|_| new_eventfd()).collect();
    let fds: Vec<_> = vectors.iter().map(AsFd::as_fd).collect();
    for _ in 0..2 {
        client.request_with(SET_IRQS, &set_irqs(EVENTFD | TRIGGER, MSIX, 0, 16, &[]), &fds).ok();
    }
    let refused = client.request_with(SET_IRQS, &set_irqs(EVENTFD | TRIGGER, MSIX, 0, 3, &[]), &fds);
    assert_eq!(refused.errno(), EINVAL);
    let info = client.request(GET_REGION_INFO, &region_info(80, SPARSE));
    assert_eq!(info.fds.len(), 1);
    if number % 10 == 5 {
        // A message with descriptors that is never whole.
        let bytes = message(9, SET_IRQS, COMMAND, &set_irqs(EVENTFD | TRIGGER, MSIX, 0, 16, &[]));
        client.send_with(&bytes[..20], &fds);
    }
    if number % 10 == 9 {
        // The device waits for this one when it leaves.
        client.write(REGISTERS, ADDRESS, &u64s(&[0x5000]));
        client.begin(REGION_WRITE, &write(FETCH, REGISTERS, &u64s(&[4])));
        client.dma_command(DMA_READ);
    }
}

#[test]
fn thousand_clients_leave_no_descriptor_no_mapping_and_no_thread_behind() {
    let rig = Rig::start();
    // Whatever is set up once is set up before it is counted.
    visit(&rig, 0);
    rig.visit();
    rig.asleep();
    // The test's harness, the test, the serving thread.
    while entries("/proc/self/task") > 3 {
        std::thread::yield_now();
    }
    let before = (entries("/proc/self/fd"), entries("/proc/self/task"), mappings());
    for number in 0..CLIENTS {
        visit(&rig, number);
    }
    for _ in 0..CLIENTS {
        assert_eq!(rig.visit().turned_away, 0);
    }
    rig.asleep();
    // A thread that has been joined may be in /proc for a moment yet.
    let began = Instant::now();
    while entries("/proc/self/task") > before.1 && began.elapsed() < HANG {
        std::thread::yield_now();
    }
    assert_eq!((entries("/proc/self/fd"), entries("/proc/self/task"), mappings()), before);
    assert_eq!(before.2, 0);
    assert_eq!(rig.memory.ranges(), 0);
    rig.client().in_step();
}
