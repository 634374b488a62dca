//! The `sdmorph` program as its users see it: exit codes, messages, sockets, files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// What is waited for that another process does is waited for by the wall clock.
#![allow(clippy::disallowed_methods)]

mod bisect;
mod chips;
mod crash;
mod ctl;
mod ending;
mod kernels;
mod logs;
mod pages;
mod record;
mod replay;
mod report;
mod rules;
mod server;
mod sockets;
mod transport;
