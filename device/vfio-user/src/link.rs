//! One connection's socket: receives with read-ahead, sends in one piece, and lets several threads wait for messages.
//!
//! The thread that serves waits for commands. A thread that does DMA by messages, which may be the same one, waits for
//! the reply to its own command. Whoever waits when nobody reads becomes the reader; it hands on what is not its own:
//! commands to a queue, replies to whoever waits for them.

use std::collections::{BTreeMap, VecDeque};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, send, sendmsg,
};
use thiserror::Error;

use crate::framing::{Framer, Message, Unframed};
use crate::header::Refusal;
use crate::memory::{DmaError, Port};
use crate::polling::Poller;
use crate::reply::Reply;
use crate::spec::{Command, SCM_MAX_FDS};

/// Commands that may wait while a reply is waited for, and their bytes. A client that sends more is not read from until
/// they are answered.
const MOST_QUEUED: usize = 16 * 1024;
const MOST_QUEUED_BYTES: usize = 4 << 20;

/// Bytes of a DMA message's body before its data: address and count.
const DMA_FIXED_BYTES: usize = 16;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Ended {
    /// The client closed it, between two messages.
    #[error("the client has left")]
    ClientLeft,
    /// The client closed it in the middle of a message.
    #[error("the client has left in the middle of a message, after {0} bytes of it")]
    MidMessage(usize),
    /// The client sent what no message can be.
    #[error("{0}")]
    Unframed(#[from] Unframed),
    /// No version could be agreed on.
    #[error("no version was agreed on: {0}")]
    Version(Refusal),
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Socket(Errno),
    /// The server was told to stop.
    #[error("the server was stopped")]
    Stopped,
    /// A fault at the wire closed it.
    #[error("a fault at the wire closed the connection")]
    Fault,
}

/// Calls of the kernel that a connection took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calls {
    /// Receives that brought something.
    pub receives: u64,
    /// Receives that were tried and brought nothing: polling.
    pub empty_receives: u64,
    /// Sends.
    pub sends: u64,
    /// DMA_READ and DMA_WRITE that were sent.
    pub dma_messages: u64,
}

#[derive(Debug)]
struct Receiver {
    framer: Framer,
    poller: Poller,
}

#[derive(Debug, Default)]
struct Traffic {
    requests: VecDeque<Message>,
    queued_bytes: usize,
    /// Commands that were sent and whose reply is waited for, by id; the reply once it is there.
    awaited: BTreeMap<u16, Option<Message>>,
    /// Somebody reads from the socket.
    reading: bool,
    /// How many wait for whoever that is.
    waiting: u32,
    ended: Option<Ended>,
    next_id: u16,
}

#[derive(Debug)]
pub(crate) struct Link {
    socket: Arc<UnixStream>,
    traffic: Mutex<Traffic>,
    arrived: Condvar,
    /// Held by whoever reads, and by nobody else.
    receiver: Mutex<Receiver>,
    /// Held while something is sent, so that two messages do not mix; the command that is sent is made in it.
    outbox: Mutex<Reply>,
    /// Data in one DMA message, in bytes.
    dma_bytes: AtomicUsize,
    dma_timeout: Duration,
    receives: AtomicU64,
    empty_receives: AtomicU64,
    sends: AtomicU64,
    dma_messages: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// A connection over `socket` whose messages have at most `limit` bytes.
    pub(crate) fn new(
        socket: Arc<UnixStream>,
        limit: usize,
        window: Duration,
        dma_timeout: Duration,
    ) -> Self {
        Self {
            socket,
            traffic: Mutex::default(),
            arrived: Condvar::new(),
            receiver: Mutex::new(Receiver { framer: Framer::new(limit), poller: Poller::new(window) }),
            outbox: Mutex::default(),
            dma_bytes: AtomicUsize::new(0),
            dma_timeout,
            receives: AtomicU64::new(0),
            empty_receives: AtomicU64::new(0),
            sends: AtomicU64::new(0),
            dma_messages: AtomicU64::new(0),
        }
    }

    /// Says how much data a DMA message may have.
    pub(crate) fn set_dma_bytes(&self, bytes: u32) {
        self.dma_bytes.store(usize::try_from(bytes).unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    pub(crate) fn calls(&self) -> Calls {
        Calls {
            receives: self.receives.load(Ordering::Relaxed),
            empty_receives: self.empty_receives.load(Ordering::Relaxed),
            sends: self.sends.load(Ordering::Relaxed),
            dma_messages: self.dma_messages.load(Ordering::Relaxed),
        }
    }

    /// Ends the connection: whoever waits on it is told.
    pub(crate) fn end(&self, why: Ended) {
        lock(&self.traffic).ended.get_or_insert(why);
        self.arrived.notify_all();
        // The client sees the end at once, whoever else still holds the socket.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }

    /// Waits for the next command, in the order in which they came.
    pub(crate) fn next_request(&self, message: &mut Message) -> Result<(), Ended> {
        let mut traffic = lock(&self.traffic);
        loop {
            if let Some(request) = traffic.requests.pop_front() {
                traffic.queued_bytes -= request.body.len();
                *message = request;
                return Ok(());
            }
            if let Some(ended) = &traffic.ended {
                return Err(ended.clone());
            }
            if traffic.reading {
                traffic = self.wait(traffic, None);
                continue;
            }
            traffic.reading = true;
            drop(traffic);
            let received = self.receive(message, None);
            traffic = self.end_reading();
            match received {
                // Nobody else reads, so nothing was queued meanwhile: this one is the next. A reply that nobody
                // waits for is the session's to complain about.
                Ok(_) if message.header.is_reply() => match traffic.awaited.get_mut(&message.header.id) {
                    Some(awaited @ None) => *awaited = Some(std::mem::take(message)),
                    _ => return Ok(()),
                },
                Ok(_) => return Ok(()),
                Err(ended) => drop(traffic.ended.get_or_insert(ended)),
            }
        }
    }

    /// Sends a reply in one piece; nothing if it is empty.
    pub(crate) fn send(&self, reply: &Reply) -> Result<(), Ended> {
        if reply.bytes().is_empty() {
            return Ok(());
        }
        let _turn = lock(&self.outbox);
        self.send_now(reply)
    }

    fn send_now(&self, message: &Reply) -> Result<(), Ended> {
        let mut rest = message.bytes();
        let mut fds: Vec<BorrowedFd<'_>> = message.fds().iter().map(|fd| fd.as_fd()).collect();
        while !rest.is_empty() {
            self.sends.fetch_add(1, Ordering::Relaxed);
            let sent = if fds.is_empty() {
                retry_on_intr(|| send(&self.socket, rest, SendFlags::NOSIGNAL))
            } else {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FDS))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
                    return Err(Ended::Socket(Errno::TOOBIG));
                }
                retry_on_intr(|| {
                    sendmsg(&self.socket, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL)
                })
            };
            match sent {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(Ended::ClientLeft),
                Err(errno) => return Err(Ended::Socket(errno)),
            }
            fds.clear();
        }
        Ok(())
    }

    /// Sends one DMA command and waits for its reply.
    fn dma(&self, command: Command, address: u64, count: usize, data: &[u8]) -> Result<Message, DmaError> {
        let id = {
            let mut traffic = lock(&self.traffic);
            while traffic.awaited.contains_key(&traffic.next_id) {
                traffic.next_id = traffic.next_id.wrapping_add(1);
            }
            let id = traffic.next_id;
            traffic.next_id = id.wrapping_add(1);
            traffic.awaited.insert(id, None);
            id
        };
        self.dma_messages.fetch_add(1, Ordering::Relaxed);
        let deadline = Instant::now() + self.dma_timeout;
        let sent = {
            let mut outbox = lock(&self.outbox);
            outbox.begin_command(id, command.number());
            outbox.u64(address);
            outbox.u64(count as u64);
            outbox.put(data);
            outbox.finish();
            self.send_now(&outbox)
        };
        let reply = match sent {
            Ok(()) => self.await_reply(id, deadline),
            Err(_) => Err(DmaError::Gone),
        };
        lock(&self.traffic).awaited.remove(&id);
        let reply = reply?;
        let wrong = reply.damage.is_some() || reply.header.command != command.number();
        match reply.header.errno() {
            Some(errno) => Err(DmaError::Refused(errno)),
            None if wrong => Err(DmaError::Refused(Errno::PROTO)),
            None => Ok(reply),
        }
    }

    fn await_reply(&self, id: u16, deadline: Instant) -> Result<Message, DmaError> {
        let mut traffic = lock(&self.traffic);
        loop {
            if let Some(reply) = traffic.awaited.get_mut(&id).and_then(Option::take) {
                return Ok(reply);
            }
            if traffic.ended.is_some() {
                return Err(DmaError::Gone);
            }
            if Instant::now() >= deadline {
                let queued = traffic.requests.len();
                tracing::warn!(id, queued, "the client did not answer a DMA message in time");
                return Err(DmaError::TimedOut);
            }
            let full = traffic.requests.len() >= MOST_QUEUED || traffic.queued_bytes >= MOST_QUEUED_BYTES;
            if traffic.reading || full {
                traffic = self.wait(traffic, Some(deadline));
                continue;
            }
            traffic.reading = true;
            drop(traffic);
            let mut message = Message::default();
            let received = self.receive(&mut message, Some(deadline));
            traffic = self.end_reading();
            match received {
                Ok(false) => {}
                Ok(true) => match traffic.awaited.get_mut(&message.header.id) {
                    Some(awaited @ None) if message.header.is_reply() => *awaited = Some(message),
                    _ => {
                        traffic.queued_bytes += message.body.len();
                        traffic.requests.push_back(message);
                    }
                },
                Err(ended) => drop(traffic.ended.get_or_insert(ended)),
            }
        }
    }

    /// Waits until whoever reads has something new.
    fn wait<'a>(
        &self,
        mut traffic: MutexGuard<'a, Traffic>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, Traffic> {
        traffic.waiting += 1;
        traffic = match until {
            None => self.arrived.wait(traffic).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                self.arrived.wait_timeout(traffic, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        traffic.waiting -= 1;
        traffic
    }

    /// The reader is done; whoever waits looks at what it leaves behind once the guard is dropped.
    fn end_reading(&self) -> MutexGuard<'_, Traffic> {
        let mut traffic = lock(&self.traffic);
        traffic.reading = false;
        if traffic.waiting != 0 {
            self.arrived.notify_all();
        }
        traffic
    }

    /// Receives one whole message. False if there is none by `until`.
    fn receive(&self, message: &mut Message, until: Option<Instant>) -> Result<bool, Ended> {
        let mut receiver = lock(&self.receiver);
        loop {
            if receiver.framer.take(message)? {
                return Ok(true);
            }
            if !self.fill(&mut receiver, until)? {
                return Ok(false);
            }
        }
    }

    /// Receives some bytes. False if there are none by `until`.
    fn fill(&self, receiver: &mut Receiver, until: Option<Instant>) -> Result<bool, Ended> {
        receiver.poller.begin();
        while receiver.poller.go_on() {
            if self.fill_now(&mut receiver.framer, RecvFlags::DONTWAIT)? {
                receiver.poller.hit();
                return Ok(true);
            }
            std::hint::spin_loop();
        }
        loop {
            let Some(until) = until else {
                if self.fill_now(&mut receiver.framer, RecvFlags::empty())? {
                    return Ok(true);
                }
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&left)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Ended::Socket(errno)),
            }
            if self.fill_now(&mut receiver.framer, RecvFlags::DONTWAIT)? {
                return Ok(true);
            }
        }
    }

    /// One receive. False if it would have to wait, or was interrupted.
    fn fill_now(&self, framer: &mut Framer, flags: RecvFlags) -> Result<bool, Ended> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [IoSliceMut::new(framer.space())];
        let received = match recvmsg(&self.socket, &mut bytes, &mut control, flags | RecvFlags::CMSG_CLOEXEC)
        {
            Ok(received) => received,
            Err(Errno::AGAIN | Errno::INTR) => {
                self.empty_receives.fetch_add(1, Ordering::Relaxed);
                return Ok(false);
            }
            Err(Errno::CONNRESET | Errno::PIPE) => return Err(left(framer)),
            Err(errno) => return Err(Ended::Socket(errno)),
        };
        if received.bytes == 0 {
            return Err(left(framer));
        }
        self.receives.fetch_add(1, Ordering::Relaxed);
        let mut fds: Vec<OwnedFd> = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        framer.received(received.bytes, fds, received.flags.contains(ReturnFlags::CTRUNC));
        Ok(true)
    }
}

/// How a client has left that closed its end.
fn left(framer: &Framer) -> Ended {
    match framer.pending_bytes() {
        0 => Ended::ClientLeft,
        bytes => Ended::MidMessage(bytes),
    }
}

impl Port for Link {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        let most = self.dma_bytes.load(Ordering::Relaxed).max(1);
        let mut address = address;
        for part in data.chunks_mut(most) {
            let reply = self.dma(Command::DmaRead, address, part.len(), &[])?;
            let is = reply.body.get(DMA_FIXED_BYTES..).filter(|is| is.len() == part.len());
            part.copy_from_slice(is.ok_or(DmaError::Refused(Errno::PROTO))?);
            address = address.wrapping_add(part.len() as u64);
        }
        Ok(())
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        let most = self.dma_bytes.load(Ordering::Relaxed).max(1);
        let mut address = address;
        for part in data.chunks(most) {
            // The reply's body only repeats the question.
            self.dma(Command::DmaWrite, address, part.len(), part)?;
            address = address.wrapping_add(part.len() as u64);
        }
        Ok(())
    }
}
