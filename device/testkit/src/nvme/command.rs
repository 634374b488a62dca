//! Commands and completions as they lie in guest memory (NVMe 1.4, 4.2, 4.6).

/// A submission queue entry, as dwords.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry {
    /// The dwords, in order.
    pub dwords: [u32; 16],
}

impl Entry {
    /// A command with this opcode for this namespace.
    #[must_use]
    pub fn new(opcode: u8, namespace: u32) -> Self {
        Self::default().with(0, u32::from(opcode)).with(1, namespace)
    }

    /// The same with a dword changed.
    #[must_use]
    pub fn with(mut self, index: usize, value: u32) -> Self {
        if let Some(dword) = self.dwords.get_mut(index) {
            *dword = value;
        }
        self
    }

    /// The same with these PRP entries.
    #[must_use]
    pub fn prps(self, first: u64, second: u64) -> Self {
        self.quad(6, first).quad(8, second)
    }

    /// The same with an SGL descriptor: address, length, type in bits 7:4 and sub type.
    #[must_use]
    pub fn sgl(self, descriptor: [u8; 16]) -> Self {
        let word = |at: usize| descriptor.get(at..).and_then(|rest| rest.first_chunk()).copied();
        let word = |at| u64::from_le_bytes(word(at).unwrap_or_default());
        let flags = self.dwords[0] | 1 << 14;
        self.quad(6, word(0)).quad(8, word(8)).with(0, flags)
    }

    /// The same with a first block and a number of blocks.
    #[must_use]
    pub fn blocks(self, first: u64, count: u32) -> Self {
        self.quad(10, first).with(12, count.wrapping_sub(1) & 0xffff)
    }

    /// The same with this command identifier.
    #[must_use]
    pub fn id(self, id: u16) -> Self {
        let low = self.dwords[0] & 0xffff;
        self.with(0, low | u32::from(id) << 16)
    }

    fn quad(self, index: usize, value: u64) -> Self {
        self.with(index, value as u32).with(index + 1, (value >> 32) as u32)
    }

    /// As bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.dwords.iter().flat_map(|dword| dword.to_le_bytes()).collect()
    }
}

/// An SGL descriptor (NVMe 1.4, 4.4.1).
#[must_use]
pub fn sgl_descriptor(kind: u8, address: u64, length: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    let fields = address.to_le_bytes().into_iter().chain(length.to_le_bytes()).chain([0, 0, 0, kind << 4]);
    for (place, byte) in bytes.iter_mut().zip(fields) {
        *place = byte;
    }
    bytes
}

/// A completion queue entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// Dword 0.
    pub result: u32,
    /// Where the submission queue's head is.
    pub head: u16,
    /// The submission queue.
    pub queue: u16,
    /// The command.
    pub id: u16,
    /// Status field without its phase tag: 0 is success.
    pub status: u16,
}

impl Completion {
    /// The entry at `bytes`, and its phase tag.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<(Self, bool)> {
        let bytes: &[u8; 16] = bytes.first_chunk()?;
        let [r0, r1, r2, r3, _, _, _, _, h0, h1, q0, q1, i0, i1, s0, s1] = *bytes;
        let status = u16::from_le_bytes([s0, s1]);
        let completion = Self {
            result: u32::from_le_bytes([r0, r1, r2, r3]),
            head: u16::from_le_bytes([h0, h1]),
            queue: u16::from_le_bytes([q0, q1]),
            id: u16::from_le_bytes([i0, i1]),
            status: status >> 1,
        };
        Some((completion, status & 1 != 0))
    }

    /// Status code type and status code.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.status & 0x7ff
    }
}
