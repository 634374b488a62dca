//! What is owed to a client, told from nothing but the bytes it sent: the oracle.
//!
//! It looks at four fields of each header and knows nothing of commands: a message is complete when as many bytes are
//! there as its header says; a command is owed one answer with its number and id, unless it wants none; a reply is owed
//! nothing. It shares no code with the server.

/// One complete message of a client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// First byte of it in the stream.
    pub start: usize,
    /// First byte after it.
    pub end: usize,
    /// Its id.
    pub id: u16,
    /// Its command.
    pub command: u16,
    /// Its flags.
    pub flags: u32,
}

impl Sent {
    /// Is it a reply?
    #[must_use]
    pub fn is_reply(&self) -> bool {
        self.flags & 0xf == 1
    }

    /// Is it owed an answer?
    #[must_use]
    pub fn is_owed(&self) -> bool {
        !self.is_reply() && self.flags & 0x10 == 0
    }
}

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// After so many bytes of a message that is not complete; 0 between two messages.
    Partial(usize),
    /// With a header that claims so few bytes that it cannot be one.
    Short(u32),
}

/// Follows a stream of messages as its bytes come.
#[derive(Debug, Default)]
pub struct Stream {
    bytes: Vec<u8>,
    /// The bytes before this one are in `sent`.
    done: usize,
    sent: Vec<Sent>,
    owed: Vec<(u16, u16)>,
    short: Option<u32>,
}

impl Stream {
    /// More bytes of it.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        while self.short.is_none() {
            let Some(header) = self.bytes.get(self.done..self.done + 16) else { return };
            let u16_at = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
            let u32_at =
                |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            let (id, command, length, flags) = (u16_at(0), u16_at(2), u32_at(4), u32_at(8));
            if length < 16 {
                self.short = Some(length);
                return;
            }
            let end = self.done + length as usize;
            if self.bytes.len() < end {
                return;
            }
            let sent = Sent { start: self.done, end, id, command, flags };
            self.done = end;
            if sent.is_owed() {
                self.owed.push((id, command));
            }
            self.sent.push(sent);
        }
    }

    /// Every byte.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Every complete message, in order.
    #[must_use]
    pub fn sent(&self) -> &[Sent] {
        &self.sent
    }

    /// The body of one of them.
    #[must_use]
    pub fn body(&self, sent: &Sent) -> &[u8] {
        &self.bytes[sent.start + 16..sent.end]
    }

    /// Id and command of every answer that is owed, in order.
    #[must_use]
    pub fn owed(&self) -> &[(u16, u16)] {
        &self.owed
    }

    /// Length of the message that began last and is not complete, once its header is there.
    #[must_use]
    pub fn announced(&self) -> Option<usize> {
        let length = self.bytes.get(self.done..self.done + 16)?.get(4..8)?;
        Some(u32::from_ne_bytes(length.try_into().ok()?) as usize)
    }

    /// How it ends so far.
    #[must_use]
    pub fn end(&self) -> End {
        self.short.map_or(End::Partial(self.bytes.len() - self.done), End::Short)
    }
}
