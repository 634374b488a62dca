//! Replies: one buffer that is used again and again, and sent in one piece. No I/O.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use crate::description::Region;
use crate::header::Header;
use crate::spec::{
    FLAG_ERROR, IO_FD_TYPE_IOEVENTFD, REGION_CAP_SPARSE_MMAP, REGION_CAPS, REGION_MMAP, TYPE_COMMAND,
    TYPE_REPLY,
};

/// Bytes of `struct vfio_region_info`.
const REGION_INFO_BYTES: u32 = 32;
/// Bytes of a sparse mapping capability without its areas, and of one area.
const SPARSE_CAP_BYTES: u32 = 16;
const SPARSE_AREA_BYTES: u32 = 16;
/// Bytes of the answer to DEVICE_GET_REGION_IO_FDS without its sub-regions, and of one sub-region.
const IO_FDS_BYTES: u32 = 16;
const IO_FD_BYTES: u32 = 40;

/// A message to the client.
#[derive(Debug, Default)]
pub struct Reply {
    bytes: Vec<u8>,
    fds: Vec<Arc<OwnedFd>>,
}

impl Reply {
    /// Begins the reply to `request`; what was there before is gone.
    pub fn begin(&mut self, request: &Header) {
        self.start(Header { message_bytes: 0, flags: TYPE_REPLY, error: 0, ..*request });
    }

    /// Begins a command to the client.
    pub(crate) fn begin_command(&mut self, id: u16, command: u16) {
        self.start(Header { id, command, message_bytes: 0, flags: TYPE_COMMAND, error: 0 });
    }

    fn start(&mut self, header: Header) {
        self.clear();
        self.bytes.extend(header.encode());
    }

    /// Makes it the answer that `request` failed: a header alone, with an errno that is never 0.
    pub fn fail(&mut self, request: &Header, errno: Errno) {
        let number = u32::try_from(errno.raw_os_error()).unwrap_or(0);
        let error = if number == 0 { Errno::IO.raw_os_error().unsigned_abs() } else { number };
        self.start(Header { message_bytes: 0, flags: TYPE_REPLY | FLAG_ERROR, error, ..*request });
        self.finish();
    }

    /// Writes the message's size into its header.
    pub fn finish(&mut self) {
        let size = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX).to_ne_bytes();
        if let Some(field) = self.bytes.get_mut(4..8) {
            field.copy_from_slice(&size);
        }
    }

    /// Makes it nothing.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fds.clear();
    }

    /// The message; empty if there is none to send.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The descriptors that go with it.
    #[must_use]
    pub fn fds(&self) -> &[Arc<OwnedFd>] {
        &self.fds
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.put(&value.to_ne_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.put(&value.to_ne_bytes());
    }

    /// Room for `count` bytes at the end, zeroed, for the device to read to.
    pub(crate) fn room(&mut self, count: usize) -> &mut [u8] {
        let at = self.bytes.len();
        self.bytes.resize(at + count, 0);
        self.bytes.get_mut(at..).unwrap_or_default()
    }

    /// The body of DEVICE_GET_REGION_INFO. Capabilities and the descriptor are there only if `argsz` has room for them;
    /// a client that gave too little learns how much it takes and asks again.
    pub(crate) fn region_info(&mut self, index: u32, region: &Region, argsz: u32) {
        let areas = region.mapping.as_ref().map_or(&[][..], |mapping| &mapping.sparse_areas);
        let count = u32::try_from(areas.len()).unwrap_or(u32::MAX);
        let caps = if areas.is_empty() { 0 } else { SPARSE_CAP_BYTES + count * SPARSE_AREA_BYTES };
        let full = REGION_INFO_BYTES + caps;
        self.u32(full);
        // The flags say that they, and a descriptor, are in this reply; QEMU fails if the flag is there and they are not.
        let caps_here = caps != 0 && argsz >= full;
        self.u32(if argsz >= full { region.flags() } else { region.flags() & !(REGION_CAPS | REGION_MMAP) });
        self.u32(index);
        self.u32(if caps_here { REGION_INFO_BYTES } else { 0 });
        self.u64(region.size);
        self.u64(region.mapping.as_ref().map_or(0, |mapping| mapping.offset));
        if argsz < full {
            return;
        }
        if caps != 0 {
            self.put(&REGION_CAP_SPARSE_MMAP.to_ne_bytes());
            self.put(&1u16.to_ne_bytes());
            // The next capability's offset: none; then how many areas, and reserved.
            self.u32(0);
            self.u32(count);
            self.u32(0);
            for (offset, size) in areas {
                self.u64(*offset);
                self.u64(*size);
            }
        }
        if let Some(mapping) = &region.mapping {
            self.fds.push(mapping.file.clone());
        }
    }

    /// The body of DEVICE_GET_REGION_IO_FDS, by the same rule as [`Reply::region_info`].
    pub(crate) fn region_io_fds(&mut self, index: u32, region: &Region, argsz: u32) {
        let count = u32::try_from(region.io_eventfds.len()).unwrap_or(u32::MAX);
        let full = IO_FDS_BYTES + count * IO_FD_BYTES;
        self.u32(full);
        self.u32(0);
        self.u32(index);
        self.u32(count);
        if argsz < full {
            return;
        }
        for (number, part) in (0u32..).zip(&region.io_eventfds) {
            self.u64(part.offset);
            self.u64(part.size);
            self.u32(number);
            self.u32(IO_FD_TYPE_IOEVENTFD);
            self.u32(part.flags);
            self.u32(0);
            self.u64(part.datamatch);
            self.fds.push(part.eventfd.clone());
        }
    }

    /// The first `count` bytes and no descriptors: for a fault.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.bytes.truncate(count);
        self.fds.clear();
    }
}
