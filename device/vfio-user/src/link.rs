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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
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

/// Commands that may wait while a reply is waited for, and their bytes. With more the wait ends.
const MOST_QUEUED: usize = 16 * 1024;
const MOST_QUEUED_BYTES: usize = 4 << 20;
/// Bytes that a queued descriptor counts for.
const FD_WEIGHT_BYTES: usize = 64 << 10;

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
    /// The client did not read what was sent to it.
    #[error("the client does not read what is sent to it")]
    NotReading,
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

/// The receiving side of the socket, owned by whoever reads from it.
#[derive(Debug)]
struct Receiver {
    framer: Framer,
    poller: Poller,
    receives: u64,
    empty_receives: u64,
}

/// The sending side of the socket.
#[derive(Debug, Default)]
struct Sender {
    /// The command that is being sent is made here.
    command: Reply,
    sends: u64,
    dma_messages: u64,
}

#[derive(Debug)]
struct Traffic {
    /// None while somebody reads from the socket.
    receiver: Option<Box<Receiver>>,
    requests: VecDeque<Message>,
    queued_bytes: usize,
    /// Commands that were sent and whose reply is waited for, by id; the reply once it is there.
    awaited: BTreeMap<u16, Option<Message>>,
    /// How many wait for whoever reads.
    waiting: u32,
    ended: Option<Ended>,
    next_id: u16,
}

#[derive(Debug)]
pub(crate) struct Link {
    socket: Arc<UnixStream>,
    traffic: Mutex<Traffic>,
    arrived: Condvar,
    /// Held while something is sent, so that two messages do not mix.
    sender: Mutex<Sender>,
    /// Data in one DMA message, in bytes.
    dma_bytes: AtomicUsize,
    dma_timeout: Duration,
}

/// The moment `delay` from now. See [`later`].
pub(crate) fn after(delay: Duration) -> Instant {
    later(Instant::now(), delay)
}

/// The moment `delay` after `now`; one that is too far to have a name is a moment that nobody lives to see.
pub(crate) fn later(now: Instant, delay: Duration) -> Instant {
    now.checked_add(delay).unwrap_or_else(|| now + Duration::from_secs(1 << 31))
}

/// `left` as `poll` takes it; what does not fit is longer than anybody waits.
pub(crate) fn timeout(left: Duration) -> Timespec {
    Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
}

/// Locks what stays whole even if a thread that had it panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
        let (framer, poller) = (Framer::new(limit), Poller::new(window));
        // A send must not wait for ever, with the device waiting for it. The kernel takes no timeout of zero; one that it
        // does not take at all is too long to matter.
        let patience = dma_timeout.max(Duration::from_millis(1));
        let _ = set_socket_timeout(&*socket, Timeout::Send, Some(patience));
        let receiver = Receiver { framer, poller, receives: 0, empty_receives: 0 };
        let traffic = Traffic {
            receiver: Some(Box::new(receiver)),
            requests: VecDeque::new(),
            queued_bytes: 0,
            awaited: BTreeMap::new(),
            waiting: 0,
            ended: None,
            next_id: 0,
        };
        Self {
            socket,
            traffic: Mutex::new(traffic),
            arrived: Condvar::new(),
            sender: Mutex::default(),
            dma_bytes: AtomicUsize::new(0),
            dma_timeout,
        }
    }

    /// Says how much data a DMA message may have.
    pub(crate) fn set_dma_bytes(&self, bytes: u32) {
        self.dma_bytes.store(usize::try_from(bytes).unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// What it took so far. Receives are counted by whoever reads: while somebody does, they are not known here.
    pub(crate) fn calls(&self) -> Calls {
        let received = lock(&self.traffic)
            .receiver
            .as_ref()
            .map(|receiver| (receiver.receives, receiver.empty_receives));
        let (receives, empty_receives) = received.unwrap_or_default();
        let sender = lock(&self.sender);
        Calls { receives, empty_receives, sends: sender.sends, dma_messages: sender.dma_messages }
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
        self.request(message, true).map(drop)
    }

    /// The next command, if it is there already. False if none is.
    pub(crate) fn request_at_hand(&self, message: &mut Message) -> Result<bool, Ended> {
        self.request(message, false)
    }

    /// The next command. False if there is none and `wait` is false.
    fn request(&self, message: &mut Message, wait: bool) -> Result<bool, Ended> {
        let mut traffic = lock(&self.traffic);
        loop {
            if let Some(request) = traffic.requests.pop_front() {
                traffic.queued_bytes -= weight(&request);
                *message = request;
                return Ok(true);
            }
            if let Some(ended) = &traffic.ended {
                return Err(ended.clone());
            }
            let Some(mut receiver) = traffic.receiver.take() else {
                if !wait {
                    return Ok(false);
                }
                traffic = self.wait(traffic, None);
                continue;
            };
            drop(traffic);
            let received = if wait {
                receiver.receive(&self.socket, message, None)
            } else {
                receiver.receive_now(&self.socket, message)
            };
            traffic = self.end_reading(receiver);
            match received {
                Ok(false) => return Ok(false),
                // Nobody else reads, so nothing was queued meanwhile: this one is the next. A reply that nobody
                // waits for is the session's to complain about.
                Ok(true) if message.header.is_reply() => match traffic.awaited.get_mut(&message.header.id) {
                    Some(awaited @ None) => *awaited = Some(std::mem::take(message)),
                    _ => return Ok(true),
                },
                Ok(true) => return Ok(true),
                Err(ended) => drop(traffic.ended.get_or_insert(ended)),
            }
        }
    }

    /// Sends a reply in one piece; nothing if it is empty.
    pub(crate) fn send(&self, reply: &Reply) -> Result<(), Ended> {
        if reply.bytes().is_empty() {
            return Ok(());
        }
        let mut sender = lock(&self.sender);
        self.send_now(reply, &mut sender.sends)
    }

    fn send_now(&self, message: &Reply, sends: &mut u64) -> Result<(), Ended> {
        let mut rest = message.bytes();
        let mut fds: Vec<BorrowedFd<'_>> = message.fds().iter().map(|fd| fd.as_fd()).collect();
        while !rest.is_empty() {
            *sends += 1;
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
                Err(Errno::AGAIN) => return Err(Ended::NotReading),
                Err(errno) => return Err(Ended::Socket(errno)),
            }
            fds.clear();
        }
        Ok(())
    }

    /// Sends one DMA command and waits for its reply.
    fn dma(
        &self,
        command: Command,
        address: u64,
        count: usize,
        data: &[u8],
        deadline: Instant,
    ) -> Result<Message, DmaError> {
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
        let sent = {
            let Sender { command: outgoing, sends, dma_messages } = &mut *lock(&self.sender);
            *dma_messages += 1;
            outgoing.begin_command(id, command.number());
            outgoing.u64(address);
            outgoing.u64(count as u64);
            outgoing.put(data);
            outgoing.finish();
            self.send_now(outgoing, sends)
        };
        let reply = match sent {
            Ok(()) => self.await_reply(id, deadline),
            Err(ended) => {
                // Half a message may have been sent: nothing can follow it.
                self.end(ended);
                Err(DmaError::Gone)
            }
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
            if traffic.requests.len() >= MOST_QUEUED || traffic.queued_bytes >= MOST_QUEUED_BYTES {
                tracing::warn!(id, "too many commands came before the answer to a DMA message");
                return Err(DmaError::TimedOut);
            }
            let Some(mut receiver) = traffic.receiver.take() else {
                traffic = self.wait(traffic, Some(deadline));
                continue;
            };
            drop(traffic);
            let mut message = Message::default();
            let received = receiver.receive(&self.socket, &mut message, Some(deadline));
            traffic = self.end_reading(receiver);
            match received {
                Ok(false) => {}
                Ok(true) => match traffic.awaited.get_mut(&message.header.id) {
                    Some(awaited @ None) if message.header.is_reply() => *awaited = Some(message),
                    _ => {
                        traffic.queued_bytes += weight(&message);
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
    fn end_reading(&self, receiver: Box<Receiver>) -> MutexGuard<'_, Traffic> {
        let mut traffic = lock(&self.traffic);
        traffic.receiver = Some(receiver);
        if traffic.waiting != 0 {
            self.arrived.notify_all();
        }
        traffic
    }
}

impl Receiver {
    /// Receives one whole message. False if there is none by `until`.
    fn receive(
        &mut self,
        socket: &UnixStream,
        message: &mut Message,
        until: Option<Instant>,
    ) -> Result<bool, Ended> {
        loop {
            if self.framer.take(message)? {
                return Ok(true);
            }
            // A client that sends byte by byte does not put the end off.
            let late = until.is_some_and(|until| Instant::now() >= until);
            if late || !self.fill(socket, until)? {
                return Ok(false);
            }
        }
    }

    /// Receives one whole message, if all of it is there already.
    fn receive_now(&mut self, socket: &UnixStream, message: &mut Message) -> Result<bool, Ended> {
        loop {
            if self.framer.take(message)? {
                return Ok(true);
            }
            if !self.fill_now(socket, RecvFlags::DONTWAIT)? {
                return Ok(false);
            }
        }
    }

    /// Receives some bytes. False if there are none by `until`.
    fn fill(&mut self, socket: &UnixStream, until: Option<Instant>) -> Result<bool, Ended> {
        self.poller.begin();
        while self.poller.go_on() {
            if self.fill_now(socket, RecvFlags::DONTWAIT)? {
                self.poller.hit();
                return Ok(true);
            }
            if self.poller.missed() {
                self.poller.give_way();
            }
        }
        loop {
            let Some(until) = until else {
                if self.fill_now(socket, RecvFlags::empty())? {
                    return Ok(true);
                }
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout(left))) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Ended::Socket(errno)),
            }
            if self.fill_now(socket, RecvFlags::DONTWAIT)? {
                return Ok(true);
            }
        }
    }

    /// One receive. False if it would have to wait, or was interrupted.
    fn fill_now(&mut self, socket: &UnixStream, flags: RecvFlags) -> Result<bool, Ended> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [IoSliceMut::new(self.framer.space())];
        let received = match recvmsg(socket, &mut bytes, &mut control, flags | RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => received,
            Err(Errno::AGAIN | Errno::INTR) => {
                self.empty_receives += 1;
                return Ok(false);
            }
            Err(Errno::CONNRESET | Errno::PIPE) => return Err(left(&self.framer)),
            Err(errno) => return Err(Ended::Socket(errno)),
        };
        if received.bytes == 0 {
            return Err(left(&self.framer));
        }
        self.receives += 1;
        let mut fds: Vec<OwnedFd> = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        self.framer.received(received.bytes, fds, received.flags.contains(ReturnFlags::CTRUNC));
        Ok(true)
    }
}

/// What a queued command counts for, in bytes: its descriptors as well, so that it is not they that run out.
fn weight(message: &Message) -> usize {
    message.body.len() + message.fds.len() * FD_WEIGHT_BYTES
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
        let deadline = after(self.dma_timeout);
        let mut address = address;
        for part in data.chunks_mut(most) {
            let reply = self.dma(Command::DmaRead, address, part.len(), &[], deadline)?;
            let is = reply.body.get(DMA_FIXED_BYTES..).filter(|is| is.len() == part.len());
            part.copy_from_slice(is.ok_or(DmaError::Refused(Errno::PROTO))?);
            address = address.wrapping_add(part.len() as u64);
        }
        Ok(())
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        let most = self.dma_bytes.load(Ordering::Relaxed).max(1);
        let deadline = after(self.dma_timeout);
        let mut address = address;
        for part in data.chunks(most) {
            // The reply's body only repeats the question.
            self.dma(Command::DmaWrite, address, part.len(), part, deadline)?;
            address = address.wrapping_add(part.len() as u64);
        }
        Ok(())
    }
}
