//! One client after the other.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sdmorph_machine::{Machine, Timebase};

use crate::backend::{self, Backend};
use crate::{Eventfds, GuestRam};

/// What the transport, the control socket and the timers share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The machine. An access is answered while the lock is held.
    pub machine: Arc<Mutex<Machine>>,
    /// Guest memory as the client shares it; the machine reads it.
    pub ram: Arc<GuestRam>,
    /// The client's eventfds; the machine signals them.
    pub eventfds: Eventfds,
    /// Virtual time as the host's clock drives it.
    pub time: Timebase,
    /// Told after each call that made a new deadline, or a record that clients of the control socket are told of.
    pub changed: Arc<tokio::sync::Notify>,
}

impl Shared {
    /// Calls `act` on the machine, at the time it is now; then tells whoever waits for deadlines and
    /// events.
    pub fn with_machine<R>(&self, act: impl FnOnce(&mut Machine, Duration) -> R) -> R {
        let mut machine = self.lock();
        let before = (machine.next_deadline(), machine.notices());
        let result = act(&mut machine, self.time.now());
        let after = (machine.next_deadline(), machine.notices());
        drop(machine);
        if before != after {
            self.changed.notify_one();
        }
        result
    }

    /// A poisoned lock is one whose holder panicked: the machine forbids that to itself, and is still whole.
    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The vfio-user server.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    shared: Shared,
}

impl Server {
    /// A server on `listener` for the machine in `shared`.
    #[must_use]
    pub fn new(listener: UnixListener, shared: Shared) -> Self {
        Self { listener, shared }
    }

    /// Serves one client until it leaves, however it leaves; then the machine is as after power-on, and its memory and
    /// eventfds are let go. Rules and the card stay.
    ///
    /// # Errors
    /// The listening socket cannot be used any more.
    pub fn serve_one(&self) -> io::Result<()> {
        let descriptor = OwnedFd::from(self.listener.try_clone()?);
        let server = vfio_user::Server::from_owned_fd(descriptor, true, backend::irqs(), backend::regions());
        let mut client = Backend::new(self.shared.clone());
        // The crate panics on some malformed messages; that must cost the client its connection and nobody else.
        match catch_unwind(AssertUnwindSafe(|| server.run(&mut client))) {
            Ok(Ok(())) => tracing::info!("the client has left"),
            Ok(Err(vfio_user::Error::SocketAccept(error))) => return Err(error),
            Ok(Err(error)) => tracing::warn!(%error, "the connection to the client broke"),
            Err(_) => tracing::error!("a malformed message ended the connection to the client"),
        }
        self.shared.eventfds.clear();
        let ranges = self.shared.ram.clear();
        self.shared.with_machine(|machine, now| machine.power_cycle(now));
        tracing::info!(ranges, "the device is as after power-on and waits for the next client");
        Ok(())
    }

    /// Serves clients until the listening socket fails.
    ///
    /// # Errors
    /// See [`Server::serve_one`].
    pub fn serve(&self) -> io::Result<()> {
        loop {
            self.serve_one()?;
        }
    }
}
