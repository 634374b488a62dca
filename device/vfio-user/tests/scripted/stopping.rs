//! A server that is stopped, whatever it is doing; and listening sockets that others made.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;

use vfio_user_server::{
    Description, Device, DmaError, Ended, Errno, GuestMemory, Interrupts, Options, Server, inherit,
};

use crate::client::Client;
use crate::device::*;
use crate::wire::*;

/// Waits for the serving thread to end by itself.
fn joined(mut rig: Rig) -> Vec<Ended> {
    rig.serving.take().unwrap().join().unwrap();
    rig.visits.try_iter().map(|visit| visit.ended).collect()
}

#[test]
fn stop_ends_a_server_that_waits_for_its_first_client() {
    let rig = Rig::start();
    rig.asleep();
    rig.stop.stop();
    assert_eq!(joined(rig), []);
}

#[test]
fn stop_ends_a_server_whose_client_is_silent() {
    let rig = Rig::start();
    let client = rig.client();
    rig.asleep();
    rig.stop.stop();
    client.closed();
    assert_eq!(joined(rig), [Ended::Stopped]);
}

#[test]
fn stop_ends_a_server_in_the_middle_of_a_message() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.send(&sized(1, REGION_WRITE, 100, COMMAND, &[]));
    rig.asleep();
    rig.stop.stop();
    client.closed();
    assert_eq!(joined(rig), [Ended::Stopped]);
}

#[test]
fn stop_ends_a_server_whose_device_waits_for_the_client() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.map(3, 0, 0, 0x1000, None).ok();
    client.begin(REGION_WRITE, &write(FETCH, REGISTERS, &u64s(&[4])));
    client.dma_command(DMA_READ);
    rig.stop.stop();
    client.closed();
    let log = rig.log.clone();
    assert_eq!(joined(rig), [Ended::Stopped]);
    assert_eq!(log.lock().unwrap().dma, [Err(DmaError::Gone)]);
}

#[test]
fn stop_ends_a_server_whose_device_is_busy_once_it_is_not_any_more() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.begin(REGION_WRITE, &write(BUSY, REGISTERS, &[0]));
    rig.entered.recv().unwrap();
    rig.stop.stop();
    client.closed();
    rig.go.send(()).unwrap();
    assert_eq!(joined(rig), [Ended::Stopped]);
}

/// Its answers fill the socket, until the server can send no more.
#[test]
fn stop_ends_a_server_whose_client_takes_no_answers() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.begin(REGION_READ, &access(0, LONG, 1 << 20));
    rig.asleep();
    rig.stop.stop();
    assert_eq!(joined(rig), [Ended::Stopped]);
}

#[test]
fn stopped_server_serves_nobody_and_says_so_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vfu.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (description, options) = (Description::default(), Options::default());
    let interrupts = Interrupts::new(&description);
    let server = Server::new(listener, description, GuestMemory::new(), interrupts, options).unwrap();
    struct Nothing;
    impl Device for Nothing {
        fn region_read(&mut self, _: u32, _: u64, _: &mut [u8]) -> Result<(), Errno> {
            Ok(())
        }

        fn region_write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), Errno> {
            Ok(())
        }
    }
    let client = Client::connect(&path);
    server.stopper().stop();
    server.serve(&mut Nothing).unwrap();
    assert!(server.serve_one(&mut Nothing).unwrap().is_none());
    drop(server);
    client.closed();
}

#[test]
fn stop_from_many_threads_at_any_time_ends_the_server_once() {
    for _ in 0..100 {
        let rig = Rig::start();
        let client = Client::connect(&rig.path);
        let stops: Vec<_> = (0..3)
            .map(|_| {
                let stop = rig.stop.clone();
                std::thread::spawn(move || stop.stop())
            })
            .collect();
        stops.into_iter().for_each(|stop| stop.join().unwrap());
        // Before it was accepted, or after.
        assert!(joined(rig).len() <= 1);
        client.closed();
    }
}

#[test]
fn inherited_listening_socket_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("vfu.sock")).unwrap();
    let inherited = inherit(listener.as_raw_fd()).unwrap();
    drop(listener);
    let flags = rustix::io::fcntl_getfd(inherited.as_fd()).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    let rig = Rig::on(inherited, dir, Options::default(), |_| {});
    for _ in 0..3 {
        rig.client().in_step();
    }
}
