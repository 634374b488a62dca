//! Faults at the wire, as the machine's rules want them.

use std::fmt;

use sdmorph_machine::MessageWatch;
use sdmorph_machine::faults::{MAX_LATENCY, WireAction};
use vfio_user_server::Errno;
use vfio_user_server::faults::{WireFault, WireFaults};
use vfio_user_server::header::Header;

use crate::shared::Shared;

/// Asks the machine what becomes of a message, if a rule waits for it; for others it costs one load.
pub(crate) struct RuleFaults {
    shared: Shared,
    watch: MessageWatch,
}

impl RuleFaults {
    pub(crate) fn new(shared: &Shared) -> Self {
        let watch = shared.with_machine(|machine, _| machine.message_watch());
        Self { shared: shared.clone(), watch }
    }
}

impl fmt::Debug for RuleFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleFaults").field("watch", &self.watch).finish_non_exhaustive()
    }
}

impl WireFaults for RuleFaults {
    fn fault(&self, command: &Header) -> Option<WireFault> {
        if !self.watch.waits_for(command.command) {
            return None;
        }
        let action = self.shared.with_machine(|machine, now| machine.message(now, command.command))?;
        Some(match action {
            // A rule that was not read from text may have any time, and QEMU does not wait for ever.
            WireAction::Delay(delay) => WireFault::Delay(delay.min(MAX_LATENCY)),
            WireAction::Drop => WireFault::Drop,
            WireAction::Error(errno) => WireFault::Error(Errno::from_raw_os_error(errno.number().into())),
            WireAction::Close => WireFault::Close,
            WireAction::Truncate(bytes) => WireFault::Truncate(usize::try_from(bytes).unwrap_or(usize::MAX)),
        })
    }
}

#[cfg(test)]
mod tests {
    use sdmorph_machine::faults::MESSAGES;
    use vfio_user_server::spec::{COMMANDS, Command};

    use super::*;

    #[test]
    fn rules_know_every_message_of_a_client_by_its_name_and_number() {
        let from_server = |command| matches!(command, Command::DmaRead | Command::DmaWrite);
        let ours: Vec<(u16, String)> = COMMANDS
            .iter()
            .filter(|(command, _)| !from_server(*command))
            .map(|(command, name)| (command.number(), name.to_ascii_lowercase().replace('_', "-")))
            .collect();
        let theirs: Vec<(u16, String)> =
            MESSAGES.iter().map(|(number, name)| (*number, (*name).to_owned())).collect();
        assert_eq!(theirs, ours);
    }

    #[test]
    fn errors_that_rules_name_have_the_numbers_of_this_system() {
        let numbers = [
            ("EPERM", Errno::PERM),
            ("ENOENT", Errno::NOENT),
            ("EINTR", Errno::INTR),
            ("EIO", Errno::IO),
            ("ENXIO", Errno::NXIO),
            ("E2BIG", Errno::TOOBIG),
            ("EBADF", Errno::BADF),
            ("EAGAIN", Errno::AGAIN),
            ("ENOMEM", Errno::NOMEM),
            ("EACCES", Errno::ACCESS),
            ("EFAULT", Errno::FAULT),
            ("EBUSY", Errno::BUSY),
            ("EEXIST", Errno::EXIST),
            ("ENODEV", Errno::NODEV),
            ("EINVAL", Errno::INVAL),
            ("EMFILE", Errno::MFILE),
            ("ENOTTY", Errno::NOTTY),
            ("ENOSPC", Errno::NOSPC),
            ("EPIPE", Errno::PIPE),
            ("ERANGE", Errno::RANGE),
            ("ENOSYS", Errno::NOSYS),
            ("EPROTO", Errno::PROTO),
            ("EBADMSG", Errno::BADMSG),
            ("EOVERFLOW", Errno::OVERFLOW),
            ("EMSGSIZE", Errno::MSGSIZE),
            ("EOPNOTSUPP", Errno::OPNOTSUPP),
            ("ECONNRESET", Errno::CONNRESET),
            ("ESHUTDOWN", Errno::SHUTDOWN),
            ("ETIMEDOUT", Errno::TIMEDOUT),
            ("EREMOTEIO", Errno::REMOTEIO),
        ];
        let ours = numbers.map(|(name, errno)| (u16::try_from(errno.raw_os_error()).unwrap(), name));
        assert_eq!(sdmorph_machine::faults::Errno::NAMES, ours);
    }
}
