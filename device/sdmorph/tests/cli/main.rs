//! The `sdmorph` program as its users see it: exit codes, messages, sockets, files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod ctl;
mod ending;
mod logs;
mod pages;
mod record;
mod rules;
mod server;
mod sockets;
mod transport;
