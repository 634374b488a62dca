//! What was measured, as a table.

use std::fmt::Write;

use crate::limits::{Bound, Limit};
use crate::report::{Disks, Doorbells, InProcess, Measured, MeasuredDisk, OverSocket, Report, Settings};
use crate::rules::RuleCosts;

const MIB: f64 = 1_048_576.0;

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
    if !report.wire.is_empty() {
        writeln!(
            out,
            "4-byte region reads; medians over {} rounds of {} reads, {} posted writes",
            settings.rounds, settings.reads, settings.posted_writes
        )?;
    }
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
    if let Some(reader) = &report.reader {
        steps(out, reader, settings)?;
    }
    if let Some(measured) = &report.over_socket {
        over_socket(out, measured, settings)?;
    }
    if let Some(measured) = &report.rules {
        rules(out, measured, settings)?;
    }
    for disks in &report.disks {
        write_disks(out, disks, settings)?;
    }
    let any_alone = report.limits.iter().any(|limit| limit.alone.is_some());
    if !report.limits.is_empty() {
        let alone = if any_alone { "; that of a socket alone" } else { "" };
        writeln!(
            out,
            "\nlimits: the ratio of the medians, and of single rounds from lowest to highest{alone}"
        )?;
    }
    for limit in &report.limits {
        writeln!(out, "  {}", judgement(limit, any_alone))?;
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

fn steps(out: &mut String, reader: &InProcess, settings: &Settings) -> std::fmt::Result {
    let (rounds, ms) = (settings.reader_rounds, settings.reader_ms);
    writeln!(out, "\nthe reader without guest and socket; {rounds} rounds of {ms} ms")?;
    writeln!(
        out,
        "  {:<39}{:>9}  {:>9}  {:>9}  {:>19}",
        "", "µs", "a second", "MiB/s", "a second, by round"
    )?;
    for step in &reader.steps {
        let per_s = step.median_per_s;
        let mib = step
            .bytes
            .map_or_else(|| "-".to_owned(), |bytes| format!("{:.0}", per_s * f64::from(bytes) / MIB));
        let low = step.rounds_per_s.iter().copied().fold(f64::INFINITY, f64::min);
        let high = step.rounds_per_s.iter().copied().fold(0.0, f64::max);
        let range = format!("{low:.0} to {high:.0}");
        writeln!(out, "  {:<39}{:>9.2}  {per_s:>9.0}  {mib:>9}  {range:>19}", step.what, 1e6 / per_s)?;
    }
    Ok(())
}

fn rules(out: &mut String, measured: &RuleCosts, settings: &Settings) -> std::fmt::Result {
    let (rounds, reads) = (settings.rounds, settings.reads);
    writeln!(out, "\na register read with fault rules that it does not set off; {rounds} rounds of {reads}")?;
    writeln!(out, "  {:<44}{:>14}  {:>14}  {:>11}", "", "round trip µs", "machine ns", "rules ns")?;
    let Some((trip, before)) = measured.without.medians() else { return Ok(()) };
    writeln!(out, "  {:<44}{:>14.2}  {before:>14.0}  {:>11}", "no rules", trip / 1e3, "-")?;
    for row in &measured.rows {
        let Some((trip, machine)) = row.cost.medians() else { continue };
        let what = format!("{:>4}: {}", row.rules, row.kind.title());
        let cost = machine - before;
        writeln!(out, "  {what:<44}{:>14.2}  {machine:>14.0}  {cost:>11.0}", trip / 1e3)?;
    }
    Ok(())
}

fn over_socket(out: &mut String, measured: &OverSocket, settings: &Settings) -> std::fmt::Result {
    let (rounds, ms) = (settings.reader_rounds, settings.reader_ms);
    writeln!(out, "\nthe drive over its socket, without a guest; {rounds} rounds of {ms} ms")?;
    for doorbells in Doorbells::ALL {
        writeln!(
            out,
            "  {:<37}{:>9}  {:>10}  {:>8}  {:>8}  {:>7}  {:>9}",
            doorbells.title(),
            "MiB/s",
            "requests/s",
            "p50 µs",
            "p99 µs",
            "CPU µs",
            "doorbells"
        )?;
        for row in measured.rows.iter().filter(|row| row.doorbells == doorbells) {
            let median = &row.median;
            writeln!(
                out,
                "    {:<35}{:>9.1}  {:>10.0}  {:>8.1}  {:>8.1}  {:>7.1}  {:>9.2}",
                row.task.title(),
                median.requests_per_s * f64::from(row.task.work.bytes()) / MIB,
                median.requests_per_s,
                median.p50_us,
                median.p99_us,
                median.cpu_us,
                median.doorbells
            )?;
        }
    }
    Ok(())
}

fn write_disks(out: &mut String, disks: &Disks, settings: &Settings) -> std::fmt::Result {
    let Disks { contest, qemu, accel, kernel, vcpus, image_bytes, rows } = disks;
    let (rounds, ms) = (settings.guest_rounds, settings.guest_ms);
    writeln!(
        out,
        "\nin a guest: Linux {kernel}, {vcpus} CPU; QEMU {qemu}, {accel}; disks of {} GiB; {rounds} rounds of {ms} ms a job",
        image_bytes >> 30
    )?;
    writeln!(out, "  {:<31}{:>9}  {:>10}  {:>9}  {:>9}", "", "MiB/s", "requests/s", "p50 µs", "p99 µs")?;
    for row in rows {
        let bytes = f64::from(row.task.work.bytes());
        writeln!(out, "  {}", row.task.title())?;
        for (name, MeasuredDisk { median, .. }) in [(contest.name(), &row.own), (contest.other(), &row.other)]
        {
            writeln!(
                out,
                "    {name:<29}{:>9.2}  {:>10.1}  {:>9.0}  {:>9.0}",
                median.bytes_per_s / MIB,
                median.bytes_per_s / bytes,
                median.p50_us,
                median.p99_us
            )?;
        }
    }
    Ok(())
}

/// A line of the table of limits, with a column for a socket alone if any limit has one.
fn judgement(limit: &Limit, any_alone: bool) -> String {
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
    let alone = limit.alone.map_or_else(String::new, |alone| format!("socket {alone:.2}"));
    let width = if any_alone { 13 } else { 0 };
    format!("{:<44}{ratio:>6}  {rounds:<14}  {alone:<width$}{bound:<14}  {verdict}", limit.what)
}
