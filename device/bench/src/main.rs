//! How fast a vfio-user server answers: this project's, the crate `vfio_user`'s, and a bare Unix socket ping-pong, with
//! one and the same client, in one run.
//!
//! # What is measured
//!
//! - 4-byte region reads over the socket: the client's round trip (p50, p90, p99), rate, the server's processor time and
//!   system calls a request; with both ends on one core, on two, and not pinned ([`placement`]);
//! - posted writes a second: many writes that want no reply, and one read that says when they are done;
//! - the same read as a guest does it, through QEMU: the time between two reads arriving at the device.
//!
//! Each server is a process of its own with the same trivial device ([`device`]), and the client does one send and one
//! receive a request. The servers take turns in short rounds, so that noise meets them alike; what is judged are medians
//! over the rounds.
//!
//! # What is not
//!
//! - DMA and interrupts, large accesses, several requests in flight;
//! - the card reader behind the server: its device answers at once;
//! - the C library libvfio-user, which is on no package registry;
//! - an absolute time that holds on another machine: compare the columns of one run.

// A benchmark looks at the clock.
#![allow(clippy::disallowed_methods)]

mod arguments;
mod client;
mod device;
mod guest;
mod limits;
mod placement;
mod process;
mod qemu;
mod report;
mod rounds;
mod servers;
mod statistics;
mod system_calls;
mod table;

use std::fs;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use arguments::{Arguments, Hidden};
use report::{Host, Report};

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

/// Measures everything and prints it.
fn bench(arguments: &Arguments) -> Result<ExitCode> {
    let settings = arguments.settings();
    let host = Host::look();
    if host.is_busy() {
        say(&format!("others use this machine (load {:.1}): expect noise", host.load));
    }
    let (placements, mut not_measured) = placement::possible()?;
    let mut wire = Vec::new();
    for placement in placements {
        wire.push(rounds::measure(placement, &settings)?);
    }
    let system_calls = match system_calls::count(&settings) {
        Ok(counts) => counts,
        Err(error) => {
            not_measured.push(format!("system calls a request: {error:#}"));
            Vec::new()
        }
    };
    let through_qemu = if arguments.no_qemu {
        not_measured.push("reads through QEMU: --no-qemu was given".to_owned());
        None
    } else {
        match qemu::measure(&settings) {
            Ok(measured) => Some(measured),
            Err(error) => {
                not_measured.push(format!("reads through QEMU: {error:#}"));
                None
            }
        }
    };
    let limits = limits::judge(&wire, through_qemu.as_ref());
    let missed = limits.iter().any(|limit| limit.met == Some(false));
    let unknown = limits.iter().any(|limit| limit.met.is_none());
    let report = Report { host, settings, wire, system_calls, through_qemu, not_measured, limits };
    if let Some(path) = &arguments.json {
        let mut text = serde_json::to_string_pretty(&report)?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(&table::render(&report))?;
    let failed = arguments.check && (missed || unknown);
    Ok(if failed { ExitCode::from(EXIT_MISSED) } else { ExitCode::SUCCESS })
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
