//! The card as a host drives it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod disturbances;
mod erase;
mod host;
mod identification;
mod linux;
mod lock;
mod medium;
mod properties;
mod protection;
mod registers;
mod states;
mod transfer;
mod voltage;
