//! Which messages of the vfio-user client rules wait for; known without the machine's lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Tells whether the machine wants to be shown a message ([`crate::Machine::message`]): a guest's every access is one,
/// and most of the time no rule waits for any.
#[derive(Debug, Clone, Default)]
pub struct MessageWatch {
    /// Bit n stands for the command of number n.
    messages: Arc<AtomicU32>,
}

impl MessageWatch {
    /// Whether a rule waits for the message whose command has that number.
    #[must_use]
    pub fn waits_for(&self, number: u16) -> bool {
        let messages = self.messages.load(Ordering::Acquire);
        messages.checked_shr(number.into()).is_some_and(|rest| rest & 1 != 0)
    }

    pub(crate) fn set(&self, messages: u32) {
        self.messages.store(messages, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_whose_bit_is_set_are_waited_for() {
        let watch = MessageWatch::default();
        assert!(!watch.waits_for(9));
        watch.clone().set(1 << 9 | 1 << 31);
        for (number, expected) in
            [(9, true), (31, true), (8, false), (10, false), (41, false), (u16::MAX, false)]
        {
            assert_eq!(watch.waits_for(number), expected, "{number}");
        }
    }
}
