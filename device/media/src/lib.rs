//! The card's storage: what keeps the blocks behind [`Media`](sdmorph_pci::Media).
//!
//! Read the modules in this order:
//!
//! 1. `ram`: blocks in memory;
//! 2. `open`: images on the host: formats, locks (`lock`), sizes, what is refused;
//! 3. `file`: [`FileMedia`], which ends at once what the page cache can do and hands over the rest;
//! 4. `workers`: the threads that do it; `helper`: those that ask, and do a part of it themselves; `image`: one request on its way;
//! 5. `raw` and `qcow2`: what is done to an image's file; `sync`: to the disk;
//! 6. `closing`: media that were dropped and have something to finish;
//! 7. `status`: what a medium tells about itself;
//! 8. `faces`: [`SharedMedia`], one medium for several devices.
//!
//! # Offered
//!
//! - raw images, sparse ones and those of several TiB, too, and block devices;
//! - with the feature `qcow2`: qcow2 images of versions 2 and 3, with compressed clusters (deflate), too;
//! - memory, sparse and with a limit on what it holds;
//! - flush as `fdatasync`; discard as holes or zero clusters, or as zeros where there are none;
//! - locks that QEMU and its tools heed: an image is written by one at a time;
//! - failures on the host (no space, an image cut off, a broken disk) end the request and leave the medium usable; the
//!   log tells which image, what was asked and why it failed.
//!
//! # Not offered
//!
//! - other formats: VMDK, VDI, VHDX; images over a network;
//! - qcow2 images with a backing file, an external data file, encryption, zstd or extended L2 entries, and those that are
//!   marked dirty or corrupt: they are refused, and `qemu-img convert` or `qemu-img check -r` makes others of them;
//! - snapshots inside a qcow2 image: they are kept, but neither made nor shown;
//! - several requests to a qcow2 image at the same time, and any that end at once: one thread does one after the other;
//! - for a qcow2 image, to keep what was written in the last moment if this process is killed, as a raw image does: its
//!   tables go to the file when its thread has nothing else to do;
//! - changing the size of an image that is open, or noticing that somebody else did but by what fails then;
//! - an image whose size is not a whole number of blocks: it is refused, and neither cut off nor filled up;
//! - direct I/O and `io_uring`: the page cache answers most of what a card is asked;
//! - a limit on requests under way: that is the devices' to set.

mod closing;
mod faces;
mod file;
mod helper;
mod image;
mod lock;
mod open;
#[cfg_attr(not(feature = "qcow2"), path = "no_qcow2.rs")]
mod qcow2;
mod ram;
mod raw;
mod request;
mod status;
mod sync;
mod workers;

use std::sync::Arc;

pub use closing::wait_until_closed;
pub use faces::{Face, SharedMedia};
pub use file::FileMedia;
pub use helper::Helper;
pub use open::{Cache, Format, OpenError, OpenOptions, open};
pub use ram::RamMedia;
pub use status::{MediaInfo, MediaStatus};

/// Told by a thread of a medium that something has ended; see [`OpenOptions::waker`].
pub type Waker = Arc<dyn Fn() + Send + Sync>;
