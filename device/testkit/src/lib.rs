//! For tests: a world to drive a function in, and a driver to do it with.
//!
//! - [`TestMemory`]: guest memory with holes, read-only and failing ranges;
//! - [`MessageLog`]: interrupt messages in the order they came;
//! - [`TestMedia`]: blocks, whose requests end when a test says so, and fail where it says so;
//! - [`ManualClock`]: time that moves when a test says so;
//! - [`EventLog`]: everything that a device reports, and bits that it makes reads show stuck;
//! - [`Bench`]: all of these in one place, and the [`Ctx`](sdmorph_pci::Ctx) made of them;
//! - [`NvmeDriver`]: those of Linux's `nvme` with a controller;
//! - [`RtsxDriver`]: the sequences of Linux's `rtsx_pci` and `rtsx_pci_sdmmc` for each chip, from probe to removal;
//! - [`Remote`]: a function in another process, for the same drivers, behind VMD and a vfio-user socket.
//!
//! # Not modelled
//!
//! - routing: a function is driven directly, without bus, bridge or address decoding, unless it is a [`Remote`];
//! - concurrency: the driver takes its interrupts at fixed places, between two accesses of its own;
//! - waiting: where Linux sleeps, the driver moves the clock, and only a [`Remote`] lets time pass as well.

mod bench;
mod clock;
pub mod driver;
mod interrupts;
mod media;
mod memory;
pub mod nvme;
mod observer;
mod remote;

pub use bench::Bench;
pub use clock::ManualClock;
pub use driver::{DriverError, RtsxDriver};
pub use interrupts::MessageLog;
pub use media::TestMedia;
pub use memory::TestMemory;
pub use nvme::NvmeDriver;
pub use observer::{EventLog, Record, Seen};
pub use remote::Remote;
