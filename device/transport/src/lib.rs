//! Puts the [`Machine`](sdmorph_machine::Machine) behind a vfio-user socket, so that stock QEMU attaches it with
//! `-device vfio-user-pci`.
//!
//! The protocol is the crate [`vfio_user_server`]'s. Here is what the two have to do with each other:
//!
//! - [`Shared`]: the machine, its time, and what a client gives it; the control socket and the timers hold it as well;
//! - [`description`]: the regions and interrupts that a client is told of;
//! - `endpoint`: regions, reset and interrupt routes, put onto the machine;
//! - `host`: guest memory and interrupts, as the machine asks for them;
//! - `wire_faults`: faults at the wire, as the machine's rules want them;
//! - [`Server`]: one client after the other, and what the device is like for the next one: [`OnDisconnect`].
//!
//! An injected latency is slept off outside the machine's lock, and a stop cuts it short. DMA by messages (guest memory
//! without a descriptor) is waited for with the machine locked: an access is answered whole. How long is bounded by
//! `dma_timeout`.
//!
//! # Not modelled
//!
//! - regions that a client may map: every access has to reach the machine;
//! - INTx, MSI, the ERR and REQ interrupts: the device has MSI-X only;
//! - accesses of more than 4096 bytes, the whole of configuration space, which is more than QEMU ever asks for: a single
//!   one of a megabyte would push everything else out of the flight record.

// The transport lives on the host's side of the machine: it is where virtual time meets the wall clock.
#![allow(clippy::disallowed_methods)]

mod endpoint;
mod host;
mod latency;
mod server;
mod shared;
mod wire_faults;

pub use endpoint::description;
pub use server::{OnDisconnect, Options, Server, Stop};
pub use shared::Shared;
pub use vfio_user_server::{DescriptorError, inherit};
