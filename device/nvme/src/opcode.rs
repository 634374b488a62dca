//! Opcodes (5, 6), with the names that records and the commands supported and effects log use.

/// What a command may change (5.14.1.5): the effects log's bits.
mod effect {
    pub(super) const SUPPORTED: u32 = 1;
    /// LBCC: logical block contents.
    pub(super) const BLOCKS: u32 = 1 << 1;
    /// NCC: capabilities of a namespace.
    pub(super) const NAMESPACE: u32 = 1 << 2;
    /// CSE 001b: no other command to the same namespace is to be under way.
    pub(super) const ALONE: u32 = 1 << 16;
}

/// A command that is supported.
pub(crate) struct Row {
    pub(crate) opcode: u8,
    pub(crate) name: &'static str,
    /// Its dword in the effects log.
    pub(crate) effects: u32,
}

const fn row(opcode: u8, name: &'static str, effects: u32) -> Row {
    Row { opcode, name, effects: effects | effect::SUPPORTED }
}

macro_rules! opcodes {
    ($table:ident: $($const:ident = $code:literal, $name:literal, $effects:expr;)*) => {
        $(pub(crate) const $const: u8 = $code;)*

        /// The commands that are supported, by opcode.
        pub(crate) const $table: &[Row] = &[$(row($code, $name, $effects)),*];
    };
}

/// Admin commands.
pub(crate) mod admin {
    use super::{Row, effect, row};

    opcodes! {
        TABLE:
        DELETE_SQ = 0x00, "Delete I/O Submission Queue", 0;
        CREATE_SQ = 0x01, "Create I/O Submission Queue", 0;
        GET_LOG_PAGE = 0x02, "Get Log Page", 0;
        DELETE_CQ = 0x04, "Delete I/O Completion Queue", 0;
        CREATE_CQ = 0x05, "Create I/O Completion Queue", 0;
        IDENTIFY = 0x06, "Identify", 0;
        ABORT = 0x08, "Abort", 0;
        SET_FEATURES = 0x09, "Set Features", 0;
        GET_FEATURES = 0x0a, "Get Features", 0;
        ASYNC_EVENT_REQUEST = 0x0c, "Asynchronous Event Request", 0;
        DOORBELL_BUFFER_CONFIG = 0x7c, "Doorbell Buffer Config", 0;
        FORMAT_NVM = 0x80, "Format NVM", effect::BLOCKS | effect::NAMESPACE | effect::ALONE;
    }
}

/// I/O commands.
pub(crate) mod io {
    use super::{Row, effect, row};

    opcodes! {
        TABLE:
        FLUSH = 0x00, "Flush", 0;
        WRITE = 0x01, "Write", effect::BLOCKS;
        READ = 0x02, "Read", 0;
        COMPARE = 0x05, "Compare", 0;
        WRITE_ZEROES = 0x08, "Write Zeroes", effect::BLOCKS;
        DATASET_MANAGEMENT = 0x09, "Dataset Management", effect::BLOCKS;
        VERIFY = 0x0c, "Verify", 0;
    }
}

/// Commands that are not supported and whose names are worth a record: a driver may send them.
const OTHER_ADMIN: &[(u8, &str)] = &[
    (0x0d, "Namespace Management"),
    (0x10, "Firmware Commit"),
    (0x11, "Firmware Image Download"),
    (0x14, "Device Self-test"),
    (0x15, "Namespace Attachment"),
    (0x18, "Keep Alive"),
    (0x19, "Directive Send"),
    (0x1a, "Directive Receive"),
    (0x1c, "Virtualization Management"),
    (0x1d, "NVMe-MI Send"),
    (0x1e, "NVMe-MI Receive"),
    (0x7f, "Fabrics"),
    (0x81, "Security Send"),
    (0x82, "Security Receive"),
    (0x84, "Sanitize"),
    (0x86, "Get LBA Status"),
];

const OTHER_IO: &[(u8, &str)] = &[
    (0x04, "Write Uncorrectable"),
    (0x0d, "Reservation Register"),
    (0x0e, "Reservation Report"),
    (0x11, "Reservation Acquire"),
    (0x15, "Reservation Release"),
];

/// The name of an opcode of the admin queue, or of an I/O queue.
pub(crate) fn name(is_admin: bool, opcode: u8) -> &'static str {
    let (table, others) = if is_admin { (admin::TABLE, OTHER_ADMIN) } else { (io::TABLE, OTHER_IO) };
    let row = table.iter().find(|row| row.opcode == opcode).map(|row| row.name);
    let other = || others.iter().find(|(code, _)| *code == opcode).map(|(_, name)| *name);
    row.or_else(other).unwrap_or("Unknown")
}

/// The names of all commands of the admin queue, or of I/O queues, that are supported.
pub(crate) fn supported(is_admin: bool) -> impl Iterator<Item = &'static str> {
    (if is_admin { admin::TABLE } else { io::TABLE }).iter().map(|row| row.name)
}
