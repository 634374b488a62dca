//! The guest's clock laid over the device's.
//!
//! Each side sees some of what the other does, and always later: the guest's line about a fallen link is printed after
//! pciehp has cleared the slot's status register, which the device saw; the script says that it inserts a card before
//! the device has it. Each such pair bounds the difference of the clocks from one side. All pairs together leave an
//! interval, and that is the uncertainty of every time of the guest.
//!
//! A trace of the guest's kernel has a third clock, the processors' counter, and bounds of its own: markers of both sides,
//! and the accesses of a function that it shows. Lines of the log are in it too, so that with a trace they have its time.
//!
//! Of the log's clock it is not estimated how much faster it goes than the device's: the pairs that bound most are of the
//! seconds around the removal, where that is nothing. The trace's is taken for one that goes at a steady rate, whichever
//! fits to all pairs, and to those of the whole run.

use sdmorph_lab::klog::{Klog, LogLine, matches};

use crate::evidence::Row;
use crate::ftrace::{Call, End, Ftrace};

/// Slot Status: Presence Detect Changed and Data Link Layer State Changed (PCIe 5.0, 7.5.3.11).
const SLTSTA_PDC: u64 = 1 << 3;
const SLTSTA_DLLSC: u64 = 1 << 8;
/// The reader's interrupt enable register, which `.remove` writes before it unmaps the BAR.
pub(crate) const BIER: u64 = 0x18;

/// By how much the trace's clock can be faster or slower than the device's, and in which steps that is tried, in parts of
/// 10^9. The guest measures its counter's frequency when it boots, against a timer that an emulator may serve late.
const FASTEST: i64 = 500_000;
const STEP: usize = 500;
/// How far the log's clock goes wrong between two lines whose time the trace knows better: a tick of 250 Hz, within which
/// it is kept (sched_clock_local of kernel/sched/clock.c).
const LOG_ERROR_NS: i64 = 4_000_000;
/// An internal register's address (0xfe8f, L1SUB_CONFIG3), as it is in bits 29:16 of HAIMR, which is at 0x10.
const L1SUB_CONFIG3: u64 = 0x3e8f;
const HAIMR: u64 = 0x10;

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
    let naive_ns = link_down_ns.zip(link_down_line).map(|(device, guest)| device - guest);
    interval(later.into_iter().filter_map(bound), earlier.into_iter().filter_map(bound), naive_ns)
}

/// What lower and upper bounds leave.
fn interval(
    lower: impl Iterator<Item = (i64, &'static str)>,
    upper: impl Iterator<Item = (i64, &'static str)>,
    naive_ns: Option<i64>,
) -> Option<Alignment> {
    let (least_ns, lower) = lower.max_by_key(|(ns, _)| *ns)?;
    let upper = upper.min_by_key(|(ns, _)| *ns);
    // A bound that contradicts the others is of a clock that went astray, and bounds nothing.
    let upper = upper.filter(|(most, _)| *most >= least_ns);
    Some(Alignment {
        least_ns,
        most_ns: upper.map(|(most, _)| most),
        because: (lower, upper.map(|(_, why)| why)),
        naive_ns,
    })
}

/// The guest's clocks laid over the device's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestClock {
    /// Of the trace's clock if there is a trace, of the log's if not.
    pub(crate) alignment: Alignment,
    /// What `report.md` has added to the log's times.
    naive_ns: Option<i64>,
    /// Lines that log and trace both have: the log's time, the trace's.
    lines: Vec<(i64, i64)>,
    /// The last time in the trace.
    trace_end: Option<i64>,
}

impl GuestClock {
    /// `None`: guest and device have nothing in common.
    pub(crate) fn of(rows: &[Row], log: &Klog, trace: Option<&Ftrace>) -> Option<Self> {
        let of_log = align(rows, log);
        let naive_ns = of_log.as_ref().and_then(|alignment| alignment.naive_ns);
        let traced = trace.and_then(|trace| {
            let lines = lines(log, trace);
            Some((align_trace(rows, trace)?, lines)).filter(|(_, lines)| !lines.is_empty())
        });
        match traced {
            Some((alignment, lines)) => {
                let trace_end = trace.and_then(|trace| trace.lines.last()).map(|(at, _)| *at);
                Some(Self { alignment, naive_ns, lines, trace_end })
            }
            None => of_log.map(|alignment| Self { alignment, naive_ns, lines: Vec::new(), trace_end: None }),
        }
    }

    /// The earliest and the latest time of the device's clock that a time of the log's can be.
    pub(crate) fn of_log(&self, log_ns: i64) -> (i64, i64) {
        // Of lines with one time, the first; between two lines, the one before. result.json rounds to a microsecond.
        let after = self.lines.partition_point(|(line, _)| *line < log_ns - 1_500);
        let same = self.lines.get(after).filter(|(line, _)| *line <= log_ns + 1_500);
        let near = same.or_else(|| self.lines.get(after.saturating_sub(1)));
        let at = log_ns + near.map_or(0, |(line, trace)| trace - line) + self.alignment.least_ns;
        let slack = if same.is_some() || self.lines.is_empty() { 0 } else { LOG_ERROR_NS };
        // What the log has after all lines of the trace, such as the oops that ended it, came after its end.
        let is_after = self.lines.last().is_some_and(|(line, _)| *line < log_ns);
        let least = self.trace_end.filter(|_| is_after).map_or(i64::MIN, |end| end + self.alignment.least_ns);
        ((at - slack).max(least), at.max(least) + slack + self.width_ns())
    }

    /// Whether it is the trace's clock that is laid over the device's.
    pub(crate) fn has_trace(&self) -> bool {
        !self.lines.is_empty()
    }

    /// The same of a time that `report.md` has put on the device's clock.
    pub(crate) fn of_naive(&self, device_ns: i64) -> (i64, i64) {
        self.naive_ns.map_or((device_ns, device_ns), |naive| self.of_log(device_ns - naive))
    }

    /// The earliest time of the device's clock that a time of the trace's can be.
    pub(crate) fn of_trace(&self, trace_ns: i64) -> i64 {
        trace_ns + self.alignment.least_ns
    }

    /// How much later the trace's times can be; without one, the log's.
    fn width_ns(&self) -> i64 {
        self.alignment.width_ns().unwrap_or(0)
    }
}

/// The lines of the log that are in the trace as well, by time.
fn lines(log: &Klog, trace: &Ftrace) -> Vec<(i64, i64)> {
    let mut rest = log.lines.as_slice();
    let mut found = Vec::new();
    for note in &trace.notes {
        let Some(text) = note.text.strip_prefix("console: ") else { continue };
        let Some(place) = rest.iter().position(|line| line.text == text.trim()) else { continue };
        let (line, after) = (rest.get(place), rest.get(place + 1..));
        if let Some(at) = line.and_then(guest_ns) {
            found.push((at, note.at));
        }
        rest = after.unwrap_or_default();
    }
    found
}

/// Finds the interval for the trace's clock.
fn align_trace(rows: &[Row], trace: &Ftrace) -> Option<Alignment> {
    let remove = trace.calls.iter().find(|call| call.function == "rtsx_pci_remove");
    let remove_at = remove_at(rows).and_then(|index| rows.get(index)).map(device_ns);
    let marker = |text: &str| {
        let mut rows = rows.iter().filter(|row| row.kind == "marker");
        rows.find(|row| row.text.as_deref() == Some(text)).map(device_ns)
    };
    let (mut later, mut earlier): (Vec<Pair>, Vec<Pair>) = (Vec::new(), Vec::new());
    for note in &trace.notes {
        let Some((text, side)) = note.text.rsplit_once(' ') else { continue };
        let (bounds, why) = match side {
            "answered" => (&mut later, "a marker's answer"),
            "sent" => (&mut earlier, "a marker's being sent"),
            _ => continue,
        };
        if let Some(device) = marker(text) {
            bounds.push((note.at, device, why));
        }
    }
    if let (Some(call), Some(device)) = (remove, remove_at) {
        earlier.push((call.from, device, "rtsx_pci_remove's beginning and its write of BIER"));
        let unmap =
            |unmap: &&Call| unmap.function == "iounmap" && unmap.pid == call.pid && unmap.from > call.from;
        if let Some(unmap) = trace.calls.iter().find(unmap) {
            later.push((unmap.from, device, "rtsx_pci_remove's write of BIER and its iounmap"));
        }
    }
    // What is said of the difference is said of this time.
    let here = remove.map_or_else(|| trace.lines.last().map_or(0, |(at, _)| *at), |call| call.from);
    let coarse = fit(&later, &earlier, here)?;
    // Each call of rtsx_set_l1off_sub writes that register once. Now there are times enough to tell which write is whose.
    let most = coarse.most_ns?;
    let is_write = |row: &&Row| {
        let register = row.value.map(|value| value >> 16 & 0x3fff);
        row.is_memory()
            && !row.is_read()
            && row.page_offset() == Some(HAIMR)
            && register == Some(L1SUB_CONFIG3)
    };
    let writes: Vec<i64> = rows.iter().filter(is_write).map(device_ns).collect();
    let slack = |at: i64| (at - here).abs() / (1_000_000_000 / FASTEST);
    for call in trace.calls.iter().filter(|call| call.function == "rtsx_set_l1off_sub") {
        let (from, to) = (call.from + coarse.least_ns - slack(call.from), call.to + most + slack(call.to));
        let mut inside = writes.iter().filter(|write| (from..=to).contains(*write));
        if let (Some(write), None) = (inside.next(), inside.next()) {
            earlier.push((
                call.from,
                *write,
                "rtsx_set_l1off_sub's beginning and its write of L1SUB_CONFIG3",
            ));
            if call.end == End::Returned {
                later.push((
                    call.to,
                    *write,
                    "the write of L1SUB_CONFIG3 and the end of its rtsx_set_l1off_sub",
                ));
            }
        }
    }
    fit(&later, &earlier, here).filter(|fine| fine.most_ns.is_some()).or(Some(coarse))
}

/// The interval at the time `here` of the trace's clock, if that goes at a steady rate: the widest of all that any rate
/// leaves. A pair is a time of the trace, one of the device, and what they are.
fn fit(later: &[Pair], earlier: &[Pair], here: i64) -> Option<Alignment> {
    let mut found: Option<Alignment> = None;
    for rate in (-FASTEST..=FASTEST).step_by(STEP) {
        let bound =
            |(guest, device, why): &Pair| (device - guest - (guest - here) / 1000 * rate / 1_000_000, *why);
        let Some(one) = interval(later.iter().map(bound), earlier.iter().map(bound), None) else { continue };
        found = Some(match found {
            // A rate that the pairs contradict is not the clock's.
            Some(found) if one.most_ns.is_none() && found.most_ns.is_some() => found,
            Some(found) if one.most_ns.is_some() == found.most_ns.is_some() => {
                let (least, lower) = (found.least_ns, found.because.0).min((one.least_ns, one.because.0));
                let (most, upper) = (found.most_ns, found.because.1).max((one.most_ns, one.because.1));
                Alignment { least_ns: least, most_ns: most, because: (lower, upper), naive_ns: None }
            }
            _ => one,
        });
    }
    found
}

/// A time of the trace's clock, one of the device's, and what they are of.
type Pair = (i64, i64, &'static str);

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

    /// A trace of 30 s, markers at both ends and the removal in the middle, and what the device saw of it, on a clock that
    /// goes by so many parts in a million faster.
    fn traced(ppm: i64) -> (Vec<Row>, Ftrace, i64) {
        let device = |guest_us: i64| guest_us + 5_000_000 + (guest_us - 16_000_000) * ppm / 1_000_000;
        let mut text = String::new();
        let mut records = Vec::new();
        let mut line = |us: i64, what: &str| {
            text += &format!(
                "{}.{:06} |   0)   task-7   |               |  {what}\n",
                us / 1_000_000,
                us % 1_000_000
            );
        };
        let mut record = |us: i64, fields: String| records.push((u64::try_from(device(us)).unwrap(), fields));
        let mut marker = |us: i64, name: &str| {
            line(us, &format!("/* sdmorph-sync {name} sent */"));
            record(us + 900, format!(r#""kind":"marker","text":"sdmorph-sync {name}""#));
            line(us + 2_000, &format!("/* sdmorph-sync {name} answered */"));
        };
        marker(1_000_000, "begin 1");
        marker(31_000_000, "end 1");
        line(16_000_000, "rtsx_pci_remove [rtsx_pci]() {");
        record(15_500_000, LINK_DOWN.to_owned());
        record(16_000_080, REMOVE.to_owned());
        line(16_004_000, "iounmap() {");
        records.sort_by_key(|(us, _)| *us);
        let records: Vec<(u64, &str)> = records.iter().map(|(us, fields)| (*us, fields.as_str())).collect();
        (rows(&records), Ftrace::parse(&text), 5_000_000_000)
    }

    #[test]
    fn trace_s_clock_may_go_faster_or_slower() {
        for ppm in [0, 300, -300] {
            let (rows, trace, truth) = traced(ppm);
            let found = align_trace(&rows, &trace).unwrap();
            let most = found.most_ns.unwrap();
            assert!((found.least_ns..=most).contains(&truth), "{ppm}: {found:?}");
            assert!(most - truth < 100_000 && found.because.1.unwrap().contains("BIER"), "{ppm}: {found:?}");
            assert!(truth - found.least_ns < 3_000_000, "{ppm}: {found:?}");
        }
    }

    #[test]
    fn trace_s_clock_that_no_steady_rate_fits_is_not_used() {
        let (rows, trace, _) = traced(2000);
        assert_eq!(align_trace(&rows, &trace), None);
    }

    #[test]
    fn write_in_a_traced_function_bounds_the_clock_to_its_length() {
        let (mut records, trace, truth) = traced(0);
        let write = r#""kind":"access","space":"bar0","dir":"write","offset":"0x10","value":"0xfe8f3332""#;
        records.extend(rows(&[(20_500_050, write)]));
        let mut text: String = trace.lines.iter().map(|(_, line)| format!("{line}\n")).collect();
        text += "15.500000 |   1)   task-8   | ! 100.000 us |  rtsx_set_l1off_sub [rtsx_pci]();\n";
        let found = align_trace(&records, &Ftrace::parse(&text)).unwrap();
        assert!((found.least_ns..=found.most_ns.unwrap()).contains(&truth), "{found:?}");
        // Half a second away, a rate that fits makes little of it.
        assert!(found.width_ns().unwrap() < 250_000, "{found:?}");
    }

    #[test]
    fn line_that_is_in_the_trace_has_its_time_and_one_after_its_end_comes_after() {
        let (rows, trace, truth) = traced(0);
        let mut text: String = trace.lines.iter().map(|(_, line)| format!("{line}\n")).collect();
        text += "31.010000 |   0)   task-7   |               |  /* console: hello */\n";
        text += "31.020000 |   0)   task-7   |               |  f();\n31.030000 |   0)   task-7   |   1.0 us |  f();\n";
        let log = log(&[("30.900000", "hello"), ("30.905000", "BUG: x")]);
        let clock = GuestClock::of(&rows, &log, Some(&Ftrace::parse(&text))).unwrap();
        let (least, most) = (clock.alignment.least_ns, clock.alignment.most_ns.unwrap());
        assert!((least..=most).contains(&truth));
        assert_eq!(clock.of_log(30_900_000_000), (31_010_000_000 + least, 31_010_000_000 + most));
        let (from, to) = clock.of_log(30_905_000_000);
        assert_eq!(from, 31_030_000_000 + least, "not before the trace's end");
        assert_eq!(to, 31_034_000_000 + most);
    }
}
