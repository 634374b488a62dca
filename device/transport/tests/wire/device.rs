//! A device behind a socket, and the threads that serve it.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sdmorph_machine::{HOST_VECTORS, Host, Machine, Timebase};
use sdmorph_transport::{Eventfds, GuestRam, Server, Shared};
use vfio_user::Client;

use crate::raw::RawClient;

/// A machine, and a socket that listens for its clients.
pub(crate) struct Device {
    _dir: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) shared: Shared,
    server: Arc<Server>,
}

/// A thread that serves a number of clients and then ends.
pub(crate) struct Serving(JoinHandle<io::Result<()>>);

impl Serving {
    /// Waits until the last client has left and the device is as after power-on.
    pub(crate) fn ended(self) {
        self.0.join().expect("the server panicked").expect("the listening socket failed");
    }
}

impl Device {
    pub(crate) fn new() -> Self {
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
        let server = Arc::new(Server::new(listener, shared.clone()));
        Self { _dir: dir, path, shared, server }
    }

    /// Serves as many clients as `clients` says, one after the other.
    pub(crate) fn serve(&self, clients: usize) -> Serving {
        let server = self.server.clone();
        Serving(std::thread::spawn(move || (0..clients).try_for_each(|_| server.serve_one())))
    }

    /// The crate's client, past version negotiation and region info.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.path).unwrap()
    }

    /// A client that has said nothing yet.
    pub(crate) fn raw(&self) -> RawClient {
        RawClient::connect(&self.path)
    }

    /// Calls `act` on the machine, as the control socket does.
    pub(crate) fn machine<R>(&self, act: impl FnOnce(&mut Machine, Duration) -> R) -> R {
        self.shared.with_machine(act)
    }
}
