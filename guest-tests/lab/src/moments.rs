//! The times of a run, on one clock.
//!
//! The device's record and the guest's log have clocks of their own. They are laid over each other where both saw the
//! same thing: the device's `link-down` and the guest's `Slot(8): Link Down`. The guest's line is the later one, by
//! the interrupt's way to pciehp's thread, so a guest time can come out too early by that much (some milliseconds
//! under TCG). Where no link falls, it is a marker of the guest's script, which says the same in the log once it is
//! answered. Times of one clock are exact among themselves.

use serde::Serialize;

use crate::klog::{Klog, matches};
use crate::record::{Entry, Record};
use crate::scenario::{Happening, Moment};

/// What a line that the guest's script writes into the log begins with.
const MARK: &str = "sdmorph-test: ";

/// Whose clock a time was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockSource {
    /// The device's monotonic clock.
    Device,
    /// The guest kernel's log clock, laid over the device's.
    Guest,
}

/// One moment of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MomentTime {
    /// What people call it.
    pub name: String,
    /// Milliseconds since the first moment of the scenario that happened; `None`: it did not happen.
    pub t_ms: Option<f64>,
    /// Whose clock.
    pub clock: ClockSource,
}

/// Find the scenario's moments in a run, and which time of the device's clock, in nanoseconds, they count from.
pub fn locate(moments: &[Moment], record: &Record, log: &Klog) -> (Vec<MomentTime>, Option<u64>) {
    let common = in_common(record, log);
    let on_device_clock = |time_us: u64| Some(laid_over(common?, time_us));
    let find = |moment: &Moment| -> (Option<i128>, ClockSource) {
        let (what, last) = match (&moment.first, &moment.last) {
            (Some(what), _) => (what, false),
            (None, Some(what)) => (what, true),
            (None, None) => return (None, ClockSource::Device),
        };
        if let Some(pattern) = &what.log {
            let mut lines = log.lines.iter().filter(|line| line.is_kernel() && matches(pattern, &line.text));
            let line = if last { lines.next_back() } else { lines.next() };
            return (line.and_then(|line| on_device_clock(line.time_us?)), ClockSource::Guest);
        }
        if let Some(name) = &what.note {
            let mut notes = log.notes.iter().filter(|note| note.what == *name);
            let note = if last { notes.next_back() } else { notes.next() };
            return (note.and_then(|note| on_device_clock(note.time_us)), ClockSource::Guest);
        }
        let from = match &what.after {
            Some(event) => record.entries.iter().position(|entry| entry.is_event(event)),
            None => Some(0),
        };
        let Some(from) = from else { return (None, ClockSource::Device) };
        let mut entries = record.entries.iter().skip(from).filter(|entry| happened(what, entry));
        let entry = if last { entries.next_back() } else { entries.next() };
        (entry.map(|entry| i128::from(entry.t_ns)), ClockSource::Device)
    };
    let found: Vec<_> = moments.iter().map(|moment| (moment, find(moment))).collect();
    let zero = found.iter().find_map(|(_, (t_ns, _))| *t_ns);
    let since = |t_ns: i128| zero.map(|zero| milliseconds(t_ns - zero));
    let times = found.into_iter().map(|(moment, (t_ns, clock))| MomentTime {
        name: moment.name.clone(),
        t_ms: t_ns.and_then(since),
        clock,
    });
    (times.collect(), zero.and_then(|zero| u64::try_from(zero).ok()))
}

/// A time of the guest's log, in microseconds, as one of the device's clock, in nanoseconds; `None` if they have seen
/// nothing in common. Signed, since it can lie before the device's start.
pub(crate) fn on_device_clock(time_us: u64, record: &Record, log: &Klog) -> Option<i128> {
    Some(laid_over(in_common(record, log)?, time_us))
}

fn laid_over((device_ns, guest_us): (u64, u64), time_us: u64) -> i128 {
    i128::from(device_ns) + (i128::from(time_us) - i128::from(guest_us)) * 1000
}

/// What both saw: its time for the device, in nanoseconds, and for the guest, in microseconds.
fn in_common(record: &Record, log: &Klog) -> Option<(u64, u64)> {
    let guest = |pattern: &str| log.find(pattern)?.time_us;
    let link = record.event("link-down").map(|entry| entry.t_ns).zip(guest("*pciehp: Slot(8): Link Down"));
    link.or_else(|| {
        let markers = record.entries.iter().filter(|entry| entry.kind == "marker");
        let said =
            |text: &str| log.lines.iter().find(|line| line.text.strip_prefix(MARK) == Some(text))?.time_us;
        markers.filter_map(|entry| Some((entry.t_ns, said(entry.text.as_deref()?)?))).next()
    })
}

/// Whether an entry of the record is what some moment is about.
pub(crate) fn any_happened(moments: &[Moment], entry: &Entry) -> bool {
    let mut about = moments.iter().filter_map(|moment| moment.first.as_ref().or(moment.last.as_ref()));
    about.any(|what| happened(what, entry))
}

fn happened(what: &Happening, entry: &Entry) -> bool {
    if let Some(name) = &what.event {
        return entry.is_event(name);
    }
    if let Some(register) = &what.read {
        return entry.is_access("read", register);
    }
    for (dir, offset) in [("read", what.dead_read), ("write", what.dead_write)] {
        if offset.is_some() {
            return entry.dead_access(dir) == offset;
        }
    }
    what.write.as_ref().is_some_and(|register| entry.is_access("write", register))
}

/// Microsecond resolution is all that a report needs.
fn milliseconds(ns: i128) -> f64 {
    let micros = i32::try_from(ns / 1000).unwrap_or(if ns < 0 { i32::MIN } else { i32::MAX });
    f64::from(micros) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn device_times_are_exact_and_guest_times_are_laid_over_link_down() {
        let scenario = Scenario::load("sd7-idle-race").unwrap();
        let record = Record::parse(include_str!("../fixtures/fault.jsonl"), &scenario.moments).unwrap();
        let log = Klog::from_bytes(include_bytes!("../fixtures/fault-6.1.log"));
        let (times, zero_ns) = locate(&scenario.moments, &record, &log);
        assert_eq!(zero_ns, Some(11_324_258_877));
        let of = |name: &str| times.iter().find(|time| time.name == name).unwrap().t_ms;
        assert_eq!(of("switch requested"), Some(0.0));
        assert_eq!(of("BAR vanished"), Some(250.771));
        assert_eq!(of("link down"), Some(257.118));
        assert_eq!(of(".remove at the BAR, unmaps next"), Some(266.178));
        assert_eq!(of("idle callback's last read"), Some(257.39));
        // 6.429832 - 6.401124 s after Link Down.
        assert_eq!(of("page fault"), Some(285.826));
    }

    #[test]
    fn what_did_not_happen_has_no_time() {
        let scenario = Scenario::load("sd7-idle-race").unwrap();
        let (times, _) = locate(&scenario.moments, &Record::default(), &Klog::new());
        assert_eq!(times.len(), scenario.moments.len());
        assert!(times.iter().all(|time| time.t_ms.is_none()));
    }

    #[test]
    fn without_a_common_moment_guest_times_are_unknown() {
        let scenario = Scenario::load("sd7-idle-race").unwrap();
        let record = Record::parse(include_str!("../fixtures/fault.jsonl"), &scenario.moments).unwrap();
        let log = Klog::from_bytes(b"<14>[    7.000000] sdmorph-test: reader removed\n");
        let (times, _) = locate(&scenario.moments, &record, &log);
        assert_eq!(times.iter().find(|time| time.name == "reader removed").unwrap().t_ms, None);
    }
}
