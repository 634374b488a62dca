//! The server against a scripted client: every message, every refusal, every way to cut a stream.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod client;
mod descriptors;
mod device;
mod framing;
mod messages;
mod refusals;
mod version;
mod wire;
