//! How fast the device is, in six parts, each next to others where there are others.
//!
//! # What is measured
//!
//! The wire: a vfio-user server, namely this project's, the crate `vfio_user`'s, and a bare Unix socket ping-pong, with one
//! and the same client:
//!
//! - 4-byte region reads over the socket: the client's round trip (p50, p90, p99), rate, the server's processor time and
//!   system calls a request; with both ends on one core, on two, and not pinned ([`placement`]);
//! - posted writes a second: many writes that want no reply, and one read that says when they are done;
//! - the same read as a guest does it, through QEMU: the time between two reads arriving at the device.
//!
//! Each server is a process of its own with the same trivial device ([`device`]), and the client does one send and one
//! receive a request.
//!
//! The reader ([`reader`]): commands, transfers and register accesses, by the testkit's driver, without a guest.
//!
//! The guest ([`disks`]): sequential and random reads and writes of the disk that Linux makes of the reader's card, and of
//! the one that it makes of the card in QEMU's own `sdhci-pci`, in one guest.
//!
//! The drive ([`disks`]): the same of the NVMe drive that an SD Express card becomes, and of QEMU's own `nvme`, in another
//! guest; random work also with many requests under way.
//!
//! The same work without a guest ([`over_socket`]): the testkit's NVMe driver over the vfio-user socket, with and without
//! shadow doorbells.
//!
//! Rules ([`rules`]): what fault rules cost an access that does not set them off, one of them and a thousand.
//!
//! What is compared takes turns in short rounds, so that noise meets all of it alike; what is judged are medians over the
//! rounds.
//!
//! # What is not
//!
//! - over the wire: DMA and interrupts, large accesses, several requests in flight;
//! - the C library libvfio-user, which is on no package registry;
//! - qcow2 images;
//! - an absolute time that holds on another machine: compare the columns of one run.

// A benchmark looks at the clock.
#![allow(clippy::disallowed_methods)]

mod arguments;
mod client;
mod device;
mod disks;
mod guest;
mod limits;
mod over_socket;
mod placement;
mod process;
mod qemu;
mod reader;
mod report;
mod rounds;
mod rules;
mod servers;
mod serving;
mod statistics;
mod system_calls;
mod table;

use std::fs;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use arguments::{Arguments, Hidden, Part};
use report::{Contest, Host, Report};

/// Exit code if a limit is missed and `--check` is given.
const EXIT_MISSED: u8 = 1;
/// Exit code if nothing could be measured.
const EXIT_SURROUNDINGS: u8 = 3;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.hidden {
        Some(Hidden::Serve(options)) => servers::run(options).map(|()| ExitCode::SUCCESS),
        None => bench(&arguments),
    };
    result.unwrap_or_else(|error| {
        say(&format!("error: {error:#}"));
        ExitCode::from(EXIT_SURROUNDINGS)
    })
}

/// Measures what is asked for and prints it.
fn bench(arguments: &Arguments) -> Result<ExitCode> {
    let settings = arguments.settings();
    let host = Host::look();
    if host.is_busy() {
        say(&format!("others use this machine (load {:.1}): expect noise", host.load));
    }
    let mut report = Report::new(host, settings);
    if arguments.has(Part::Wire) {
        measure_wire(arguments, &mut report)?;
        report.limits.extend(limits::judge_wire(&report.wire, report.through_qemu.as_ref()));
    }
    if arguments.has(Part::Reader) {
        report.reader = Some(reader::measure(&report.settings)?);
    }
    if arguments.has(Part::SocketDrive) {
        match over_socket::measure(&report.settings, &arguments.guest) {
            Ok(measured) => report.over_socket = Some(measured),
            Err(error) => report.not_measured.push(format!("the drive over its socket: {error:#}")),
        }
    }
    if arguments.has(Part::Rules) {
        match rules::measure(&report.settings, &arguments.guest) {
            Ok(measured) => report.rules = Some(measured),
            Err(error) => report.not_measured.push(format!("rules: {error:#}")),
        }
        report.limits.extend(limits::judge_rules(report.rules.as_ref()));
    }
    for (part, contest) in [(Part::Guest, Contest::Reader), (Part::Drive, Contest::Drive)] {
        if !arguments.has(part) {
            continue;
        }
        let measure =
            |report: &Report| disks::measure(contest, &report.host, &report.settings, &arguments.guest);
        let what = format!("{} and {} in a guest", contest.name(), contest.other());
        let disks = needs_qemu(arguments, &what, &mut report, measure);
        report.limits.extend(limits::judge_disks(contest, disks.as_ref()));
        report.disks.extend(disks);
    }
    let missed = report.limits.iter().any(|limit| limit.met == Some(false));
    let unknown = report.limits.iter().any(|limit| limit.met.is_none());
    if let Some(path) = &arguments.json {
        let mut text = serde_json::to_string_pretty(&report)?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(&table::render(&report))?;
    let failed = arguments.check && (missed || unknown);
    Ok(if failed { ExitCode::from(EXIT_MISSED) } else { ExitCode::SUCCESS })
}

fn measure_wire(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let (placements, not_possible) = placement::possible()?;
    report.not_measured.extend(not_possible);
    report.wire = rounds::measure(&placements, &report.settings)?;
    match system_calls::count(&report.settings) {
        Ok(counts) => report.system_calls = counts,
        Err(error) => report.not_measured.push(format!("system calls a request: {error:#}")),
    }
    let measure = |report: &Report| qemu::measure(&report.settings);
    report.through_qemu = needs_qemu(arguments, "reads through QEMU", report, measure);
    Ok(())
}

/// Measures what a machine without QEMU has to do without; what it was is said then.
fn needs_qemu<R>(
    arguments: &Arguments,
    what: &str,
    report: &mut Report,
    measure: impl FnOnce(&Report) -> Result<R>,
) -> Option<R> {
    if arguments.no_qemu {
        report.not_measured.push(format!("{what}: --no-qemu was given"));
        return None;
    }
    match measure(report) {
        Ok(measured) => Some(measured),
        Err(error) => {
            report.not_measured.push(format!("{what}: {error:#}"));
            None
        }
    }
}

/// Writes to standard output; a reader that has gone has what it wanted.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("standard output"),
    }
}

/// Says one line of progress, on standard error.
fn say(line: &str) {
    // Nobody is helped by a measurement that stops because its progress cannot be shown.
    let _ = writeln!(std::io::stderr(), "[bench] {line}");
}
