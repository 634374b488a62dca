//! How a command has ended (4.6.1): status codes.

use std::fmt;

/// Status code type and status code, as in the status field: SCT in bits 10:8, SC in bits 7:0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(u16);

/// Do Not Retry, in the status field.
const DO_NOT_RETRY: u16 = 1 << 14;
/// More: the error log has an entry for this.
const MORE: u16 = 1 << 13;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// The name that the specification has for it.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self.0 {
                    $($code => $text,)*
                    _ => "Unknown",
                }
            }

            /// All of these.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

statuses! {
    /// 00h/00h.
    SUCCESS = 0x000, "Successful Completion";
    /// 00h/01h.
    INVALID_OPCODE = 0x001, "Invalid Command Opcode";
    /// 00h/02h.
    INVALID_FIELD = 0x002, "Invalid Field in Command";
    /// 00h/03h.
    COMMAND_ID_CONFLICT = 0x003, "Command ID Conflict";
    /// 00h/04h.
    DATA_TRANSFER_ERROR = 0x004, "Data Transfer Error";
    /// 00h/05h.
    POWER_LOSS = 0x005, "Commands Aborted due to Power Loss Notification";
    /// 00h/06h.
    INTERNAL_ERROR = 0x006, "Internal Error";
    /// 00h/07h.
    ABORT_REQUESTED = 0x007, "Command Abort Requested";
    /// 00h/08h.
    SQ_DELETED = 0x008, "Command Aborted due to SQ Deletion";
    /// 00h/0bh.
    INVALID_NAMESPACE = 0x00b, "Invalid Namespace or Format";
    /// 00h/0ch.
    COMMAND_SEQUENCE_ERROR = 0x00c, "Command Sequence Error";
    /// 00h/0dh.
    INVALID_SGL_SEGMENT = 0x00d, "Invalid SGL Segment Descriptor";
    /// 00h/0eh.
    INVALID_SGL_COUNT = 0x00e, "Invalid Number of SGL Descriptors";
    /// 00h/0fh.
    DATA_SGL_LENGTH_INVALID = 0x00f, "Data SGL Length Invalid";
    /// 00h/11h.
    SGL_TYPE_INVALID = 0x011, "SGL Descriptor Type Invalid";
    /// 00h/13h.
    PRP_OFFSET_INVALID = 0x013, "PRP Offset Invalid";
    /// 00h/20h.
    WRITE_PROTECTED = 0x020, "Namespace is Write Protected";
    /// 00h/80h.
    LBA_OUT_OF_RANGE = 0x080, "LBA Out of Range";
    /// 00h/81h.
    CAPACITY_EXCEEDED = 0x081, "Capacity Exceeded";
    /// 00h/82h.
    NAMESPACE_NOT_READY = 0x082, "Namespace Not Ready";
    /// 00h/83h.
    RESERVATION_CONFLICT = 0x083, "Reservation Conflict";
    /// 00h/84h.
    FORMAT_IN_PROGRESS = 0x084, "Format In Progress";
    /// 01h/00h.
    COMPLETION_QUEUE_INVALID = 0x100, "Completion Queue Invalid";
    /// 01h/01h.
    INVALID_QUEUE_ID = 0x101, "Invalid Queue Identifier";
    /// 01h/02h.
    INVALID_QUEUE_SIZE = 0x102, "Invalid Queue Size";
    /// 01h/05h.
    EVENT_REQUEST_LIMIT = 0x105, "Asynchronous Event Request Limit Exceeded";
    /// 01h/08h.
    INVALID_VECTOR = 0x108, "Invalid Interrupt Vector";
    /// 01h/09h.
    INVALID_LOG_PAGE = 0x109, "Invalid Log Page";
    /// 01h/0ah.
    INVALID_FORMAT = 0x10a, "Invalid Format";
    /// 01h/0ch.
    INVALID_QUEUE_DELETION = 0x10c, "Invalid Queue Deletion";
    /// 01h/0dh.
    FEATURE_NOT_SAVEABLE = 0x10d, "Feature Identifier Not Saveable";
    /// 01h/0fh.
    FEATURE_NOT_OF_NAMESPACE = 0x10f, "Feature Not Namespace Specific";
    /// 02h/80h.
    WRITE_FAULT = 0x280, "Write Fault";
    /// 02h/81h.
    UNRECOVERED_READ_ERROR = 0x281, "Unrecovered Read Error";
    /// 02h/82h.
    GUARD_CHECK_ERROR = 0x282, "End-to-end Guard Check Error";
    /// 02h/83h.
    APPLICATION_TAG_CHECK_ERROR = 0x283, "End-to-end Application Tag Check Error";
    /// 02h/84h.
    REFERENCE_TAG_CHECK_ERROR = 0x284, "End-to-end Reference Tag Check Error";
    /// 02h/85h.
    COMPARE_FAILURE = 0x285, "Compare Failure";
    /// 02h/86h.
    ACCESS_DENIED = 0x286, "Access Denied";
    /// 02h/87h.
    UNWRITTEN_BLOCK = 0x287, "Deallocated or Unwritten Logical Block";
    /// 03h/00h.
    INTERNAL_PATH_ERROR = 0x300, "Internal Path Error";
}

/// The names of all statuses but success, as the specification spells them, with their codes: type in bits 10:8.
pub fn names() -> impl Iterator<Item = (&'static str, u16)> {
    Status::ALL.iter().filter(|status| **status != Status::SUCCESS).map(|status| (status.text(), status.0))
}

impl Status {
    /// The status field of a completion without its phase tag: code, More, and Do Not Retry where the same command would
    /// fail again.
    #[must_use]
    pub fn field(self, more: bool) -> u16 {
        let again = matches!(
            self,
            Self::SUCCESS
                | Self::DATA_TRANSFER_ERROR
                | Self::INTERNAL_ERROR
                | Self::ABORT_REQUESTED
                | Self::SQ_DELETED
                | Self::NAMESPACE_NOT_READY
                | Self::INTERNAL_PATH_ERROR
                | Self::FORMAT_IN_PROGRESS
                | Self::WRITE_FAULT
                | Self::UNRECOVERED_READ_ERROR
        );
        self.0 | if again { 0 } else { DO_NOT_RETRY } | if more { MORE } else { 0 }
    }

    /// The status in a completion's status field without its phase tag.
    #[must_use]
    pub fn of_field(field: u16) -> Self {
        Self(field & 0x7ff)
    }

    /// Whether it says that media or data integrity are at fault (status code type 2h), other than what Compare found.
    pub(crate) fn is_media_error(self) -> bool {
        self.0 >> 8 == 2 && self != Self::COMPARE_FAILURE
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#05x} ({})", self.0, self.text())
    }
}
