//! The server and the client over real sockets, with a toy device behind them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod clients;
mod qemu_qmp;
mod session;
mod socket;
mod toy_device;
