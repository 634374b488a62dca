//! The server against a scripted client: every message, every refusal, every way to cut a stream.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod client;
mod descriptors;
mod device;
mod dma_messages;
mod faults;
mod framing;
mod interrupts;
mod leaving;
mod memory;
mod messages;
mod polling;
mod refusals;
mod stopping;
mod version;
mod what_goes_wrong;
mod wire;
mod workers;
