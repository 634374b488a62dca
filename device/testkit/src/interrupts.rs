//! Interrupt messages in the order they came.

use sdmorph_pci::{InterruptSink, Message};

/// Keeps every message.
#[derive(Debug, Default)]
pub struct MessageLog {
    messages: Vec<Message>,
    /// How many of them have been taken.
    taken: usize,
}

impl MessageLog {
    /// All messages.
    #[must_use]
    pub fn all(&self) -> &[Message] {
        &self.messages
    }

    /// Messages that came since the last call.
    pub fn take_new(&mut self) -> Vec<Message> {
        let new = self.messages.get(self.taken..).unwrap_or_default().to_vec();
        self.taken = self.messages.len();
        new
    }
}

impl InterruptSink for MessageLog {
    fn send(&mut self, message: Message) {
        self.messages.push(message);
    }
}
