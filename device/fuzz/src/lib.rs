//! Fuzz targets for the vfio-user server: what a hostile or broken client may send, and what is asserted about it.
//!
//! - `codec`: bytes to headers, requests, version data and framed messages, cut anywhere; no I/O.
//! - `connection`: a client's script of well-formed, damaged and random messages, descriptors, cuts, pipelining and
//!   answers to DMA messages, played to a session in this process or to a whole server over its socket.
//!
//! [`stream`] says in its own, simplest terms what is owed to a stream of bytes; the targets hold the server against it.
//!
//! What is not fuzzed: several clients at one time, a client and a worker thread's DMA at one time, and faults at the wire.
#![forbid(unsafe_code)]

pub mod client;
pub mod device;
pub mod direct;
pub mod files;
pub mod script;
pub mod servers;
pub mod stream;
pub mod wire;

/// What the fuzzed server tells its clients to keep to: little, so that few bytes are too many.
#[must_use]
pub fn limits() -> vfio_user_server::Limits {
    vfio_user_server::Limits {
        max_data_xfer_bytes: script::MAX_DATA_BYTES,
        max_dma_maps: script::MAX_DMA_MAPS,
        ..vfio_user_server::Limits::default()
    }
}
