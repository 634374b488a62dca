//! Stock QEMU as the client of the vfio-user server, without a guest: the tests do what a processor would, over qtest.
//!
//! The QEMU is the lab's: `QEMU=`, the system's, or the one in the cache, which is fetched if there is none. Limits of
//! time are there to turn a hang into a failure, and far longer than anything takes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The tests are on the host's side, in the wall clock's time.
#![allow(clippy::disallowed_methods)]
// Logs and seeds explain a failure; the harness shows them only then.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod access;
mod dma;
mod hotplug;
mod images;
mod interrupts;
mod lifecycle;
mod machine;
mod messages;
mod pci;
mod qemu;
mod qtest;
mod reboot;
mod relay;
mod sdmorph;
mod toy;
