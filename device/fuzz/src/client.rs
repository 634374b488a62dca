//! A scripted client of a whole server, over its socket; and what it makes of the answers.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, recv, sendmsg, shutdown,
};
use vfio_user_server::spec::Command;
use vfio_user_server::{Ended, Visit};

use crate::device::{SIGNATURE, SIGNATURE_BYTES, signature};
use crate::script::{Answer, Leave, Script, Step};
use crate::stream::{End, Stream};
use crate::{files, limits, wire};

/// How many DMA messages of a script may go without an answer: each takes the server's whole patience.
const MOST_UNANSWERED: usize = 2;

/// The server's messages, held against what it owes.
#[derive(Debug, Default)]
pub struct Answers {
    /// What was received and is not a whole message yet.
    bytes: Vec<u8>,
    /// How many answers came.
    count: usize,
    /// The last answer was an error.
    last_failed: bool,
    /// The server's commands that came: id, command, address, count.
    commands: Vec<(u16, u16, u64, u64)>,
}

impl Answers {
    /// More bytes from the server, which has seen no more than `sent`.
    ///
    /// # Panics
    /// They are not what is owed.
    pub fn extend(&mut self, bytes: &[u8], sent: &Stream) {
        self.bytes.extend_from_slice(bytes);
        while let Some((header, _)) = self.bytes.split_first_chunk::<16>() {
            let header = vfio_user_server::header::Header::decode(*header);
            let length = header.message_bytes as usize;
            assert!((16..=limits().message_bytes()).contains(&length), "a message of {length} bytes");
            if self.bytes.len() < length {
                return;
            }
            let message: Vec<u8> = self.bytes.drain(..length).collect();
            let body = &message[16..];
            if header.is_command() {
                self.commands.push(dma(&header, body));
                continue;
            }
            assert!(header.is_reply(), "flags {:#x}", header.flags);
            let owed = sent.owed().get(self.count);
            assert_eq!(
                owed,
                Some(&(header.id, header.command)),
                "answer {} to {:?}",
                self.count,
                sent.owed()
            );
            self.count += 1;
            self.last_failed = header.flags & 0x20 != 0;
            if self.last_failed {
                assert_eq!(header.flags, 0x21);
                assert!(header.error != 0 && header.error < 4096, "errno {}", header.error);
                assert!(body.is_empty(), "an error with {} bytes", body.len());
                continue;
            }
            assert_eq!((header.flags, header.error), (1, 0));
            let request = sent.sent().iter().filter(|sent| sent.is_owed()).nth(self.count - 1);
            let request = request.expect("an owed answer has a request");
            let length = request.end - request.start;
            assert!(length <= limits().message_bytes(), "a message of {length} bytes was not refused");
            check_body(header.command, sent.body(request), body);
        }
    }

    /// Every answer came that is owed.
    ///
    /// # Panics
    /// One did not.
    pub fn check_all(&self, sent: &Stream) {
        assert_eq!(self.count, sent.owed().len(), "answers of {:?}", sent.owed());
        assert!(self.bytes.is_empty(), "half an answer: {:?}", self.bytes);
    }

    /// The server closed because of a VERSION. `handled` says after how many messages, if that is known.
    ///
    /// # Panics
    /// It had no reason to.
    pub fn check_closed_by_version(&self, sent: &Stream, handled: usize) {
        let version =
            sent.sent()[..handled].iter().rposition(|sent| sent.command == Command::Version.number());
        assert_eq!(version, Some(handled - 1), "closed for something else than a VERSION");
        let owed = sent.sent()[..handled].iter().filter(|sent| sent.is_owed()).count();
        assert_eq!(self.count, owed);
        assert!(self.bytes.is_empty());
        assert!(
            !sent.sent()[handled - 1].is_owed() || self.last_failed,
            "closed after a VERSION that was good"
        );
    }
}

/// A DMA command of the server's, which is the only kind that it may send.
fn dma(header: &vfio_user_server::header::Header, body: &[u8]) -> (u16, u16, u64, u64) {
    let u64_at = |at: usize| body.get(at..at + 8).map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap()));
    let (Some(address), Some(count)) = (u64_at(0), u64_at(8)) else {
        panic!("a DMA message of {} bytes", body.len())
    };
    assert_eq!((header.flags, header.error), (0, 0));
    assert!(count != 0 && count <= u64::from(limits().max_data_xfer_bytes));
    let data = body.len() as u64 - 16;
    match Command::from_number(header.command) {
        Some(Command::DmaRead) => assert_eq!(data, 0),
        Some(Command::DmaWrite) => assert_eq!(data, count),
        other => panic!("the server sent {other:?}"),
    }
    (header.id, header.command, address, count)
}

/// An answer without error, against its request.
fn check_body(command: u16, request: &[u8], body: &[u8]) {
    match Command::from_number(command) {
        Some(Command::RegionRead) => {
            assert_eq!(body[..16], request[..16], "the access is echoed");
            let u32_at = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
            let (region, count) = (u32_at(8), u32_at(12) as usize);
            let offset = u64::from_ne_bytes(request[..8].try_into().unwrap());
            assert_eq!(body.len(), 16 + count);
            if region == SIGNATURE {
                assert!(offset + count as u64 <= SIGNATURE_BYTES);
                assert!((offset..).zip(&body[16..]).all(|(at, byte)| *byte == signature(at)), "wrong bytes");
            }
        }
        Some(Command::RegionWrite) => assert_eq!(body, &request[..16], "the access is echoed"),
        Some(Command::RegionWriteMulti) => {
            let [done, announced] =
                [body, &request[..8]].map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap()));
            assert!(done <= announced, "{done} of {announced} writes are done");
        }
        Some(Command::DmaUnmap) => assert_eq!(body.len(), 24),
        Some(Command::DeviceGetInfo | Command::DeviceGetIrqInfo) => assert_eq!(body.len(), 16),
        Some(Command::DmaMap | Command::DeviceSetIrqs | Command::DeviceReset) => assert!(body.is_empty()),
        Some(Command::Version | Command::DeviceGetRegionInfo | Command::DeviceGetRegionIoFds) => {
            assert!(body.len() >= 4);
        }
        other => panic!("{other:?} was answered without an error"),
    }
}

/// One client's connection.
struct Client<'a> {
    socket: UnixStream,
    script: &'a Script,
    sent: Stream,
    answers: Answers,
    /// Commands of the server's that were treated.
    treated: usize,
    unanswered: usize,
    late: Vec<u8>,
    /// The server closed.
    closed: bool,
}

impl Client<'_> {
    /// Sends a piece, and reads what comes meanwhile if there is no room: so neither waits for the other.
    fn send(&mut self, bytes: &[u8], fds: &[u8]) {
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|kind| files::of_kind(*kind)).collect();
        let mut fds = &fds[..];
        let mut rest = bytes;
        while !rest.is_empty() && !self.closed {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() {
                assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(&self.socket, &[IoSlice::new(rest)], &mut control, flags) {
                Ok(count) => {
                    self.sent.extend(&rest[..count]);
                    (rest, fds) = (&rest[count..], &[]);
                }
                Err(Errno::AGAIN) => {
                    self.wait_for(PollFlags::IN | PollFlags::OUT);
                    self.read(RecvFlags::DONTWAIT);
                }
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    // What came before is still to be read.
                    while !self.closed {
                        self.read(RecvFlags::empty());
                    }
                }
                Err(error) => panic!("send: {error}"),
            }
        }
    }

    fn wait_for(&self, flags: PollFlags) {
        poll(&mut [PollFd::new(&self.socket, flags)], None).expect("poll");
    }

    /// Reads what is there. Descriptors that come are closed by the kernel: no room is offered for them.
    fn read(&mut self, flags: RecvFlags) {
        let mut space = [0; 4096];
        match recv(&self.socket, &mut space, flags) {
            // Not ECONNRESET, whatever the server has not read: QEMU aborts at that.
            Ok((0, _)) => self.closed = true,
            Ok((count, _)) => self.answers.extend(&space[..count], &self.sent),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => panic!("receive: {error}"),
        }
    }

    /// Treats the server's commands that came as the script says.
    fn treat(&mut self) {
        while let Some(&(id, command, _, count)) = self.answers.commands.get(self.treated) {
            let mut answer = self.script.answers.get(self.treated).copied().unwrap_or(Answer::Right);
            self.treated += 1;
            if matches!(answer, Answer::Late | Answer::Never | Answer::OtherId(_) | Answer::Flags(_)) {
                self.unanswered += 1;
                if self.unanswered > MOST_UNANSWERED {
                    answer = Answer::Right;
                }
            }
            let mut body = count.to_ne_bytes().to_vec();
            body.extend(count.to_ne_bytes());
            if command == Command::DmaRead.number() {
                body.resize(16 + count as usize, 0x5a);
            }
            let right = wire::reply(id, command, None, &body);
            let bytes = match answer {
                Answer::Right => right,
                Answer::Bare => wire::reply(id, command, None, &[]),
                Answer::Error(errno) => wire::reply(id, command, Some(errno), &[]),
                Answer::Length(by) => {
                    body.resize(body.len().saturating_add_signed(by.into()), 0);
                    wire::reply(id, command, None, &body)
                }
                Answer::OtherCommand(other) => wire::reply(id, other.into(), None, &body),
                Answer::OtherId(other) => {
                    [wire::reply(other, command, None, &body), if other & 1 == 0 { right } else { vec![] }]
                        .concat()
                }
                Answer::Twice => [&right[..], &right].concat(),
                Answer::Late => {
                    self.late.extend(right);
                    continue;
                }
                Answer::Never => continue,
                Answer::AfterRequest => [read_signature(id), right].concat(),
                Answer::InTwo(at) => {
                    let (first, second) = right.split_at(usize::from(at).min(right.len()));
                    self.send(first, &[]);
                    second.to_vec()
                }
                Answer::Flags(flags) => wire::message(id, command, u32::from(flags) | 0x2, 0, &body),
            };
            self.send(&bytes, &[]);
        }
    }

    /// Reads until every answer came that is owed, or the server closed.
    fn wait(&mut self) {
        self.treat();
        while !self.closed && self.answers.count < self.sent.owed().len() {
            self.read(RecvFlags::empty());
            self.treat();
        }
    }
}

/// A read of the signature, whatever the state of the device.
fn read_signature(id: u16) -> Vec<u8> {
    let access =
        vfio_user_server::request::RegionAccess { offset: u64::from(id), region: SIGNATURE, count: 4 };
    let (command, body) = wire::encode(&vfio_user_server::request::Request::RegionRead(access));
    wire::message(id, command.number(), 0, 0, &body)
}

/// Plays a script to the server at `path`; `visit` waits for what that makes of it.
///
/// # Panics
/// The server did what it must not.
pub fn play(script: &Script, path: &Path, visit: impl FnOnce() -> Visit) {
    let socket = UnixStream::connect(path).expect("the server listens");
    let mut client = Client {
        socket,
        script,
        sent: Stream::default(),
        answers: Answers::default(),
        treated: 0,
        unanswered: 0,
        late: Vec::new(),
        closed: false,
    };
    for step in &script.steps {
        match step {
            Step::Send(piece) => client.send(&piece.bytes, &piece.fds),
            Step::Wait => client.wait(),
            Step::Resize(pages) => files::resize(*pages),
        }
        let late = std::mem::take(&mut client.late);
        client.send(&late, &[]);
        client.read(RecvFlags::DONTWAIT);
        client.treat();
    }
    if script.leave == Leave::AtOnce {
        drop(client);
        let visit = visit();
        assert!(
            !matches!(visit.ended, Ended::Stopped | Ended::Fault | Ended::Socket(_)),
            "{:?}",
            visit.ended
        );
        return;
    }
    client.wait();
    // In step, or closed: a well-formed request is answered, and rightly.
    if client.sent.end() == End::Partial(0) {
        let id = client.sent.sent().len() as u16;
        client.send(&read_signature(id), &[]);
        client.wait();
    }
    let _ = shutdown(&client.socket, Shutdown::Write);
    while !client.closed {
        client.read(RecvFlags::empty());
        client.treat_no_more();
    }
    client.check(&visit());
}

impl Client<'_> {
    /// The client has said that it sends no more: the server's commands stay without an answer.
    fn treat_no_more(&mut self) {
        self.treated = self.answers.commands.len();
    }

    fn check(&self, visit: &Visit) {
        let (sent, answers) = (&self.sent, &self.answers);
        match &visit.ended {
            Ended::ClientLeft => {
                assert_eq!(sent.end(), End::Partial(0));
                answers.check_all(sent);
            }
            Ended::MidMessage(bytes) => {
                assert_eq!(sent.end(), End::Partial(*bytes));
                answers.check_all(sent);
            }
            Ended::Unframed(vfio_user_server::framing::Unframed::Short(bytes)) => {
                assert_eq!(sent.end(), End::Short(*bytes));
                answers.check_all(sent);
            }
            Ended::Unframed(vfio_user_server::framing::Unframed::Descriptors) => {
                assert!(self.script.fds() > 253, "ended for {} descriptors", self.script.fds());
            }
            Ended::Version(_) => answers.check_closed_by_version(sent, visit.counters.messages as usize),
            other => panic!("ended: {other}"),
        }
        assert!(visit.counters.messages as usize <= sent.sent().len());
        assert_eq!(visit.turned_away, 0);
    }
}
