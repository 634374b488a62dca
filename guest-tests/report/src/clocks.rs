//! The guest's clock laid over the device's.
//!
//! Each side sees some of what the other does, and always later: the guest's line about a fallen link is printed after
//! pciehp has cleared the slot's status register, which the device saw; the script says that it inserts a card before
//! the device has it. Each such pair bounds the difference of the clocks from one side. All pairs together leave an
//! interval, and that is the uncertainty of every time of the guest.
//!
//! What it does not do: estimate how much faster one clock goes than the other. The pairs that bound most are of the
//! seconds around the removal, where that is nothing.

use sdmorph_lab::klog::{Klog, LogLine, matches};

use crate::evidence::Row;

/// Slot Status: Presence Detect Changed and Data Link Layer State Changed (PCIe 5.0, 7.5.3.11).
const SLTSTA_PDC: u64 = 1 << 3;
const SLTSTA_DLLSC: u64 = 1 << 8;
/// The reader's interrupt enable register, which `.remove` writes before it unmaps the BAR.
pub(crate) const BIER: u64 = 0x18;

/// What has to be added to a time of the guest to have it on the device's clock, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alignment {
    /// At least this.
    pub(crate) least_ns: i64,
    /// At most this; `None`: nothing bounds it.
    pub(crate) most_ns: Option<i64>,
    /// What bounds it from below, and from above, in words.
    pub(crate) because: (&'static str, Option<&'static str>),
    /// What `report.md` adds, which takes the line about the link for simultaneous with its fall.
    pub(crate) naive_ns: Option<i64>,
}

impl Alignment {
    /// The interval's width in nanoseconds.
    pub(crate) fn width_ns(&self) -> Option<i64> {
        self.most_ns.map(|most| most - self.least_ns)
    }
}

/// Finds the interval. `None`: guest and device have nothing in common.
pub(crate) fn align(rows: &[Row], log: &Klog) -> Option<Alignment> {
    let line = |pattern: &str| log.lines.iter().find(|line| matches(pattern, &line.text)).and_then(guest_ns);
    let event = |name: &str| rows.iter().position(|row| row.is_event(name));
    let link_down = event("link-down");
    let after_link_down = || rows.iter().skip(link_down.unwrap_or(rows.len()));
    let cleared = |bit: u64| {
        let mut writes = after_link_down().filter(|row| row.is_access("write", "SLTSTA"));
        writes.find(|row| row.value.unwrap_or(0) & bit != 0).map(device_ns)
    };
    let remove = remove_at(rows).and_then(|index| rows.get(index)).map(device_ns);
    let link_down_ns = link_down.and_then(|index| rows.get(index)).map(device_ns);
    let link_down_line = line("*pciehp: Slot(8): Link Down");
    let oops = log.oopses.first();
    let last_read = oops.and_then(|oops| {
        let page_offset = u64::from_str_radix(oops.address.as_deref()?, 16).ok()? & 0xfff;
        let mut reads = after_link_down().filter(|row| row.is_lost() && row.is_read());
        reads.rfind(|row| row.page_offset() == Some(page_offset)).map(device_ns)
    });
    let oops_line = oops.and_then(|oops| i64::try_from(oops.time_us?).ok()).map(|us| us * 1000);

    // The guest said it after the device had seen that.
    let later = [
        (
            line("sdmorph-test: drivers bound*"),
            event("driver-bound").and_then(|index| rows.get(index)).map(device_ns),
            "the driver's first access and `drivers bound`",
        ),
        (link_down_line, link_down_ns, "the link's fall and `Link Down`"),
        (link_down_line, cleared(SLTSTA_DLLSC), "pciehp's clearing of DLLSC and `Link Down`"),
        (
            line("*pciehp: Slot(8): Card not present"),
            cleared(SLTSTA_PDC),
            "pciehp's clearing of PDC and `Card not present`",
        ),
        (oops_line, last_read, "the last read that reached the device and the oops"),
        (line("sdmorph-test: reader removed"), remove, ".remove's write of BIER and `reader removed`"),
    ];
    // The guest said it before the device saw that.
    let earlier = [
        (
            line("sdmorph-test: inserting*"),
            event("card-inserted").and_then(|index| rows.get(index)).map(device_ns),
            "`inserting` and the card's insertion",
        ),
        (
            line("*pm_runtime_barrier skipped in pci_device_remove*"),
            remove,
            "`pm_runtime_barrier skipped` and .remove's write of BIER",
        ),
    ];
    let bound =
        |(guest, device, why): (Option<i64>, Option<i64>, &'static str)| Some((device? - guest?, why));
    let (least_ns, lower) = later.into_iter().filter_map(bound).max_by_key(|(ns, _)| *ns)?;
    let upper = earlier.into_iter().filter_map(bound).min_by_key(|(ns, _)| *ns);
    // A bound that contradicts the others is of a clock that went astray, and bounds nothing.
    let upper = upper.filter(|(most, _)| *most >= least_ns);
    Some(Alignment {
        least_ns,
        most_ns: upper.map(|(most, _)| most),
        because: (lower, upper.map(|(_, why)| why)),
        naive_ns: link_down_ns.zip(link_down_line).map(|(device, guest)| device - guest),
    })
}

/// `.remove`'s own access: the first write to BIER that is lost after the link fell.
pub(crate) fn remove_at(rows: &[Row]) -> Option<usize> {
    let link_down = rows.iter().position(|row| row.is_event("link-down"))?;
    let mut writes = rows.iter().enumerate().skip(link_down);
    let is_bier = |row: &Row| row.is_lost() && !row.is_read() && row.page_offset() == Some(BIER);
    writes.find(|(_, row)| is_bier(row)).map(|(index, _)| index)
}

/// The guest's time of a line in nanoseconds.
pub(crate) fn guest_ns(line: &LogLine) -> Option<i64> {
    i64::try_from(line.time_us?).ok()?.checked_mul(1000)
}

/// The device's time of an entry in nanoseconds. 292 years fit.
pub(crate) fn device_ns(row: &Row) -> i64 {
    i64::try_from(row.t_ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lines: &[(u64, &str)]) -> Vec<Row> {
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
        assert_eq!(found.naive_ns, Some(-2_000_000_000));
        assert!(
            found.because.0.contains("DLLSC") && found.because.1.unwrap().contains("inserting"),
            "{found:?}"
        );
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
}
