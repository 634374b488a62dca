//! The header of a message, and why a message is refused.

use rustix::io::Errno;
use thiserror::Error;

use crate::spec::{Command, FLAG_ERROR, FLAG_NO_REPLY, HEADER_BYTES, TYPE_COMMAND, TYPE_MASK, TYPE_REPLY};

/// The 16 bytes that every message begins with, in the host's byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Chosen by whoever sends the command, echoed in the reply.
    pub id: u16,
    /// Number of the command.
    pub command: u16,
    /// Bytes of the whole message, this header included.
    pub message_bytes: u32,
    /// Type and flags.
    pub flags: u32,
    /// Errno of a reply that has [`FLAG_ERROR`].
    pub error: u32,
}

impl Header {
    /// Reads a header.
    #[must_use]
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Self {
        let [i0, i1, c0, c1, s0, s1, s2, s3, f0, f1, f2, f3, e0, e1, e2, e3] = bytes;
        Self {
            id: u16::from_ne_bytes([i0, i1]),
            command: u16::from_ne_bytes([c0, c1]),
            message_bytes: u32::from_ne_bytes([s0, s1, s2, s3]),
            flags: u32::from_ne_bytes([f0, f1, f2, f3]),
            error: u32::from_ne_bytes([e0, e1, e2, e3]),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let [i0, i1] = self.id.to_ne_bytes();
        let [c0, c1] = self.command.to_ne_bytes();
        let [s0, s1, s2, s3] = self.message_bytes.to_ne_bytes();
        let [f0, f1, f2, f3] = self.flags.to_ne_bytes();
        let [e0, e1, e2, e3] = self.error.to_ne_bytes();
        [i0, i1, c0, c1, s0, s1, s2, s3, f0, f1, f2, f3, e0, e1, e2, e3]
    }

    /// Is it a command?
    #[must_use]
    pub fn is_command(&self) -> bool {
        self.flags & TYPE_MASK == TYPE_COMMAND
    }

    /// Is it a reply?
    #[must_use]
    pub fn is_reply(&self) -> bool {
        self.flags & TYPE_MASK == TYPE_REPLY
    }

    /// Does its sender want no reply?
    #[must_use]
    pub fn no_reply(&self) -> bool {
        self.flags & FLAG_NO_REPLY != 0
    }

    /// The error that a reply carries. A reply may say that it failed and not why; then it is EIO.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        (self.flags & FLAG_ERROR != 0).then(|| {
            let number = i32::try_from(self.error).unwrap_or(0);
            // Errno's own range; anything else is not one.
            if (1..4096).contains(&number) { Errno::from_raw_os_error(number) } else { Errno::IO }
        })
    }

    /// Name of the command, for log lines.
    #[must_use]
    pub fn command_name(&self) -> &'static str {
        Command::from_number(self.command).map_or("an unknown command", Command::name)
    }
}

/// A request that is answered with an error: with which one, and why. The stream stays in step.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{why} ({errno})")]
pub struct Refusal {
    /// What the client is told.
    pub errno: Errno,
    /// What the log is told.
    pub why: String,
}

impl Refusal {
    /// A refusal with `errno`.
    #[must_use]
    pub fn new(errno: Errno, why: impl Into<String>) -> Self {
        Self { errno, why: why.into() }
    }

    /// EINVAL: what is asked for is malformed, or is not there.
    #[must_use]
    pub fn invalid(why: impl Into<String>) -> Self {
        Self::new(Errno::INVAL, why)
    }

    /// EOPNOTSUPP: the protocol has it, this server does not offer it.
    #[must_use]
    pub fn not_offered(why: impl Into<String>) -> Self {
        Self::new(Errno::OPNOTSUPP, why)
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::new(errno, "the device refused")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_comes_back_as_it_was() {
        let header = Header { id: 0x0102, command: 9, message_bytes: 0x2030_4050, flags: 0x11, error: 22 };
        assert_eq!(Header::decode(header.encode()), header);
        assert_eq!(header.encode()[..2], 0x0102_u16.to_ne_bytes());
        assert_eq!(header.encode()[4..8], 0x2030_4050_u32.to_ne_bytes());
    }

    #[test]
    fn error_of_a_reply_is_never_zero() {
        let failed = |error| Header { flags: TYPE_REPLY | FLAG_ERROR, error, ..Header::default() };
        assert_eq!(failed(22).errno(), Some(Errno::INVAL));
        for strange in [0, 4096, u32::MAX] {
            assert_eq!(failed(strange).errno(), Some(Errno::IO));
        }
        assert_eq!(Header { flags: TYPE_REPLY, error: 22, ..Header::default() }.errno(), None);
    }
}
