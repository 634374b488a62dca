//! The vfio-user wire: the crate's own client, and a raw one for what a client must not do, against our server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod device;
mod dma;
mod driver;
mod faults;
mod info;
mod interrupts;
mod keeping;
mod latency;
mod leaving;
mod messages;
mod raw;
mod regions;
