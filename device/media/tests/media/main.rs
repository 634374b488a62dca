//! Media as their devices use them: whole requests, with the real file system below and other processes beside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout
)]

mod driver;
mod faces;
mod failures;
mod life;
mod locks;
mod model;
mod process;
#[cfg(feature = "qcow2")]
mod qcow2;
mod raw;
