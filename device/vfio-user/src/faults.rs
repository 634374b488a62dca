//! Faults at the wire, on purpose: for a client that shall be seen to survive them.

use std::time::Duration;

use rustix::io::Errno;

use crate::header::Header;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireFault {
    /// It is acted on, and not answered before this long after it came.
    ///
    /// DEVNOTE: QEMU gives an answer up after 5 s (`x-msg-timeout`) and takes a late one for a stray.
    Delay(Duration),
    /// It is lost: neither acted on nor answered.
    Drop,
    /// It is not acted on, and answered with this error.
    Error(Errno),
    /// The connection ends before it is acted on.
    Close,
    /// It is acted on, and only so many bytes of the answer are sent: the client is out of step from there on.
    Truncate(usize),
}

/// Whoever decides about faults. Asked for every command of a client before it is acted on.
pub trait WireFaults: Send + Sync {
    /// The fault that this command meets, if any.
    fn fault(&self, command: &Header) -> Option<WireFault>;
}
