//! What was measured, as a table.

use std::fmt::Write;

use crate::limits::{Bound, Limit};
use crate::report::{Measured, Report};

/// The report as text.
pub(crate) fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let (host, settings) = (&report.host, &report.settings);
    writeln!(
        out,
        "sdmorph {} on {} CPUs, {}, Linux {}",
        host.version, host.cpus, host.processor, host.kernel
    )?;
    writeln!(
        out,
        "4-byte region reads; medians over {} rounds of {} reads, {} posted writes",
        settings.rounds, settings.reads, settings.posted_writes
    )?;
    for wire in &report.wire {
        writeln!(out, "\n{}", wire.placement.title())?;
        heading(out)?;
        for server in &wire.servers {
            row(out, server)?;
        }
    }
    if let Some(measured) = &report.through_qemu {
        let (qemu, accel) = (&measured.qemu, measured.accel);
        writeln!(
            out,
            "\nthrough QEMU {qemu}, {accel}; {} rounds of {} reads",
            settings.qemu_rounds, settings.reads
        )?;
        heading(out)?;
        for server in &measured.servers {
            row(out, server)?;
        }
    }
    if !report.system_calls.is_empty() {
        writeln!(out, "\nsystem calls a read, polling that finds nothing not counted")?;
        for calls in &report.system_calls {
            writeln!(out, "  {:<22}{:>8.1}", calls.server.title(), calls.per_read)?;
        }
    }
    writeln!(out, "\nlimits: the ratio of the medians, and of single rounds from lowest to highest")?;
    for limit in &report.limits {
        writeln!(out, "  {}", judgement(limit))?;
    }
    for not in &report.not_measured {
        writeln!(out, "\nnot measured: {not}")?;
    }
    if host.is_busy() {
        writeln!(
            out,
            "\nOthers used this machine (load {:.1} at the start): the ratios hold better than the times.",
            host.load
        )?;
    }
    Ok(())
}

fn heading(out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "  {:<22}{:>8}{:>8}{:>8}  {:>9}  {:>9}  {:>8}  {:>10}",
        "", "p50 µs", "p90 µs", "p99 µs", "reads/s", "CPU µs", "polls", "posted/s"
    )
}

fn row(out: &mut String, of: &Measured) -> std::fmt::Result {
    let median = &of.median;
    let or_dash = |value: Option<f64>, decimals: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
    };
    writeln!(
        out,
        "  {:<22}{:>8.2}{:>8.2}{:>8.2}  {:>9.0}  {:>9}  {:>8}  {:>10}",
        of.server.title(),
        median.p50_ns / 1e3,
        median.p90_ns / 1e3,
        median.p99_ns / 1e3,
        median.reads_per_s,
        or_dash(median.cpu_ns.map(|ns| ns / 1e3), 2),
        or_dash(median.empty_receives, 1),
        or_dash(median.posted_writes_per_s, 0),
    )
}

fn judgement(limit: &Limit) -> String {
    let bound = match limit.bound {
        Bound::AtMost(limit) => format!("at most {limit:.2}"),
        Bound::AtLeast(limit) => format!("at least {limit:.2}"),
    };
    let verdict = match limit.met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "not measured",
    };
    let ratio = limit.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
    let rounds = limit.rounds.map_or_else(String::new, |(low, high)| format!("{low:.2} to {high:.2}"));
    format!("{:<44}{ratio:>6}  {rounds:<14}  {bound:<14}  {verdict}", limit.what)
}
