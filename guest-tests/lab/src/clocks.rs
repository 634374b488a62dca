//! The guest's clock laid over the device's.
//!
//! Each side sees some of what the other does, and always later: the guest's line about a fallen link is printed after
//! pciehp has cleared the slot's status register, which the device saw; the script says that it inserts a card before
//! the device has it. Each such pair bounds the difference of the clocks from one side. All pairs together leave an
//! interval, and that is the uncertainty of every time of the guest.
//!
//! It is not estimated how much faster the log's clock goes than the device's: the pairs that bound most are of the
//! seconds around the removal, where that is nothing.

use std::borrow::Borrow;

use crate::klog::{Klog, LogLine, matches};
use crate::record::Entry;

/// What a line that the guest's script writes into the log begins with.
const MARK: &str = "sdmorph-test: ";
/// Slot Status: Presence Detect Changed and Data Link Layer State Changed (PCIe 5.0, 7.5.3.11).
const SLTSTA_PDC: u64 = 1 << 3;
const SLTSTA_DLLSC: u64 = 1 << 8;
/// The reader's interrupt enable register, which `.remove` writes before it unmaps the BAR.
pub const BIER: u64 = 0x18;

/// Whether an entry of the record may be one that [`align`] compares, and no other reason to keep it is known.
pub(crate) fn compares(entry: &Entry) -> bool {
    entry.writes_to("SLTSTA", SLTSTA_PDC | SLTSTA_DLLSC)
}

/// What has to be added to a time of the guest to have it on the device's clock, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alignment {
    /// At least this.
    pub least_ns: i64,
    /// At most this; `None`: nothing bounds it.
    pub most_ns: Option<i64>,
    /// What bounds it from below, and from above, in words.
    pub because: (&'static str, Option<&'static str>),
}

impl Alignment {
    /// What lower and upper bounds leave; `None` if there is no lower one.
    pub fn between(
        lower: impl Iterator<Item = (i64, &'static str)>,
        upper: impl Iterator<Item = (i64, &'static str)>,
    ) -> Option<Self> {
        let (least_ns, lower) = lower.max_by_key(|(ns, _)| *ns)?;
        let upper = upper.min_by_key(|(ns, _)| *ns);
        // A bound that contradicts the others is of a clock that went astray, and bounds nothing.
        let upper = upper.filter(|(most, _)| *most >= least_ns);
        Some(Self {
            least_ns,
            most_ns: upper.map(|(most, _)| most),
            because: (lower, upper.map(|(_, why)| why)),
        })
    }

    /// The earliest that a time of the guest's log, in microseconds, can have been on the device's clock, in nanoseconds.
    pub(crate) fn earliest_ns(&self, time_us: u64) -> Option<i64> {
        i64::try_from(time_us).ok()?.checked_mul(1000)?.checked_add(self.least_ns)
    }

    /// The interval's width in nanoseconds.
    pub fn width_ns(&self) -> Option<i64> {
        self.most_ns.map(|most| most - self.least_ns)
    }
}

/// Finds the interval for the log's clock. `None`: guest and device have nothing in common.
pub fn align<E: Borrow<Entry>>(record: &[E], log: &Klog) -> Option<Alignment> {
    let record: Vec<&Entry> = record.iter().map(Borrow::borrow).collect();
    let line = |pattern: &str| log.lines.iter().find(|line| matches(pattern, &line.text)).and_then(guest_ns);
    let event = |name: &str| record.iter().position(|entry| entry.is_event(name));
    let at = |index: Option<usize>| record.get(index?).map(device_ns);
    let link_down = event("link-down");
    let presence_changed = event("presence-changed");
    // Of the clearings that there were since the first such change, the first: no line comes before that.
    let cleared = |bit: u64, change: Option<usize>| {
        let mut since = record.iter().skip(change?);
        since.find(|entry| entry.writes_to("SLTSTA", bit)).map(device_ns)
    };
    let remove = at(remove_at(&record));
    let link_down_line = line("*pciehp: Slot(8): Link Down");
    let not_present_line = line("*pciehp: Slot(8): Card not present");
    let oops = log.oopses.first();
    let last_read = oops.and_then(|oops| {
        let page_offset = u64::from_str_radix(oops.address.as_deref()?, 16).ok()? & 0xfff;
        let mut reads = record.iter().skip(link_down?).rev();
        reads.find(|entry| entry.dead_access("read") == Some(page_offset)).map(device_ns)
    });
    let oops_line = oops.and_then(|oops| i64::try_from(oops.time_us?).ok()).map(|us| us * 1000);
    let marked = |text: &str| {
        log.lines.iter().find(|line| line.text.strip_prefix(MARK) == Some(text)).and_then(guest_ns)
    };
    let marker = record.iter().find_map(|entry| Some((marked(entry.marker()?)?, device_ns(entry))));
    // Who removes the driver: the script says so; if it does not, pciehp, once it has told what it has seen.
    let told = [link_down_line, not_present_line].into_iter().flatten().min();
    let (begun, begun_by) = match marked("removal begins") {
        Some(begun) => (Some(begun), "`removal begins` and .remove's write of BIER"),
        None => (told, "pciehp's line and .remove's write of BIER"),
    };

    let removed_lines = log.lines.iter().filter(|line| line.text == "sdmorph-test: reader removed");
    // One of before is about a removal that the driver made while its BAR was there.
    let removed = removed_lines.filter_map(guest_ns).find(|at| begun.is_none_or(|begun| *at >= begun));

    // The guest said it after the device had seen that.
    let later = [
        (
            line("sdmorph-test: drivers bound*"),
            at(event("driver-bound")),
            "the driver's first access and `drivers bound`",
        ),
        (link_down_line, at(link_down), "the link's fall and `Link Down`"),
        (link_down_line, cleared(SLTSTA_DLLSC, link_down), "pciehp's clearing of DLLSC and `Link Down`"),
        (
            not_present_line,
            cleared(SLTSTA_PDC, presence_changed),
            "pciehp's clearing of PDC and `Card not present`",
        ),
        (
            marker.map(|(guest, _)| guest),
            marker.map(|(_, device)| device),
            "a marker and the script's line of it",
        ),
    ];
    // The guest said it before the device saw that.
    let earlier = [
        (
            line("sdmorph-test: inserting*"),
            at(event("card-inserted")),
            "`inserting` and the card's insertion",
        ),
        (begun, remove, begun_by),
        (
            line("*pm_runtime_barrier skipped in pci_device_remove*"),
            remove,
            "`pm_runtime_barrier skipped` and .remove's write of BIER",
        ),
    ];
    // The same of what a verdict is about. Where it contradicts the rest, or nothing bounds it, it may be that which did not
    // happen in this order.
    let judged = [
        (oops_line, last_read, "the last read that reached the device and the oops"),
        (removed, remove, ".remove's write of BIER and `reader removed`"),
    ];
    let bound =
        |(guest, device, why): (Option<i64>, Option<i64>, &'static str)| Some((device? - guest?, why));
    let later = || later.into_iter().filter_map(bound);
    let judged = judged.into_iter().filter_map(bound);
    // One that contradicts what came later must not hide the others.
    let least_ns = later().map(|(ns, _)| ns).max();
    let earlier =
        || earlier.into_iter().filter_map(bound).filter(|(most, _)| least_ns.is_none_or(|ns| *most >= ns));
    let Some(mut found) = Alignment::between(later(), earlier()) else {
        return Alignment::between(judged, earlier());
    };
    let fitting = judged.filter(|(ns, _)| found.most_ns.is_some_and(|most| *ns <= most));
    if let Some((ns, why)) = fitting.max_by_key(|(ns, _)| *ns).filter(|(ns, _)| *ns > found.least_ns) {
        (found.least_ns, found.because.0) = (ns, why);
    }
    Some(found)
}

/// `.remove`'s own access: the first write to BIER that is lost after the link fell.
pub fn remove_at<E: Borrow<Entry>>(record: &[E]) -> Option<usize> {
    let record = || record.iter().map(Borrow::borrow);
    let link_down = record().position(|entry| entry.is_event("link-down"))?;
    let mut after = record().enumerate().skip(link_down);
    after.find(|(_, entry)| entry.dead_access("write") == Some(BIER)).map(|(index, _)| index)
}

/// The guest's time of a line in nanoseconds.
pub fn guest_ns(line: &LogLine) -> Option<i64> {
    i64::try_from(line.time_us?).ok()?.checked_mul(1000)
}

/// The device's time of an entry in nanoseconds. 292 years fit.
pub fn device_ns<E: Borrow<Entry>>(entry: &E) -> i64 {
    i64::try_from(entry.borrow().t_ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lines: &[(u64, &str)]) -> Vec<Entry> {
        let row = |(us, fields): &(u64, &str)| {
            serde_json::from_str(&format!("{{\"t_ns\":{},{fields}}}", us * 1000)).unwrap()
        };
        lines.iter().map(row).collect()
    }

    const INSERTED: &str = r#""kind":"event","name":"card-inserted""#;
    const LINK_DOWN: &str = r#""kind":"event","name":"link-down""#;
    const CLEARED: &str =
        r#""kind":"access","fn":"port","space":"config","dir":"write","reg":"SLTSTA","value":"0x100""#;
    const REMOVE: &str =
        r#""kind":"access","space":"bar0","dir":"write","offset":"0x18","value":"0x0","dead":true"#;

    fn log(lines: &[(&str, &str)]) -> Klog {
        let text: String = lines.iter().map(|(time, text)| format!("<6>[    {time}] {text}\n")).collect();
        Klog::from_bytes(text.as_bytes())
    }

    #[test]
    fn pairs_of_both_sides_bound_the_guest_s_clock() {
        let rows =
            rows(&[(1_000_000, INSERTED), (1_500_000, LINK_DOWN), (1_507_000, CLEARED), (1_520_000, REMOVE)]);
        let log = log(&[
            ("2.990000", "sdmorph-test: inserting sd-express"),
            ("3.500000", "pcieport 10000:00:1c.0: pciehp: Slot(8): Link Down"),
            ("3.501000", "sdmorph_unfix: pm_runtime_barrier skipped in pci_device_remove: count 1"),
        ]);
        let found = align(&rows, &log).unwrap();
        // Link Down was printed after DLLSC was cleared: 1.507 - 3.500. The barrier was skipped before .remove: 1.520 - 3.501.
        assert_eq!(found.least_ns, -1_993_000_000);
        assert_eq!(found.most_ns, Some(-1_990_000_000), "inserting came before the card: 1.000 - 2.990");
        assert!(
            found.because.0.contains("DLLSC") && found.because.1.unwrap().contains("inserting"),
            "{found:?}"
        );
    }

    #[test]
    fn bound_that_contradicts_leaves_the_others_and_makes_no_room_for_what_is_judged() {
        let rows =
            rows(&[(1_000_000, INSERTED), (1_500_000, LINK_DOWN), (1_507_000, CLEARED), (1_520_000, REMOVE)]);
        let text = |removed: &'static str| {
            log(&[
                ("2.990000", "sdmorph-test: inserting sd-express"),
                ("3.500000", "pcieport 10000:00:1c.0: pciehp: Slot(8): Link Down"),
                // 1 ms later than it can have been, by DLLSC's clearing.
                ("3.514000", "sdmorph_unfix: pm_runtime_barrier skipped in pci_device_remove: count 1"),
                (removed, "sdmorph-test: reader removed"),
            ])
        };
        // It came some milliseconds after .remove, or before it: then it is not what the clocks are set by.
        for removed in ["3.520000", "3.505000"] {
            let found = align(&rows, &text(removed)).unwrap();
            assert_eq!((found.least_ns, found.most_ns), (-1_993_000_000, Some(-1_990_000_000)), "{removed}");
        }
    }

    #[test]
    fn without_an_upper_pair_nothing_is_said_of_the_width() {
        let rows = rows(&[(1_500_000, LINK_DOWN)]);
        let found = align(&rows, &log(&[("3.500000", "pcieport x: pciehp: Slot(8): Link Down")])).unwrap();
        assert_eq!((found.least_ns, found.width_ns()), (-2_000_000_000, None));
    }

    #[test]
    fn nothing_in_common_gives_no_alignment() {
        assert_eq!(align(&rows(&[(1, LINK_DOWN)]), &log(&[("3.500000", "something else")])), None);
    }

    #[test]
    fn upper_pair_that_contradicts_the_lower_ones_is_not_used() {
        let rows = rows(&[(1_000_000, INSERTED), (1_500_000, LINK_DOWN)]);
        let log = log(&[
            ("3.010000", "sdmorph-test: inserting sd-express"),
            ("3.500000", "pcieport x: pciehp: Slot(8): Link Down"),
        ]);
        assert_eq!(align(&rows, &log).unwrap().most_ns, None);
    }

    #[test]
    fn line_about_the_link_comes_before_the_removal_that_pciehp_begins_with_it() {
        let rows = rows(&[(1_500_000, LINK_DOWN), (1_507_000, CLEARED), (1_620_000, REMOVE)]);
        let lines = [
            ("3.500000", "pcieport x: pciehp: Slot(8): Link Down"),
            ("3.500009", "pcieport x: pciehp: Slot(8): Card not present"),
        ];
        let found = align(&rows, &log(&lines)).unwrap();
        assert_eq!((found.least_ns, found.most_ns), (-1_993_000_000, Some(-1_880_000_000)));
        // What the script says of the end bounds it from the other side: .remove's write came before it.
        let removed = ("3.600000", "sdmorph-test: reader removed");
        let found = align(&rows, &log(&[lines[0], lines[1], removed])).unwrap();
        assert_eq!((found.least_ns, found.most_ns), (-1_980_000_000, Some(-1_880_000_000)));
    }

    #[test]
    fn removal_that_seems_to_end_before_its_write_bounds_nothing() {
        let rows = rows(&[(1_000_000, INSERTED), (1_500_000, LINK_DOWN), (1_620_000, REMOVE)]);
        let log = log(&[
            ("2.995000", "sdmorph-test: inserting sd-express"),
            ("3.500000", "pcieport x: pciehp: Slot(8): Link Down"),
            // 75 ms too early.
            ("3.540000", "sdmorph-test: reader removed"),
        ]);
        let found = align(&rows, &log).unwrap();
        assert_eq!((found.least_ns, found.most_ns), (-2_000_000_000, Some(-1_995_000_000)));
    }

    #[test]
    fn removal_that_the_script_begins_need_not_have_waited_for_the_line_about_the_link() {
        let marker = r#""kind":"marker","text":"removal begins""#;
        let rows =
            rows(&[(1_000_000, marker), (1_500_000, LINK_DOWN), (1_507_000, CLEARED), (1_510_000, REMOVE)]);
        let log = log(&[
            ("3.001000", "sdmorph-test: removal begins"),
            // 11 ms after .remove's write.
            ("3.520000", "pcieport x: pciehp: Slot(8): Link Down"),
        ]);
        let found = align(&rows, &log).unwrap();
        assert_eq!((found.least_ns, found.most_ns), (-2_001_000_000, Some(-1_491_000_000)));
        assert!(found.because.0.contains("marker"), "{found:?}");
    }
}
