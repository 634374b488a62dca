//! Faults at the vfio-user wire: messages of the client that rules wait for, and what can become of them.
//!
//! Source of names and numbers: QEMU, `docs/interop/vfio-user.rst` ("Commands"); the transport's tests compare them with
//! its own. DMA_READ and DMA_WRITE are not here: the server sends them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::duration;

/// Messages that a client sends: the number of the command on the wire, and its name as rules write it, which is that
/// of the specification without `VFIO_USER_`. Numbers are below 32: [`crate::Engine::watched_messages`].
pub const MESSAGES: &[(u16, &str)] = &[
    (1, "version"),
    (2, "dma-map"),
    (3, "dma-unmap"),
    (4, "device-get-info"),
    (5, "device-get-region-info"),
    (6, "device-get-region-io-fds"),
    (7, "device-get-irq-info"),
    (8, "device-set-irqs"),
    (9, "region-read"),
    (10, "region-write"),
    (13, "device-reset"),
    (15, "region-write-multi"),
    (16, "device-feature"),
    (17, "mig-data-read"),
    (18, "mig-data-write"),
];

/// The number of the message of that name.
pub(crate) fn message_number(name: &str) -> Option<u16> {
    MESSAGES.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireAction {
    /// `delay`: it is acted on, and answered this long after it came; at most [`crate::MAX_LATENCY`].
    Delay(Duration),
    /// `drop`: it is lost, neither acted on nor answered.
    Drop,
    /// `error`: it is not acted on, and answered with this error.
    Error(Errno),
    /// `close`: the connection ends before it is acted on.
    Close,
    /// `truncate`: it is acted on, and only so many bytes of the answer are sent, its header included.
    Truncate(u32),
}

impl WireAction {
    pub(crate) fn to_json(self) -> Value {
        match self {
            WireAction::Delay(delay) => json!({ "delay": duration::text(delay) }),
            WireAction::Drop => json!("drop"),
            WireAction::Error(errno) => json!({ "error": errno.to_json() }),
            WireAction::Close => json!("close"),
            WireAction::Truncate(bytes) => json!({ "truncate": bytes }),
        }
    }
}

/// An error of Linux, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(u16);

impl Errno {
    /// The errors that have a name here: those that a driver, the kernel's VFIO or QEMU answers or looks at. Numbers
    /// are those of `include/uapi/asm-generic/errno-base.h` and `errno.h`.
    pub const NAMES: &[(u16, &str)] = &[
        (1, "EPERM"),
        (2, "ENOENT"),
        (4, "EINTR"),
        (5, "EIO"),
        (6, "ENXIO"),
        (7, "E2BIG"),
        (9, "EBADF"),
        (11, "EAGAIN"),
        (12, "ENOMEM"),
        (13, "EACCES"),
        (14, "EFAULT"),
        (16, "EBUSY"),
        (17, "EEXIST"),
        (19, "ENODEV"),
        (22, "EINVAL"),
        (24, "EMFILE"),
        (25, "ENOTTY"),
        (28, "ENOSPC"),
        (32, "EPIPE"),
        (34, "ERANGE"),
        (38, "ENOSYS"),
        (71, "EPROTO"),
        (74, "EBADMSG"),
        (75, "EOVERFLOW"),
        (90, "EMSGSIZE"),
        (95, "EOPNOTSUPP"),
        (104, "ECONNRESET"),
        (108, "ESHUTDOWN"),
        (110, "ETIMEDOUT"),
        (121, "EREMOTEIO"),
    ];

    /// The largest number that is an error (`MAX_ERRNO`, `include/linux/err.h`).
    pub const MAX: u16 = 4095;

    /// The error of that number; `None` if it is none, which 0 is not either.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        u16::try_from(number).ok().filter(|number| (1..=Self::MAX).contains(number)).map(Self)
    }

    /// The error of that name, if it is one of [`Errno::NAMES`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(number, _)| Self(*number))
    }

    /// Its number, from 1 to [`Errno::MAX`].
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// Its name, or its number if it has none here.
    fn to_json(self) -> Value {
        let name = Self::NAMES.iter().find(|(number, _)| *number == self.0);
        name.map_or(json!(self.0), |(_, name)| json!(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_errors_are_sorted_and_fit_their_bounds() {
        assert!(MESSAGES.is_sorted_by(|a, b| a.0 < b.0));
        assert!(MESSAGES.iter().all(|(number, _)| *number < 32));
        assert!(Errno::NAMES.is_sorted_by(|a, b| a.0 < b.0));
        for (number, name) in Errno::NAMES {
            assert_eq!(Errno::from_name(name), Errno::from_number((*number).into()));
        }
    }

    #[test]
    fn numbers_outside_of_the_range_are_no_errors() {
        assert_eq!(Errno::from_number(4095).map(Errno::number), Some(4095));
        for number in [0, 4096, 65_541, u64::MAX] {
            assert_eq!(Errno::from_number(number), None);
        }
    }
}
