//! The error information log (5.14.1.1).

use std::collections::VecDeque;

use crate::status::Status;

/// Entries: ELPE + 1.
pub(crate) const ENTRIES: usize = 64;
/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: usize = 64;

/// No queue, or no command, that the error belongs to.
pub(crate) const NONE: u16 = 0xffff;

/// An error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Submission queue.
    pub(crate) queue: u16,
    /// Command identifier.
    pub(crate) id: u16,
    pub(crate) status: Status,
    /// The first block of an I/O command.
    pub(crate) lba: u64,
    pub(crate) namespace: u32,
}

/// The newest errors, and how many there have been.
#[derive(Debug, Default)]
pub(crate) struct ErrorLog {
    entries: VecDeque<(u64, Entry)>,
    count: u64,
}

impl ErrorLog {
    pub(crate) fn push(&mut self, entry: Entry) {
        self.count += 1;
        self.entries.truncate(ENTRIES - 1);
        self.entries.push_front((self.count, entry));
    }

    /// Errors over the life of the controller.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Power was off: the count stays, the entries go.
    pub(crate) fn power_cycle(&mut self) {
        self.entries.clear();
    }

    /// The log page, newest first. Entries that are not there are zeros.
    pub(crate) fn page(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(ENTRIES * ENTRY_BYTES);
        for (number, entry) in &self.entries {
            // The status field with its phase tag, which is of no meaning here.
            let status = entry.status.field(true) << 1;
            page.extend(number.to_le_bytes());
            page.extend(entry.queue.to_le_bytes());
            page.extend(entry.id.to_le_bytes());
            page.extend(status.to_le_bytes());
            // Parameter error location: not given.
            page.extend(NONE.to_le_bytes());
            page.extend(entry.lba.to_le_bytes());
            page.extend(entry.namespace.to_le_bytes());
            let used = 28;
            page.resize(page.len() + ENTRY_BYTES - used, 0);
        }
        page.resize(ENTRIES * ENTRY_BYTES, 0);
        page
    }
}
