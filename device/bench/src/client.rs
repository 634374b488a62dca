//! The client that all servers are measured with: one send and one receive a request, on a plain socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use vfio_user_server::header::Header;
use vfio_user_server::spec::{
    Command, FLAG_NO_REPLY, HEADER_BYTES, TYPE_COMMAND, VERSION_MAJOR, VERSION_MINOR,
};
use vfio_user_server::version::{Capabilities, Proposal};

use crate::device::{BAR0, READ_REGISTER};
use crate::servers::ServerKind;
use crate::statistics::nanoseconds;

/// REGION_READ, and the reply with 4 bytes.
pub(crate) const READ_BYTES: usize = HEADER_BYTES + 16;
pub(crate) const READ_REPLY_BYTES: usize = READ_BYTES + 4;

/// The register that posted writes go to.
const WRITE_REGISTER: u64 = 0x10;

/// How an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// In the kernel, which wakes whoever waits.
    Asleep,
    /// By trying again and again.
    Awake,
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Client {
    socket: UnixStream,
    waits: Waits,
}

impl Client {
    /// Connects, and agrees on a version with a server that speaks the protocol.
    pub(crate) fn connect(path: &Path, kind: ServerKind) -> Result<Self> {
        let socket = UnixStream::connect(path).context("connect")?;
        let client = Self { socket, waits: Waits::Asleep };
        if kind.is_vfio_user() {
            client.negotiate().context("VERSION")?;
        }
        Ok(client)
    }

    /// The same, waiting as is said here from now on.
    pub(crate) fn waiting(self, waits: Waits) -> Self {
        Self { waits, ..self }
    }

    fn negotiate(&self) -> Result<()> {
        let capabilities = Capabilities {
            max_msg_fds: Some(1),
            max_data_xfer_size: Some(1 << 20),
            ..Capabilities::default()
        };
        let proposal =
            Proposal { major: VERSION_MAJOR, minor: VERSION_MINOR, capabilities: Some(capabilities) };
        self.send(&message(Command::Version, 0, &proposal.encode()))?;
        let mut header = [0; HEADER_BYTES];
        self.receive(&mut header)?;
        let header = Header::decode(header);
        let body = usize::try_from(header.message_bytes)?.saturating_sub(HEADER_BYTES);
        self.receive(&mut vec![0; body.min(4096)])?;
        check(&header)
    }

    /// Reads 4 bytes from BAR 0, `count` times. Puts how long each took into `times_ns`.
    pub(crate) fn reads(&self, count: u32, times_ns: &mut Vec<u64>) -> Result<Duration> {
        let request = read_request();
        let mut reply = [0; READ_REPLY_BYTES];
        times_ns.reserve(usize::try_from(count)?);
        let began = Instant::now();
        let mut last = began;
        for _ in 0..count {
            self.send(&request)?;
            self.receive(&mut reply)?;
            // One look at the clock a request: each begins when the one before it ends.
            let now = Instant::now();
            times_ns.push(nanoseconds(now.duration_since(last)));
            last = now;
        }
        if count != 0 {
            check(&Header::decode(*reply.first_chunk().context("reply")?))?;
        }
        Ok(last.duration_since(began))
    }

    /// Writes 4 bytes to BAR 0, `count` times, wanting no reply; then reads, so that all of them are done at the end.
    pub(crate) fn posted_writes(&self, count: u32) -> Result<Duration> {
        let access = region_access(WRITE_REGISTER, 4);
        let write = message(Command::RegionWrite, FLAG_NO_REPLY, &[&access[..], &[0x5a; 4]].concat());
        let (read, mut reply) = (read_request(), [0; READ_REPLY_BYTES]);
        let began = Instant::now();
        for _ in 0..count {
            self.send(&write)?;
        }
        self.send(&read)?;
        self.receive(&mut reply)?;
        let took = began.elapsed();
        check(&Header::decode(*reply.first_chunk().context("reply")?))?;
        Ok(took)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = retry_on_intr(|| send(&self.socket, bytes, SendFlags::NOSIGNAL))?;
        // A blocking Unix socket takes a message of this size whole.
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Receives until `bytes` is full: with one call that brings something, unless the server sends a reply in pieces.
    fn receive(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut rest = bytes;
        let flags = match self.waits {
            Waits::Asleep => RecvFlags::empty(),
            Waits::Awake => RecvFlags::DONTWAIT,
        };
        while !rest.is_empty() {
            let (count, _) = match recv(&self.socket, &mut *rest, flags) {
                Err(Errno::AGAIN | Errno::INTR) => continue,
                received => received?,
            };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            rest = rest.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }
}

/// REGION_READ of 4 bytes of BAR 0.
fn read_request() -> Vec<u8> {
    message(Command::RegionRead, 0, &region_access(READ_REGISTER, 4))
}

/// A whole message.
fn message(command: Command, flags: u32, body: &[u8]) -> Vec<u8> {
    let header = Header {
        id: 1,
        command: command.number(),
        message_bytes: u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX),
        flags: TYPE_COMMAND | flags,
        error: 0,
    };
    [&header.encode()[..], body].concat()
}

/// What a region access begins with.
fn region_access(offset: u64, count: u32) -> Vec<u8> {
    [&offset.to_ne_bytes()[..], &BAR0.to_ne_bytes(), &count.to_ne_bytes()].concat()
}

fn check(reply: &Header) -> Result<()> {
    match reply.errno() {
        _ if !reply.is_reply() => bail!("the server sent what is no reply: {reply:?}"),
        Some(errno) => bail!("the server refused: {errno}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn answer_in_pieces_is_received_whole_and_the_end_is_an_error_however_it_is_waited_for() {
        for waits in [Waits::Asleep, Waits::Awake] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let client = Client { socket: ours, waits };
            let sender = std::thread::spawn(move || {
                for byte in 0..36 {
                    theirs.write_all(&[byte]).unwrap();
                }
            });
            let mut reply = [0; READ_REPLY_BYTES];
            client.receive(&mut reply).unwrap();
            assert!(reply.into_iter().eq(0..36));
            sender.join().unwrap();
            let end = client.receive(&mut reply).unwrap_err();
            assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn read_has_32_bytes_and_its_reply_36() {
        assert_eq!((read_request().len(), READ_BYTES, READ_REPLY_BYTES), (32, 32, 36));
    }
}
