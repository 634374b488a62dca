//! The times of a run, on one clock.
//!
//! The device's record and the guest's log have clocks of their own, and what both saw bounds their difference
//! ([`crate::clocks`]). So a time of the guest is an interval of the device's clock. Times of one clock are exact among
//! themselves.

use serde::Serialize;

use crate::clocks::{self, guest_ns};
use crate::klog::{Klog, matches};
use crate::record::{Entry, Record};
use crate::scenario::{Happening, Moment};

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
    /// Milliseconds since the first moment of the scenario that happened; of the guest's clock, the earliest that it can
    /// have been. `None`: it did not happen, or the guest's clock has nothing in common with the device's.
    pub t_ms: Option<f64>,
    /// The latest that it can have been; of the device's clock, the same. `None`: nothing bounds it.
    pub latest_ms: Option<f64>,
    /// Whose clock.
    pub clock: ClockSource,
    /// Which entry of the record it is, if it is the device's: entries of one access have one time, and an order.
    #[serde(skip)]
    pub(crate) entry: Option<usize>,
}

/// Nanoseconds on the device's clock, the earliest and the latest; signed, since a guest time can lie before the device's
/// start.
type Interval = (i64, Option<i64>);

/// Find the scenario's moments in a run, and which time of the device's clock, in nanoseconds, they count from.
pub fn locate(moments: &[Moment], record: &Record, log: &Klog) -> (Vec<MomentTime>, Option<u64>) {
    let alignment = clocks::align(&record.entries, log);
    let on_device_clock = |guest_ns: i64| -> Option<Interval> {
        let alignment = alignment.as_ref()?;
        let most = alignment.most_ns.and_then(|most| guest_ns.checked_add(most));
        Some((guest_ns.checked_add(alignment.least_ns)?, most))
    };
    let find = |moment: &Moment| -> (Option<Interval>, ClockSource, Option<usize>) {
        let (what, last) = match (&moment.first, &moment.last) {
            (Some(what), _) => (what, false),
            (None, Some(what)) => (what, true),
            (None, None) => return (None, ClockSource::Device, None),
        };
        if let Some(pattern) = &what.log {
            let mut lines = log.lines.iter().filter(|line| line.is_kernel() && matches(pattern, &line.text));
            let line = if last { lines.next_back() } else { lines.next() };
            return (line.and_then(guest_ns).and_then(on_device_clock), ClockSource::Guest, None);
        }
        if let Some(name) = &what.note {
            let mut notes = log.notes.iter().filter(|note| note.what == *name);
            let note = if last { notes.next_back() } else { notes.next() };
            let noted_ns = note.and_then(|note| i64::try_from(note.time_us).ok()?.checked_mul(1000));
            return (noted_ns.and_then(on_device_clock), ClockSource::Guest, None);
        }
        let from = match &what.after {
            Some(event) => record.entries.iter().position(|entry| entry.is_event(event)),
            None => Some(0),
        };
        let Some(from) = from else { return (None, ClockSource::Device, None) };
        let mut entries =
            record.entries.iter().enumerate().skip(from).filter(|(_, entry)| happened(what, entry));
        let entry = if last { entries.next_back() } else { entries.next() };
        let at = entry.map(|(_, entry)| clocks::device_ns(entry));
        (at.map(|at| (at, Some(at))), ClockSource::Device, entry.map(|(index, _)| index))
    };
    let found: Vec<_> = moments.iter().map(|moment| (moment, find(moment))).collect();
    let zero = found.iter().find_map(|(_, (time, ..))| time.map(|(earliest, _)| earliest));
    let since = |at: i64| zero.map(|zero| milliseconds(at.saturating_sub(zero)));
    let times = found.into_iter().map(|(moment, (time, clock, entry))| MomentTime {
        name: moment.name.clone(),
        t_ms: time.and_then(|(earliest, _)| since(earliest)),
        latest_ms: time.and_then(|(_, latest)| since(latest?)),
        clock,
        entry,
    });
    (times.collect(), zero.and_then(|zero| u64::try_from(zero).ok()))
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
fn milliseconds(ns: i64) -> f64 {
    let micros = i32::try_from(ns / 1000).unwrap_or(if ns < 0 { i32::MIN } else { i32::MAX });
    f64::from(micros) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn device_times_are_exact_and_guest_times_are_intervals() {
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
        // 6.429832 - 6.401124 s after Link Down, if that was printed as soon as the link fell.
        assert_eq!(of("page fault"), Some(285.826));
        let latest = |name: &str| times.iter().find(|time| time.name == name).unwrap().latest_ms;
        assert_eq!(latest("link down"), Some(257.118));
        // 6.429832 - 5.714396 s after `inserting`, if the card was in as soon as that was printed.
        assert_eq!(latest("page fault"), Some(293.826));
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
        let mut record = Record::parse(include_str!("../fixtures/fault.jsonl"), &scenario.moments).unwrap();
        // Without .remove's write of BIER, which this line comes after.
        record.entries.retain(|entry| entry.dead_access("write") != Some(clocks::BIER));
        let log = Klog::from_bytes(b"<14>[    7.000000] sdmorph-test: reader removed\n");
        let (times, _) = locate(&scenario.moments, &record, &log);
        assert_eq!(times.iter().find(|time| time.name == "reader removed").unwrap().t_ms, None);
    }
}
