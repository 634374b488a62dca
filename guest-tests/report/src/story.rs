//! What happened in a run, as spans and moments on one clock: the content of page, picture and trace.
//!
//! Nothing here is measured anew. Where a span begins and ends is read off the device's record and the guest's log:
//! - *idle callback* (rtsx_pci_runtime_idle, drivers/misc/cardreader/rtsx_pcr.c): from its first register access after
//!   the switch was requested, to `OLT_LED_CTL`, to its last, to `ASPM_FORCE_CTL`, or to the fault;
//! - *removal*: from the guest's `Link Down` to `.remove`'s write of BIER, its only access to the BAR, behind which it
//!   unmaps it (rtsx_pci_remove), and on to the line that says that the reader has gone.
//!
//! If the guest's kernel was traced, what it did is seen: `iounmap` instead of the access before it, and how long removal
//! was in pm_runtime_barrier.

use sdmorph_lab::clocks::{self, device_ns, guest_ns};
use sdmorph_lab::klog::{LogLine, matches};
use sdmorph_lab::notes::Note;

use crate::clocks::GuestClock;
use crate::evidence::{Row, Run, RunResult};
use crate::kernel::Kernel;
use crate::lanes::{Kind, Lane, Look};
use crate::wording::{between, ms, thousands};

/// The data register of the reader's window into its internal registers.
const HAIMR: u64 = 0x10;
/// An internal register's address (0xfe57), as it is in bits 29:16 of HAIMR.
const ASPM_FORCE_CTL: u64 = 0x3e57;

/// Something that lasts. Times are nanoseconds since the run's zero.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Span {
    pub(crate) lane: Lane,
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) label: String,
    pub(crate) look: Look,
}

/// Something that has a name and a time.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Moment {
    pub(crate) name: String,
    /// Nanoseconds since the run's zero; for the guest's, the earliest that it can have been.
    pub(crate) at: i64,
    /// The latest that it can have been. The same for the device's.
    pub(crate) until: i64,
    /// Of the guest's clock.
    pub(crate) guest: bool,
}

/// One run.
#[derive(Debug)]
pub(crate) struct Panel {
    /// `without the fix`.
    pub(crate) variant: &'static str,
    pub(crate) result: RunResult,
    /// The verdict in words.
    pub(crate) sentence: String,
    /// Of the device's clock; every other time counts from here.
    pub(crate) zero_ns: i64,
    /// What happened at zero.
    pub(crate) zero_name: String,
    pub(crate) clock: Option<GuestClock>,
    /// Empty if it was not traced.
    pub(crate) kernel: Kernel,
    /// Whether it was.
    pub(crate) is_traced: bool,
    pub(crate) moments: Vec<Moment>,
    pub(crate) spans: Vec<Span>,
    /// When the BAR was unmapped, as the trace has it; without one, `.remove`'s last access to it, right before that.
    pub(crate) unmapped: Option<i64>,
    /// Earliest and latest time of the fault.
    pub(crate) fault: Option<(i64, i64)>,
    /// When the idle callback read last.
    pub(crate) last_read: Option<i64>,
    pub(crate) directory: String,
    pub(crate) rows: Vec<Row>,
    /// What each of them is.
    pub(crate) kinds: Vec<Kind>,
    /// The console, each line with its time if it has one.
    pub(crate) lines: Vec<(Option<i64>, LogLine)>,
    /// The guest noted who ran when, which says more than the device's record alone.
    pub(crate) noted: bool,
    pub(crate) cut_line: Option<usize>,
}

/// All runs of a report.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) title: String,
    /// The answer, in one sentence.
    pub(crate) headline: String,
    pub(crate) panels: Vec<Panel>,
    /// The names of moments that all panels have and can be aligned at, and which of them they are.
    pub(crate) align: Vec<String>,
    pub(crate) align_at: usize,
    /// What is shown first, in nanoseconds since the alignment.
    pub(crate) critical: (i64, i64),
}

impl Panel {
    pub(crate) fn of(run: Run) -> Self {
        let Run { directory, result, rows, log, trace, cut_line } = run;
        let clock = GuestClock::of(&rows, &log, trace.as_ref());
        let (zero_ns, zero_name) = zero(&result, &rows);
        let at = |index: Option<usize>| {
            index.and_then(|index| rows.get(index)).map(|row| device_ns(row) - zero_ns)
        };
        let event = |name: &str| at(rows.iter().position(|row| row.is_event(name)));
        let guest = |line: &LogLine| Some(clock.as_ref()?.of_log(guest_ns(line)?).0 - zero_ns);
        let line = |pattern: &str| log.lines.iter().find(|line| matches(pattern, &line.text)).and_then(guest);

        let oops = result.oops.as_ref().and_then(|oops| i64::try_from(oops.time_us?).ok());
        let fault = oops.zip(clock.as_ref()).map(|(us, clock)| {
            let (at, until) = clock.of_log(us * 1000);
            (at - zero_ns, until - zero_ns)
        });
        let is_traced = trace.is_some();
        let comm = result.oops.as_ref().and_then(|oops| oops.comm.as_deref());
        let died = comm.zip(fault).map(|(comm, (at, _))| (comm, at));
        let kernel = clock.as_ref().filter(|clock| clock.has_trace()).zip(trace);
        let kernel =
            kernel.map_or_else(Kernel::default, |(clock, trace)| Kernel::of(trace, clock, zero_ns, died));
        let bier = at(clocks::remove_at(&rows));
        // The address is nobody's from somewhere in it on; at its end, at the latest.
        let unmapped = kernel.removing("iounmap").map(|call| call.to).or(bier);
        let link_down = event("link-down");
        let end = rows.last().map_or(0, |row| device_ns(row) - zero_ns);

        let idle = idle_callback(&rows, zero_ns, fault.is_some());
        let last_read = idle.map(|(_, last)| last);
        let mut spans = slot_spans(&rows, zero_ns);
        if let Some((from, last)) = idle {
            let until = fault.map_or(last, |(at, _)| at.max(last));
            match unmapped.filter(|unmapped| *unmapped < until) {
                Some(unmapped) => {
                    spans.push(Span::new(Lane::Idle, from, unmapped, "reads HAIMR in a loop", Look::Solid));
                    let label = "still in its loop, BAR unmapped";
                    spans.push(Span::new(Lane::Idle, unmapped, until, label, Look::Broken));
                }
                None => spans.push(Span::new(Lane::Idle, from, until, "reads HAIMR in a loop", Look::Solid)),
            }
        }
        let told = line("*pciehp: Slot(8): Link Down");
        let removed = line("sdmorph-test: reader removed");
        if let (Some(told), Some(unmapped)) = (told, unmapped) {
            let (label, look) = match last_read {
                Some(last) if told < last && last < unmapped => {
                    ("waits for the idle callback", Look::Waiting)
                }
                Some(last) if last > unmapped || fault.is_some() => ("does not wait", Look::Solid),
                _ => ("on its way to .remove", Look::Solid),
            };
            spans.push(Span::new(Lane::Remove, told.min(unmapped), unmapped, label, look));
            if let Some(removed) = removed.filter(|removed| *removed > unmapped) {
                spans.push(Span::new(Lane::Remove, unmapped, removed, "unmaps the BAR", Look::Solid));
            }
            let told = told.min(unmapped);
            let removed = removed.map_or(unmapped, |removed| removed.max(unmapped));
            spans.push(Span::new(Lane::Pciehp, told, removed, "Link Down: removes the reader", Look::Solid));
        }

        let mut moments: Vec<Moment> = result
            .moments
            .iter()
            .filter_map(|moment| {
                // A thousandth of a millisecond is all that result.json has.
                result.zero_ns?;
                let t_ns = (moment.t_ms? * 1e6).round() as i64;
                let guest = moment.clock == "guest";
                let (at, until) = if guest {
                    let (at, until) = clock.as_ref()?.of_result(zero_ns + t_ns);
                    (at - zero_ns, until - zero_ns)
                } else {
                    (t_ns, t_ns)
                };
                Some(Moment { name: moment.name.clone(), at, until, guest })
            })
            .collect();
        moments.sort_by_key(|moment| moment.at);
        let noted = !log.notes.is_empty();
        let lines = log.lines.iter().map(at_its_time).map(|line| (guest(&line), line)).collect();
        let mut panel = Self {
            variant: words(&result.variant),
            sentence: String::new(),
            zero_ns,
            zero_name,
            clock,
            kernel,
            is_traced,
            moments,
            spans,
            unmapped,
            fault,
            last_read,
            directory,
            kinds: rows.iter().map(Kind::of).collect(),
            rows,
            lines,
            noted,
            cut_line,
            result,
        };
        panel.spans.retain(|span| span.to >= span.from && span.from <= end.max(span.from));
        panel.sentence = panel.say(link_down);
        panel
    }

    /// The device's times of entries of a kind that `pick` picks, since zero.
    fn times(&self, pick: impl Fn(&Row) -> bool) -> impl Iterator<Item = i64> {
        self.rows.iter().filter(move |row| pick(row)).map(|row| device_ns(row) - self.zero_ns)
    }

    fn say(&self, link_down: Option<i64>) -> String {
        let read = |row: &Row| row.is_lost() && row.is_read() && row.page_offset() == Some(HAIMR);
        let result = &self.result;
        let outcome = if self.noted { "" } else { result.outcome.as_str() };
        match (outcome, self.unmapped, self.fault, self.last_read) {
            ("fault", Some(unmapped), Some((fault, until)), Some(last)) => {
                let more = self.times(read).filter(|at| *at > unmapped).count();
                let on = match more {
                    0 => "The idle callback, which nobody had waited for, read on: its next read".to_owned(),
                    1 => "The idle callback, which nobody had waited for, read on: one read more reached the device \
                          through the old mapping, and the next"
                        .to_owned(),
                    _ => format!(
                        "The idle callback, which nobody had waited for, read on: {more} more reads reached the \
                         device through the old mapping, the last at {}, and the next",
                        ms(last)
                    ),
                };
                let how = if self.kernel.removing("iounmap").is_some() {
                    format!(".remove unmapped the BAR (iounmap, until {}).", ms(unmapped))
                } else {
                    format!(".remove wrote BIER, its only access, at {}, and unmapped the BAR.", ms(unmapped))
                };
                format!("{how} {on} was the page fault ({}).", between(fault, until))
            }
            ("clean", Some(unmapped), None, Some(last))
                if last < unmapped && link_down.is_some_and(|down| down < last) =>
            {
                let reads = self.times(read).filter(|at| *at <= last).count();
                let since = link_down.map_or(unmapped, |down| unmapped - down);
                let how = self.kernel.removing("pm_runtime_barrier").map_or_else(String::new, |call| {
                    format!(" in pm_runtime_barrier, which is the fix, for {}", ms(call.to - call.from))
                });
                format!(
                    "The idle callback read the dead BAR {} times, until {}. Removal waited for its end{how}: .remove came \
                     to the BAR {} after the last read ({} after the link fell), and unmapped it when nobody read it \
                     any more.",
                    thousands(reads),
                    ms(last),
                    ms(unmapped - last),
                    ms(since),
                )
            }
            _ => match &result.reason {
                Some(reason) => format!("{reason}."),
                None => result.means.split_whitespace().collect::<Vec<_>>().join(" "),
            },
        }
    }
}

impl Span {
    fn new(lane: Lane, from: i64, to: i64, label: &str, look: Look) -> Self {
        Self { lane, from, to, label: label.to_owned(), look }
    }
}

/// What the times of a run count from, and its name.
fn zero(result: &RunResult, rows: &[Row]) -> (i64, String) {
    if let Some(zero) = result.zero_ns.and_then(|ns| i64::try_from(ns).ok()) {
        let first = result.moments.iter().find(|moment| moment.t_ms == Some(0.0));
        return (zero, first.map_or_else(String::new, |moment| moment.name.clone()));
    }
    // No moment happened, or the scenario names none.
    let inserted =
        rows.iter().find(|row| row.is_event("card-inserted")).map(|row| (device_ns(row), "card inserted"));
    let (zero, name) = inserted.unwrap_or((rows.first().map_or(0, device_ns), "the record's first line"));
    (zero, name.to_owned())
}

/// From when to when the idle callback accessed the BAR, since zero. It ends with the answer to its last register access,
/// which is to `ASPM_FORCE_CTL`; one that faults ends before that. Whoever accesses HAIMR later is somebody else.
fn idle_callback(rows: &[Row], zero_ns: i64, faulted: bool) -> Option<(i64, i64)> {
    let requested = rows.iter().position(|row| row.is_event("express-switch-requested"))?;
    let since = |row: &Row| device_ns(row) - zero_ns;
    // The switch itself touches the LED's register too, before the request is complete.
    let start = |row: &Row| row.is_access("write", "OLT_LED_CTL");
    let first = rows.iter().skip(requested).position(start)? + requested;
    let from = rows.get(first).map(since)?;
    let (mut last, mut ending) = (from, false);
    for row in rows.iter().skip(first).filter(|row| row.is_memory() && row.page_offset() == Some(HAIMR)) {
        if !row.is_read() {
            if ending {
                break;
            }
            ending = row.value.is_some_and(|value| value >> 16 & 0x3fff == ASPM_FORCE_CTL);
        }
        last = since(row);
    }
    (ending || faulted).then_some((from, last))
}

/// What an entry makes of a state, if it is about it.
type Change<'a> = &'a dyn Fn(&Row) -> Option<bool>;

fn change(row: &Row, there: &str, gone: &str) -> Option<bool> {
    if row.is_event(there) { Some(true) } else { row.is_event(gone).then_some(false) }
}

/// BAR, link and presence over the whole record.
fn slot_spans(rows: &[Row], zero_ns: i64) -> Vec<Span> {
    let ends = rows.first().zip(rows.last());
    let Some((start, end)) =
        ends.map(|(first, last)| (device_ns(first) - zero_ns, device_ns(last) - zero_ns))
    else {
        return Vec::new();
    };
    let mut spans = Vec::new();
    // A BAR behind a link that is down answers no more than one that has vanished.
    let bar = |row: &Row| change(row, "bar-returned", "bar-vanished").or(change(row, "link-up", "link-down"));
    let link = |row: &Row| change(row, "link-up", "link-down");
    let presence = |row: &Row| row.present.filter(|_| row.is_event("presence-changed"));
    let lanes: [(Lane, &str, &str, Change<'_>); 3] = [
        (Lane::Bar, "answers", "does not answer: reads give all-ones", &bar),
        (Lane::Link, "link up", "link down", &link),
        (Lane::Presence, "present", "slot empty", &presence),
    ];
    for (lane, there, gone, change) in lanes {
        let (mut from, mut state) = (start, true);
        let mut close = |from: i64, to: i64, state: bool| {
            let (label, look) = if state { (there, Look::Solid) } else { (gone, Look::Gone) };
            spans.push(Span::new(lane, from, to, label, look));
        };
        for row in rows.iter().filter(|row| row.kind == "event") {
            if let Some(next) = change(row).filter(|next| *next != state) {
                let at = device_ns(row) - zero_ns;
                close(from, at, state);
                (from, state) = (at, next);
            }
        }
        close(from, end, state);
    }
    spans
}

impl Story {
    pub(crate) fn of(runs: Vec<Run>) -> Self {
        let panels: Vec<Panel> = runs.into_iter().map(Panel::of).collect();
        let title = panels.first().map_or_else(String::new, |panel| panel.result.scenario.clone());
        let headline = headline(&panels);
        let (align, align_at) = alignment(&panels);
        let offset = |panel: &Panel| align.get(align_at).and_then(|name| panel.moment(name)).unwrap_or(0);
        let critical = critical(&panels, offset);
        Self { title, headline, panels, align, align_at, critical }
    }

    /// The virtual processors that something was traced on, in any run.
    pub(crate) fn cpus(&self) -> Vec<u32> {
        let mut cpus: Vec<u32> = self.panels.iter().flat_map(|panel| panel.kernel.cpus()).collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus
    }

    /// Where a panel's alignment lies, since its zero.
    pub(crate) fn offset(&self, panel: &Panel) -> i64 {
        self.align.get(self.align_at).and_then(|name| panel.moment(name)).unwrap_or(0)
    }
}

impl Panel {
    /// Whether a moment is the fault's: result.json has a thousandth of a millisecond, the log too.
    pub(crate) fn is_fault(&self, moment: &Moment) -> bool {
        moment.guest && self.fault.is_some_and(|(at, _)| (at - moment.at).abs() < 2_000)
    }

    /// When the moment `name` was.
    pub(crate) fn moment(&self, name: &str) -> Option<i64> {
        self.moments.iter().find(|moment| moment.name == name).map(|moment| moment.at)
    }
}

/// The moments that the panels can be laid over each other at, and the one to begin with: the first, unless what follows
/// comes at so different times that one of them would be outside the other's picture.
fn alignment(panels: &[Panel]) -> (Vec<String>, usize) {
    const APART_NS: i64 = 15_000_000;
    let Some((first, others)) = panels.split_first() else { return (Vec::new(), 0) };
    let common = first
        .moments
        .iter()
        .filter(|moment| !moment.guest && others.iter().all(|other| other.moment(&moment.name).is_some()));
    let names: Vec<String> = common.map(|moment| moment.name.clone()).take(3).collect();
    let spread = |name: &str| {
        let times = panels.iter().filter_map(|panel| panel.moment(name));
        times.clone().max().zip(times.min()).map_or(0, |(max, min)| max - min)
    };
    let apart = names.iter().any(|name| spread(name) > APART_NS);
    let at = if apart && names.len() > 1 { 1 } else { 0 };
    (names, at)
}

/// From just before the idle callback to just after the fault: at least 50 ms, and no more than 200. All of a run of which
/// nobody said which of its moments matter.
fn critical(panels: &[Panel], offset: impl Fn(&Panel) -> i64) -> (i64, i64) {
    const MARGIN_NS: i64 = 5_000_000;
    const LEAST_NS: i64 = 50_000_000;
    const MOST_NS: i64 = 200_000_000;
    if panels.iter().all(|panel| panel.moments.is_empty() && panel.unmapped.is_none()) {
        let ends = |panel: &Panel| Some((panel.times(|_| true).min()?, panel.times(|_| true).max()?));
        let all =
            panels.iter().filter_map(ends).reduce(|(from, to), (start, end)| (from.min(start), to.max(end)));
        return all.map_or((0, LEAST_NS), |(from, to)| (from, to.max(from + LEAST_NS)));
    }
    let start = |panel: &Panel| {
        let idle = panel.spans.iter().find(|span| span.lane == Lane::Idle).map(|span| span.from);
        let down = panel.spans.iter().find(|span| span.look == Look::Gone).map(|span| span.from);
        Some(idle.or(down).or(panel.moments.first().map(|moment| moment.at))? - offset(panel))
    };
    let end = |panel: &Panel| {
        let fault = panel.fault.map(|(_, until)| until).or(panel.unmapped);
        let last = panel.moments.last().map(|moment| moment.until);
        Some(fault.or(last)? - offset(panel))
    };
    let from = panels.iter().filter_map(start).min().unwrap_or(0) - MARGIN_NS;
    // The earliest end: of the run that faults. The other one waits, for seconds.
    let to = panels.iter().filter_map(end).min().unwrap_or(from) + MARGIN_NS;
    (from, to.clamp(from + LEAST_NS, from + MOST_NS))
}

fn headline(panels: &[Panel]) -> String {
    let outcome = |variant: &str| {
        panels.iter().find(|panel| panel.result.variant == variant).map(|panel| panel.result.outcome.as_str())
    };
    let expected = panels.iter().all(|panel| panel.result.as_expected);
    let has = |look: Look| panels.iter().any(|panel| panel.spans.iter().any(|span| span.look == look));
    match (outcome("without-fix"), outcome("with-fix"), expected) {
        (Some("fault"), Some("clean"), true) if has(Look::Broken) && has(Look::Waiting) => "Without the fix, the idle callback goes on reading the BAR after \
             removal has unmapped it, and the kernel faults. With the fix, removal waits for the callback, and \
             nothing happens."
            .to_owned(),
        (_, _, true) => match panels {
            // Of a kernel on trial, nothing is expected.
            [one] if one.result.variant == ON_TRIAL => format!("The kernel on trial: {}.", one.result.outcome),
            [one] => format!("The run {}: {}, as expected.", one.variant, one.result.outcome),
            _ => {
                let outcomes: Vec<String> =
                    panels.iter().map(|panel| format!("{}: {}", panel.variant, panel.result.outcome)).collect();
                format!("As expected: {}.", outcomes.join("; "))
            }
        },
        (_, _, false) => {
            let unexpected = panels.iter().filter(|panel| !panel.result.as_expected);
            let named: Vec<String> =
                unexpected.map(|panel| format!("{}: {}", panel.variant, panel.result.outcome)).collect();
            format!("Not as expected: {}.", named.join("; "))
        }
    }
}

/// The variant of a campaign's runs.
pub(crate) const ON_TRIAL: &str = "on-trial";

/// A note of the guest's module was copied into the log when all was over: it is shown at the time that is in it.
fn at_its_time(line: &LogLine) -> LogLine {
    match Note::parse(&line.text) {
        Some(note) if line.is_kernel() => {
            let text = format!("{} on CPU {}: {}", note.task, note.cpu, note.words());
            LogLine { time_us: Some(note.time_us), text, ..line.clone() }
        }
        _ => line.clone(),
    }
}

fn words(variant: &str) -> &'static str {
    match variant {
        "without-fix" => "without the fix",
        "with-fix" => "with the fix",
        ON_TRIAL => "on trial",
        _ => "this run",
    }
}
