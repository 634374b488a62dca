//! What Linux's `nvme` driver (6.1 to 7.x, `drivers/nvme/host/pci.c` and `core.c`) does with a controller.
//!
//! [`command`] has the layout of commands and completions, [`queue`] a pair of queues, [`NvmeDriver`] the sequences from
//! probe to shutdown. Written from what the driver does, not from its text.

pub mod command;
mod driver;
pub mod queue;

pub use command::{Completion, Entry, sgl_descriptor};
pub(crate) use driver::{MEMORY_BASE, MEMORY_BYTES};
pub use driver::{NvmeDriver, NvmeError, capability, set_feature, with_prps};
pub use queue::QueuePair;

/// Bytes of a page of guest memory.
pub const PAGE_BYTES: u64 = 4096;
