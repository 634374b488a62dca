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
pub(crate) const DMA_READ: u16 = 11;
pub(crate) const DMA_WRITE: u16 = 12;
pub(crate) const DEVICE_RESET: u16 = 13;

/// Flags of a header.
pub(crate) const NO_REPLY: u32 = 1 << 4;
pub(crate) const REPLY: u32 = 1;
pub(crate) const ERROR: u32 = 1 << 5;

pub(crate) const HEADER_BYTES: usize = 16;

pub(crate) struct RawClient {
    pub(crate) stream: UnixStream,
    next_id: u16,
    /// Memory that the server reaches by messages, and its guest address.
    pub(crate) memory: Option<(u64, Vec<u8>)>,
}

/// A message as it came: a reply, or a command of the server.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) id: u16,
    pub(crate) command: u16,
    pub(crate) flags: u32,
    pub(crate) error: u32,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn is_error(&self) -> bool {
        self.flags & ERROR != 0
    }

    /// Address and bytes of a DMA command.
    pub(crate) fn dma(&self) -> (u64, usize) {
        let field = |at: usize| u64::from_ne_bytes(self.body[at..at + 8].try_into().unwrap());
        (field(0), usize::try_from(field(8)).unwrap())
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

/// The body of REGION_WRITE.
pub(crate) fn region_write(region: u32, offset: u64, data: &[u8]) -> Vec<u8> {
    let mut body = region_access(region, offset, u32::try_from(data.len()).unwrap());
    body.extend(data);
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
        Self { stream: UnixStream::connect(path).unwrap(), next_id: 0, memory: None }
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends one command in one piece, descriptors with it. Returns its id.
    pub(crate) fn send(&mut self, command: u16, flags: u32, body: &[u8], fds: &[BorrowedFd<'_>]) -> u16 {
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
        self.next_id
    }

    /// Takes whatever comes next.
    pub(crate) fn receive(&mut self) -> Message {
        let mut head = [0; HEADER_BYTES];
        self.stream.read_exact(&mut head).unwrap();
        let half = |at: usize| u16::from_ne_bytes(head[at..at + 2].try_into().unwrap());
        let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap());
        let mut body = vec![0; usize::try_from(word(4)).unwrap() - HEADER_BYTES];
        self.stream.read_exact(&mut body).unwrap();
        Message { id: half(0), command: half(2), flags: word(8), error: word(12), body }
    }

    /// Takes the reply to command `id`, which must be the next one; does the DMA that the server asks for until then.
    pub(crate) fn reply(&mut self, id: u16) -> Message {
        loop {
            let message = self.receive();
            if message.flags & REPLY != 0 {
                assert_eq!(message.id, id, "a reply to something else");
                return message;
            }
            self.do_dma(&message);
        }
    }

    /// Does what a DMA command of the server asks for, and answers it.
    pub(crate) fn do_dma(&mut self, command: &Message) {
        let (address, count) = command.dma();
        let (start, memory) = self.memory.as_mut().expect("DMA by messages");
        let at = usize::try_from(address - *start).unwrap();
        let mut body = command.body[..16].to_vec();
        match command.command {
            DMA_READ => body.extend(&memory[at..at + count]),
            // QEMU answers with the header alone.
            DMA_WRITE => {
                memory[at..at + count].copy_from_slice(&command.body[16..]);
                body.clear();
            }
            other => panic!("command {other} from the server"),
        }
        self.answer(command, 0, 0, &body);
    }

    /// Answers a command of the server.
    pub(crate) fn answer(&mut self, command: &Message, flags: u32, error: u32, body: &[u8]) {
        let mut message = header(command.id, command.command, HEADER_BYTES + body.len(), REPLY | flags);
        message[12..].copy_from_slice(&error.to_ne_bytes());
        message.extend(body);
        self.send_bytes(&message);
    }

    pub(crate) fn call(&mut self, command: u16, body: &[u8], fds: &[BorrowedFd<'_>]) -> Message {
        let id = self.send(command, 0, body, fds);
        self.reply(id)
    }

    /// Negotiates the version, as every client does first.
    pub(crate) fn negotiate(&mut self) {
        let mut body = [0u16, 1].iter().flat_map(|field| field.to_ne_bytes()).collect::<Vec<_>>();
        body.extend(b"{\"capabilities\":{\"max_msg_fds\":16}}\0");
        assert!(!self.call(VERSION, &body, &[]).is_error());
    }

    pub(crate) fn read(&mut self, region: u32, offset: u64, count: u32) -> Message {
        self.call(REGION_READ, &region_access(region, offset, count), &[])
    }

    pub(crate) fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Message {
        self.call(REGION_WRITE, &region_write(region, offset, data), &[])
    }
}
