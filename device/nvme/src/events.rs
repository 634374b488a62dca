//! Asynchronous events (5.2): what the controller has to say without being asked.

use std::collections::VecDeque;

use serde_json::{Value, json};

/// Most Asynchronous Event Requests at a time: AERL + 1.
pub(crate) const MAX_REQUESTS: usize = 4;

/// An event (figures 145 to 149).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AsyncEvent {
    /// A doorbell of a queue that is not there.
    InvalidDoorbell,
    /// A value that the queue cannot have.
    InvalidDoorbellValue,
    /// SMART / health: a temperature threshold was crossed.
    Temperature,
    /// Notice: an attribute of the namespace has changed.
    NamespaceAttribute,
}

impl AsyncEvent {
    /// Type, information and log page.
    fn fields(self) -> (u8, u8, u8) {
        match self {
            AsyncEvent::InvalidDoorbell => (0, 0, 0x01),
            AsyncEvent::InvalidDoorbellValue => (0, 1, 0x01),
            AsyncEvent::Temperature => (1, 1, 0x02),
            AsyncEvent::NamespaceAttribute => (2, 0, 0x04),
        }
    }

    /// Dword 0 of the completion that reports it.
    pub(crate) fn result(self) -> u32 {
        let (kind, information, log_page) = self.fields();
        u32::from_le_bytes([kind, information, log_page, 0])
    }
}

/// Requests that wait for an event, and events that wait for a request.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Command identifiers, oldest first; at most [`MAX_REQUESTS`].
    requests: VecDeque<u16>,
    /// Each event once.
    pending: VecDeque<AsyncEvent>,
    /// A bit for each type that was reported and whose log page has not been read.
    masked: u8,
}

impl Events {
    /// Takes a request; false if there are too many.
    pub(crate) fn request(&mut self, id: u16) -> bool {
        let room = self.requests.len() < MAX_REQUESTS;
        if room {
            self.requests.push_back(id);
        }
        room
    }

    /// Whether a request has this command identifier.
    pub(crate) fn has_request(&self, id: u16) -> bool {
        self.requests.contains(&id)
    }

    /// Takes a request back; false if there is none with this identifier.
    pub(crate) fn abort(&mut self, id: u16) -> bool {
        let before = self.requests.len();
        self.requests.retain(|request| *request != id);
        self.requests.len() != before
    }

    /// Something has happened.
    pub(crate) fn report(&mut self, event: AsyncEvent) {
        if !self.pending.contains(&event) {
            self.pending.push_back(event);
        }
    }

    /// An event that can be reported now, with the request that does it.
    pub(crate) fn take(&mut self) -> Option<(u16, AsyncEvent)> {
        let at = self.pending.iter().position(|event| self.masked & 1 << event.fields().0 == 0)?;
        let request = self.requests.pop_front()?;
        let event = self.pending.remove(at)?;
        self.masked |= 1 << event.fields().0;
        Some((request, event))
    }

    /// A log page was read, and the event that it belongs to is not to be kept (RAE).
    pub(crate) fn log_page_read(&mut self, log_page: u8) {
        for event in [AsyncEvent::InvalidDoorbell, AsyncEvent::Temperature, AsyncEvent::NamespaceAttribute] {
            let (kind, _, page) = event.fields();
            if page == log_page {
                self.masked &= !(1 << kind);
            }
        }
    }

    pub(crate) fn snapshot(&self) -> Value {
        let pending: Vec<String> = self.pending.iter().map(|event| format!("{event:?}")).collect();
        json!({"requests": self.requests.len(), "pending": pending, "masked-types": self.masked})
    }
}
