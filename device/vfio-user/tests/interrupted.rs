//! Signals to the serving thread interrupt its calls of the kernel, and nothing else. Alone in its process, because of
//! the signals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The scripted client's device; not all of it is needed here.
#![allow(dead_code)]

#[path = "scripted/client.rs"]
mod client;
#[path = "scripted/device.rs"]
mod device;
#[path = "scripted/wire.rs"]
mod wire;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use device::*;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, getpid, kill_process, pidfd_getfd, pidfd_open,
};
use signal_hook::consts::SIGUSR1;
use vfio_user_server::Options;
use wire::*;

/// Interrupts the serving thread while it sleeps.
///
/// DEVNOTE: kill(2) of a thread's number signals the process, and Linux prefers that very thread to handle it
/// (kernel/signal.c, complete_signal).
fn interrupt(rig: &Rig, handled: &AtomicBool) {
    let thread: i32 = rig.thread.file_name().unwrap().to_str().unwrap().parse().unwrap();
    rig.asleep();
    kill_process(Pid::from_raw(thread).unwrap(), Signal::USR1).unwrap();
    while !handled.swap(false, Ordering::SeqCst) {
        std::thread::yield_now();
    }
    rig.asleep();
}

/// Another descriptor for each socket of this process.
fn sockets() -> Vec<OwnedFd> {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let number =
        |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().to_str()?.parse().ok();
    let numbers: Vec<i32> = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(number).collect();
    let duplicate = |number| pidfd_getfd(this.as_fd(), number, PidfdGetfdFlags::empty()).ok();
    let is_socket = |fd: &OwnedFd| rustix::net::sockopt::socket_type(fd).is_ok();
    numbers.into_iter().filter_map(duplicate).filter(is_socket).collect()
}

#[test]
fn signals_to_the_serving_thread_end_no_connection_and_lose_no_message() {
    let handled = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGUSR1, handled.clone()).unwrap();
    let rig = Rig::with(Options { polling: Duration::ZERO, ..Options::default() });
    // While it waits for a client.
    for _ in 0..10 {
        interrupt(&rig, &handled);
    }
    let mut client = rig.client();
    // Linux restarts a receive that was interrupted by such a handler, unless the socket has a timeout (signal(7)).
    // The server's socket is among those of this process.
    for socket in sockets() {
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(24 * 3600))).unwrap();
    }
    // It sleeps in a receive that began before that.
    client.in_step();
    for _ in 0..100 {
        interrupt(&rig, &handled);
        client.in_step();
    }
    // In the middle of a message.
    let id = client.id();
    let bytes = message(id, REGION_READ, COMMAND, &access(1, CONFIG, 1));
    for byte in bytes {
        client.send(&[byte]);
        interrupt(&rig, &handled);
    }
    assert_eq!(client.reply(id, REGION_READ).ok()[16..], [1]);
    // While the device waits for the client.
    client.map(3, 0, 0, 0x1000, None).ok();
    let fetch = client.begin(REGION_WRITE, &write(FETCH, REGISTERS, &u64s(&[4])));
    let (answer, ..) = client.dma_command(DMA_READ);
    for _ in 0..100 {
        interrupt(&rig, &handled);
    }
    client.answer(answer, DMA_READ, &[u64s(&[0, 4]), b"four".to_vec()].concat());
    client.reply(fetch, REGION_WRITE).ok();
    assert_eq!(rig.last_dma(), Ok(()));
    drop(client);
    let visit = rig.visit();
    assert_eq!(visit.ended, vfio_user_server::Ended::ClientLeft);
    // Those that came while it slept in a receive did interrupt it.
    assert!(visit.calls.empty_receives >= 100, "{:?}", visit.calls);
}
