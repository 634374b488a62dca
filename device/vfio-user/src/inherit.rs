//! An inherited listening socket: `--fd`, as the conventions for backend programs have it
//! ("Backend Program Conventions" in the specification).

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags};
use thiserror::Error;

/// A descriptor that cannot be served.
#[derive(Debug, Error)]
#[error("descriptor {number}: {why}")]
pub struct DescriptorError {
    number: i32,
    why: String,
}

/// Duplicates descriptor `number`, which must be a Unix stream socket that listens. The number itself stays open: it has no
/// owner here that could close it.
///
/// # Errors
/// [`DescriptorError`] if it is anything else, or not open.
pub fn inherit(number: i32) -> Result<UnixListener, DescriptorError> {
    let error = |why: String| DescriptorError { number, why };
    if number < 3 {
        return Err(error("0, 1 and 2 are the standard streams".to_owned()));
    }
    // A bare number has no owner, and to claim it takes `unsafe`. A duplicate made through a pidfd of this very process
    // is owned, and making it tells whether the number is open at all.
    let this = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .map_err(|errno| error(format!("cannot open a pidfd of this process: {errno}")))?;
    let owned: OwnedFd = rustix::process::pidfd_getfd(this.as_fd(), number, PidfdGetfdFlags::empty())
        .map_err(|errno| match errno {
            Errno::BADF => error("not an open descriptor".to_owned()),
            // A sandbox may forbid the call.
            _ => error(format!("cannot be taken over (pidfd_getfd): {errno}")),
        })?;
    match rustix::net::sockopt::socket_acceptconn(owned.as_fd()) {
        Ok(true) => {}
        Ok(false) => return Err(error("a socket that does not listen".to_owned())),
        Err(errno) => return Err(error(format!("not a socket: {errno}"))),
    }
    let listener = UnixListener::from(owned);
    listener.local_addr().map_err(|source| error(format!("not a Unix socket: {source}")))?;
    // Whoever made it may have polled it.
    listener.set_nonblocking(false).map_err(|source| error(source.to_string()))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn inherited_descriptor_must_listen() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        assert!(inherit(listener.as_raw_fd()).is_ok());
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(inherit(one.as_raw_fd()).unwrap_err().to_string().contains("does not listen"));
        let file = tempfile::tempfile().unwrap();
        assert!(inherit(file.as_raw_fd()).unwrap_err().to_string().contains("not a socket"));
        assert!(inherit(9999).unwrap_err().to_string().contains("not an open descriptor"));
        assert!(inherit(0).unwrap_err().to_string().contains("standard streams"));
    }

    #[test]
    fn inherited_listener_blocks_whatever_it_did_before() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let inherited = inherit(listener.as_raw_fd()).unwrap();
        let flags = rustix::fs::fcntl_getfl(&inherited).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
    }
}
