//! Stock QEMU as the client of the vfio-user server, without a guest: the tests do what a processor would, over qtest.
//!
//! The QEMU is the lab's: `QEMU=`, the system's, or the one in the cache, which is fetched if there is none. Limits of
//! time are there to turn a hang into a failure, and far longer than anything takes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The tests are on the host's side, in the wall clock's time.
#![allow(clippy::disallowed_methods)]

mod access;
mod dma;
mod interrupts;
mod messages;
mod pci;
mod qemu;
mod qtest;
mod relay;
mod toy;
