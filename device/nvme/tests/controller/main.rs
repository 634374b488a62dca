//! The controller, driven as Linux drives it, and as nobody should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod admin;
mod doorbells;
mod features;
mod identity;
mod interrupts;
mod io;
mod lifecycle;
mod log_pages;
mod medium;
mod pointers;
mod properties;
mod queues;
mod registers;
mod resets;
mod rig;
