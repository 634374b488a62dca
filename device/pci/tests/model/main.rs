//! The building blocks as a guest sees them: configuration space, interrupts, the port with its slot, and routing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod config;
mod errors;
mod hot_plug;
mod msi;
mod msix;
mod pme;
mod port;
mod routing;
mod slot;
mod toy;
