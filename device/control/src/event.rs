//! Events: from wherever they happen to every client that has negotiated.

use crate::command::JsonObject;
use crate::message::line;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;

/// Wall-clock time since 1970-01-01 00:00 UTC, as QMP writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp {
    /// Whole seconds. QMP has -1 for "the clock failed".
    pub seconds: i64,
    /// The rest, 0 to 999999.
    pub microseconds: i64,
}

impl From<SystemTime> for Timestamp {
    /// A time before 1970 is QMP's "the clock failed": -1 in both.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).ok();
        let seconds = since.and_then(|since| i64::try_from(since.as_secs()).ok());
        match (seconds, since) {
            (Some(seconds), Some(since)) => Self { seconds, microseconds: i64::from(since.subsec_micros()) },
            _ => Self { seconds: -1, microseconds: -1 },
        }
    }
}

/// Something that happened, as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The name, in capitals: `CARD_INSERTED`.
    #[serde(rename = "event")]
    pub name: String,
    /// What belongs to it; left out on the wire when there is nothing.
    #[serde(default, skip_serializing_if = "JsonObject::is_empty")]
    pub data: JsonObject,
    /// When it happened.
    pub timestamp: Timestamp,
}

/// Where events go in. Clones share one ring; sending never blocks and never grows memory: a client that the ring
/// overtakes is cut off. Without a client, events go nowhere.
#[derive(Clone)]
pub struct EventSender {
    lines: broadcast::Sender<Arc<str>>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl fmt::Debug for EventSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSender").field("clients", &self.lines.receiver_count()).finish_non_exhaustive()
    }
}

impl EventSender {
    /// A ring of `capacity` events (at least 1; rounded up to a power of two) with a clock for their timestamps.
    pub fn new(capacity: usize, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        // tokio's channel does not take 0, and allocates the ring at once.
        Self { lines: broadcast::Sender::new(capacity.clamp(1, 1 << 16)), clock: Arc::new(clock) }
    }

    /// Sends an event with the time of now. Can be called from any thread, under any lock.
    pub fn send(&self, name: &str, data: JsonObject) {
        self.send_event(&Event { name: name.into(), data, timestamp: (self.clock)() });
    }

    /// Sends an event that has its time already.
    pub fn send_event(&self, event: &Event) {
        // The only error is that nobody listens.
        let _ = self.lines.send(line(event).into());
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<str>> {
        self.lines.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_system_time_becomes_seconds_and_microseconds_and_one_before_1970_becomes_minus_one() {
        let time = UNIX_EPOCH + Duration::new(1_709_294_400, 123_456_789);
        assert_eq!(Timestamp::from(time), Timestamp { seconds: 1_709_294_400, microseconds: 123_456 });
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Timestamp::from(before), Timestamp { seconds: -1, microseconds: -1 });
    }

    #[test]
    fn an_event_without_data_is_written_without_the_member() {
        let event = Event {
            name: "RESET".into(),
            data: JsonObject::new(),
            timestamp: Timestamp { seconds: 1, microseconds: 2 },
        };
        assert_eq!(line(&event), "{\"event\":\"RESET\",\"timestamp\":{\"seconds\":1,\"microseconds\":2}}\n");
    }

    #[test]
    fn sending_without_a_client_is_no_error_and_a_capacity_of_zero_does_not_panic() {
        let events = EventSender::new(0, || Timestamp { seconds: 0, microseconds: 0 });
        events.send("NOBODY_LISTENS", JsonObject::new());
    }
}
