//! What ends a server, from any thread.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use crate::link::{Ended, lock, timeout};

/// Stops a server, from any thread.
#[derive(Debug, Clone)]
pub struct Stop {
    inner: Arc<StopInner>,
}

#[derive(Debug)]
struct StopInner {
    stopped: AtomicBool,
    /// Readable once the server is stopped.
    told: OwnedFd,
    /// The client that is being served.
    client: Mutex<Weak<UnixStream>>,
}

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        let inner = StopInner { stopped: AtomicBool::new(false), told: sign()?, client: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Ends the connection there is, and [`Server::serve`](crate::Server::serve). A server that was stopped stays so.
    pub fn stop(&self) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        tell(&self.inner.told);
        let client = lock(&self.inner.client).upgrade();
        if let Some(client) = client {
            let _ = client.shutdown(std::net::Shutdown::Both);
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.inner.stopped.load(Ordering::SeqCst)
    }

    /// Readable once the server is stopped.
    pub(crate) fn told(&self) -> &OwnedFd {
        &self.inner.told
    }

    /// Says whose connection is to be ended.
    pub(crate) fn serving(&self, client: &Arc<UnixStream>) {
        *lock(&self.inner.client) = Arc::downgrade(client);
    }

    /// Waits until then, or until the server is stopped, which is [`Ended::Stopped`].
    pub(crate) fn wait_until(&self, then: Instant) -> Result<(), Ended> {
        loop {
            let left = then.saturating_duration_since(Instant::now());
            if self.is_stopped() {
                return Err(Ended::Stopped);
            }
            if left.is_zero() {
                return Ok(());
            }
            match poll(&mut [PollFd::new(self.told(), PollFlags::IN)], Some(&timeout(left))) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Ended::Socket(errno)),
            }
        }
    }
}

/// A descriptor that others wait for.
///
/// # Errors
/// There are no descriptors left.
pub(crate) fn sign() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Makes it readable.
pub(crate) fn tell(sign: &OwnedFd) {
    // It cannot fail: the counter is far from full.
    let _ = rustix::io::write(sign, &1u64.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::link::after;

    #[test]
    fn stop_ends_a_wait_that_would_be_long() {
        let stop = Stop::new().unwrap();
        assert_eq!(stop.wait_until(after(Duration::ZERO)), Ok(()), "it is then already");
        // Nobody waits for it.
        let an_hour = after(Duration::from_secs(3600));
        let stopper = stop.clone();
        let stopping = std::thread::spawn(move || stopper.stop());
        assert_eq!(stop.wait_until(an_hour), Err(Ended::Stopped));
        stopping.join().unwrap();
    }
}
