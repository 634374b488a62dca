//! A vfio-user server: a process that stock QEMU attaches as a PCI device with `-device vfio-user-pci`.
//!
//! No `unsafe`; no bytes of a client make it panic, wait without end, or allocate without bound. (A descriptor of a client is
//! as quick as whoever stands behind it: a file of a user's own file system can block.) From the inside out:
//!
//! - [`spec`]: the protocol's numbers; [`header`], [`request`], [`version`], [`reply`]: messages, decoded and encoded;
//! - [`framing`]: whole messages with their descriptors out of a stream; [`session`]: what is answered to them. None of
//!   these does I/O: they can be put into any event loop, and are fuzzed as they are;
//! - [`memory`]: guest memory, mapped or by messages; [`interrupts`]: eventfds, masks, pending interrupts;
//! - [`Server`]: the socket, one client after the other; [`faults`]: faults at the wire, on purpose.
//!
//! A device implements [`Device`] and describes itself with a [`Description`]; `examples/scratchpad.rs` is a whole one.
//!
//! # Not offered
//!
//! - migration and dirty page logging (DEVICE_FEATURE, MIG_DATA_READ, MIG_DATA_WRITE, dirty bitmaps of DMA_UNMAP);
//! - a second socket for the server's commands (`twin_socket`), which QEMU does not use;
//! - ioregionfds, the other kind of DEVICE_GET_REGION_IO_FDS, which Linux never had;
//! - several clients at one time, and devices that are not PCI devices.

// A server lives on the host's side: it polls for a bounded time, waits with a timeout, and delays what a fault delays.
#![allow(clippy::disallowed_methods)]

mod conversation;
pub mod description;
mod device;
pub mod faults;
pub mod framing;
pub mod header;
mod inherit;
pub mod interrupts;
mod link;
pub mod memory;
mod polling;
pub mod reply;
pub mod request;
mod server;
pub mod session;
pub mod spec;
mod stop;
pub mod version;

pub use description::{Description, IrqType, Region};
pub use device::{Device, Look};
pub use header::Refusal;
pub use inherit::{DescriptorError, inherit};
pub use interrupts::Interrupts;
pub use link::{Calls, Ended};
pub use memory::{DmaError, GuestMemory};
pub use rustix::io::Errno;
pub use server::{Options, Server, Visit};
pub use session::{Counters, Limits};
pub use stop::Stop;
