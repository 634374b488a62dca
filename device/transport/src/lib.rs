//! Puts the [`Machine`](sdmorph_machine::Machine) behind a vfio-user socket, so that stock QEMU attaches it with
//! `-device vfio-user-pci`.
//!
//! - [`socket`]: a listening socket that is inherited;
//! - [`guest_ram`]: guest memory that the client shares, as mapped memfds;
//! - [`eventfds`]: MSI-X vectors as eventfds of the client;
//! - [`backend`]: regions, DMA table, interrupts and reset of the vfio-user protocol, put onto the machine;
//! - [`Server`]: accepts one client after the other.
//!
//! The protocol is the crate `vfio_user`'s. What is known to be wrong with its server is in the decision record
//! `docs/src/decisions/0005-vfio-user-crate-for-now.md`; here it is kept from taking the machine down: a panic in it ends
//! the connection, not the server, and oversized accesses are refused.
//!
//! # Not modelled
//!
//! - memory without a descriptor (DMA_READ and DMA_WRITE messages): such a range is not guest memory for the device;
//! - two clients at once: the second waits in the listening queue until the first leaves;
//! - mask, unmask and loopback actions of SET_IRQS, the ERR and REQ interrupts, migration, dirty page tracking.

// The transport lives on the host's side of the machine: it is where virtual time meets the wall clock.
#![allow(clippy::disallowed_methods)]

pub mod backend;
pub mod eventfds;
pub mod guest_ram;
pub mod server;
pub mod socket;

pub use eventfds::Eventfds;
pub use guest_ram::GuestRam;
pub use server::{Server, Shared};
pub use socket::{DescriptorError, inherit};
