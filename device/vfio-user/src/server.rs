//! One client after the other; a second one meanwhile is turned away.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::conversation::Conversation;
use crate::description::Description;
use crate::device::Device;
use crate::faults::WireFaults;
use crate::header::Header;
use crate::interrupts::Interrupts;
use crate::link::{Calls, Ended, Link, lock};
use crate::memory::GuestMemory;
use crate::reply::Reply;
use crate::session::{Counters, Limits, Session};
use crate::spec::HEADER_BYTES;
use crate::stop::{Stop, sign, tell};

/// How long the server waits for descriptors to become free before it accepts again.
const OUT_OF_DESCRIPTORS: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Settings of a server.
#[derive(Clone)]
pub struct Options {
    /// What clients are told to keep to.
    pub limits: Limits,
    /// How long to poll for the next message before sleeping; zero turns polling off. See [`Server`].
    pub polling: Duration,
    /// How long the answers to a DMA are waited for, and a client that does not read what is sent to it. A client that is waiting for the server itself cannot answer
    /// meanwhile: QEMU's main loop does not while a virtual CPU waits for a read, and gives that up after 5 s
    /// (`x-msg-timeout`).
    pub dma_timeout: Duration,
    /// Faults at the wire, on purpose.
    pub faults: Option<Arc<dyn WireFaults>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            polling: Duration::from_micros(200),
            dma_timeout: Duration::from_secs(2),
            faults: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("limits", &self.limits)
            .field("polling", &self.polling)
            .field("dma_timeout", &self.dma_timeout)
            .field("faults", &self.faults.is_some())
            .finish()
    }
}

/// One client's visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// Why it ended.
    pub ended: Ended,
    /// Messages.
    pub counters: Counters,
    /// Calls of the kernel.
    pub calls: Calls,
    /// Other clients that were turned away meanwhile.
    pub turned_away: u64,
}

/// A vfio-user server on a listening socket.
///
/// Before it sleeps it polls for the next message for at most [`Options::polling`], and only as long as that often finds
/// one; an idle server uses no processor.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    description: Arc<Description>,
    memory: GuestMemory,
    interrupts: Interrupts,
    options: Options,
    stop: Stop,
    /// Held while a client is served: whoever calls meanwhile waits for its turn.
    serving: Mutex<()>,
    /// Readable once whoever watches the door shall stop to.
    done: OwnedFd,
    /// A client that came when the one before it had just left.
    next: Mutex<Option<UnixStream>>,
}

/// Tells that a visit is over, even if the device panics: whoever is at the door would stay there for ever, and with it
/// the panic.
struct Done<'a>(&'a OwnedFd, &'a UnixStream);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        tell(self.0);
        // After a panic the socket is still held for DMA messages.
        hang_up(self.1);
    }
}

/// Waits until one of `fds` is readable; says which are.
fn wait_for(fds: [&dyn AsFd; 2], timeout: Option<&Timespec>) -> io::Result<[bool; 2]> {
    let mut ready = fds.map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN));
    rustix::io::retry_on_intr(|| poll(&mut ready, timeout))?;
    Ok(ready.map(|fd| !fd.revents().is_empty()))
}

/// Has the other end closed?
fn hung_up(stream: &UnixStream) -> bool {
    let mut ready = [PollFd::new(stream, PollFlags::RDHUP)];
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let polled = rustix::io::retry_on_intr(|| poll(&mut ready, Some(&zero)));
    polled.is_ok_and(|count| count != 0)
}

/// Ends a client's connection in a way that it reads as the end of the stream.
///
/// Bytes of the client that nobody read would turn that into ECONNRESET. QEMU 11.1.3 aborts at that, with the guest in it:
/// `vfio_user_recv_one` sets its error twice.
fn hang_up(client: &UnixStream) {
    // Nothing more can come in after that.
    let _ = client.shutdown(std::net::Shutdown::Both);
    let mut unread = [0; 4096];
    while recv(client, &mut unread, RecvFlags::DONTWAIT).is_ok_and(|(count, _)| count != 0) {}
}

/// Turns a client away. A message that it sent already is answered with EBUSY: QEMU, with its big lock held, waits for
/// that answer for as long as `x-msg-timeout` even if the connection ends. One that comes later fails to be sent.
fn refuse(client: &UnixStream) {
    let _ = client.shutdown(std::net::Shutdown::Read);
    let mut header = [0; HEADER_BYTES];
    if recv(client, &mut header, RecvFlags::DONTWAIT).is_ok_and(|(count, _)| count == HEADER_BYTES) {
        let header = Header::decode(header);
        if header.is_command() && !header.no_reply() {
            let mut reply = Reply::default();
            reply.fail(&header, Errno::BUSY);
            // Nothing was sent before, so there is room for it; a client that is gone needs none.
            let _ = send(client, reply.bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }
    hang_up(client);
}

impl Server {
    /// A server on `listener` for the device that is described. It fills `memory` and routes `interrupts`.
    ///
    /// # Errors
    /// The listener cannot be set up, or there are no descriptors left.
    pub fn new(
        listener: UnixListener,
        description: Description,
        memory: GuestMemory,
        interrupts: Interrupts,
        options: Options,
    ) -> io::Result<Self> {
        // A client may leave between the news of it and accept(), which must not wait for the next one then.
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            description: Arc::new(description),
            memory,
            interrupts,
            options,
            stop: Stop::new()?,
            serving: Mutex::default(),
            done: sign()?,
            next: Mutex::default(),
        })
    }

    /// What stops this server.
    #[must_use]
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves clients, one after the other, until it is stopped.
    ///
    /// # Errors
    /// The listening socket cannot be used any more.
    pub fn serve(&self, device: &mut dyn Device) -> io::Result<()> {
        while self.serve_one(device)?.is_some() {}
        Ok(())
    }

    /// Serves one client until it leaves, however it leaves. None if the server is stopped before one comes.
    ///
    /// # Errors
    /// The listening socket cannot be used any more.
    pub fn serve_one(&self, device: &mut dyn Device) -> io::Result<Option<Visit>> {
        let _alone = lock(&self.serving);
        let Some(client) = self.accept()? else { return Ok(None) };
        let client = Arc::new(client);
        self.stop.serving(&client);
        // Reading an eventfd empties it.
        let _ = rustix::io::read(&self.done, &mut [0u8; 8]);
        tracing::info!("a client has come");
        let visit = std::thread::scope(|scope| {
            let doorkeeper = std::thread::Builder::new().name("vfio-user-door".to_owned());
            let doorkeeper = doorkeeper
                .spawn_scoped(scope, || self.turn_away(&client))
                .inspect_err(|error| tracing::warn!(%error, "no thread for it: other clients have to wait"));
            let mut visit = {
                let _done = Done(&self.done, &client);
                self.visit(&client, device)
            };
            // It does not panic; if it did, nobody was counted.
            visit.turned_away = doorkeeper.ok().and_then(|thread| thread.join().ok()).unwrap_or_default();
            visit
        });
        let Counters { messages, refused, .. } = visit.counters;
        let (ended, dma_messages) = (&visit.ended, visit.calls.dma_messages);
        match ended {
            Ended::ClientLeft | Ended::Stopped => {
                tracing::info!(%ended, messages, refused, dma_messages, "connection closed")
            }
            _ => tracing::warn!(%ended, messages, refused, dma_messages, "connection closed"),
        }
        Ok(Some(visit))
    }

    /// The next client; None if the server is stopped.
    fn accept(&self) -> io::Result<Option<UnixStream>> {
        loop {
            let next = lock(&self.next).take();
            if self.stop.is_stopped() {
                next.iter().for_each(refuse);
                return Ok(None);
            }
            if next.is_some() {
                return Ok(next);
            }
            wait_for([&self.listener, self.stop.told()], None)?;
            if let Some(client) = self.accept_now(self.stop.told())? {
                return Ok(Some(client));
            }
        }
    }

    /// A client that is there already. When there are no descriptors for it, waits a little, or until `end` is told.
    fn accept_now(&self, end: &OwnedFd) -> io::Result<Option<UnixStream>> {
        let error = match self.listener.accept() {
            Ok((client, _)) => {
                client.set_nonblocking(false)?;
                return Ok(Some(client));
            }
            Err(error) => error,
        };
        match Errno::from_io_error(&error) {
            Some(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                tracing::warn!(%error, "cannot accept a client now");
                wait_for([end, end], Some(&OUT_OF_DESCRIPTORS))?;
                Ok(None)
            }
            _ => Err(error),
        }
    }

    /// Turns other clients away until it is told to stop, or until one comes after `client` has gone: that one is next.
    /// Returns how many.
    fn turn_away(&self, client: &UnixStream) -> u64 {
        let mut count = 0u64;
        loop {
            let Ok([_, false]) = wait_for([&self.listener, &self.done], None) else { return count };
            match self.accept_now(&self.done) {
                Ok(None) => {}
                // Whoever closed before another one connected has gone, read or not.
                Ok(Some(other)) if hung_up(client) => {
                    *lock(&self.next) = Some(other);
                    return count;
                }
                Ok(Some(other)) => {
                    refuse(&other);
                    count += 1;
                    if count.is_power_of_two() {
                        tracing::warn!(count, "turned a client away: another one is being served");
                    }
                }
                Err(error) => {
                    // Whoever accepts the next client meets the same error, and reports it.
                    tracing::warn!(%error, "cannot watch for other clients");
                    return count;
                }
            }
        }
    }

    fn visit(&self, client: &Arc<UnixStream>, device: &mut dyn Device) -> Visit {
        let options = &self.options;
        let limits = options.limits;
        let link =
            Arc::new(Link::new(client.clone(), limits.message_bytes(), options.polling, options.dma_timeout));
        let mut session =
            Session::new(self.description.clone(), self.memory.clone(), self.interrupts.clone(), limits);
        self.memory.set_port(Some(link.clone()));
        let ended = Conversation::new(options, &self.stop, &link, &mut session, &mut *device).run();
        let ended = if self.stop.is_stopped() { Ended::Stopped } else { ended };
        // Whoever waits for a DMA reply must not keep its range from being unmapped.
        link.end(ended.clone());
        hang_up(client);
        self.memory.set_port(None);
        self.memory.clear();
        self.interrupts.disconnect().into_iter().for_each(|change| device.interrupt_changed(change));
        device.disconnected();
        Visit { ended, counters: session.counters(), calls: link.calls(), turned_away: 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// Panics when a client leaves.
    struct Broken;

    impl Device for Broken {
        fn region_read(&mut self, _: u32, _: u64, _: &mut [u8]) -> Result<(), Errno> {
            Ok(())
        }

        fn region_write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), Errno> {
            Ok(())
        }

        fn disconnected(&mut self) {
            panic!("a bug in the device");
        }
    }

    #[test]
    fn panic_of_the_device_ends_the_server_and_is_not_waited_upon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vfu.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let description = Description::default();
        let interrupts = Interrupts::new(&description);
        let memory = GuestMemory::new();
        let server = Server::new(listener, description, memory, interrupts, Options::default()).unwrap();
        drop(UnixStream::connect(&path).unwrap());
        let serving = std::thread::spawn(move || server.serve(&mut Broken));
        assert!(serving.join().is_err());
    }

    #[test]
    fn connection_that_is_hung_up_ends_without_reset_whatever_was_not_read() {
        let (server, mut client) = UnixStream::pair().unwrap();
        client.write_all(&[1; 10_000]).unwrap();
        hang_up(&server);
        drop(server);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn message_of_a_client_that_is_turned_away_is_answered_with_ebusy_if_it_is_there() {
        let version = Header { id: 7, command: 1, message_bytes: 20, ..Header::default() };
        for sent in [[&version.encode()[..], &[0; 4]].concat(), vec![1, 2, 3], Vec::new()] {
            let (server, mut client) = UnixStream::pair().unwrap();
            client.write_all(&sent).unwrap();
            refuse(&server);
            drop(server);
            let mut received = Vec::new();
            client.read_to_end(&mut received).unwrap();
            if sent.len() < HEADER_BYTES {
                assert!(received.is_empty());
            } else {
                let reply = Header::decode(received.try_into().unwrap());
                assert_eq!((reply.id, reply.command, reply.errno()), (7, 1, Some(Errno::BUSY)));
            }
            assert!(client.write_all(&sent).is_err() || sent.is_empty());
        }
    }
}
