//! A device behind a socket, and the threads that serve it.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use sdmorph_machine::Machine;
use sdmorph_transport::{OnDisconnect, Options, Server, Shared};
use vfio_user::Client;
use vfio_user_server::Visit;

use crate::raw::RawClient;

/// A machine, and a socket that listens for its clients.
pub(crate) struct Device {
    _dir: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) shared: Shared,
    server: Arc<Server>,
}

/// A thread that serves a number of clients and then ends.
pub(crate) struct Serving(JoinHandle<Vec<Visit>>);

impl Serving {
    /// Waits until the last client has left and was cleared up after. Returns how the visits were.
    pub(crate) fn ended(self) -> Vec<Visit> {
        self.0.join().expect("the server panicked")
    }
}

impl Device {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    /// One that stays as its client leaves it.
    pub(crate) fn that_keeps_its_state() -> Self {
        Self::with(Options { on_disconnect: OnDisconnect::Keep, ..Options::default() })
    }

    pub(crate) fn with(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vfu.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let shared = Shared::new();
        let server = Arc::new(Server::new(listener, shared.clone(), options).unwrap());
        Self { _dir: dir, path, shared, server }
    }

    /// Serves as many clients as `clients` says, one after the other.
    pub(crate) fn serve(&self, clients: usize) -> Serving {
        let server = self.server.clone();
        let visit = move || server.serve_one().expect("the listening socket failed").expect("stopped");
        Serving(std::thread::spawn(move || (0..clients).map(|_| visit()).collect()))
    }

    pub(crate) fn stop(&self) {
        self.server.stopper().stop();
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
