//! A client that says whatever it is told to, cut wherever it is told to, and takes answers apart to the last byte.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::wire::*;

/// A message from the server.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) id: u16,
    pub(crate) command: u16,
    pub(crate) flags: u32,
    pub(crate) error: u32,
    pub(crate) body: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Received {
    /// The body of a reply that says that all went well.
    pub(crate) fn ok(self) -> Vec<u8> {
        assert_eq!((self.flags, self.error), (REPLY, 0), "not a good reply: {self:?}");
        self.body
    }

    /// The errno of a reply that says that it did not; such a reply is a header alone.
    pub(crate) fn errno(self) -> u32 {
        assert_eq!(self.flags, REPLY | ERROR, "not an error reply: {self:?}");
        assert_ne!(self.error, 0);
        assert_eq!((self.body.len(), self.fds.len()), (0, 0));
        self.error
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.body[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.body[at..at + 8].try_into().unwrap())
    }
}

pub(crate) struct Client {
    pub(crate) socket: UnixStream,
    next_id: u16,
    fds: VecDeque<OwnedFd>,
}

impl Client {
    /// Connects, and says nothing yet.
    pub(crate) fn connect(path: &Path) -> Self {
        Self { socket: UnixStream::connect(path).unwrap(), next_id: 0x100, fds: VecDeque::new() }
    }

    /// Connects and agrees on the version as QEMU does.
    pub(crate) fn new(path: &Path) -> Self {
        let mut client = Self::connect(path);
        client.request(VERSION, &version(0, 1, QEMU_JSON)).ok();
        client
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Sends in one piece, with descriptors.
    pub(crate) fn send_with(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
        let sent = sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
        assert_eq!(sent, bytes.len());
    }

    /// The id of the next command.
    pub(crate) fn id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// Sends a command; returns its id.
    pub(crate) fn begin(&mut self, command: u16, body: &[u8]) -> u16 {
        let id = self.id();
        self.send(&message(id, command, COMMAND, body));
        id
    }

    /// Sends a command and returns its reply, which must be the next message.
    pub(crate) fn request(&mut self, command: u16, body: &[u8]) -> Received {
        self.request_with(command, body, &[])
    }

    pub(crate) fn request_with(&mut self, command: u16, body: &[u8], fds: &[BorrowedFd<'_>]) -> Received {
        let id = self.id();
        self.send_with(&message(id, command, COMMAND, body), fds);
        self.reply(id, command)
    }

    /// Sends a command that wants no reply.
    pub(crate) fn post(&mut self, command: u16, body: &[u8]) {
        let id = self.id();
        self.send(&message(id, command, COMMAND | NO_REPLY, body));
    }

    /// The next message, which must be the reply to that command.
    pub(crate) fn reply(&mut self, id: u16, command: u16) -> Received {
        let received = self.receive().expect("the server has closed the connection");
        assert_eq!((received.id, received.command), (id, command), "{received:?}");
        assert_eq!(received.flags & 0xf, REPLY);
        received
    }

    /// The next message; None if the server has closed the connection.
    pub(crate) fn receive(&mut self) -> Option<Received> {
        let header = self.take(16)?;
        let field = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let (ids, size, flags, error) = (field(0).to_ne_bytes(), field(4), field(8), field(12));
        let body = self.take(size as usize - 16).expect("the body is missing");
        Some(Received {
            id: u16::from_ne_bytes([ids[0], ids[1]]),
            command: u16::from_ne_bytes([ids[2], ids[3]]),
            flags,
            error,
            body,
            fds: self.fds.drain(..).collect(),
        })
    }

    /// So many bytes, and the descriptors that come with them; None if the stream ends before the first.
    pub(crate) fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        let mut done = 0;
        while done < count {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut rest = [IoSliceMut::new(&mut bytes[done..])];
            let received = recvmsg(&self.socket, &mut rest, &mut control, RecvFlags::CMSG_CLOEXEC);
            match received.map(|received| received.bytes) {
                // Linux resets a connection that is closed with bytes unread.
                Ok(0) | Err(rustix::io::Errno::CONNRESET) if done == 0 => return None,
                Ok(0) => panic!("the stream ends after {done} of {count} bytes"),
                Ok(received) => done += received,
                Err(errno) => panic!("{errno}"),
            }
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    self.fds.extend(rights);
                }
            }
        }
        Some(bytes)
    }

    /// Sees the connection closed by the server.
    pub(crate) fn closed(mut self) {
        let more = self.receive();
        assert!(more.is_none(), "{more:?}");
    }

    pub(crate) fn read(&mut self, region: u32, offset: u64, count: u32) -> Vec<u8> {
        let body = self.request(REGION_READ, &access(offset, region, count)).ok();
        assert_eq!(body[..16], access(offset, region, count));
        assert_eq!(body.len(), 16 + count as usize);
        body[16..].to_vec()
    }

    pub(crate) fn write(&mut self, region: u32, offset: u64, data: &[u8]) {
        let body = self.request(REGION_WRITE, &write(offset, region, data)).ok();
        assert_eq!(body, access(offset, region, u32::try_from(data.len()).unwrap()));
    }

    /// Maps memory: of `file` from `offset` on, or by messages.
    pub(crate) fn map(
        &mut self,
        flags: u32,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<&OwnedFd>,
    ) -> Received {
        let fds: Vec<_> = file.map(AsFd::as_fd).into_iter().collect();
        self.request_with(DMA_MAP, &dma_map(flags, offset, address, size), &fds)
    }

    pub(crate) fn unmap(&mut self, address: u64, size: u64) -> Received {
        self.request(DMA_UNMAP, &dma_unmap(0, address, size))
    }

    /// The next message, which must be a DMA command of the server: its id, address and count, and the data.
    pub(crate) fn dma_command(&mut self, command: u16) -> (u16, u64, u64, Vec<u8>) {
        let received = self.receive().expect("the server has closed the connection");
        assert_eq!((received.command, received.flags, received.error), (command, COMMAND, 0), "{received:?}");
        (received.id, received.u64(0), received.u64(8), received.body[16..].to_vec())
    }

    /// Answers a DMA command.
    pub(crate) fn answer(&mut self, id: u16, command: u16, body: &[u8]) {
        self.send(&message(id, command, REPLY, body));
    }

    /// Sees that the server still answers, and in step.
    pub(crate) fn in_step(&mut self) {
        let body = self.request(GET_INFO, &u32s(&[16, 0, 0, 0])).ok();
        assert_eq!(body, u32s(&[16, 3, 9, 5]));
    }
}
