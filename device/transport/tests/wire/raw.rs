//! A client that sends whatever bytes a test wants.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Commands of the protocol (QEMU's `docs/interop/vfio-user.rst`).
pub(crate) const VERSION: u16 = 1;
pub(crate) const DMA_MAP: u16 = 2;
pub(crate) const DMA_UNMAP: u16 = 3;
pub(crate) const SET_IRQS: u16 = 8;
pub(crate) const REGION_READ: u16 = 9;
pub(crate) const REGION_WRITE: u16 = 10;
pub(crate) const DEVICE_RESET: u16 = 13;

/// Flags of a header.
pub(crate) const NO_REPLY: u32 = 1 << 4;
pub(crate) const REPLY: u32 = 1;
pub(crate) const ERROR: u32 = 1 << 5;

pub(crate) const HEADER_BYTES: usize = 16;

pub(crate) struct RawClient {
    pub(crate) stream: UnixStream,
    next_id: u16,
}

/// A reply as it came.
pub(crate) struct Reply {
    pub(crate) flags: u32,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn is_error(&self) -> bool {
        self.flags & ERROR != 0
    }
}

/// A header: id, command, size of the whole message, flags, error.
pub(crate) fn header(id: u16, command: u16, size: usize, flags: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(id.to_ne_bytes());
    bytes.extend(command.to_ne_bytes());
    bytes.extend(u32::try_from(size).unwrap().to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes
}

/// The body of REGION_READ, and the start of that of REGION_WRITE.
pub(crate) fn region_access(region: u32, offset: u64, count: u32) -> Vec<u8> {
    let mut body = offset.to_ne_bytes().to_vec();
    body.extend(region.to_ne_bytes());
    body.extend(count.to_ne_bytes());
    body
}

/// The body of DMA_MAP.
pub(crate) fn dma_map(flags: u32, offset: u64, address: u64, size: u64) -> Vec<u8> {
    let mut body = 32u32.to_ne_bytes().to_vec();
    body.extend(flags.to_ne_bytes());
    [offset, address, size].iter().for_each(|field| body.extend(field.to_ne_bytes()));
    body
}

/// The body of DMA_UNMAP.
pub(crate) fn dma_unmap(flags: u32, address: u64, size: u64) -> Vec<u8> {
    let mut body = 24u32.to_ne_bytes().to_vec();
    body.extend(flags.to_ne_bytes());
    [address, size].iter().for_each(|field| body.extend(field.to_ne_bytes()));
    body
}

/// The body of SET_IRQS without data.
pub(crate) fn set_irqs(flags: u32, index: u32, start: u32, count: u32) -> Vec<u8> {
    [20, flags, index, start, count].iter().flat_map(|field: &u32| field.to_ne_bytes()).collect()
}

impl RawClient {
    pub(crate) fn connect(path: &Path) -> Self {
        Self { stream: UnixStream::connect(path).unwrap(), next_id: 0 }
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends one message in one piece, descriptors with it.
    pub(crate) fn send(&mut self, command: u16, flags: u32, body: &[u8], fds: &[BorrowedFd<'_>]) {
        self.next_id = self.next_id.wrapping_add(1);
        let mut message = header(self.next_id, command, HEADER_BYTES + body.len(), flags);
        message.extend(body);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let sent = sendmsg(self.stream.as_fd(), &[IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL);
        assert_eq!(sent.unwrap(), message.len());
    }

    /// Takes the reply to the last message.
    pub(crate) fn reply(&mut self) -> Reply {
        let mut head = [0; HEADER_BYTES];
        self.stream.read_exact(&mut head).unwrap();
        let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap());
        assert_eq!(u16::from_ne_bytes([head[0], head[1]]), self.next_id, "a reply to something else");
        let mut body = vec![0; usize::try_from(word(4)).unwrap() - HEADER_BYTES];
        self.stream.read_exact(&mut body).unwrap();
        let flags = word(8);
        assert_eq!(flags & REPLY, REPLY);
        Reply { flags, body }
    }

    pub(crate) fn call(&mut self, command: u16, body: &[u8], fds: &[BorrowedFd<'_>]) -> Reply {
        self.send(command, 0, body, fds);
        self.reply()
    }

    /// Negotiates the version, as every client does first.
    pub(crate) fn negotiate(&mut self) -> Reply {
        let mut body = [0u16, 1].iter().flat_map(|field| field.to_ne_bytes()).collect::<Vec<_>>();
        body.extend(b"{\"capabilities\":{\"max_msg_fds\":16}}\0");
        self.call(VERSION, &body, &[])
    }

    pub(crate) fn read(&mut self, region: u32, offset: u64, count: u32) -> Reply {
        self.call(REGION_READ, &region_access(region, offset, count), &[])
    }

    pub(crate) fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Reply {
        let mut body = region_access(region, offset, u32::try_from(data.len()).unwrap());
        body.extend(data);
        self.call(REGION_WRITE, &body, &[])
    }
}
