//! Layout of commands and completions (4.2, 4.6).

use crate::opcode::admin;
use crate::status::Status;

/// Bytes of a submission queue entry.
pub(crate) const COMMAND_BYTES: usize = 64;
/// The same as a power of two, as CC.IOSQES has it.
pub(crate) const COMMAND_BYTES_LOG2: u32 = 6;
/// Bytes of a completion queue entry.
pub(crate) const COMPLETION_BYTES: usize = 16;
/// The same as a power of two, as CC.IOCQES has it.
pub(crate) const COMPLETION_BYTES_LOG2: u32 = 4;

/// All namespaces, where a command may be for all.
pub(crate) const BROADCAST: u32 = 0xffff_ffff;

/// How a command says where its data is (PSDT).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pointer {
    Prp,
    Sgl,
    /// Metadata by SGL too, or a reserved value.
    Unsupported,
}

/// A submission queue entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) opcode: u8,
    /// FUSE: 0 is a command that stands alone.
    pub(crate) fused: u8,
    pub(crate) pointer: Pointer,
    pub(crate) id: u16,
    pub(crate) namespace: u32,
    /// DPTR: two PRP entries or an SGL descriptor.
    pub(crate) data: [u64; 2],
    dwords: [u32; 6],
}

impl Command {
    pub(crate) fn parse(bytes: &[u8; COMMAND_BYTES]) -> Self {
        let dword = |index: usize| {
            let place = bytes.get(4 * index..).and_then(|rest| rest.first_chunk());
            place.map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        let quad = |index: usize| u64::from(dword(index)) | u64::from(dword(index + 1)) << 32;
        let [opcode, flags, low, high, ..] = *bytes;
        Self {
            opcode,
            fused: flags & 3,
            pointer: match flags >> 6 {
                0 => Pointer::Prp,
                1 => Pointer::Sgl,
                _ => Pointer::Unsupported,
            },
            id: u16::from_le_bytes([low, high]),
            namespace: dword(1),
            data: [quad(6), quad(8)],
            dwords: [dword(10), dword(11), dword(12), dword(13), dword(14), dword(15)],
        }
    }

    /// An Asynchronous Event Request, of which only the identifier was kept.
    pub(crate) fn asynchronous_event_request(id: u16) -> Self {
        let [low, high] = id.to_le_bytes();
        let mut bytes = [0; COMMAND_BYTES];
        for (place, byte) in bytes.iter_mut().zip([admin::ASYNC_EVENT_REQUEST, 0, low, high]) {
            *place = byte;
        }
        Self::parse(&bytes)
    }

    /// Command dword `index`, 10 to 15.
    pub(crate) fn dword(&self, index: usize) -> u32 {
        index.checked_sub(10).and_then(|at| self.dwords.get(at)).copied().unwrap_or(0)
    }

    /// Command dwords 10 and 11 as one number: the starting LBA of I/O commands.
    pub(crate) fn argument(&self) -> u64 {
        u64::from(self.dword(10)) | u64::from(self.dword(11)) << 32
    }
}

/// A completion, before it has a place in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Completion {
    /// Dword 0, whose meaning is the command's.
    pub(crate) result: u32,
    /// Submission queue identifier.
    pub(crate) queue: u16,
    /// Command identifier.
    pub(crate) id: u16,
    /// Status field without phase tag.
    pub(crate) status: u16,
}

impl Completion {
    /// The entry as it is written into its queue.
    pub(crate) fn bytes(&self, submission_head: u16, phase: bool) -> [u8; COMPLETION_BYTES] {
        let mut bytes = [0; COMPLETION_BYTES];
        let status = self.status << 1 | u16::from(phase);
        let fields = self.result.to_le_bytes().into_iter().chain([0; 4]).chain(submission_head.to_le_bytes());
        let fields = fields.chain(self.queue.to_le_bytes()).chain(self.id.to_le_bytes());
        for (place, byte) in bytes.iter_mut().zip(fields.chain(status.to_le_bytes())) {
            *place = byte;
        }
        bytes
    }
}

/// How a command ends: dword 0 of its completion, or why it failed.
pub(crate) type Ended = Result<u32, Status>;
