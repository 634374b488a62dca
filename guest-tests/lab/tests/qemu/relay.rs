//! Stands between QEMU and a server, passes every message on as it came, and keeps a copy.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use vfio_user_server::framing::{Framer, Message};
use vfio_user_server::header::Header;
use vfio_user_server::spec::{Command, SCM_MAX_FDS};

/// Longer than any message that is passed.
const LIMIT_BYTES: usize = 4 << 20;

/// Whose message it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Qemu,
    Server,
}

/// A message that went by.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) from: From,
    pub(crate) header: Header,
    pub(crate) body: Vec<u8>,
    pub(crate) fds: usize,
}

/// The relay. It takes one client.
pub(crate) struct Relay {
    socket: PathBuf,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Relay {
    /// One at a socket in `dir`, in front of the server at `server`.
    pub(crate) fn new(dir: &Path, server: &Path) -> Self {
        let socket = dir.join("relay");
        let listener = UnixListener::bind(&socket).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, server) = (seen.clone(), server.to_owned());
        std::thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            let server = UnixStream::connect(server).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| pass(From::Qemu, &client, &server, &log));
                scope.spawn(|| pass(From::Server, &server, &client, &log));
            });
        });
        Self { socket, seen }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The messages so far of one side and one command.
    pub(crate) fn seen(&self, from: From, command: Command) -> Vec<Seen> {
        let of = |seen: &&Seen| seen.from == from && seen.header.command == command.number();
        self.seen.lock().unwrap().iter().filter(of).cloned().collect()
    }

    /// Names of QEMU's commands so far, in order.
    pub(crate) fn commands(&self) -> Vec<&'static str> {
        let all = self.seen.lock().unwrap();
        all.iter()
            .filter(|seen| seen.from == From::Qemu && seen.header.is_command())
            .map(|seen| seen.header.command_name())
            .collect()
    }
}

fn pass(from: From, source: &UnixStream, sink: &UnixStream, log: &Mutex<Vec<Seen>>) {
    let mut framer = Framer::new(LIMIT_BYTES);
    let mut message = Message::default();
    while let Some((bytes, fds)) = receive(source, framer.space()) {
        framer.received(bytes, fds, false);
        while framer.take(&mut message).unwrap() {
            let (header, body, fds) = (message.header, message.body.clone(), message.fds.len());
            // Before it arrives, so that whoever sees its effect finds it here.
            log.lock().unwrap().push(Seen { from, header, body, fds });
            if !send(sink, &message) {
                break;
            }
        }
    }
    let _ = sink.shutdown(Shutdown::Both);
    let _ = source.shutdown(Shutdown::Both);
}

/// None at the end of the stream.
fn receive(source: &UnixStream, space: &mut [u8]) -> Option<(usize, Vec<OwnedFd>)> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(source, &mut [IoSliceMut::new(space)], &mut control, RecvFlags::CMSG_CLOEXEC)
    });
    let received = received.ok().filter(|received| received.bytes != 0)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Some((received.bytes, fds))
}

/// False if nobody takes it any more.
fn send(sink: &UnixStream, message: &Message) -> bool {
    let bytes = [&message.header.encode()[..], &message.body].concat();
    let fds: Vec<BorrowedFd<'_>> = message.fds.iter().map(AsFd::as_fd).collect();
    let mut at = 0;
    while at < bytes.len() {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if at == 0 && !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        }
        match sendmsg(sink, &[IoSlice::new(&bytes[at..])], &mut control, SendFlags::NOSIGNAL) {
            Ok(count) => at += count,
            Err(_) => return false,
        }
    }
    true
}
