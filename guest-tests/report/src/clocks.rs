//! The guest's clocks laid over the device's.
//!
//! The log's clock is [the lab's business](sdmorph_lab::clocks). A trace of the guest's kernel has a clock of its own, the
//! processors' counter, and bounds of its own: markers of both sides, and the accesses of a function that it shows. Lines
//! of the log are in it too, so that with a trace they have its time.
//!
//! The trace's clock is taken for one that goes at a steady rate, whichever fits to all pairs, and to those of the whole run.

use sdmorph_lab::clocks::{Alignment, align, device_ns, guest_ns, remove_at};
use sdmorph_lab::klog::Klog;

use crate::evidence::Row;
use crate::ftrace::{Call, End, Ftrace};

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

/// The guest's clocks laid over the device's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestClock {
    /// Of the trace's clock if there is a trace, of the log's if not.
    pub(crate) alignment: Alignment,
    /// What the lab has added to the log's times for those of `result.json`.
    added_ns: Option<i64>,
    /// Lines that log and trace both have: the log's time, the trace's.
    lines: Vec<(i64, i64)>,
    /// The last time in the trace.
    trace_end: Option<i64>,
}

impl GuestClock {
    /// `None`: guest and device have nothing in common.
    pub(crate) fn of(rows: &[Row], log: &Klog, trace: Option<&Ftrace>) -> Option<Self> {
        let of_log = align(rows, log);
        let added_ns = of_log.as_ref().map(|alignment| alignment.least_ns);
        let traced = trace.and_then(|trace| {
            let lines = lines(log, trace);
            Some((align_trace(rows, trace)?, lines)).filter(|(_, lines)| !lines.is_empty())
        });
        match traced {
            Some((alignment, lines)) => {
                let trace_end = trace.and_then(|trace| trace.lines.last()).map(|(at, _)| *at);
                Some(Self { alignment, added_ns, lines, trace_end })
            }
            None => of_log.map(|alignment| Self { alignment, added_ns, lines: Vec::new(), trace_end: None }),
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

    /// The same of a time that `result.json` has, on the device's clock.
    pub(crate) fn of_result(&self, device_ns: i64) -> (i64, i64) {
        self.added_ns.map_or((device_ns, device_ns), |added| self.of_log(device_ns - added))
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
        let Some(one) = Alignment::between(later.iter().map(bound), earlier.iter().map(bound)) else {
            continue;
        };
        found = Some(match found {
            // A rate that the pairs contradict is not the clock's.
            Some(found) if one.most_ns.is_none() && found.most_ns.is_some() => found,
            Some(found) if one.most_ns.is_some() == found.most_ns.is_some() => {
                let (least, lower) = (found.least_ns, found.because.0).min((one.least_ns, one.because.0));
                let (most, upper) = (found.most_ns, found.because.1).max((one.most_ns, one.because.1));
                Alignment { least_ns: least, most_ns: most, because: (lower, upper) }
            }
            _ => one,
        });
    }
    found
}

/// A time of the trace's clock, one of the device's, and what they are of.
type Pair = (i64, i64, &'static str);

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lines: &[(u64, &str)]) -> Vec<Row> {
        let row = |(us, fields): &(u64, &str)| {
            Row::from_line(format!("{{\"t_ns\":{},{fields}}}", us * 1000).as_bytes()).unwrap()
        };
        lines.iter().map(row).collect()
    }

    const LINK_DOWN: &str = r#""kind":"event","name":"link-down""#;
    const REMOVE: &str =
        r#""kind":"access","space":"bar0","dir":"write","offset":"0x18","value":"0x0","dead":true"#;

    fn log(lines: &[(&str, &str)]) -> Klog {
        let text: String = lines.iter().map(|(time, text)| format!("<6>[    {time}] {text}\n")).collect();
        Klog::from_bytes(text.as_bytes())
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
