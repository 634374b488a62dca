//! What can happen in a device, as recorders see it and rules match it.

use std::time::Duration;

use serde::Serialize;

use crate::capability::Severity;

/// Something that happened in a device.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening<'a> {
    /// A register was read or written.
    Access(Access),
    /// An interrupt message left the function.
    Interrupt(Message),
    /// The function read or wrote guest memory.
    Dma {
        /// Read is from guest memory, write is to it.
        direction: Direction,
        /// Guest physical address.
        address: u64,
        /// Length in bytes.
        length: u64,
        /// Whether it succeeded.
        result: Result<(), DmaError>,
    },
    /// A storage command reached the card.
    Command {
        /// Name as its specification spells it, such as `CMD8` or `ACMD41`.
        name: &'a str,
        /// Its argument.
        argument: u32,
        /// What the card answered; `None` is a response time-out.
        response: Option<&'a [u8]>,
    },
    /// An NVMe controller fetched a command, or ended one.
    Nvme(NvmeCommand),
    /// An NVMe controller has taken the new value of a doorbell. The write to a register that may have brought it is an
    /// access of its own, before this.
    Doorbell(Doorbell),
    /// Something that is not an access.
    Event(Event),
}

/// An NVMe command, when it is fetched from its submission queue and when its completion is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NvmeCommand {
    /// Name as the specification spells it, such as `Identify` or `Write Zeroes`.
    pub name: &'static str,
    /// Submission queue identifier; 0 is the admin queue.
    pub queue: u16,
    /// Command identifier.
    pub id: u16,
    /// Namespace identifier.
    pub namespace: u32,
    /// Command dwords 10 (low) and 11: the first block of reads and writes, what is asked for of most others.
    pub argument: u64,
    /// The status field of the completion, without phase tag: 0 is success. `None` when the command was fetched.
    pub status: Option<u16>,
}

/// A doorbell's new value, whether it came by a register or was found in memory (shadow doorbells).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doorbell {
    /// Which of the queue's doorbells.
    pub kind: DoorbellKind,
    /// Queue identifier; 0 is the admin queues.
    pub queue: u16,
    /// The index that the queue has now.
    pub value: u16,
}

/// Which kind of queue a doorbell is of (NVMe 1.4, 3.1.24 and 3.1.25).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum DoorbellKind {
    /// Submission queue y tail: the guest has submitted commands.
    #[serde(rename = "sq")]
    SubmissionTail,
    /// Completion queue y head: the guest has taken completions.
    #[serde(rename = "cq")]
    CompletionHead,
}

/// Which way data goes, as the initiator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Data to the initiator.
    Read,
    /// Data from the initiator.
    Write,
}

/// Which registers of a function an access is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Space {
    /// Configuration space, 4 KiB.
    Config,
    /// A memory BAR.
    Bar(u8),
    /// Registers behind an index register of the function, such as the reader's behind HAIMR.
    Internal,
}

/// Who answered an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// A register that a table has.
    Modelled,
    /// A function that has no such register; it answered as hardware would. Counted, and a failure of a guest test.
    Unmodelled,
    /// A function that cannot answer now: link down, BAR vanished, D3hot. Reads are all-ones, writes are lost.
    Dead,
    /// Nobody: no function decodes the address. Reads are all-ones, writes are lost (PCIe 2.3.2).
    Absent,
}

/// One register access, already answered if it is a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Which registers.
    pub space: Space,
    /// Read or write.
    pub direction: Direction,
    /// Byte offset in the space.
    pub offset: u64,
    /// Width in bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// The register's name in its table.
    pub register: Option<&'static str>,
    /// The value read or written.
    pub value: u64,
    /// Who answers.
    pub answer: Answer,
}

/// What a rule makes of something that happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    #[default]
    None,
    /// A read answers other data.
    Data(DataChange),
    /// An interrupt message or a completion is lost on its way. Its sender does not know.
    Lost,
    /// An interrupt message arrives this much later, likewise: whoever answers this keeps it until then, or loses it.
    Late(Duration),
    /// An interrupt message arrives twice.
    Twice,
    /// An NVMe command that was fetched is not done and ends with this status: its code in bits 7:0, its type in 10:8.
    Status(u16),
}

/// How the data of a read is changed: bits outside of `keep` are cleared, then those of `flip` are inverted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataChange {
    /// Bits that stay as they are.
    pub keep: u64,
    /// Bits that are inverted after that.
    pub flip: u64,
}

impl Default for DataChange {
    fn default() -> Self {
        Self::NONE
    }
}

impl DataChange {
    /// No change.
    pub const NONE: Self = Self { keep: u64::MAX, flip: 0 };

    /// Bits of `mask` become as `value` has them.
    #[must_use]
    pub fn give(mask: u64, value: u64) -> Self {
        Self { keep: !mask, flip: value & mask }
    }

    /// The data after the change.
    #[must_use]
    pub fn apply(self, data: u64) -> u64 {
        data & self.keep ^ self.flip
    }

    /// This change, and then `next`.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self { keep: self.keep & next.keep, flip: next.apply(self.flip) }
    }

    /// The change without what it does to the bits of `mask`.
    #[must_use]
    pub fn without(self, mask: u64) -> Self {
        Self { keep: self.keep | mask, flip: self.flip & !mask }
    }
}

/// What a rule makes of a DMA that is about to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DmaFault {
    /// What is written does not arrive, and nobody is told. What is read does not come: [`DmaError::TimedOut`].
    Lost,
    /// These bits of the data are inverted on their way, counted from bit 0 of the first byte.
    Flipped(Vec<u64>),
    /// It is not done.
    Failed(DmaError),
}

/// Things that happen to a device which are not accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Event {
    /// The card detect switch closed.
    CardInserted,
    /// The card detect switch opened.
    CardEjected,
    /// The card drew too much current, and the reader has noticed.
    OverCurrent,
    /// A driver is at work on the function: since reset it has enabled the first interrupt source of a reader, or an NVMe
    /// controller has become ready for it.
    DriverBound,
    /// The driver asked the reader's firmware to hand the slot to the card (SD Express).
    ExpressSwitchRequested {
        /// The relink time registers RTS5261_FW_CFG (0xff01..0xff03), little endian, as the driver left them.
        relink_time: u32,
    },
    /// The BAR stopped answering.
    BarVanished,
    /// The BAR answers again.
    BarReturned,
    /// The data link layer went down.
    LinkDown,
    /// The data link layer came up.
    LinkUp,
    /// The slot's presence detect state changed.
    PresenceChanged {
        /// The new state.
        present: bool,
    },
    /// The slot's attention button was pressed.
    AttentionButtonPressed,
    /// The slot's manually operated retention latch was opened or closed.
    MrlSensorChanged {
        /// Whether it is open now.
        open: bool,
    },
    /// The slot's power controller has detected a fault of the main power, and taken that away.
    PowerFault,
    /// The slot got main power, or lost it.
    SlotPower {
        /// Whether it has power now.
        on: bool,
    },
    /// A hot-plug command has completed.
    CommandCompleted,
    /// A function has detected an error, and has AER to tell of it.
    ErrorDetected {
        /// As aer-inject and QEMU call it.
        error: &'static str,
        /// The message that it has sent for it; `None` if it may not.
        message: Option<Severity>,
    },
    /// The port has contained an error: it holds the link down until the guest lets it go (DPC).
    Contained,
    /// What is at the slot's link, or about to be, has changed.
    Morph {
        /// Where the slot is in the switch now, as the machine calls it.
        phase: &'static str,
    },
    /// The function was put into D3hot.
    D3hotEntered,
    /// The function was put into D0 again, without a reset.
    D0Entered,
    /// The port received a PM_PME message: a function below wants to be woken.
    PmeReceived {
        /// The function: bus number in bits 15:8, device and function below.
        requester: u16,
    },
    /// The function was reset.
    Reset {
        /// How. A record's own `kind` is another thing.
        #[serde(rename = "reset")]
        kind: ResetKind,
    },
}

impl Event {
    /// Names of all events, as rules and records spell them.
    pub const NAMES: &'static [&'static str] = &[
        "card-inserted",
        "card-ejected",
        "over-current",
        "driver-bound",
        "express-switch-requested",
        "bar-vanished",
        "bar-returned",
        "link-down",
        "link-up",
        "presence-changed",
        "attention-button-pressed",
        "mrl-sensor-changed",
        "power-fault",
        "slot-power",
        "command-completed",
        "error-detected",
        "contained",
        "morph",
        "d3hot-entered",
        "d0-entered",
        "pme-received",
        "reset",
    ];

    /// This event's name, one of [`Event::NAMES`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Event::CardInserted => "card-inserted",
            Event::CardEjected => "card-ejected",
            Event::OverCurrent => "over-current",
            Event::DriverBound => "driver-bound",
            Event::ExpressSwitchRequested { .. } => "express-switch-requested",
            Event::BarVanished => "bar-vanished",
            Event::BarReturned => "bar-returned",
            Event::LinkDown => "link-down",
            Event::LinkUp => "link-up",
            Event::PresenceChanged { .. } => "presence-changed",
            Event::AttentionButtonPressed => "attention-button-pressed",
            Event::MrlSensorChanged { .. } => "mrl-sensor-changed",
            Event::PowerFault => "power-fault",
            Event::SlotPower { .. } => "slot-power",
            Event::CommandCompleted => "command-completed",
            Event::ErrorDetected { .. } => "error-detected",
            Event::Contained => "contained",
            Event::Morph { .. } => "morph",
            Event::D3hotEntered => "d3hot-entered",
            Event::D0Entered => "d0-entered",
            Event::PmeReceived { .. } => "pme-received",
            Event::Reset { .. } => "reset",
        }
    }
}

/// How far a reset reaches (PCIe 6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResetKind {
    /// Power was off: everything, sticky bits included.
    Cold,
    /// The link was reset (secondary bus reset, link down): everything but sticky bits.
    Hot,
    /// Function level reset.
    Function,
}

/// A message-signalled interrupt on its way up (PCIe 6.1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Message {
    /// The sender's own number for it: MSI message number or MSI-X table index.
    pub vector: u16,
    /// Address of the posted write.
    pub address: u64,
    /// Its data.
    pub data: u32,
}

/// Why a DMA did not happen. A device turns it into its own error status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DmaError {
    /// Bus Master Enable is clear in the function or in a bridge above it, or the link is down.
    #[error("bus mastering is off")]
    NotBusMaster,
    /// The range is not guest memory, or wraps around the end of the address space.
    #[error("no guest memory at {address:#x}, {length} bytes")]
    Unmapped {
        /// First byte of the refused range.
        address: u64,
        /// Its length in bytes.
        length: u64,
    },
    /// The guest memory there may not be written by devices.
    #[error("guest memory at {address:#x} is read-only")]
    ReadOnly {
        /// First byte of the refused range.
        address: u64,
    },
    /// The guest memory there may not be read by devices.
    #[error("guest memory at {address:#x} is write-only")]
    WriteOnly {
        /// First byte of the refused range.
        address: u64,
    },
    /// The host did not do it, for reasons of its own. On a bus: Completer Abort.
    #[error("the host refused the access at {address:#x}")]
    Refused {
        /// First byte of the range.
        address: u64,
    },
    /// The host did not answer in time. On a bus: Completion Timeout.
    #[error("the host did not answer for {address:#x} in time")]
    TimedOut {
        /// First byte of the range.
        address: u64,
    },
}
