//! One client after the other.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use vfio_user_server::Visit;

use crate::endpoint::{Endpoint, description};
use crate::latency::Latency;
use crate::shared::Shared;
use crate::wire_faults::RuleFaults;

/// What becomes of the device when its client leaves. Its memory and interrupt routes go in any case; rules, the card and
/// the record stay in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDisconnect {
    /// Power is off for a moment: the reader is back in the slot, all registers are as after power-on, and no interrupt
    /// is pending.
    #[default]
    Reset,
    /// Nothing. The next client finds registers, slot and link as they were, and what time made of them: timers go on,
    /// cards can come and go. DMA fails until it maps memory. Every vector is masked until it routes it, and an interrupt
    /// that came meanwhile is sent then.
    ///
    /// A client that resets the device when it attaches, as QEMU does, takes the registers back to their reset values; the
    /// slot and the link are still as they were.
    Keep,
}

/// Settings of a server.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What becomes of the device when its client leaves.
    pub on_disconnect: OnDisconnect,
    /// Settings of the protocol's server: limits, polling, time-outs. Faults at the wire are the machine's rules: its
    /// own `faults` are not asked.
    pub wire: vfio_user_server::Options,
}

/// The vfio-user server.
#[derive(Debug)]
pub struct Server {
    server: vfio_user_server::Server,
    shared: Shared,
    on_disconnect: OnDisconnect,
    latency: Latency,
}

/// Stops a server, from any thread.
#[derive(Debug, Clone)]
pub struct Stop {
    server: vfio_user_server::Stop,
    latency: Latency,
}

impl Stop {
    /// Ends the connection there is, cuts an injected latency short, and ends [`Server::serve`]. A server that was stopped
    /// stays so.
    pub fn stop(&self) {
        // First the connection: an answer must not come early.
        self.server.stop();
        self.latency.stop();
    }
}

impl Server {
    /// A server on `listener` for the machine in `shared`.
    ///
    /// # Errors
    /// The listener cannot be set up, or there are no descriptors left.
    pub fn new(listener: UnixListener, shared: Shared, options: Options) -> io::Result<Self> {
        let Options { on_disconnect, mut wire } = options;
        wire.faults = Some(Arc::new(RuleFaults::new(&shared)));
        let (memory, interrupts) = (shared.memory.clone(), shared.interrupts.clone());
        let server = vfio_user_server::Server::new(listener, description(), memory, interrupts, wire)?;
        Ok(Self { server, shared, on_disconnect, latency: Latency::default() })
    }

    /// What stops this server.
    #[must_use]
    pub fn stopper(&self) -> Stop {
        Stop { server: self.server.stopper(), latency: self.latency.clone() }
    }

    /// Serves clients, one after the other, until it is stopped.
    ///
    /// # Errors
    /// The listening socket cannot be used any more.
    pub fn serve(&self) -> io::Result<()> {
        self.server.serve(&mut self.endpoint())
    }

    /// Serves one client until it leaves, however it leaves. None if the server is stopped before one comes.
    ///
    /// # Errors
    /// The listening socket cannot be used any more.
    pub fn serve_one(&self) -> io::Result<Option<Visit>> {
        self.server.serve_one(&mut self.endpoint())
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.shared.clone(), self.on_disconnect, self.latency.clone())
    }
}
